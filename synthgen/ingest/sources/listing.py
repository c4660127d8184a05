"""What a source of any kind holds, as a stream of its objects, and where its uri is.

An error of a kind's own code is one line, and so is an object that it could not read again.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from synthgen.config.source import SourceConfig
from synthgen.errors import SynthError, UserMistake, one_line
from synthgen.ingest.sources.added import AddedObjects
from synthgen.ingest.sources.kinds import KINDS, MANIFEST, SourceKind, kind_of_source, suggestion
from synthgen.ingest.sources.location import scheme_of
from synthgen.ingest.sources.objects import Item, LeftOut, Listed
from synthgen.ingest.sources.sets import group_objects
from synthgen.store.remote import display_uri, error_text

log = logging.getLogger(__name__)


def list_objects(source: SourceConfig) -> Iterator[Listed]:
    """Return all objects of the source; see `list_source` for the errors."""
    return (item for item in list_source(source) if isinstance(item, Listed))


def list_source(source: SourceConfig) -> Iterator[Item]:
    """Return all objects of the source, those of several places one after the other, and what its listing leaves out.

    Raises:
        UserMistake: At once if the source's uri is wrong, during the iteration if there is no such place.
        SynthError: It cannot be listed.
    """
    streams = [
        _of_place(name, _grouped(_list_place(place), place)) for name, place in source.places.items()
    ]  # all are checked now
    return itertools.chain.from_iterable(streams)


def open_listing(source: SourceConfig) -> Iterator[Item]:
    """Return what `list_source` does, the first object of each place already listed: an empty one raises now."""
    streams = [_of_place(name, _grouped(_opened(_list_place(place)), place)) for name, place in source.places.items()]
    return itertools.chain.from_iterable(streams)


def _list_place(source: SourceConfig) -> Iterator[Item]:
    kind = kind_of_source(source.uri)
    if source.group_by and kind.has_pairs:
        raise UserMistake(f"{source.uri}: source.group_by makes sets of images, and here each row brings its own")
    source = _with_column(source, kind)
    try:
        with _kind_errors(source.uri, "listing"):
            objects = kind.list_objects(source)
    except UserMistake as mistake:
        raise UserMistake(f"{mistake}{suggestion(source.uri)}") from mistake
    return _checked(kind, source.uri, objects)


def _of_place(name: str | None, items: Iterator[Item]) -> Iterator[Item]:
    """Return the items of a place, its objects with its name."""
    if name is None:
        return items
    return (replace(item, source=name) if isinstance(item, Listed) else item for item in items)


def _with_column(source: SourceConfig, kind: SourceKind) -> SourceConfig:
    """Return the source with the column of its sets among those that come along; of a manifest, all do by default."""
    column = source.group_by
    is_there = column in source.meta_columns or (kind is MANIFEST and not source.meta_columns)
    if not column or "(" in column or is_there:
        return source
    return source.model_copy(update={"meta_columns": (*source.meta_columns, column)})


def _grouped(items: Iterator[Item], source: SourceConfig) -> Iterator[Item]:
    """Return the items of a place, those that belong together as sets."""
    return group_objects(items, source) if source.group_by else items


def _opened(items: Iterator[Item]) -> Iterator[Item]:
    first = list[Item]()
    for item in items:
        first.append(item)
        if isinstance(item, Listed):
            break
    return itertools.chain(first, items)


def is_inside_source(folder: str, source: SourceConfig) -> bool:
    """Return whether a listing of the source looks for files in this folder, given by its path or URL."""
    return any(_is_inside_place(folder, place) for place in source.places.values())


def _is_inside_place(folder: str, source: SourceConfig) -> bool:
    with _kind_errors(source.uri, "comparing it with the output folder"):
        return kind_of_source(source.uri).is_inside(folder, source)


def spell_out_uri(uri: str, home: Path) -> str:
    """Return a source's uri as it is valid in any working folder; a relative path in it starts in `home`."""
    with _kind_errors(uri, "spelling it out"):
        return kind_of_source(uri).spell_out(uri, home)


def _checked(kind: SourceKind, uri: str | None, items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, objects as tables can hold them; one that no process could read again is a SynthError."""
    added = None if kind in KINDS else AddedObjects()
    with _kind_errors(uri, "listing"):
        for item in items:
            if fault := _fault(kind, item):
                raise SynthError(f"{display_uri(uri or '')}: the source '{kind.name}' {fault}; fix the package")
            checked = added.check(item) if added and isinstance(item, Listed) else item
            yield checked or LeftOut("object that no table can hold")
    for warning in added.warnings() if added else ():
        log.warning("%s: %s", display_uri(uri or ""), warning)


def _fault(kind: SourceKind, listed: object) -> str | None:
    if isinstance(listed, LeftOut):
        return None
    if not isinstance(listed, Listed):
        return f"lists {type(listed).__name__}, which is no Listed"
    if not (isinstance(listed.uri, str) and isinstance(listed.version, str)):
        return f"lists {one_line(repr(listed.uri), 80)} without a uri and a version that are text"
    if scheme_of(listed.uri) not in kind.schemes:
        return f"lists {one_line(listed.uri, 80)}, which does not begin with '{kind.name}:'"
    return None


@contextmanager
def _kind_errors(uri: str | None, action: str) -> Iterator[None]:
    """Turn the errors of a kind's own code into one line each.

    Raises:
        UserMistake: There is no such file, or access to it is refused.
        SynthError: Anything else went wrong.
    """
    try:
        yield
    except (SynthError, MemoryError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise UserMistake(f"{display_uri(uri or '')}: cannot be read ({one_line(error_text(error))})") from error
    except (Exception, SystemExit) as error:
        raise SynthError(f"{display_uri(uri or '')}: {action} failed: {one_line(error_text(error))}") from error
