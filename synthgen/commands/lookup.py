"""Which objects a user means by a name: an object id, an image id, a uri, or the end of one.

Comes in: names as they were typed, and the objects of a folder, partition by partition. Goes out: the ids of the objects that are
meant. A whole uri, or what samples show of it, wins over the end of one; an end, as a bare file name, must lead to one place, for
what is taken out does not come back. What leads nowhere or to several places is told, all of it at once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

import pyarrow as pa

from synthgen.errors import Mistakes

SHOWN = 3  # places of a name that stands for several
NEAR = 0.6  # alike, from which on a name is offered instead

Place = tuple[str, int | None]  # a uri, and the row where it is of a Parquet file
Columns = ("object_id", "uri", "image_id", "row")


@dataclass
class _Name:
    """A name, and what it leads to."""

    typed: str
    exact: set[str] = field(default_factory=set)  # object ids
    ends: dict[Place, set[str]] = field(default_factory=dict)  # places whose uri ends with it -> object ids


def objects_meant(
    where: str, tables: Callable[[], Iterable[pa.Table]], names: Iterable[str], below: Callable[[str], str]
) -> dict[str, frozenset[str]]:
    """For each name the ids of its objects; `below` gives what samples show of a uri, `where` is the folder for messages."""
    wanted = {one: _Name(one) for one in names}
    by_end: dict[str, list[_Name]] = {}
    for name in wanted.values():
        by_end.setdefault(name.typed.rpartition("/")[2], []).append(name)
    for object_id, uri, image_id, row in _rows(tables()):
        for key in {object_id, image_id or object_id, *((uri, below(uri)) if uri else ())} & wanted.keys():
            wanted[key].exact.add(object_id)
        for name in by_end.get(uri.rpartition("/")[2], ()):
            if uri.endswith(f"/{name.typed}"):
                name.ends.setdefault((uri, row), set()).add(object_id)
    faults = [_ambiguous(where, name, below) for name in wanted.values() if not name.exact and len(name.ends) > 1]
    lost = [name.typed for name in wanted.values() if not name.exact and not name.ends]
    faults += [_unknown(where, one, near) for one, near in _nearest(lost, tables, below).items()]
    if faults:
        raise Mistakes(faults)
    return {one: frozenset(name.exact or next(iter(name.ends.values()))) for one, name in wanted.items()}


def _rows(tables: Iterable[pa.Table]) -> Iterator[tuple[str, str, str | None, int | None]]:
    for rows in tables:
        yield from zip(*(rows.column(name).to_pylist() for name in Columns), strict=True)


def _ambiguous(where: str, name: _Name, below: Callable[[str], str]) -> str:
    places = sorted(name.ends, key=lambda one: (one[0], one[1] or 0))
    shown = [below(uri) if row is None else f"{below(uri)} row {row}" for uri, row in places[:SHOWN]]
    if len({below(uri) for uri, _ in places}) < len({uri for uri, _ in places}):
        shown = [uri for uri, _ in places[:SHOWN]]  # what is shown of them would not tell them apart
    more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    mend = (
        "give more of the uri, or the object id"
        if places[0][1] is None
        else "give object ids, or the whole uri for all rows"
    )
    return f"{where}: {name.typed} names {len(places):,} objects: {', '.join(shown)}{more}; {mend}"


def _unknown(where: str, typed: str, near: str) -> str:
    meant = f"did you mean '{near}'? " if near else ""
    return f"{where}: holds no image {typed}; {meant}give an object id, an image id, or a uri or file name as samples and 0-listed have it"


def _nearest(
    lost: Iterable[str], tables: Callable[[], Iterable[pa.Table]], below: Callable[[str], str]
) -> dict[str, str]:
    """For each name that leads nowhere the most alike of all, "" if none is; one look at the objects, if there is such a name."""
    best = dict.fromkeys(lost, "")
    for rows in tables() if best else ():
        whole = {below(uri) for uri in rows.column("uri").to_pylist() if uri}
        ends = {one.rpartition("/")[2] for one in whole}
        for typed, before in best.items():
            known = whole if "/" in typed else ends
            found = get_close_matches(typed, {*known, *filter(None, [before])}, n=1, cutoff=NEAR)
            best[typed] = found[0] if found else before
    return best
