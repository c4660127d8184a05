"""The tag stage: the number of images that it announces, and images that it must not use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.stages import tag
from synthgen.stages.tag.todo import count_objects
from synthgen.store import CommitLog, Folder, Receipt, TablePart
from synthgen.store.commits import Commit
from synthgen.tables import LIST, TAG
from synthgen.taggers import TaggerSpec
from synthgen.workers import Task
from tests.fixtures.rows import rows_of
from tests.fixtures.tagging import SOURCE, TaggedFolder, write_sidecar
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


def tagged_with(folder: TaggedFolder, spec: TaggerSpec, source: SourceConfig) -> dict[str, dict[str, Any]]:
    (task,) = folder.tasks(spec)
    worker = tag.TagWorker(replace(folder.context(spec), source=source))
    try:
        folder.run_folder.commit(TAG, worker.do(task), folder.lease)
    finally:
        worker._decoder.close()
    uris = {row["object_id"]: Path(row["uri"]).name for row in rows_of(folder.out, LIST, "objects")}
    return {uris[row["object_id"]]: row for row in folder.rows("images")}


@pytest.mark.parametrize("use_reserved", [False, True])
def test_an_image_that_is_reserved_is_quarantined_unless_its_source_may_be_used(
    workspace: Path, tmp_path: Path, use_reserved: bool
) -> None:
    paths = make_images(workspace / "photos", 3)
    meta = json.loads(paths[0].with_suffix(".json").read_text())
    paths[0].with_suffix(".json").write_text(json.dumps({**meta, "license": "CC BY 4.0", "robots": "noai"}))
    xmp = '<x xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" plus:DataMining="DMI-PROHIBITED"/>'
    Image.open(paths[1]).convert("RGB").save(paths[1], "WEBP", xmp=xmp.encode())
    folder = TaggedFolder(tmp_path / "out")
    try:
        found = tagged_with(folder, write_sidecar(), SOURCE.model_copy(update={"use_reserved": use_reserved}))
    finally:
        folder.lease.release()
    rows = [found[path.name] for path in paths]
    assert [row["outcome"] for row in rows] == ["tagged" if use_reserved else "quarantined"] * 2 + ["tagged"]
    assert rows[0]["rights"]["license"] == "CC-BY-4.0" and rows[2]["rights"] is None
    if not use_reserved:
        assert [row["reason"] for row in rows[:2]] == ["reserved"] * 2 and rows[0]["image_id"]
        assert rows[0]["detail"] == "its metadata says robots: noai"
        assert rows[1]["detail"] == "its XMP says plus:DataMining DMI-PROHIBITED"
