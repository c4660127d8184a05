"""What finds the tags of an image: open_clip over a taxonomy, a VLM that chooses, tags that came along, or the user's code.

Comes in: a tagger file (taggers/NAME.yaml) and decoded images. Goes out: the tags of each, every one with its score and the name of
its tagger, and an embedding where there is one. files.py says what a file may say; each engine has a module of its own.
"""

from synthgen.tagger.clip import ClipTagger
from synthgen.tagger.files import ClipFile, CodeFile, SidecarFile, TaggerSpec, VlmFile, load, load_all, resolved, threshold, tree_of
from synthgen.tagger.found import Floats, Tagged, Tagger
from synthgen.tagger.opening import Known, Taggers, open_tagger

__all__ = [
    "ClipFile",
    "ClipTagger",
    "CodeFile",
    "Floats",
    "Known",
    "SidecarFile",
    "Tagged",
    "Tagger",
    "TaggerSpec",
    "Taggers",
    "VlmFile",
    "load",
    "load_all",
    "open_tagger",
    "resolved",
    "threshold",
    "tree_of",
]
