"""Finds the tags of an image: open_clip over a taxonomy, a VLM that chooses, tags from the source, or user code.

spec.py defines what a kind of tagger is, kinds.py lists the kinds, and each kind has a module.
"""

from synthgen.taggers.cache import CachedTags, read_cached_tags
from synthgen.taggers.clip import ClipTagger, ClipTaggerFile
from synthgen.taggers.custom import CustomTaggerFile
from synthgen.taggers.download import check_downloads, may_download
from synthgen.taggers.ensemble import KnownTags, Taggers, open_tagger
from synthgen.taggers.kinds import TAGGER_KINDS, kind_of
from synthgen.taggers.loader import load, load_all, tree_of
from synthgen.taggers.protocol import (
    EmbeddingTagger,
    Floats,
    RefiningTagger,
    SourceMetaTagger,
    Tagged,
    Tagger,
    one_by_one,
    prepare_image,
    tag_images,
    tagging_failure,
)
from synthgen.taggers.sidecar import SidecarTaggerFile, check_source_tags
from synthgen.taggers.spec import (
    Resources,
    SourceTags,
    TaggerFile,
    TaggerSpec,
    WorksFrom,
    in_order,
    resolve_model,
    starts_below,
    stored_embedding_model,
)
from synthgen.taggers.tree_scores import Limits, TreeScores
from synthgen.taggers.vlm import VlmTaggerFile

__all__ = [
    "TAGGER_KINDS",
    "CachedTags",
    "ClipTagger",
    "ClipTaggerFile",
    "CustomTaggerFile",
    "EmbeddingTagger",
    "Floats",
    "KnownTags",
    "Limits",
    "RefiningTagger",
    "Resources",
    "SidecarTaggerFile",
    "SourceMetaTagger",
    "SourceTags",
    "Tagged",
    "Tagger",
    "TaggerFile",
    "TaggerSpec",
    "Taggers",
    "TreeScores",
    "VlmTaggerFile",
    "WorksFrom",
    "check_downloads",
    "check_source_tags",
    "in_order",
    "kind_of",
    "load",
    "load_all",
    "may_download",
    "one_by_one",
    "open_tagger",
    "prepare_image",
    "read_cached_tags",
    "resolve_model",
    "starts_below",
    "stored_embedding_model",
    "tag_images",
    "tagging_failure",
    "tree_of",
]
