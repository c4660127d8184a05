"""The samples or tags that a run prints at its end."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import synthgen
from synthgen.commands import preferences, samples
from synthgen.commands.learn import seed
from synthgen.errors import Damaged
from synthgen.stages.pack.schema import sample_schema
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import OBJECT_TAGS, PACK, SELECT, TAG, table
from tests.fixtures.rows import describe_run


def test_tags_are_counted_by_image_with_what_no_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Folder(str(tmp_path))
    stage = StageFolder(out, TAG)
    paths_of = {"p0": [["animal/cat"], ["animal/cat", "document"], []], "p1": [["animal/cat"], ["document/invoice"]]}
    with Lease.take(out) as lease:
        for name, images in paths_of.items():
            rows = [
                {
                    "object_id": f"{name}{at}",
                    "tags": [{"path": path, "score": 1.0, "tagger": "beside"} for path in paths],
                }
                for at, paths in enumerate(images)
            ]
            parts = {
                f"tags/{tagger}": TablePart((stage.write(f"tags/{tagger}", name, 1, table(rows, OBJECT_TAGS)),), "f")
                for tagger in ("a", "b")
            }
            stage.commit(Receipt(name, 1, parts), lease)
    leaves = ["animal/cat", "animal/red_panda", "document/invoice"]
    lines = samples.tags(RunFolder(out), ["a", "b"], leaves).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["tag", "images"],
        ["animal/cat", "3"],
        ["document", "1"],
        ["document/invoice", "1"],
    ]
    assert lines[4:] == ["found in no image: animal/red_panda"]
    monkeypatch.setattr(samples, "TAGS", 1)
    assert (
        samples.tags(RunFolder(out), ["a"], leaves).splitlines()[2]
        == "… and 2 tags more; the rarest: document 1, document/invoice 1"
    )


def write_shards(out: Folder, sizes: Sequence[int]) -> None:
    """Write shards of so many samples, each of one turn, that fit the decisions of the folder."""
    messages = [{"role": role, "content": [{"type": "text", "text": role}]} for role in ("user", "assistant")]
    blank = {name: None for name in sample_schema(()).names} | {"messages": messages, "types": ["coarse/scene"]}
    stage = StageFolder(out, PACK)
    describe_run(out)
    with Lease.take(out) as lease:
        StageFolder(out, SELECT).commit(Receipt("e001-00000", 1, {}, {"kept": sum(sizes)}), lease)
        for number, size in enumerate(sizes):
            sink = io.BytesIO()
            rows = [blank | {"uris": [f"{number}-{row}.jpg"]} for row in range(size)]
            pq.write_table(pa.Table.from_pylist(rows, schema=sample_schema(())), sink)
            data = TablePart((stage.put("data", "train", sink.getvalue(), size),), "f")
            stage.commit(Receipt(f"e001-{number:05d}", 1, {"data": data}, {"turns": size, "samples": size}), lease)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ([1], 1),
        ([2], 2),
        ([3], 3),
        ([40], 3),
        ([1, 1], 2),
        ([2, 1], 3),
        ([1, 5], 2),
        ([1, 1, 1], 3),
        ([1, 1, 1, 1, 1], 3),
    ],
)
def test_each_sample_is_shown_once_however_few_there_are(tmp_path: Path, sizes: list[int], shown: int) -> None:
    out = Folder(str(tmp_path))
    write_shards(out, sizes)
    uris = [line for line in samples.text(RunFolder(out)).splitlines() if line.endswith(".jpg")]
    assert len(uris) == len(set(uris)) == shown


def test_samples_of_earlier_decisions_are_not_shown(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    write_shards(out, [2, 1])
    with Lease.take(out) as lease:
        StageFolder(out, SELECT).commit(Receipt("e001-00000", 2, {}, {"kept": -3, "rule:echo": 3}), lease)
    last = f"pack has not run yet on these decisions; of earlier ones 2 shards: {out.url}/5-shards/data/*.parquet"
    assert samples.text(RunFolder(out)).split("\n") == ["", last]


def test_the_address_of_the_shards_can_be_opened(out: Folder) -> None:
    """A bucket's address keeps its s3://."""
    write_shards(out, [1])
    *shown, last = samples.text(RunFolder(out)).splitlines()
    assert "  Q: user" in shown and last == f"1 shard: {out.url}/5-shards/data/*.parquet"
    fs, path = fsspec.core.url_to_fs(last.removeprefix("1 shard: "))
    assert len(fs.glob(path)) == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda run: samples.text(run),
        lambda run: synthgen.load_samples(run.out.url),
        lambda run: seed.open_seed(run.out.url),
        lambda run: preferences.check_packed(run),
    ],
)
@pytest.mark.parametrize(("content", "fault"), [(None, "is missing"), (b"x", "was changed after it was committed")])
def test_a_shard_that_is_lost_or_cut_is_one_line_with_the_command_that_makes_it_again(
    tmp_path: Path, read: Callable[[RunFolder], object], content: bytes | None, fault: str
) -> None:
    out = Folder(str(tmp_path))
    write_shards(out, [1, 2])
    shard = tmp_path / "5-shards" / "data" / RunFolder(out).shards()[1].name
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        read(RunFolder(out))
    place = f"{out.url}: 5-shards/data/{shard.name} of partition e001-00001"
    assert str(caught.value) == f"{place} {fault}; redo it with `synth retry {out.url} --partition 5-shards/e001-00001`"
