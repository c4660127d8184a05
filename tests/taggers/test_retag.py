"""Tags found anew from what is stored: the same as from the images, and no image is read for them."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen import run, taggers
from synthgen.commands import purge
from synthgen.config import pipeline
from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.engines.revision import folder_digest
from synthgen.ingest.sources import ObjectRef, list_objects, read_objects
from synthgen.job import funnel as status
from synthgen.job.job import open_job
from synthgen.stages import listing, tag
from synthgen.store import CommitLog, Folder, Lease, Receipt, StageFolder
from synthgen.store.denylist import Denylist, extend_denylist
from synthgen.tables import IMAGES, LIST, OBJECT_TAGS, TAG, stage_at
from synthgen.taggers import ClipTagger, TaggerSpec
from synthgen.workers import PoolSpec, Task
from tests.fixtures.workspace import SHELVES, make_images, write
from tests.taggers.test_taggers import clip_model

SOURCE = SourceConfig(uri="photos", sidecar=".json")
LOW, SURER = "threshold: 1.0e-12\n", "threshold: 1.0e-6\nmost: 3\n"

COUNTING = """
class Wide:
    looked = 0

    def __init__(self, taxonomy, options):
        pass

    def tag(self, images, metas):
        Wide.looked += len(images)
        return [{"document": 0.25} for _ in images]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text embeddings of these tests stay among themselves."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder_digest.cache_clear()


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_model(tmp_path_factory.mktemp("siglip"))


@pytest.fixture
def read(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the source, file by file."""
    seen: list[str] = []

    def counted(refs: Sequence[ObjectRef], *more: Any) -> Iterator[Any]:
        for ref, data in read_objects(refs, *more):
            seen.append(ref.uri)
            yield ref, data

    monkeypatch.setattr(tag, "read_objects", counted)
    return seen


class Shelf:
    """An output folder and what is done to it."""

    def __init__(self, path: Path) -> None:
        self.out = Folder(str(path))
        self.lease, self.stage = Lease.take(self.out), StageFolder(self.out, TAG)
        listing.run(self.out, list_objects(SOURCE), self.lease, "print")

    def tag(self, *specs: TaggerSpec) -> Receipt:
        """Tags the one partition that there is, new or on other terms than before."""
        terms = tag.TagContext(self.out, SOURCE, ImagesConfig(), specs, 2, "print")
        (work,) = tag.todo(StageFolder(self.out, LIST).log(), self.stage.log(), terms, True)
        worker = tag.TagWorker(terms)
        receipt = asyncio.run(worker.do(work))
        worker._decoder.close()
        assert receipt
        self.stage.commit(receipt, self.lease, 1)
        return receipt

    def counts(self) -> dict[str, int]:
        """What the commits count."""
        return self.stage.log().counts()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The current rows of a table."""
        log: CommitLog = self.stage.log()
        schema = IMAGES if table == "images" else OBJECT_TAGS
        found = [self.stage.current(log, one, table, schema.names).to_pylist() for one in log.partitions]
        return sorted((row for rows in found for row in rows), key=lambda row: str(row["object_id"]))


def looks(folder: Path, more: str) -> TaggerSpec:
    """taggers/looks.yaml"""
    write(Path("taggers/looks.yaml"), f"about: x\nengine: open_clip\ntaxonomy: small\nmodel: {folder}\n{more}")
    return taggers.load("looks")


@pytest.mark.parametrize("bias", [-10.0, None])
def test_other_thresholds_and_tags_find_without_the_images_what_they_would_find_with_them(
    bias: float | None, workspace: Path, tmp_path: Path, read: list[str]
) -> None:
    model, photos = clip_model(tmp_path / "model", bias), make_images(Path("photos").resolve(), 5)
    old = Shelf(tmp_path / "old")
    old.tag(looks(model, LOW))
    before = old.rows("images")
    text = SHELVES["taggers/taxonomies/small.yaml"].replace(
        "letter: a message", "letter: a written message\n      ticket: a slip"
    )
    write(Path("taggers/taxonomies/small.yaml"), text)
    changed, new = looks(model, SURER), Shelf(tmp_path / "new")
    new.tag(changed)
    assert sorted(set(read)) == sorted(str(path) for path in photos) and len(read) == 10
    for photo in photos:
        photo.unlink()
    receipt = old.tag(changed)
    assert receipt.counts == {"tagged": 0} and len(read) == 10, "nobody was counted twice, and nothing was read"
    assert old.rows("tags/looks") == new.rows("tags/looks") and any(row["tags"] for row in new.rows("tags/looks"))
    assert old.rows("images") == before == new.rows("images")


def test_a_tagger_that_wants_the_image_gets_it_and_the_model_does_not_embed_it_again(
    siglip: Path, workspace: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace / "wide_tagger.py", COUNTING)
    monkeypatch.syspath_prepend(str(workspace))
    write(Path("taggers/own.yaml"), "about: x\nengine: wide_tagger:Wide\ntaxonomy: small\n")
    make_images(Path("photos"), 3)
    shelf = Shelf(tmp_path / "out")
    shelf.tag(looks(siglip, LOW))
    before = shelf.rows("images")
    monkeypatch.setattr(ClipTagger, "embed", lambda *_: pytest.fail("embedded again"))
    shelf.tag(looks(siglip, SURER), taggers.load("own"))
    assert len(read) == 6 and [len(row["tags"]) for row in shelf.rows("tags/looks")] == [3, 3, 3]
    assert [[one["path"] for one in row["tags"]] for row in shelf.rows("tags/own")] == [["document"]] * 3
    assert shelf.rows("images") == before


def test_other_words_of_a_sidecar_tagger_read_no_image(workspace: Path, tmp_path: Path, read: list[str]) -> None:
    make_images(Path("photos"), 3, ["kitty"])
    shelf = Shelf(tmp_path / "out")
    shelf.tag(taggers.load("beside"))
    assert [row["tags"] for row in shelf.rows("tags/beside")] == [[]] * 3 and len(read) == 3
    write(Path("taggers/beside.yaml"), SHELVES["taggers/beside.yaml"] + "names: {kitty: animal/cat}\n")
    shelf.tag(taggers.load("beside"))
    assert [[one["path"] for one in row["tags"]] for row in shelf.rows("tags/beside")] == [["animal/cat"]] * 3 and len(
        read
    ) == 3


def test_tags_that_are_left_out_are_counted_beside_the_outcomes_and_follow_every_edit(
    workspace: Path, tmp_path: Path
) -> None:
    photos = make_images(Path("photos").resolve(), 4, ["kitty"])
    photos[0].with_suffix(".json").unlink()
    photos[1].with_suffix(".json").write_text("{")
    photos[2].write_bytes(photos[2].read_bytes()[:200])
    shelf, beside = Shelf(tmp_path / "out"), taggers.load("beside")
    write(Path("taggers/labels.yaml"), SHELVES["taggers/beside.yaml"] + "key: labels\n")
    labels = taggers.load("labels")
    once = {"left_out": 3, "left_out.no_sidecar": 1, "left_out.unreadable_sidecar": 1}
    both = {**once, "left_out.no_such_tag": 1, "left_out.no_tags": 1}
    whole = {"tagged": 3, "quarantined.truncated": 1}
    shelf.tag(beside)
    assert shelf.counts() == {**whole, **once, "left_out.no_such_tag": 1}
    shelf.tag(beside, labels)
    assert shelf.counts() == {**whole, **both}, "an image with two taggers' phrases is one image"
    told = {str(row["detail"]) for row in shelf.rows("images") if row["outcome"] == "tagged"}
    assert "beside: no sidecar; labels: no sidecar" in told
    assert "beside: no such tag: 'kitty'; labels: no tags: no key 'labels', only 'tags'" in told
    write(Path("taggers/beside.yaml"), SHELVES["taggers/beside.yaml"] + "names: {kitty: animal/cat}\n")
    shelf.tag(taggers.load("beside"))
    assert shelf.counts() == {**whole, **once, "left_out": 2}


def test_a_folder_tagged_before_left_out_tags_were_counted_goes_on(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(Path("photos"), 2, ["kitty"])
    shelf, beside = Shelf(tmp_path / "out"), taggers.load("beside")
    with monkeypatch.context() as patched:
        patched.setattr(
            tag, "tags_of_each", lambda *given: [replace(one, left_out=()) for one in taggers.tags_of_each(*given)]
        )
        shelf.tag(beside)
    shelf.out.create("run.json", b"{}")
    assert shelf.counts() == {"tagged": 2} and status.left_out(shelf.out) is None
    assert status.as_json(shelf.out)["left_out"] == {"images": 0, "of": 2, "reasons": {}}
    write(Path("taggers/labels.yaml"), SHELVES["taggers/beside.yaml"] + "key: labels\n")
    shelf.tag(beside, taggers.load("labels"))
    assert shelf.counts() == {"tagged": 2, "left_out": 2, "left_out.no_such_tag": 2, "left_out.no_tags": 2}


def test_status_tells_of_how_many_images_tags_were_left_out_and_the_sums_hold(workspace: Path, tmp_path: Path) -> None:
    photos = make_images(Path("photos").resolve(), 3, ["kitty"])
    photos[0].with_suffix(".json").unlink()
    shelf = Shelf(tmp_path / "out")
    shelf.out.create("run.json", b"{}")
    shelf.tag(taggers.load("beside"))
    funnel = status.funnels(shelf.out)[0]
    assert (funnel.came, funnel.went, funnel.fell, funnel.to_do) == (3, 3, {}, 0)
    line = "left out or missing for 3 of 3 tagged images: no such tag (2), no sidecar (1); `detail` in 1-tagged/images says more"
    assert any(one.endswith(line) for one in status.text(shelf.out).splitlines())
    assert status.as_json(shelf.out)["left_out"] == {
        "images": 3,
        "of": 3,
        "reasons": {"no_sidecar": 1, "no_such_tag": 2},
    }
    gone = next(row["object_id"] for row in shelf.rows("images") if row["detail"] == "beside: no sidecar")
    (partition,), logs = (
        shelf.stage.log().partitions,
        {name: StageFolder(shelf.out, stage_at(name)).log() for name in (tag.LISTED, tag.TAGGED)},
    )
    for name in logs:
        purge._rewrite(
            StageFolder(shelf.out, stage_at(name)), logs, partition, Denylist(object_ids=frozenset([gone])), shelf.lease
        )
    assert shelf.counts() == {"tagged": 2, "quarantined.purged": 1, "left_out": 2, "left_out.no_such_tag": 2}


def test_the_stage_ends_with_a_line_on_what_was_left_out(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the work is done without a crew."""

    def do(crew: PoolSpec, works: Sequence[Task], show: Any, commit: Any) -> int:
        worker = tag.TagWorker(crew.settings)
        for work in works:
            commit(asyncio.run(worker.do(work)))
        worker._decoder.close()
        return len(works)

    monkeypatch.setattr(run, "_do", do)
    make_images(Path("photos"), 3, ["cat", "kitty"])
    shelf = Shelf(tmp_path / "out")
    job = open_job(shelf.out, pipeline.load("small", ["source.uri=photos"]))
    assert run._tag(job, run.StageRange(last="tag"), shelf.lease) == 1
    line = "tag: tags that should have come along were left out or missing for 1 of 3 tagged images: no such tag (1); "
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)
    assert run._tag(job, run.StageRange(last="tag"), shelf.lease) == 0 and "left out" not in capsys.readouterr().err


def test_a_quarantined_image_is_looked_at_again_and_a_purged_one_does_not_come_back(
    siglip: Path, workspace: Path, tmp_path: Path, read: list[str]
) -> None:
    photos = make_images(Path("photos").resolve(), 3)
    whole = photos[0].read_bytes()
    photos[0].write_bytes(whole[:200])
    shelf = Shelf(tmp_path / "out")
    assert shelf.tag(looks(siglip, LOW)).counts == {"tagged": 2, "quarantined.truncated": 1}
    gone = next(row["object_id"] for row in shelf.rows("images") if row["outcome"] == "tagged")
    extend_denylist(shelf.out, Denylist(object_ids=frozenset([gone])))
    read.clear()
    shelf.tag(looks(siglip, SURER))
    assert read == [str(photos[0])]
    assert sorted(row["reason"] or "" for row in shelf.rows("images")) == ["", "purged", "truncated"]


def test_an_embedding_is_of_the_weights_that_made_it(siglip: Path, workspace: Path, tmp_path: Path) -> None:
    """What is stored beside the images is known by it: with new weights under the old path nothing is taken from there."""
    model = clip_model(tmp_path / "model", seed=1)
    first = looks(model, LOW).embedding
    assert looks(model, SURER).embedding == first == looks(clip_model(tmp_path / "copy", seed=1), LOW).embedding
    clip_model(model, seed=2)
    folder_digest.cache_clear()
    assert looks(model, LOW).embedding != first


def test_weights_in_a_file_of_their_own_are_known_by_their_bytes(workspace: Path) -> None:
    text = "about: x\nengine: open_clip\ntaxonomy: small\nmodel: ViT-B-32\npretrained: {}\n"
    found = []
    for weights in (b"one", b"two"):
        (workspace / "weights.bin").write_bytes(weights)
        folder_digest.cache_clear()
        write(Path("taggers/looks.yaml"), text.format("weights.bin"))
        spec = taggers.load("looks")
        found.append((spec.fingerprint, spec.embedding))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]
    write(Path("taggers/looks.yaml"), text.format("openai"))
    assert taggers.load("looks").embedding == ["ViT-B-32", "openai"]


def test_only_the_tagger_whose_model_made_the_stored_embedding_takes_it(
    siglip: Path, workspace: Path, tmp_path: Path, read: list[str]
) -> None:
    other = clip_model(tmp_path / "model", seed=3)
    write(Path("taggers/other.yaml"), f"about: x\nengine: open_clip\ntaxonomy: small\nmodel: {other}\n{LOW}")
    make_images(Path("photos"), 1)  # of several the order in a batch may show in the last bit
    first, old, new = looks(siglip, LOW), Shelf(tmp_path / "old"), Shelf(tmp_path / "new")
    old.tag(first)
    for shelf in (old, new):
        shelf.tag(first, taggers.load("other"))
    assert len(read) == 3 and old.rows("tags/other") == new.rows("tags/other")
    write(Path("taggers/other.yaml"), Path("taggers/other.yaml").read_text().replace(LOW, SURER))
    old.tag(first, taggers.load("other"))
    assert len(read) == 4, "its own embedding is nowhere stored"
    assert [row["embedding"] for row in old.rows("images")] == [row["embedding"] for row in new.rows("images")]
