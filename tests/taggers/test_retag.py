"""Tags recomputed from stored embeddings and source_meta: the same as from the images, which are not read."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen import run, taggers
from synthgen.commands import purge, status
from synthgen.config import pipeline
from synthgen.job.funnel import funnels
from synthgen.job.job import open_job
from synthgen.stages import tag
from synthgen.stages.contract import StageRun
from synthgen.store import Receipt, RunFolder
from synthgen.store.denylist import Denylist, extend_denylist
from synthgen.tables import LIST, TAG
from synthgen.taggers import ClipTagger, Tagged, TaggerSpec
from synthgen.workers import PoolSpec, StopSignals, Task
from tests.fixtures.rows import describe_run
from tests.fixtures.tagging import TaggedFolder, clip_model, write_sidecar, write_tagger
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write

LOW, HIGHER = "threshold: 1.0e-12\n", "threshold: 1.0e-6\nmost: 3\n"
KITTY = "names: {kitty: animal/cat}\n"

WIDE_TAGGER = """
class Wide:
    def __init__(self, taxonomy, options):
        pass

    def tag(self, images, metas):
        return [{"document": 0.25} for _ in images]
"""


def clip_tagger(model: Path, more: str, name: str = "clip") -> TaggerSpec:
    return write_tagger(f"engine: open_clip\nmodel: {model}\n{more}", name)


def tag_paths(folder: TaggedFolder, tagger: str) -> list[list[str]]:
    return [[tag["path"] for tag in row["tags"]] for row in folder.rows(f"tags/{tagger}")]


# --- without the images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-10.0, None])
def test_edited_thresholds_and_taxonomy_give_the_same_tags_as_from_the_images(
    bias: float | None, workspace: Path, tmp_path: Path, read_uris: list[str]
) -> None:
    model, photos = clip_model(tmp_path / "model", bias), make_images(Path("photos").resolve(), 5)
    old = TaggedFolder(tmp_path / "old")
    old.tag(clip_tagger(model, LOW))
    before = old.rows("images")
    taxonomy = DEFINITION_FILES["taggers/taxonomies/small.yaml"]
    edited = taxonomy.replace("letter: a message", "letter: a written message\n      ticket: a slip")
    write(Path("taggers/taxonomies/small.yaml"), edited)
    changed, new = clip_tagger(model, HIGHER), TaggedFolder(tmp_path / "new")
    new.tag(changed)
    assert sorted(set(read_uris)) == sorted(str(path) for path in photos) and len(read_uris) == 10
    for photo in photos:
        photo.unlink()
    receipt = old.tag(changed)
    assert receipt.counts == {}, "an image was counted twice"
    assert len(read_uris) == 10, "an image was read again"
    assert old.rows("tags/clip") == new.rows("tags/clip") and any(row["tags"] for row in new.rows("tags/clip"))
    assert old.rows("images") == before == new.rows("images")


def test_images_read_for_a_new_tagger_are_not_embedded_again(
    siglip: Path, workspace: Path, tmp_path: Path, read_uris: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace / "wide_tagger.py", WIDE_TAGGER)
    monkeypatch.syspath_prepend(str(workspace))
    custom = write_tagger("engine: wide_tagger:Wide\n", "own")
    make_images(Path("photos"), 3)
    folder = TaggedFolder(tmp_path / "out")
    folder.tag(clip_tagger(siglip, LOW))
    before = folder.rows("images")
    monkeypatch.setattr(ClipTagger, "embed", lambda *_: pytest.fail("embedded again"))
    folder.tag(clip_tagger(siglip, HIGHER), custom)
    assert len(read_uris) == 6 and [len(paths) for paths in tag_paths(folder, "clip")] == [5, 5, 5]
    assert tag_paths(folder, "own") == [["document"]] * 3
    assert folder.rows("images") == before


def test_an_edited_sidecar_tagger_reads_no_image(workspace: Path, tmp_path: Path, read_uris: list[str]) -> None:
    make_images(Path("photos"), 3, ["kitty"])
    folder = TaggedFolder(tmp_path / "out")
    folder.tag(write_sidecar())
    assert tag_paths(folder, "first") == [[]] * 3 and len(read_uris) == 3
    folder.tag(write_tagger(f"engine: sidecar\n{KITTY}", "first"))
    assert tag_paths(folder, "first") == [["animal/cat"]] * 3 and len(read_uris) == 3


def test_a_quarantined_image_is_read_again_and_a_purged_one_does_not_come_back(
    siglip: Path, workspace: Path, tmp_path: Path, read_uris: list[str]
) -> None:
    photos = make_images(Path("photos").resolve(), 3)
    photos[0].write_bytes(photos[0].read_bytes()[:200])
    folder = TaggedFolder(tmp_path / "out")
    assert folder.tag(clip_tagger(siglip, LOW)).counts == {"tagged": 2, "quarantined.truncated": 1}
    purged = next(row["object_id"] for row in folder.rows("images") if row["outcome"] == "tagged")
    extend_denylist(folder.out, Denylist(object_ids=frozenset([purged])))
    read_uris.clear()
    folder.tag(clip_tagger(siglip, HIGHER))
    assert read_uris == [str(photos[0])]
    assert sorted(row["reason"] or "" for row in folder.rows("images")) == ["", "purged", "truncated"]


def test_a_stored_embedding_serves_only_the_tagger_whose_model_made_it(
    siglip: Path, workspace: Path, tmp_path: Path, read_uris: list[str]
) -> None:
    model = clip_model(tmp_path / "model", seed=3)
    other = clip_tagger(model, LOW, "other")
    make_images(Path("photos"), 1)  # with several, their order in a batch can change the last bit
    first, old, new = clip_tagger(siglip, LOW), TaggedFolder(tmp_path / "old"), TaggedFolder(tmp_path / "new")
    old.tag(first)
    for folder in (old, new):
        folder.tag(first, other)
    assert len(read_uris) == 3 and old.rows("tags/other") == new.rows("tags/other")
    old.tag(first, clip_tagger(model, HIGHER, "other"))
    assert len(read_uris) == 4, "its own embedding is stored nowhere"
    assert [row["embedding"] for row in old.rows("images")] == [row["embedding"] for row in new.rows("images")]


# --- tags that were left out -------------------------------------------------------------------------------------


def test_left_out_tags_are_counted_beside_the_outcomes_and_follow_every_edit(workspace: Path, tmp_path: Path) -> None:
    photos = make_images(Path("photos").resolve(), 4, ["kitty"])
    photos[0].with_suffix(".json").unlink()
    photos[1].with_suffix(".json").write_text("{")
    photos[2].write_bytes(photos[2].read_bytes()[:200])
    folder, first = TaggedFolder(tmp_path / "out"), write_sidecar()
    labels = write_sidecar("labels", key="labels")
    missing = {"left_out": 3, "left_out.no_sidecar": 1, "left_out.unreadable_sidecar": 1}
    outcomes = {"tagged": 3, "quarantined.truncated": 1}
    folder.tag(first)
    assert folder.counts() == {**outcomes, **missing, "left_out.no_such_tag": 1}
    folder.tag(first, labels)
    both = {**missing, "left_out.no_such_tag": 1, "left_out.no_tags": 1}
    assert folder.counts() == {**outcomes, **both}, "an image with phrases of two taggers counts once"
    details = {str(row["detail"]) for row in folder.rows("images") if row["outcome"] == "tagged"}
    assert "first: no sidecar; labels: no sidecar" in details
    assert "first: no such tag: 'kitty'; labels: no tags: no key 'labels', only 'tags'" in details
    folder.tag(write_tagger(f"engine: sidecar\n{KITTY}", "first"))
    assert folder.counts() == {**outcomes, **missing, "left_out": 2}


def test_a_folder_tagged_before_left_out_tags_were_counted_continues(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(Path("photos"), 2, ["kitty"])
    folder, first = TaggedFolder(tmp_path / "out"), write_sidecar()

    def tag_without_phrases(*args: Any) -> list[Any]:
        results = taggers.tag_images(*args)
        return [replace(result, left_out=()) if isinstance(result, Tagged) else result for result in results]

    with monkeypatch.context() as patched:
        patched.setattr("synthgen.stages.tag.worker.tag_images", tag_without_phrases)
        folder.tag(first)
    describe_run(folder.out)
    assert folder.counts() == {"tagged": 2} and tag.left_out_message(folder.run_folder) is None
    assert status.as_json(RunFolder(folder.out))["left_out"] == {"images": 0, "of": 2, "reasons": {}}
    folder.tag(first, write_sidecar("labels", key="labels"))
    assert folder.counts() == {"tagged": 2, "left_out": 2, "left_out.no_such_tag": 2, "left_out.no_tags": 2}


def test_status_reports_left_out_tags_and_its_sums_hold(workspace: Path, tmp_path: Path) -> None:
    photos = make_images(Path("photos").resolve(), 3, ["kitty"])
    photos[0].with_suffix(".json").unlink()
    folder = TaggedFolder(tmp_path / "out")
    describe_run(folder.out)
    folder.tag(write_sidecar())
    funnel = funnels(RunFolder(folder.out))[0]
    assert (funnel.received, funnel.passed, funnel.dropped) == (3, 3, {})
    line = "left out or missing for 3 of 3 tagged images: no such tag (2), no sidecar (1)"
    assert any(line in text for text in status.text(RunFolder(folder.out)).splitlines())
    assert f"`synth status {folder.out.url} --reason left_out` lists them" in status.text(RunFolder(folder.out))
    reasons = {"no_sidecar": 1, "no_such_tag": 2}
    assert status.as_json(RunFolder(folder.out))["left_out"] == {"images": 3, "of": 3, "reasons": reasons}
    purged = next(row["object_id"] for row in folder.rows("images") if row["detail"] == "first: no sidecar")
    (partition,) = folder.run_folder.log(TAG).partitions
    logs = {spec: folder.run_folder.log(spec) for spec in (LIST, TAG)}
    for spec in (LIST, TAG):
        denylist = Denylist(object_ids=frozenset([purged]))
        purge._rewrite(folder.run_folder, spec, logs, partition, denylist, folder.lease)
    assert folder.counts() == {"tagged": 2, "quarantined.purged": 1, "left_out": 2, "left_out.no_such_tag": 2}


def test_the_stage_ends_with_a_line_on_left_out_tags(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def do_here(spec: PoolSpec, tasks: Sequence[Task], *_: Any) -> Iterator[Receipt]:
        worker = tag.TagWorker(spec.settings)
        for task in tasks:
            yield worker.do(task)
        worker._decoder.close()

    monkeypatch.setattr(tag, "run_pool", do_here)
    make_images(Path("photos"), 3, ["cat", "kitty"])
    folder = TaggedFolder(tmp_path / "out")
    job = open_job(folder.out, pipeline.load("small", ["source.uri=photos"]))
    stage = StageRun(TAG, job, folder.run_folder, folder.lease, StopSignals())
    assert run.run_stage(stage) == 1
    line = "tag: tags that should have come along were left out or missing for 1 of 3 tagged images: no such tag (1); "
    line += f"`synth status {folder.out.url} --reason no_such_tag` lists them"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert run.run_stage(stage) == 0 and "left out" not in capsys.readouterr().err
