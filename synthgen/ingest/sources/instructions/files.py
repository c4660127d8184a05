"""The files of an instruction set and their rows, one after the other, each with the place of its image."""

import json
import posixpath
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import parquet, tars
from synthgen.ingest.sources.instructions.conversation import OF_TURNS
from synthgen.ingest.sources.instructions.forms import SetForm
from synthgen.ingest.sources.instructions.json_list import read_list
from synthgen.ingest.sources.location import (
    Location,
    member_uri,
    member_version,
    open_versioned,
)
from synthgen.ingest.sources.manifest_rows import Row, json_rows, open_file, text_of
from synthgen.ingest.sources.objects import UNREADABLE, LeftOut, Listed
from synthgen.ingest.sources.walk import FileEntry
from synthgen.store.parquet import BATCH_BYTES
from synthgen.store.remote import display_uri

KEPT = ("id", "license", "licence", "source", "data_source", "dataset", "author", "tags")  # fields that come along
PROMPT_FORM = ("prompt", "completion")  # the fields of a form with a row for each turn
CONTINUED = LeftOut("row whose turns the next row has too")
HEAD = 100  # rows that show which fields a file has
LONG = "characters"  # ends what is wrong with a row that is too long
BEFORE = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"  # bytes that may stand before the first sign of a text


@dataclass(frozen=True)
class Entry:
    """A row of a set.

    Attributes:
        number: In its file, from 1.
        record: Its fields; a Failure if it cannot be read.
        images: Each as a listing has it, or a path to it; or why there is none that can be used.
    """

    number: int
    record: Mapping[str, Any] | Failure
    images: "tuple[Listed | str, ...] | Failure"


@dataclass(frozen=True)
class SetFile:
    """A file of a set; `fs` is None for a local one."""

    location: Location
    fs: Any
    file: FileEntry

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.location.object_uri(self.file.path)

    @property
    def suffix(self) -> str:
        """The end of its name, in lower case."""
        return posixpath.splitext(self.file.path.lower())[1]

    @property
    def shown(self) -> str:
        """Its uri for messages."""
        return display_uri(self.uri)


def fields_of(file: SetFile, source: SourceConfig) -> frozenset[str]:
    """Return the fields that the first rows of a file have; none if it has no rows that can be read."""
    if file.suffix == ".parquet":
        with open_versioned(file.uri, file.fs, BATCH_BYTES) as (raw, _):
            return frozenset(parquet.parse(raw).schema_arrow.names)
    rows = _members(file, source) if file.suffix == ".tar" else _json(file)
    with closing(rows):
        records = (_record(row) if isinstance(row, Row) else row.record for row in _head(rows))
        known = [record for record in records if not isinstance(record, Failure)]
    return frozenset(name for record in known for name, value in record.items() if value is not None)


def _head(rows: Iterable[Row | Entry | LeftOut]) -> Iterator[Row | Entry]:
    return islice((row for row in rows if not isinstance(row, LeftOut)), HEAD)


def image_column(file: SetFile, form: SetForm) -> str | None:
    """Return the column of a Parquet file that holds the bytes of images, or None if no file has them so."""
    if file.suffix != ".parquet" or not form.image:
        return None
    with open_versioned(file.uri, file.fs, BATCH_BYTES) as (raw, _):
        return None if _is_text(parquet.parse(raw), form.image) else form.image


def read_entries(file: SetFile, form: SetForm, source: SourceConfig) -> Iterator[Entry | LeftOut]:
    """Yield the rows of a file, and what else is in it."""
    if file.suffix == ".tar":
        yield from _members(file, source)
        return
    rows = _parquet(file, form, source) if file.suffix == ".parquet" else _json_entries(file, form)
    yield from _whole_talks(rows) if form.turns == PROMPT_FORM else rows


def _json_entries(file: SetFile, form: SetForm) -> Iterator[Entry]:
    for row in _json(file):
        record = _record(row)
        image = record if isinstance(record, Failure) else _paths(record.get(form.image))
        yield Entry(row.number, record, image)


def _whole_talks(entries: Iterable[Entry]) -> Iterator[Entry | LeftOut]:
    """Yield rows of prompt and completion without those that the next row goes on from: it has their turns too."""
    before: Entry | None = None
    for entry in entries:
        if before:
            yield CONTINUED if _goes_on(before.record, entry.record) else before
        before = entry
    if before:
        yield before


def _goes_on(before: Mapping[str, Any] | Failure, after: Mapping[str, Any] | Failure) -> bool:
    if isinstance(before, Failure) or isinstance(after, Failure):
        return False
    asked, said, prompt = before.get("prompt"), before.get("completion"), after.get("prompt")
    if not (isinstance(asked, list) and isinstance(said, list) and isinstance(prompt, list)):
        return False
    return len(prompt) > len(asked) + len(said) and prompt[: len(asked) + len(said)] == [*asked, *said]


def _record(row: Row) -> Mapping[str, Any] | Failure:
    if row.values is not None:
        return row.values
    return Failure("row_too_long" if row.fault.endswith(LONG) else "row_unreadable", row.fault)


def _paths(value: Any) -> tuple[str, ...] | Failure:
    """Return the paths of the images that a field names, or why it names none."""
    paths = list[str]()
    for each in value if isinstance(value, list) and value else [None if isinstance(value, list) else value]:
        path = _path(each)
        if isinstance(path, Failure):
            return path
        paths.append(path)
    return tuple(paths)


def _path(value: Any) -> str | Failure:
    """Return the path of an image, or why it is none."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        return Failure("no_image", "it names no image file")
    scheme = value.partition(":")[0].lower() if ":" in value else ""
    if scheme == "data":
        return Failure("no_image", "its image stands in the text itself, which is not read")
    if scheme in ("http", "https"):
        return Failure(
            "url_refused", "its image is a URL; fetch the images first, and name their folder in source.root"
        )
    return value


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json(file: SetFile) -> Generator[Row, None, None]:
    with open_file(file.uri) as raw:
        if file.suffix == ".json" and not _is_lines(raw):
            with text_of(raw) as text:
                yield from read_list(text, file.shown)
        else:
            yield from json_rows(raw, file.uri, ())


def _is_lines(raw: BinaryIO) -> bool:
    """Return whether a file begins with a record, and not with a list of them."""
    start = raw.read(4096).lstrip(BEFORE)
    raw.seek(0)
    return start.startswith(b"{")


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(file: SetFile, form: SetForm, source: SourceConfig) -> Iterator[Entry]:
    with open_versioned(file.uri, file.fs, BATCH_BYTES) as (raw, version):
        table = parquet.parse(raw)
        names = table.schema_arrow.names
        if missing := form.lacks(names):
            raise UserMistake(f"{file.shown}: has no column '{missing}', which the form {form.name} has")
        has_paths = _is_text(table, form.image)
        wanted = [*form.turns, *KEPT, *OF_TURNS, *source.meta_columns, *([form.image] if has_paths else [])]
        columns = [name for name in dict.fromkeys(wanted) if name in names]
        sizes = None if has_paths else parquet.row_sizes(table, form.image)
        image, number = 0, 0
        for number, record in enumerate(parquet.read_values(table, columns), 1):
            if sizes is None:
                yield Entry(number, record, _paths(record.get(form.image)))
                continue
            size = next(sizes)
            yield Entry(number, record, tuple(Listed(file.uri, version, image + own) for own in range(size)))
            image += size


def _is_text(table: pq.ParquetFile, column: str) -> bool:
    """Return whether a column holds paths, alone or in lists."""
    kind = table.schema_arrow.field(column).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


# --- tars -------------------------------------------------------------------------------------------------------------


def _members(file: SetFile, source: SourceConfig) -> Generator[Entry | LeftOut, None, None]:
    """Yield a row for each sample of a tar: its images, and the JSON beside them."""
    number = 0
    for _, items in groupby(tars.list_members(file.uri, file.fs, source.suffixes), _sample_key):
        together = list(items)
        yield from (item for item in together if isinstance(item, LeftOut))
        if members := [item for item in together if isinstance(item, tars.Member)]:
            number += 1
            yield _sample(file, number, members)


def _sample_key(item: tars.Member | LeftOut) -> tuple[str, str] | None:
    if isinstance(item, LeftOut):
        return None
    folder, _, name = item.name.rpartition("/")
    return folder, name.partition(".")[0]


def _sample(file: SetFile, number: int, members: list[tars.Member]) -> Entry:
    first = members[0]
    if not first.name:
        broken = Failure("truncated", tars.what_is_wrong(file.uri, file.fs, first.offset))
        return Entry(number, broken, broken)
    images = tuple(_place(file, member) for member in members)
    record = json.loads(first.meta) if first.meta else {}
    if UNREADABLE in record:
        return Entry(number, Failure("row_unreadable", str(record[UNREADABLE])), images)
    return Entry(number, record, images)


def _place(file: SetFile, member: tars.Member) -> Listed:
    version = member_version(file.file.version, member.offset)
    return Listed(member_uri(file.uri, member.name), version, member.row, member.size)
