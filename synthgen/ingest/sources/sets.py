"""Sets of images as objects of a listing: `source.group_by` makes one object of the images that belong together.

They are found by a pattern of uris with a group named `set`, or by a column that came along as metadata. The uri of a
set names its place and what its members share, its version is the list of the members, and its bytes are their files in
order (`images.sets`). So it is listed, read, verified, counted and purged as an image is, and a set that gains or loses
a member is a new version of the same object.

An image without a set, and a set of one, stay images. The listing is spilled to local disk by what sets share, so
memory holds one bucket of it, whatever the order of the source.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.images.sets import SetFile
from synthgen.ingest.sources.objects import (
    Item,
    LeftOut,
    Listed,
    ObjectRef,
    Outcome,
    ReadTask,
    Reserve,
    meta_json,
    too_many_bytes,
)
from synthgen.store.remote import display_uri
from synthgen.store.spill import Spill
from synthgen.tables import BUCKETS, SET_SCHEME, make_id, object_id

ROWS_AT_ONCE = 10_000  # as Python objects
MEMBERS = pa.schema(
    [
        ("bucket", pa.int16()),
        ("key", pa.string()),
        ("position", pa.int64()),  # in the listing
        ("uri", pa.string()),
        ("version", pa.string()),
        ("row", pa.int64()),
        ("bytes", pa.int64()),
        ("source_meta", pa.string()),
    ]
)
OWN = ("uri", "version", "row", "bytes", "source_meta")  # columns that are those of Listed
DIGITS = re.compile(r"(\d+)")
Row = dict[str, Any]


def group_objects(items: Iterator[Item], source: SourceConfig) -> Iterator[Item]:
    """Yield sets in place of the images of a listing that belong together; everything else stays.

    Raises:
        UserMistake: No two images belong together.
    """
    assert source.group_by
    key_of, sizes = _key_of(source.group_by), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="synth-sets-") as folder:
        spill = Spill(Path(folder) / "members")
        waiting: list[Row] = []
        for position, item in enumerate(items):
            key = key_of(item) if isinstance(item, Listed) else None
            if key is None or not isinstance(item, Listed):
                yield item
                continue
            waiting.append(_member(item, key, position))
            if len(waiting) >= ROWS_AT_ONCE:
                spill.add(pa.Table.from_pylist(waiting, schema=MEMBERS))
                waiting = []
        spill.add(pa.Table.from_pylist(waiting, schema=MEMBERS))
        for bucket in range(BUCKETS):
            for item in _sets_of(spill.read(bucket, MEMBERS), source):
                sizes[type(item).__name__ if isinstance(item, LeftOut) else item.uri.partition(":")[0]] += 1
                yield item
    if not sizes[SET_SCHEME] and not sizes[LeftOut.__name__]:
        raise UserMistake(
            f"{display_uri(source.uri or '')}: source.group_by '{source.group_by}' brings no two images together; "
            f"{'compare it with the uris that `synth status` lists' if '(' in source.group_by else _columns(source)}"
        )


def _columns(source: SourceConfig) -> str:
    return f"is '{source.group_by}' a column of the source, or a key of its sidecars, with a value in several rows?"


def set_tasks(
    refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int, kind_of: Callable[[str], Any]
) -> Iterator[ReadTask]:
    """Yield a task for each set; `kind_of` returns the SourceKind of a member by its uri."""
    return (ReadTask([ref], partial(_read_set, source, max_bytes, kind_of)) for ref in refs)


def members_of_set(version: str) -> list[tuple[str, str, int | None]]:
    """Return the uri, version and row of each member of a set, in order, from the version of the set."""
    return [(uri, own, row) for uri, own, row in json.loads(version)]


def member_objects(version: str) -> list[str]:
    """Return the object ids that the members of a set have as images of their own."""
    return [object_id(*member) for member in members_of_set(version)]


def _key_of(group_by: str) -> Callable[[Listed], str | None]:
    """Return the function that returns what an image shares with those of its set; None if it is in none."""
    if "(" not in group_by:
        return partial(_column_of, group_by)
    pattern = re.compile(group_by)

    def key_of(item: Listed) -> str | None:
        match = pattern.search(item.uri)
        return (match["set"] or None) if match else None

    return key_of


def _column_of(column: str, item: Listed) -> str | None:
    try:
        meta = json.loads(item.source_meta or "null")
    except (ValueError, RecursionError):
        return None
    value = meta.get(column) if isinstance(meta, dict) else None
    return None if value is None or value == "" else value if isinstance(value, str) else meta_json(value)


def _member(item: Listed, key: str, position: int) -> Row:
    bucket = int(make_id("set", key)[:8], 16) % BUCKETS
    return {"bucket": bucket, "key": key, "position": position, **{name: getattr(item, name) for name in OWN}}


def _alone(row: Row) -> Listed:
    return Listed(**{name: row[name] for name in OWN})


def _sets_of(rows: pa.Table, source: SourceConfig) -> Iterator[Item]:
    """Yield the sets of a bucket, and its images that are alone."""
    ordered = rows.sort_by([("key", "ascending"), ("position", "ascending")])
    stream = (row for batch in ordered.to_batches(max_chunksize=ROWS_AT_ONCE) for row in batch.to_pylist())
    for key, members in groupby(stream, key=lambda row: str(row["key"])):
        yield from _set_of(key, members, source)


def _set_of(key: str, members: Iterator[Row], source: SourceConfig) -> Iterator[Item]:
    """Yield one set, its only image, or how many images are too many for a set."""
    most, kept, count = source.group_most, dict[tuple[Any, ...], Row](), 0
    for row in members:
        place = row["uri"], row["version"], row["row"]
        if place in kept:  # of globs that overlap
            continue
        count += 1
        if count <= most:
            kept[place] = row
    rows = list(kept.values())
    if count > most:
        yield LeftOut(f"image of a set of more than {most} (source.group_most)", count)
    elif count == 1:
        yield _alone(rows[0])
    else:
        if "(" in (source.group_by or ""):  # names are in the order of their letters: page10 before page2
            rows.sort(key=lambda row: (_natural(row["uri"]), row["position"]))
        yield listed_set(key, [_alone(row) for row in rows], source.uri or "")


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a key by which numbers in names sort by their value."""
    parts = (part for part in DIGITS.split(text) if part)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def listed_set(key: str, members: Sequence[Listed], place: str) -> Listed:
    """Return a set as one object.

    Args:
        key: What its images share, and those of no other set of the place.
        members: Its images in order, two or more.
        place: Where they were found.
    """
    sizes = [member.bytes for member in members]
    version = [[member.uri, member.version, member.row] for member in members]
    return Listed(
        f"{SET_SCHEME}:{place}#{key}",
        json.dumps(version, separators=(",", ":")),
        bytes=None if None in sizes else sum(size or 0 for size in sizes),
        source_meta=_shared_meta([member.source_meta for member in members]),
    )


def _shared_meta(metas: Sequence[str | None]) -> str | None:
    """Return the metadata of a set: that of its first image if all have it, or else what all say, and what each says.

    A key on which they differ is left to `members`: nothing that one image says is taken for what the set says.
    """
    if len(set(metas)) == 1:
        return metas[0]
    read = [_read_meta(meta) for meta in metas]
    shared = {key: value for key, value in read[0].items() if all(key in each and each[key] == value for each in read)}
    return meta_json({**shared, "members": read})


def _read_meta(meta: str | None) -> dict[str, Any]:
    try:
        value = json.loads(meta or "null")
    except (ValueError, RecursionError):
        value = meta
    return value if isinstance(value, dict) else {} if value is None else {"meta": value}


def _read_set(
    source: SourceConfig, max_bytes: int, kind_of: Callable[[str], Any], refs: list[ObjectRef], _: Reserve
) -> Iterator[Outcome]:
    """Read the members of one set; the first that cannot be read is the reason why there is no set."""
    [ref] = refs
    yield ref, _read_members(ref, source, max_bytes, kind_of)


def _read_members(
    ref: ObjectRef, source: SourceConfig, max_bytes: int, kind_of: Callable[[str], Any]
) -> bytes | Failure:
    members = [
        ObjectRef(str(number), uri, version, row, ref.is_verified, ref.source)
        for number, (uri, version, row) in enumerate(members_of_set(ref.version))
    ]
    made = SetFile()
    for number, member in enumerate(members, 1):
        content = _read_member(member, source, max_bytes, kind_of)
        if isinstance(content, Failure):
            where = f"image {number} of the {len(members)} of its set: "
            return Failure(content.reason, f"{where}{content.detail}")
        made.add(content)
        if failure := too_many_bytes(made.size, max_bytes):
            return Failure(failure.reason, f"the images of a set together: {failure.detail}")
    return made.file()


def _read_member(
    member: ObjectRef, source: SourceConfig, max_bytes: int, kind_of: Callable[[str], Any]
) -> bytes | Failure:
    for task in kind_of(member.uri).tasks([member], source, max_bytes):
        for _, content in task.read(task.refs, lambda size: None):
            if isinstance(content, bytes | Failure):
                return content
    return Failure("unreadable", "its source gave nothing for it")
