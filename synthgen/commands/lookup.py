"""The objects that a user means by a name: an object id, an image id, a uri, or the end of a uri.

A whole uri, or the path of it that samples show, comes before the end of one; that of a tar or a PDF means all in it.
An end, such as a file name, must match one place, because a purged image does not come back. Names that match nothing
or several places are reported together.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from synthgen.errors import Mistakes, guess, listed
from synthgen.tables import archive_of

MAX_PLACES = 3  # listed for an ambiguous name

Place = tuple[str, int | None]  # a uri, and a row if it is a Parquet file
Tables = Callable[[], Iterable[pa.Table]]  # reads the objects of a folder, partition by partition
Redact = Callable[[str], str]  # returns a uri as samples show it
Columns = ("object_id", "uri", "image_id", "row")


@dataclass
class _Name:
    """A name and its matches.

    Attributes:
        exact: The ids of objects with this id, image id or uri.
        by_end: Places whose uri ends with the name → the ids of their objects.
    """

    typed: str
    exact: set[str] = field(default_factory=set)
    by_end: dict[Place, set[str]] = field(default_factory=dict)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing matches."""
        return not self.exact and not self.by_end

    @property
    def is_ambiguous(self) -> bool:
        """Whether several places match."""
        return not self.exact and len(self.by_end) > 1

    @property
    def object_ids(self) -> frozenset[str]:
        """The ids of the objects that are meant, if the name is neither unknown nor ambiguous."""
        return frozenset(self.exact or next(iter(self.by_end.values())))


def find_objects(
    where: str, tables: Tables, names: Iterable[str], redacted: Redact, *, guess: bool = True
) -> dict[str, frozenset[str]]:
    """Return the ids of the objects that each name means.

    Args:
        where: The folder, for messages.
        tables: Reads the objects, with the columns of `Columns`.
        names: As they were typed.
        redacted: Returns a uri as samples show it.
        guess: Whether the message on an unknown name names a similar one, which a command that deletes should not.

    Raises:
        Mistakes: Some names are unknown or ambiguous.
    """
    matches = _match(tables, names, redacted)
    unknown = [name.typed for name in matches.values() if name.is_unknown]
    faults = [_ambiguous(where, name, redacted) for name in matches.values() if name.is_ambiguous]
    nearest = _nearest(unknown, tables, redacted) if guess else dict.fromkeys(unknown, "")
    faults += [_unknown(where, typed, near) for typed, near in nearest.items()]
    if faults:
        raise Mistakes(faults)
    return {typed: name.object_ids for typed, name in matches.items()}


def _match(tables: Tables, names: Iterable[str], redacted: Redact) -> dict[str, _Name]:
    """Return each name with its matches, after one pass over the objects."""
    matches = {typed: _Name(typed) for typed in names}
    by_file_name: dict[str, list[_Name]] = {}
    for name in matches.values():
        by_file_name.setdefault(_file_name(name.typed), []).append(name)
    for object_id, uri, image_id, row in _rows(tables()):
        keys = {object_id, image_id or object_id}
        for place in {uri, archive_of(uri)} if uri else ():
            keys |= {place, redacted(place)}
        for key in keys & matches.keys():
            matches[key].exact.add(object_id)
        for name in by_file_name.get(_file_name(uri), ()):
            if uri.endswith((f"/{name.typed}", f"#{name.typed}")):
                name.by_end.setdefault((uri, row), set()).add(object_id)
    return matches


def _file_name(uri: str) -> str:
    """Return what follows the last slash, or the last `#`, behind which the uri of a member of an archive names it."""
    return re.split("[/#]", uri)[-1]


def _rows(tables: Iterable[pa.Table]) -> Iterator[tuple[str, str, str | None, int | None]]:
    for rows in tables:
        yield from zip(*(rows.column(name).to_pylist() for name in Columns), strict=True)


def _ambiguous(where: str, name: _Name, redacted: Redact) -> str:
    """Return the message for a name that matches several places."""
    places = sorted(name.by_end, key=lambda place: (place[0], place[1] or 0))
    examples = [redacted(uri) if row is None else f"{redacted(uri)} row {row}" for uri, row in places]
    uris = {uri for uri, _ in places}
    if len({redacted(uri) for uri in uris}) < len(uris):
        examples = [uri for uri, _ in places]  # as samples show them, they look the same
    is_row = places[0][1] is not None
    advice = "give object ids, or the whole uri for all rows" if is_row else "give more of the uri, or the object id"
    return f"{where}: {name.typed} names {len(places):,} objects: {listed(examples, MAX_PLACES)}; {advice}"


def _unknown(where: str, typed: str, near: str) -> str:
    """Return the message for a name that matches nothing; `near` is the most similar name, or empty."""
    question = f"did you mean '{near}'? " if near else ""
    return (
        f"{where}: holds no image {typed}; {question}"
        "give an object id, an image id, or a uri or file name as samples and 0-listed have it"
    )


def _nearest(unknown: Iterable[str], tables: Tables, redacted: Redact) -> dict[str, str]:
    """Return the most similar name for each unknown one, or ""; the objects are read only if there is one."""
    best = dict.fromkeys(unknown, "")
    for rows in tables() if best else ():
        uris = {redacted(uri) for uri in rows.column("uri").to_pylist() if uri}
        file_names = {uri.rpartition("/")[2] for uri in uris}
        for typed, before in best.items():
            known = uris if "/" in typed else file_names
            best[typed] = guess(typed, {*known, *filter(None, [before])}) or before
    return best
