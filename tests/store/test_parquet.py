"""Files and row groups of any size are read: Arrow refuses a binary column of more than 2 GB at once."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.commands.learn.records import Fields
from synthgen.commands.learn.seed import Columns, open_seed, read_rows
from synthgen.config.selection import SelectConfig
from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.store import parquet
from synthgen.store.parquet import read_batches, read_in_batches
from synthgen.train import dataset
from synthgen.train.feed import open_feed
from synthgen.train.stream import rows
from tests.fixtures.packing import World, pictures

IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
LIMIT = 3000  # bytes that "Arrow" reads at once, in place of 2 GB
NESTED = "Nested data conversions not implemented for chunked array outputs"  # Arrow's words


def file_of(sizes: list[int], group: int) -> pq.ParquetFile:
    """Return a file of rows with an image of these sizes each, `group` rows in a row group."""
    images = [[{"bytes": bytes([number]) * size, "path": f"{number}"}] for number, size in enumerate(sizes)]
    sink = io.BytesIO()
    table = pa.table({"number": range(len(sizes)), "images": pa.array(images, IMAGES)})
    pq.write_table(table, sink, row_group_size=group, use_dictionary=False)
    return pq.ParquetFile(io.BytesIO(sink.getvalue()), pre_buffer=False)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Arrow refuse at LIMIT bytes what it refuses at 2 GB."""
    iter_batches, read = pq.ParquetFile.iter_batches, pq.ParquetFile.read

    def checked(rows: Any) -> Any:
        if "images" in rows.schema.names and rows.column("images").nbytes > LIMIT:
            raise pa.ArrowNotImplementedError(NESTED)
        return rows

    def narrow_batches(*values: Any, **named: Any) -> Iterator[Any]:
        return (checked(batch) for batch in iter_batches(*values, **named))

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", narrow_batches)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *values, **named: checked(read(*values, **named)))
    monkeypatch.setattr(parquet, "BATCH_BYTES", LIMIT // 2)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("group", [1, 3, 100])
@pytest.mark.parametrize(
    "sizes", [[1000] * 12, [10] * 40 + [2500] * 3 + [10] * 5, [2500], []], ids=["even", "uneven", "one", "none"]
)
def test_rows_are_read_in_order_whatever_they_weigh(sizes: list[int], group: int) -> None:
    table = read_in_batches(file_of(sizes, group), ["images", "number"])
    assert table.column_names == ["images", "number"]
    assert table.column("number").to_pylist() == list(range(len(sizes)))
    assert [len(table.slice(row, 1).to_pylist()[0]["images"][0]["bytes"]) for row in range(len(sizes))] == sizes


def test_only_the_row_groups_that_are_wanted_are_read() -> None:
    rows = [batch.column("number").to_pylist() for batch in read_batches(file_of([10] * 6, 2), ["number"], [2, 0])]
    assert rows == [[4, 5], [0, 1]]


def test_another_error_of_arrow_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Iterator[Any]:
        raise pa.ArrowNotImplementedError("something else")

    file = file_of([10] * 6, 2)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuse)
    with pytest.raises(pa.ArrowNotImplementedError):
        list(read_batches(file, ["number"]))


# --- the readers of shards --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("narrow")
def test_a_shard_of_more_than_arrow_reads_at_once_is_trained_on_learned_from_and_packed_again(world: World) -> None:
    world.add(1, pictures(12))
    world.pack()
    [file] = world.files
    with pytest.raises(pa.ArrowNotImplementedError):
        pq.ParquetFile(file).read()
    settings = TrainConfig()
    seen = rows(open_feed({"shards": str(file)}, file.with_name("feed"), settings), settings, 0)
    assert len({next(seen)["images"][0]["bytes"] for _ in range(12)}) == 12
    seeds = list(read_rows(open_seed(str(file)), Columns(Fields(None, None), texts=True, images=True)))
    assert len(seeds) == 12
    for path in world.images.iterdir():
        path.unlink()  # so that all images come from the last revision
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack() == ["e001-00000.r2"]
    assert not world.unpacked()
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in world.files) == 12


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world without images."""
    world = World(tmp_path)
    yield world
    world.lease.release()


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["images", "messages"], lambda path: dataset.pin(str(path))),
        (["id", "id"], lambda path: list(read_rows(open_seed(str(path)), Columns(Fields(), True, True)))),
    ],
)
def test_a_file_with_a_column_twice_is_one_line(
    tmp_path: Path, names: list[str], read: Callable[[Path], object]
) -> None:
    path = tmp_path / "twice.parquet"
    cells = [pa.array(["x"])] * 3
    pq.write_table(pa.Table.from_arrays(cells, names=[names[0], *names]), path)
    with pytest.raises(UserMistake) as caught:
        read(path)
    count = 1 + names.count(names[0])
    assert str(caught.value) == f"{path}: has {count} columns '{names[0]}'; write it with one"
