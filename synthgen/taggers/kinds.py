"""The kinds of tagger: what `engine` in a tagger file may be.

To add a kind, write a module with a TaggerFile and its Tagger, and add the file to TAGGER_KINDS. Another package can
add a kind by an entry point in the group `synthgen.taggers`: its name is the engine, its value the TaggerFile.
"""

from typing import Any

from synthgen.config.entry_points import added, load
from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, UserMistake, nearest
from synthgen.taggers.clip import ClipTaggerFile
from synthgen.taggers.custom import CustomTaggerFile
from synthgen.taggers.sidecar import SidecarTaggerFile
from synthgen.taggers.spec import TaggerFile
from synthgen.taggers.vlm import VlmTaggerFile

ENTRY_POINTS = "synthgen.taggers"
CUSTOM = "module:Class"

TAGGER_KINDS: dict[str, type[TaggerFile]] = {
    "open_clip": ClipTaggerFile,
    "vlm": VlmTaggerFile,
    "sidecar": SidecarTaggerFile,
    CUSTOM: CustomTaggerFile,
}


def kind_of(document: Document) -> type[TaggerFile]:
    """Return the kind of a tagger file. One without `engine` is checked as the usual kind, so all its mistakes show.

    Raises:
        Mistakes: If no kind has this name, or the package that adds it does not load.
    """
    engine = document.at(("engine",))
    if not isinstance(engine, str):
        return ClipTaggerFile
    name = CUSTOM if ":" in engine else engine
    if name in TAGGER_KINDS:
        return TAGGER_KINDS[name]
    where = document.where(("engine",))
    point = added(ENTRY_POINTS).get(name)
    if point is None:
        known = nearest(engine, (*TAGGER_KINDS, *added(ENTRY_POINTS)))
        raise Mistakes([f"{where}: no engine is called '{engine}': {known}"])
    try:
        kind: type[TaggerFile] = load(point, "engine", "a TaggerFile", _is_tagger_file)
    except UserMistake as mistake:
        raise Mistakes([f"{where}: {mistake}"]) from mistake
    return kind


def _is_tagger_file(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, TaggerFile)
