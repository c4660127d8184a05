"""The number of images that a run of the tag stage announces."""

from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.stages import tag
from synthgen.stages.tag.todo import count_objects
from synthgen.store import CommitLog, Folder, Receipt, TablePart
from synthgen.store.commits import Commit
from synthgen.tables import LIST, TAG
from synthgen.workers import Task
from tests.fixtures.tagging import TaggedFolder, write_sidecar
from tests.fixtures.workspace import make_images

PARTITION = "e001-00000"


def log(counts: dict[str, int]) -> CommitLog:
    """Return the log of a partition with one commit, made with the settings of the context below."""
    receipt = Receipt(PARTITION, 1, {"images": TablePart((), "print")}, counts)
    return CommitLog({PARTITION: (Commit(receipt, 1, "2030-01-01T00:00:00", "d"),)})


@pytest.mark.parametrize(
    ("retry", "expected"), [((), 40), (("unreadable",), 3), (("unreadable", "corrupt"), 5), (("purged",), 0)]
)
def test_a_retry_announces_only_the_images_that_it_tags_again(retry: tuple[str, ...], expected: int) -> None:
    counts = {"tagged": 35, "quarantined.unreadable": 3, "quarantined.corrupt": 2}
    context = tag.TagContext(Folder("out"), SourceConfig(), ImagesConfig(), (), 2, "print", frozenset(retry))
    task = Task(PARTITION, 2, {LIST.folder: log({"listed": 40}), TAG.folder: log(counts)})
    assert count_objects(context, task) == expected
    assert count_objects(replace(context, images_fingerprint="other"), task) == 40, "an update does all of them"


def test_a_long_death_of_a_worker_is_cut_with_a_mark(workspace: Path, tmp_path: Path) -> None:
    make_images(workspace / "photos", 1)
    folder, spec = TaggedFolder(tmp_path / "out"), write_sidecar()
    (task,) = folder.tasks(spec)
    worker = tag.TagWorker(folder.context(spec))
    try:
        receipt = worker.do(replace(task, poison=True, why="x\n" * 900))
    finally:
        worker._decoder.close()
        folder.lease.release()
    (rows,) = folder.run_folder.stage(TAG).files(receipt, "images", ["detail"])
    (detail,) = rows.column("detail").to_pylist()
    assert len(detail) == 500 and detail.endswith("…") and "\n" not in detail
