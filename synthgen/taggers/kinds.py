"""The kinds of tagger: what `engine` in a tagger file may be.

To add a kind, write a module with a TaggerFile and its Tagger, and add the file to TAGGER_KINDS. Another package can
add a kind by an entry point in the group `synthgen.taggers`: its name is the engine, its value the TaggerFile.
"""

from typing import Any

from synthgen.config.entry_points import added, load, offered
from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, UserMistake, nearest
from synthgen.taggers.clip import ClipTaggerFile
from synthgen.taggers.custom import CustomTaggerFile
from synthgen.taggers.none import NAME as NO_TAGGER
from synthgen.taggers.none import NoTaggerFile
from synthgen.taggers.sidecar import SidecarTaggerFile
from synthgen.taggers.spec import TaggerFile
from synthgen.taggers.vlm import VlmTaggerFile

ENTRY_POINTS = "synthgen.taggers"
CUSTOM = "module:Class"

TAGGER_KINDS: dict[str, type[TaggerFile]] = {
    "open_clip": ClipTaggerFile,
    "vlm": VlmTaggerFile,
    "sidecar": SidecarTaggerFile,
    NO_TAGGER: NoTaggerFile,
    CUSTOM: CustomTaggerFile,
}


def kind_of(document: Document) -> type[TaggerFile]:
    """Return the kind of a tagger file. One without `engine` is checked as the usual kind, so all its mistakes show.

    Raises:
        Mistakes: If no kind or more than one has this name, or the package that adds it does not load.
    """
    engine = document.at(("engine",))
    if not isinstance(engine, str):
        return ClipTaggerFile
    try:
        return _kind_called(CUSTOM if ":" in engine else engine)
    except UserMistake as mistake:
        raise Mistakes([f"{document.where(('engine',))}: {mistake}"]) from mistake


def _kind_called(name: str) -> type[TaggerFile]:
    point = offered(ENTRY_POINTS, name, "engine", name in TAGGER_KINDS)
    if name in TAGGER_KINDS:
        return TAGGER_KINDS[name]
    if point is None:
        raise UserMistake(f"no engine is called '{name}': {nearest(name, (*TAGGER_KINDS, *added(ENTRY_POINTS)))}")
    kind: type[TaggerFile] = load(point, "engine", "a TaggerFile", _is_tagger_file)
    return kind


def _is_tagger_file(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, TaggerFile)
