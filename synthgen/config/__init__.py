"""Definition files (pipelines, taxonomies, mappings, prompt packs), and the parser of the replies to prompts."""
