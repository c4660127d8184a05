"""The kinds of tagger: what `engine` in a tagger file may be.

To add a kind, write a module with a TaggerFile and its Tagger, and add the file to TAGGER_KINDS. Another package can
add a kind by an entry point in the group `synthgen.taggers`: its name is the engine, its value the TaggerFile.
"""

from importlib.metadata import EntryPoint, entry_points

from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, nearest, one_line
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
    where, added = document.where(("engine",)), {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in added:
        known = nearest(engine, (*TAGGER_KINDS, *added))
        raise Mistakes([f"{where}: no engine is called '{engine}': {known}"])
    return _load(added[name], where)


def _load(point: EntryPoint, where: str) -> type[TaggerFile]:
    """Return the kind that a package adds; `where` is the line that asks for it."""
    package = point.dist.name if point.dist else "an unknown package"
    source = f"{where}: engine '{point.name}' of package {package} ({point.value})"
    try:
        kind = point.load()
    except (Exception, SystemExit) as error:
        raise Mistakes([f"{source} does not load: {one_line(error)}; fix or uninstall the package"]) from error
    if not (isinstance(kind, type) and issubclass(kind, TaggerFile)):
        raise Mistakes([f"{source} is not a TaggerFile; fix or uninstall the package"])
    return kind
