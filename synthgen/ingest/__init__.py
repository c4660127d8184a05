"""Images on their way in: `sources` lists and fetches them, `images` checks and decodes them, `load` does both.

Kept empty: a decoder process imports `ingest.images` alone and must not load pyarrow.
"""
