"""What a run ends with, to look at."""

from pathlib import Path

import pytest

from synthgen import examples
from synthgen.rows import OBJECT_TAGS, table
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart


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
