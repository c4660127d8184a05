"""What users write: pipelines, taxonomies, mappings, prompt packs, and the replies that models write back."""
