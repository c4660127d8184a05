"""What finds the tags of an image: open_clip over a taxonomy, a VLM that chooses, tags that came along, or the user's code.

Comes in: a tagger file (taggers/NAME.yaml) and decoded images. Goes out: the tags of each, every one with its score and the name of
its tagger, and an embedding where there is one. spec.py says what a file may say; each engine has a module of its own.
"""

from synthgen.taggers.cache import CachedTags, read_cached_tags
from synthgen.taggers.clip import ClipTagger
from synthgen.taggers.ensemble import KnownTags, Taggers, open_tagger
from synthgen.taggers.protocol import Failed, Floats, Tagged, Tagger, one_by_one, prepared, tags_of_each
from synthgen.taggers.spec import (
    ClipTaggerFile,
    CustomTaggerFile,
    SidecarTaggerFile,
    TaggerSpec,
    VlmTaggerFile,
    load,
    load_all,
    resolved,
    threshold,
    tree_of,
)

__all__ = [
    "CachedTags",
    "ClipTagger",
    "ClipTaggerFile",
    "CustomTaggerFile",
    "Failed",
    "Floats",
    "KnownTags",
    "SidecarTaggerFile",
    "Tagged",
    "Tagger",
    "TaggerSpec",
    "Taggers",
    "VlmTaggerFile",
    "load",
    "load_all",
    "one_by_one",
    "open_tagger",
    "prepared",
    "read_cached_tags",
    "resolved",
    "tags_of_each",
    "threshold",
    "tree_of",
]
