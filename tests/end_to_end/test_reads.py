"""The reads of a run with nothing to do: a large output folder has tens of thousands of commits, one request each."""

from collections import Counter
from pathlib import Path

import pytest

from synthgen.stages.tag.untagged import SAMPLE
from synthgen.store import Folder
from synthgen.tables import STAGES
from tests.fixtures.runs import run
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("workers_here")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Return how often each file on disk is read through a Folder; `read_many` reads local files one by one."""
    counts: Counter[Path] = Counter()
    read = Folder.read

    def counting_read(folder: Folder, name: str) -> bytes:
        counts[Path(folder.full(name))] += 1
        return read(folder, name)

    monkeypatch.setattr(Folder, "read", counting_read)
    return counts


def test_a_run_with_nothing_to_do_reads_the_record_and_each_commit_once(workspace: Path, reads: Counter[Path]) -> None:
    out = workspace / "out"
    make_images(workspace / "photos", 40)
    run()
    record = [out / "run.json", max((out / "frozen").iterdir())]
    commits = list(out.glob("*/commits/*.json"))
    assert {path.parts[-3] for path in commits} == {spec.folder for spec in STAGES if not spec.is_optional} and len(
        commits
    ) > len(STAGES)
    reads.clear()
    assert "nothing to do" in run().stderr
    assert {path: reads[path] for path in commits} == dict.fromkeys(commits, 1)
    assert [reads[path] for path in record] == [1, 1]
    assert list((out / "frozen").iterdir()) == [record[1]], "nothing new is to be said"
    tables = {f"{path.parts[-3]}/{path.parts[-2]}" for path in reads if path.suffix == ".parquet"}
    sampled = {table for table in tables if table.startswith("tags/")}  # by `status`, for images without a tag
    assert len([path for path in reads if path.parent.parent.name == "tags"]) <= SAMPLE * len(sampled)
    assert tables - sampled <= {"0-listed/objects", "4-selected/decisions", "5-shards/index", "5-shards/unpacked"}
