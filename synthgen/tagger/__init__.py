"""What finds the tags of an image: open_clip over a taxonomy, a VLM that chooses, tags that came along, or the user's code.

Comes in: a tagger file (taggers/NAME.yaml) and decoded images. Goes out: the tags of each, every one with its score and the name of
its tagger, and an embedding where there is one. files.py says what a file may say; each engine has a module of its own.
"""

from synthgen.tagger.clip import ClipTagger
from synthgen.tagger.files import ClipFile, CodeFile, SidecarFile, TaggerSpec, VlmFile, load, load_all, resolved, threshold, tree_of
from synthgen.tagger.found import Failed, Floats, Tagged, Tagger, one_by_one, prepared, tags_of_each
from synthgen.tagger.opening import Known, Taggers, open_tagger
from synthgen.tagger.past import Past, read_past

__all__ = [
    "ClipFile",
    "ClipTagger",
    "CodeFile",
    "Failed",
    "Floats",
    "Known",
    "Past",
    "SidecarFile",
    "Tagged",
    "Tagger",
    "TaggerSpec",
    "Taggers",
    "VlmFile",
    "load",
    "load_all",
    "one_by_one",
    "open_tagger",
    "prepared",
    "read_past",
    "resolved",
    "tags_of_each",
    "threshold",
    "tree_of",
]
