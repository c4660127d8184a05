"""What a run ends with, to look at."""

import io
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_way

from synthgen import examples
from synthgen.pack.features import sample_schema
from synthgen.rows import OBJECT_TAGS, table
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart

way, s3, out = s3_way.way, s3_way.s3, s3_way.out  # fixtures


def test_tags_are_counted_by_image_with_what_no_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Folder(str(tmp_path))
    stage = Stage(out, "1-tagged")
    found = {"p0": [["animal/cat"], ["animal/cat", "document"], []], "p1": [["animal/cat"], ["document/invoice"]]}
    with Lease.take(out) as lease:
        for name, images in found.items():
            rows = [
                {"object_id": f"{name}{at}", "tags": [{"path": path, "score": 1.0, "tagger": "beside"} for path in paths]}
                for at, paths in enumerate(images)
            ]
            parts = {f"tags/{one}": TablePart((stage.write(f"tags/{one}", name, 1, table(rows, OBJECT_TAGS)),), "f") for one in ("a", "b")}
            stage.commit(Receipt(name, 1, parts, {}), lease, 1)
    leaves = ["animal/cat", "animal/red_panda", "document/invoice"]
    lines = examples.tags(out, ["a", "b"], leaves).splitlines()
    assert [line.split() for line in lines[:4]] == [["tag", "images"], ["animal/cat", "3"], ["document", "1"], ["document/invoice", "1"]]
    assert lines[4:] == ["found in no image: animal/red_panda"]
    monkeypatch.setattr(examples, "TAGS", 1)
    assert examples.tags(out, ["a"], leaves).splitlines()[2] == "… and 2 tags more; the rarest: document 1, document/invoice 1"


def test_the_shards_are_told_so_that_they_can_be_opened_there(out: Folder) -> None:
    """Wherever the folder is: a bucket's address keeps its s3://."""
    said = [{"role": role, "content": [{"type": "text", "text": role}]} for role in ("user", "assistant")]
    sample = {name: None for name in sample_schema(()).names} | {"uris": ["a.jpg"], "messages": said, "types": ["coarse/scene"]}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([sample], schema=sample_schema(())), sink)
    stage = Stage(out, "5-shards")
    with Lease.take(out) as lease:
        stage.commit(Receipt("e001-00000", 1, {"data": TablePart((stage.put("data", "train", sink.getvalue(), 1),), "f")}), lease, 1)
    *shown, last = examples.text(out).splitlines()
    assert "  Q: user" in shown and last == f"1 shard: {out.url}/5-shards/data/*.parquet"
    fs, path = fsspec.core.url_to_fs(last.removeprefix("1 shard: "))
    assert len(fs.glob(path)) == 1
