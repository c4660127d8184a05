"""A sample of a run as the forms of export see it: its images, its turns, and the row that it was read from."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageOps

from synthgen.ingest.images.decode import orientation
from synthgen.store import RunFolder
from synthgen.store.parquet import read_batches
from synthgen.tables import GENERATE, PACK, score_column

Row = Mapping[str, Any]
UPRIGHT = 1  # of EXIF
SCORE = score_column("")  # the start of a column of scores
PLAIN_NAME = re.compile(r"[\w-]+(\.\w+)?")


@dataclass(frozen=True)
class Picture:
    """An image file of a sample; `name` has no folder."""

    name: str
    data: bytes

    @property
    def suffix(self) -> str:
        """The end of the name, as `.jpg`."""
        return "".join(self.name.rpartition(".")[1:])


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        scores: Name → value, or None where a score has none.
    """

    question: str
    answer: str
    pair_id: str
    type: str
    form: str
    language: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Sample:
    """A sample; the images come before the first question.

    Attributes:
        paths: Where the images stand in the export, from its folder; () where they are inside of its files.
        row: All columns of the shards but the images.
    """

    id: str
    image_id: str
    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]
    row: Row
    paths: tuple[str, ...] = ()

    def messages(self, marker: str) -> Iterator[tuple[str, str]]:
        """Yield (role, text) in turn, with a marker for each image before the first question."""
        for number, turn in enumerate(self.turns):
            yield "user", (marker * len(self.pictures) if number == 0 else "") + turn.question
            yield "assistant", turn.answer


def read_samples(folder: RunFolder, shard: str) -> Iterator[Sample]:
    """Yield the samples of a shard in order; of a run on a disk, no more than a row group is held.

    Raises:
        Damaged: The file is missing, or is not the one that was committed.
    """
    for file in folder.stage(PACK).open_files(folder.log(PACK), shard, "data"):
        with file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            for batch in read_batches(parquet, parquet.schema_arrow.names):
                for row in batch.to_pylist():
                    yield _sample(row)


def score_names(folder: RunFolder, shard: str) -> tuple[str, ...]:
    """Return the names of the scores that a shard has columns for."""
    file = next(folder.stage(PACK).open_files(folder.log(PACK), shard, "data"))
    with file:
        names = pq.read_schema(file).names
    return tuple(name.removeprefix(SCORE) for name in names if name.startswith(SCORE))


def _sample(row: Row) -> Sample:
    pictures = tuple(Picture(_plain(image["path"]), image["bytes"]) for image in row["images"])
    texts = ["".join(part["text"] for part in message["content"] if part["text"]) for message in row["messages"]]
    scores = [name for name in row if name.startswith(SCORE)]
    turns = tuple(
        Turn(
            question,
            answer,
            pair_id=row["pair_ids"][number],
            type=row["types"][number],
            form=row["forms"][number],
            language=row["languages"][number],
            scores={name.removeprefix(SCORE): row[name][number] for name in scores},
        )
        for number, (question, answer) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    )
    rest = {name: value for name, value in row.items() if name != "images"}
    return Sample(row["id"], row["image_id"], pictures, turns, rest)


def _plain(name: str) -> str:
    """Return the name of an image file; `pack` made it of a hash and a suffix, so it names no folder."""
    assert PLAIN_NAME.fullmatch(name), name
    return name


def turned_upright(picture: Picture) -> Picture:
    """Return an image for readers that ignore EXIF: one that is stored turned is encoded again, upright.

    A JPEG gets the quality that `pack` gives to what it encodes; other formats lose nothing.
    """
    with Image.open(io.BytesIO(picture.data)) as image:
        if orientation(image) == UPRIGHT:
            return picture
        turned = ImageOps.exif_transpose(image)
        sink = io.BytesIO()
        options = {"quality": 95, "subsampling": 0} if image.format == "JPEG" else {"lossless": True}
        turned.save(sink, image.format, **options)
    return Picture(picture.name, sink.getvalue())


def read_pairs(folder: RunFolder, shard: str) -> dict[str, Row]:
    """Return the records of the pairs of a shard by id: the question as it was asked, options, what it follows."""
    latest = folder.log(PACK).latest(shard)
    read = (key.rpartition(".")[0] for key in (latest.receipt.reads if latest else {}))
    prefix = f"{GENERATE.folder}/"
    partitions = sorted({key.removeprefix(prefix) for key in read if key.startswith(prefix)})
    columns = ["assignment_id", "pair_id", "question", "options", "follows"]
    tables = (folder.table(GENERATE, partition, "pairs", columns) for partition in partitions)
    return {row["pair_id"]: row for table in tables for row in table.to_pylist() if row["pair_id"]}
