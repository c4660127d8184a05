"""The layouts that forms share: text files over all parts, and a Parquet file or a tar for each part."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.export.form import Facts, Part
from synthgen.commands.export.sample import Sample
from synthgen.store import Folder

GROUP_BYTES = 64 * 2**20  # of a row group of images: the viewer of the Hugging Face hub reads one at once
ROW_BYTES = 1000  # of a row beside its images, about
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TextFile:
    """What a text file has before, between and after its rows."""

    before: str = ""
    between: str = "\n"
    after: str = "\n"


JSON_LIST = TextFile("[\n", ",\n", "\n]\n")
JSON_LINES = TextFile()


@dataclass(frozen=True)
class TextFiles:
    """Text files of rows. Each part writes its rows aside, and the end puts them together.

    Attributes:
        files: Returns the files.
        rows: Returns the rows of a sample, each with the name of its file.
    """

    files: Callable[[Facts], Mapping[str, TextFile]]
    rows: Callable[[Sample, Part], Iterable[tuple[str, str]]]

    def write(self, part: Part, samples: Iterable[Sample]) -> None:
        """Write the rows of a part into a file of its own for each text file."""
        files = self.files(part.facts)
        with ExitStack() as stack:
            sinks = {name: stack.enter_context(part.stream(_piece(part.number, name))) for name in files}
            for sample in samples:
                for name, row in self.rows(sample, part):
                    between = files[name].between if sinks[name].tell() else ""
                    sinks[name].write((between + row).encode())

    def finish(self, target: Folder, facts: Facts) -> None:
        """Put the rows of all parts together. A file without rows is not written."""
        for name, file in self.files(facts).items():
            if not any(target.fs.size(target.full(_piece(number, name))) for number in range(facts.parts)):
                continue
            with target.stream(name) as sink:
                sink.write(file.before.encode())
                start = sink.tell()
                for number in range(facts.parts):
                    _append(sink, target, _piece(number, name), file.between if sink.tell() > start else "")
                sink.write(file.after.encode())


@dataclass(frozen=True)
class ParquetParts:
    """A Parquet file for each part, in row groups that readers can hold.

    Attributes:
        split: The first word of the names.
        schema: Returns the columns.
        rows: Returns the rows of a sample.
    """

    split: str
    schema: Callable[[Facts], pa.Schema]
    rows: Callable[[Sample, Part], Iterable[Row]]

    def write(self, part: Part, samples: Iterable[Sample]) -> None:
        """Write the rows of a part."""
        name = f"data/{self.split}-{part.number:05d}-of-{part.facts.parts:05d}.parquet"
        schema, waiting, size = self.schema(part.facts), list[Row](), 0
        # Images do not compress, which zstd detects fast; text does.
        with (
            part.stream(name) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer,
        ):
            for sample in samples:
                images = sum(len(picture.data) for picture in sample.pictures)
                for row in self.rows(sample, part):
                    if waiting and size + images > GROUP_BYTES:
                        writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
                        waiting, size = [], 0
                    waiting.append(row)
                    size += images + ROW_BYTES
            if waiting:
                writer.write_table(pa.Table.from_pylist(waiting, schema=schema))

    def finish(self, target: Folder, facts: Facts) -> None:
        """Do nothing: the parts are the whole."""


@dataclass(frozen=True)
class TarParts:
    """A tar for each part, the files of a sample one after the other.

    Attributes:
        members: Returns the files of a sample, each with its name.
    """

    members: Callable[[Sample, Part], Iterable[tuple[str, bytes]]]

    def write(self, part: Part, samples: Iterable[Sample]) -> None:
        """Write the samples of a part. The same samples give the same bytes."""
        with (
            part.stream(f"train-{part.number:06d}.tar") as sink,
            tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for sample in samples:
                for name, data in self.members(sample, part):
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(data), 0o644
                    tar.addfile(member, io.BytesIO(data))

    def finish(self, target: Folder, facts: Facts) -> None:
        """Do nothing: the parts are the whole."""


def _piece(number: int, name: str) -> str:
    return f"parts/{number:05d}.{name}"


def _append(sink: IO[bytes], target: Folder, name: str, between: str) -> None:
    with target.fs.open(target.full(name), "rb") as piece:
        if start := piece.read(2**20):
            sink.write(between.encode() + start)
            shutil.copyfileobj(piece, sink, 2**20)
