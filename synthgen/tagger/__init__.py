"""What finds the tags of an image: open_clip over a taxonomy, a VLM that chooses, tags that came along, or the user's code.

Comes in: a tagger file (taggers/NAME.yaml) and decoded images. Goes out: the tags of each, every one with its score and the name of
its tagger, and an embedding where there is one. files.py says what a file may say; each engine has a module of its own.
"""

from collections.abc import Sequence

from synthgen.tagger.clip import ClipTagger
from synthgen.tagger.code import CodeTagger
from synthgen.tagger.files import ClipFile, CodeFile, SidecarFile, TaggerSpec, VlmFile, load, load_all, resolved, threshold
from synthgen.tagger.found import Floats, Tagged, Tagger
from synthgen.tagger.several import SeveralTaggers
from synthgen.tagger.sidecar import SidecarTagger
from synthgen.tagger.vlm import VlmTagger

__all__ = [
    "ClipFile",
    "ClipTagger",
    "CodeFile",
    "Floats",
    "SidecarFile",
    "Tagged",
    "Tagger",
    "TaggerSpec",
    "VlmFile",
    "load",
    "load_all",
    "open_tagger",
    "open_taggers",
    "resolved",
    "threshold",
]


def open_tagger(spec: TaggerSpec) -> Tagger:
    """The tagger, loaded; ModelUnavailable if its model does not load."""
    match spec.file:
        case SidecarFile():
            return SidecarTagger(spec, spec.file)
        case VlmFile():
            return VlmTagger(spec, spec.file)
        case CodeFile():
            return CodeTagger(spec, spec.file)
        case ClipFile():
            return ClipTagger(spec, spec.file)


def open_taggers(specs: Sequence[TaggerSpec]) -> Tagger:
    """One tagger, or several as one, loaded."""
    return open_tagger(specs[0]) if len(specs) == 1 else SeveralTaggers([open_tagger(spec) for spec in specs])
