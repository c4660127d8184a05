"""Images on their way in: sources list and fetch them, images checks and decodes them.

Kept empty: a decoder process imports `ingest.images` alone and must not load pyarrow.
"""
