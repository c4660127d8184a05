"""An output folder up to its selected pairs, and the images that they are about: what the tests of shards and card pack."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthgen import pack, rows, select
from synthgen.config import Images, Pack, Select, Source
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart
from synthgen.store.stage import partition_name

Row = dict[str, Any]
LIMITS = Images()
QUESTIONS = ["What colour is it?", "How many dogs are there?", "What does the sign say?", "Where does this path lead?", "Who is near?"]


def turn_text(form: str, question: str, options: Sequence[str]) -> str:
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))])


def jpeg(number: int, side: int = 48, **more: Any) -> bytes:
    """A picture unlike those of other numbers; `noise` does not compress."""
    noise = Image.effect_noise((side, side), 100) if more.pop("noise", False) else Image.new("L", (side, side), 60)
    image = Image.merge("RGB", [noise, Image.new("L", (side, side), number % 32 * 8), Image.new("L", (side, side), number // 32 * 8)])
    sink = io.BytesIO()
    image.save(sink, "JPEG", **more)
    return sink.getvalue()


class World:
    """An output folder up to stage 3, and the images it is about."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.images.mkdir()
        self.out = Folder(str(folder / "out"))
        self.lease = Lease.take(self.out)
        self.select = Select()
        self.terms = pack.Terms(self.out, Source(uri=str(self.images)), LIMITS, Pack(), ("likelihood",), turn_text, "wording")

    def add(self, epoch: int, images: dict[str, bytes], turns: int = 2, meta: str | None = None) -> None:
        """Lists, plans and asks about some images, as one partition of an epoch."""
        partition = partition_name(epoch, 0)
        listed, planned, pairs = [], [], []
        for name, data in images.items():
            path = self.images / name
            path.write_bytes(data)
            status = path.stat()
            version = f"{status.st_size}-{status.st_mtime_ns}"
            place = {"object_id": rows.object_id(str(path), version, None), "uri": str(path), "version": version, "source_meta": meta}
            listed.append({**place, "bytes": status.st_size})
            image = rows.image_id(data)
            tags = [{"path": "animal/dog", "score": 0.5, "tagger": "t"}]
            planned.append({**place, "image_id": image, "outcome": "planned", "uris": [str(path)], "tags": tags})
            pairs += [pair(image, place["object_id"], number) for number in range(turns)]
        self.commit("0-listed", partition, {"objects": rows.table(listed, rows.OBJECTS)}, epoch)
        self.commit("2-planned", partition, {"images": rows.table(planned, rows.PLANNED_IMAGES)}, epoch)
        self.generate(partition, pairs, epoch)

    def generate(self, partition: str, pairs: list[Row], epoch: int) -> None:
        scores = [{"pair_id": row["pair_id"], "value": row["ordinal"] / 10} for row in pairs]
        tables = {"pairs": rows.table(pairs, rows.PAIRS), "scores/likelihood": rows.table(scores, rows.SCORES)}
        self.commit("3-generated", partition, tables, epoch)

    def commit(self, stage: str, partition: str, tables: dict[str, Any], epoch: int) -> None:
        one = Stage(self.out, stage)
        revision = one.log().next_revision(partition)
        parts = {name: TablePart((one.write(name, partition, revision, table),), "f") for name, table in tables.items()}
        one.commit(Receipt(partition, revision, parts), self.lease, epoch)

    def pack(self) -> list[str]:
        """Selects, packs and publishes; which shards were written."""
        for receipt in select.run(select.prepare(self.out, self.select)):
            Stage(self.out, "4-selected").commit(receipt, self.lease, 1)
        shards = pack.todo(self.terms)
        for shard in shards:
            Stage(self.out, "5-shards").commit(pack.write_shard(self.terms, shard), self.lease, shard.epoch)
        pack.publish(self.terms, self.select, {"Model": "a|b <script>"}, self.lease)
        return [f"{shard.partition}.r{shard.revision}" for shard in shards]

    @property
    def files(self) -> list[Path]:
        return sorted(Path(self.out.path, "5-shards", "data").glob("*.parquet"))

    @property
    def samples(self) -> list[Row]:
        return [row for file in self.files for row in pq.read_table(file).to_pylist()]

    def unpacked(self) -> list[Row]:
        stage = Stage(self.out, "5-shards")
        log = stage.log()
        return [row for name in log.partitions for row in stage.current(log, name, "unpacked", "sample_id", rows.UNPACKED).to_pylist()]

    def kept(self) -> set[str]:
        stage = Stage(self.out, "4-selected")
        log = stage.log()
        tables = [stage.current(log, name, "decisions", "pair_id", rows.DECISIONS) for name in log.partitions]
        return {row["pair_id"] for table in tables for row in table.to_pylist() if row["kept"]}


def pair(image: str, object_id: str, number: int, **more: Any) -> Row:
    assignment = rows.assignment_id(image, "counting/objects", "short", "English", number)
    return {
        "assignment_id": assignment,
        "pair_id": rows.pair_id(assignment, "recipe", 0),
        "image_id": image,
        "object_id": object_id,
        "type": "counting/objects",
        "form": "short",
        "language": "English",
        "ordinal": number,
        "outcome": "pair",
        "question": QUESTIONS[number],
        "answer": f"answer {number}",
        "model": "nano",
        "revision": "abc",
        **more,
    }


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few samples are looked at together that a handful are more than that."""
    monkeypatch.setattr("synthgen.pack.cutting.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("synthgen.spill.ROWS_AT_ONCE", 2)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.lease.release()


def read(file: Path) -> list[Any]:
    return pq.read_table(file).to_pylist() if file.suffix == ".parquet" else [file.read_text()]


def listed(world: World) -> list[Row]:
    stage = Stage(world.out, "0-listed")
    log = stage.log()
    return [row for name in log.partitions for row in stage.current(log, name, "objects", "object_id", rows.OBJECTS).to_pylist()]


def pictures(count: int, start: int = 0) -> dict[str, bytes]:
    return {f"{number}.jpg": jpeg(number) for number in range(start, start + count)}
