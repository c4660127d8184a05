"""The kinds of source, and everything that the rest of the package treats differently between them.

A kind is one record. An installed package adds one by an entry point of the group `synthgen.sources`, which names a
SourceKind: `tar` is the kind of the source `tar:photos.tar` and of its objects, whose uris begin with `tar:` too. What
no kind claims is a location of files. So a uri alone leads to its kind, in any process.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthgen.config.entry_points import added, load, offered
from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake, guess
from synthgen.ingest.sources.files import is_inside_location, list_files
from synthgen.ingest.sources.instructions.listing import SCHEME as INSTRUCTIONS_SCHEME
from synthgen.ingest.sources.instructions.listing import list_instructions, place_of, place_of_images
from synthgen.ingest.sources.location import (
    SAME,
    STORES,
    scheme_of,
    shown_file,
    spell_out_location,
    spell_out_path,
)
from synthgen.ingest.sources.manifest import SCHEME as MANIFEST_SCHEME
from synthgen.ingest.sources.manifest import list_manifest, root_of_manifest
from synthgen.ingest.sources.objects import Item, ObjectRef, ReadTask, Tasks, one_by_one
from synthgen.ingest.sources.read_files import file_tasks
from synthgen.ingest.sources.sets import set_tasks
from synthgen.ingest.sources.url_list import SCHEME, SCHEMES_OF_URLS, list_urls, url_tasks
from synthgen.tables import SET_SCHEME

ENTRY_POINTS = "synthgen.sources"


def spell_out_file(uri: str, home: Path) -> str:
    """Return the uri `NAME:FILE` with the file's path from the root; a relative path starts in `home`."""
    name, _, path = uri.partition(":")
    return f"{name}:{spell_out_path(path, home)}"


def _same_anywhere(uri: str, home: Path) -> str:
    return uri


def _never_inside(folder: str, source: SourceConfig) -> bool:
    return False


def _name_alone(uri: str, root: str) -> str:
    return uri.rpartition("/")[2]


def _shown_whole(uri: str, root: str) -> str:
    return uri


def _place(source: SourceConfig) -> str | None:
    return source.uri


@dataclass(frozen=True)
class SourceKind:
    """How the objects of a source are found, read and named.

    Attributes:
        name: What a uri of this kind has before its colon.
        list_objects: Returns the objects as a stream, and a LeftOut for what it passes over; raises UserMistake with
            one line about what the user can fix.
        tasks: How listed objects are read, by their own uris; `one_by_one` makes this of a function for one object.
        spell_out: Returns a source's uri as it is valid in any working folder; its second argument is the present one.
            What is spelled out already stays as it is.
        is_inside: Returns whether a listing looks for files in this output folder.
        shown: Returns an object's uri as it may appear in shards, which are given away, so without folders of this
            machine; its second argument is the local folder of the run's source, or empty.
        place: Returns the location that the objects of a source lie below; that folder is the one of `shown`.
        has_pairs: Its objects bring their questions and answers, so none are planned and none are asked.
        knows_sizes: A size is known before the bytes are read, so reading threads wait for room in memory first.
        sources: What uris of sources have before their colon; () is the name alone.
        objects: What uris of objects have there.
    """

    name: str
    list_objects: Callable[[SourceConfig], Iterable[Item]]
    tasks: Tasks
    spell_out: Callable[[str, Path], str] = _same_anywhere
    is_inside: Callable[[str, SourceConfig], bool] = _never_inside
    shown: Callable[[str, str], str] = _name_alone
    place: Callable[[SourceConfig], str | None] = _place
    has_pairs: bool = False
    knows_sizes: bool = False
    sources: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    @property
    def schemes(self) -> tuple[str, ...]:
        """What uris of objects have before their colon."""
        return self.objects or (self.name,)


FILES = SourceKind(
    "files",
    list_files,
    file_tasks,
    spell_out=spell_out_location,
    is_inside=is_inside_location,
    shown=shown_file,
    knows_sizes=True,
    sources=("", "file", *STORES, *SAME),
    objects=("", "file", *STORES),
)
URLS = SourceKind(
    SCHEME,
    list_urls,
    url_tasks,
    spell_out=spell_out_file,
    shown=_shown_whole,
    sources=(SCHEME,),
    objects=SCHEMES_OF_URLS,
)
MANIFEST = SourceKind(
    MANIFEST_SCHEME,
    list_manifest,
    file_tasks,  # never asked for: its objects are of the kinds above, and read as theirs
    spell_out=spell_out_file,
    place=root_of_manifest,
    sources=(MANIFEST_SCHEME,),
    objects=(*FILES.objects, *URLS.objects),
)


def _set_tasks(refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
    return set_tasks(refs, source, max_bytes, kind_of_object)


def _shown_set(uri: str, root: str) -> str:
    """Return the uri of a set with what its images share, below the root; its place is left out."""
    key, above = uri.partition("#")[2], f"{root.rstrip('/')}/"
    inside = key.removeprefix(above) if root and key.startswith(above) else key.lstrip("/").rpartition("/")[2]
    return f"{SET_SCHEME}:{inside}"


def _no_sets(source: SourceConfig) -> Iterable[Item]:
    raise UserMistake(f"{source.uri}: sets are made by source.group_by of another source, and are none themselves")


SETS = SourceKind(SET_SCHEME, _no_sets, _set_tasks, spell_out=_same_anywhere, shown=_shown_set)


def _is_inside_set(folder: str, source: SourceConfig) -> bool:
    return is_inside_location(folder, source.model_copy(update={"uri": place_of(source)}))


INSTRUCTIONS = SourceKind(
    INSTRUCTIONS_SCHEME,
    list_instructions,
    file_tasks,  # as of manifests
    spell_out=spell_out_file,
    is_inside=_is_inside_set,
    place=place_of_images,
    has_pairs=True,
    sources=(INSTRUCTIONS_SCHEME,),
    objects=(*FILES.objects, SET_SCHEME),
)


def _no_package(ref: ObjectRef, max_bytes: int) -> Failure:
    return Failure("unreadable", f"no package installed here has the source '{scheme_of(ref.uri)}:'")


UNKNOWN = SourceKind("unknown", list_files, one_by_one(_no_package))  # of objects whose package is gone
KINDS = (FILES, URLS, MANIFEST, INSTRUCTIONS, SETS)
SOURCES: Mapping[str, SourceKind] = {scheme: kind for kind in KINDS for scheme in kind.sources}
OBJECTS: Mapping[str, SourceKind] = {scheme: kind for kind in (FILES, URLS, SETS) for scheme in kind.schemes}


def kind_of_source(uri: str | None) -> SourceKind:
    """Return the kind of a source. Raises UserMistake if it has two, or the package that adds it cannot be loaded."""
    scheme = scheme_of(uri or "")
    offered(ENTRY_POINTS, scheme, "source", scheme in SOURCES or scheme in OBJECTS)
    return SOURCES.get(scheme) or _added(scheme) or FILES


def kind_of_object(uri: str) -> SourceKind:
    """Return the kind that reads a listed object. Raises UserMistake if the package that adds it cannot be loaded."""
    scheme = scheme_of(uri)
    return OBJECTS.get(scheme) or _added(scheme) or UNKNOWN


def suggestion(uri: str | None) -> str:
    """Return the end of a message about a source with a scheme that nobody knows: the nearest known one, if any is."""
    scheme = scheme_of(uri or "")
    known = {*filter(None, SOURCES), *added(ENTRY_POINTS)}
    match = guess(scheme, known) if scheme and scheme not in known else None
    return f"; did you mean '{match}:'?" if match else ""


def _added(scheme: str) -> SourceKind | None:
    """Return the kind that an installed package adds; None if none does. None can replace a kind of the table."""
    point = None if scheme in SOURCES or scheme in OBJECTS else offered(ENTRY_POINTS, scheme, "source")
    if point is None:
        return None
    expected = f"a SourceKind named '{scheme}'"
    kind: SourceKind = load(point, "source", expected, lambda it: isinstance(it, SourceKind) and it.name == scheme)
    return kind
