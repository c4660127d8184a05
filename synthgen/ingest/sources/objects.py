"""What all kinds of source share: objects as a listing gives them, references to them, and how references are read."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from synthgen.config.source import SourceConfig
from synthgen.console import pluralize
from synthgen.errors import Failure, listed, one_line
from synthgen.store.remote import PermanentError
from synthgen.tables import GivenRow
from synthgen.tables.reasons import QUARANTINE_REASONS

MOST_KINDS = 12  # of what was left out, in a message
NAMED = 3  # reasons of metadata that cannot be read, in the warning
UNREADABLE = "sidecar_unreadable"  # the key of the reason, in place of metadata
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """One object of a source.

    Attributes:
        uri: Where it is, for good: it leads to the object in any process and any working folder, without the source.
        version: A text that changes when the object changes; the same uri with another version is another object.
        row: Of a Parquet file, or of whatever has rows.
        bytes: None where the listing does not say.
        source_meta: JSON.
        source: The name of its place, where a source has several; no kind of source gives it.
        given: Of a row of an instruction set, what it brings beside its image.
    """

    uri: str
    version: str
    row: int | None = None
    bytes: int | None = None
    source_meta: str | None = None
    source: str | None = None
    given: GivenRow | None = None


@dataclass(frozen=True)
class LeftOut:
    """Something that a listing met and does not list.

    Attributes:
        why: In a few words of a closed kind, because it is counted by them: a suffix as `.pdf`, or `hidden file`.
        count: How many there are.
    """

    why: str
    count: int = 1


Item = Listed | LeftOut  # of a listing


@dataclass(frozen=True)
class ObjectRef:
    """The columns that lead to a listed object again.

    Attributes:
        is_verified: The bytes are compared with their hash afterwards, so a source may give those of another version.
        source: The name of its place, where a source has several.
    """

    object_id: str
    uri: str
    version: str
    row: int | None = None
    is_verified: bool = False
    source: str | None = None


def ref_of(row: Mapping[str, Any]) -> ObjectRef:
    """Return the reference to the object of a table's row."""
    return ObjectRef(row["object_id"], row["uri"], row["version"], row["row"], source=row.get("source"))


def left_out_text(counts: Mapping[str, int]) -> str:
    """Return what was left out in words, the most frequent first, as `1,200 .pdf, 3 hidden file`."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{count:,} {why}" for why, count in ordered], MOST_KINDS)


Reserve = Callable[[int], None]  # waits until this many more bytes may be in memory
Outcome = tuple[ObjectRef, bytes | Failure]
Read = Callable[[ObjectRef, int], bytes | Failure]  # of an object that may have this many bytes


@dataclass(frozen=True)
class ReadTask:
    """References and how to read them: one object, or some that are read faster together."""

    refs: list[ObjectRef]
    read: Callable[[list[ObjectRef], Reserve], Iterator[Outcome]]


Tasks = Callable[[Sequence[ObjectRef], SourceConfig, int], Iterator[ReadTask]]  # each reference in exactly one task


def one_by_one(read: Read) -> Tasks:
    """Return the tasks of a source that reads each object by itself.

    Args:
        read: Returns the bytes of an object of at most so many bytes, or a Failure with a reason of
            `synthgen.tables.reasons`. It runs in several threads at once. If it raises, the object is `unreadable`;
            any error but FileNotFoundError, PermissionError, IsADirectoryError and PermanentError is first tried
            again, a few times.
    """

    def tasks(refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
        return (ReadTask([ref], partial(_read_one, read, max_bytes)) for ref in refs)

    return tasks


def too_many_bytes(size: int, max_bytes: int) -> Failure | None:
    """Return the failure of an object that exceeds the limit, or None."""
    return Failure("too_many_bytes", f"{size:,} bytes; the limit is {max_bytes:,}") if size > max_bytes else None


def meta_json(value: Any) -> str:
    """Return metadata as compact JSON, for `source_meta`. Numbers that JSON lacks (NaN and the infinite) become null.

    Raises:
        ValueError: A text holds half of a character, or the value refers to itself.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a text holds half of a character ({text[error.start]!a})") from error
    return text


def unreadable_meta(reason: str) -> str:
    """Return what stands in place of metadata that cannot be read."""
    return meta_json({UNREADABLE: reason})


def tell_unreadable(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; a warning at the end names the metadata that cannot be read.

    Only a tagger that needs it says so, too.
    """
    count, first = 0, list[str]()
    for item in items:
        if isinstance(item, Listed) and (reason := _why_unreadable(item.source_meta)):
            count += 1
            if len(first) < NAMED:
                first.append(one_line(reason))
        yield item
    if count:
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        log.warning("the metadata of %s cannot be read: %s%s", pluralize(count, "image"), ", ".join(first), more)


def _why_unreadable(meta: str | None) -> str | None:
    if not meta or f'"{UNREADABLE}":' not in meta:
        return None
    try:
        value = json.loads(meta)
    except RecursionError:
        return None
    return str(value[UNREADABLE]) if isinstance(value, dict) and UNREADABLE in value else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _read_one(read: Read, max_bytes: int, refs: list[ObjectRef], _: Reserve) -> Iterator[Outcome]:
    """Read one object; each thread holds one at most beyond those that wait for the caller."""
    try:
        content: object = read(refs[0], max_bytes)  # of another package, so anything
    except SystemExit as error:  # it would end the thread, and the caller would wait for ever
        raise PermanentError(one_line(error)) from error
    if isinstance(content, bytes):
        yield refs[0], too_many_bytes(len(content), max_bytes) or content
    elif not isinstance(content, Failure):
        yield refs[0], Failure("unreadable", f"its source gave {type(content).__name__} in place of bytes")
    elif content.reason in QUARANTINE_REASONS:
        yield refs[0], Failure(content.reason, one_line(content.detail))
    else:
        yield refs[0], Failure("unreadable", one_line(str(content)))
