"""Several taggers together, in the tag stage and in the preview."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from synthgen import taggers
from synthgen.commands import preview
from synthgen.config import pipeline as pipelines
from synthgen.engines import Request
from synthgen.errors import Mistakes, ModelUnavailable, SynthError
from synthgen.job.resolve import load_definitions
from synthgen.stages import tag
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import Folder, RunFolder
from synthgen.store.gc import collect_garbage
from synthgen.taggers import Tagged, TaggerSpec, ensemble, sidecar
from tests.fixtures.tagging import TaggedFolder, write_custom, write_sidecar, write_tagger, write_vlm
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workspace")
RED = Image.new("RGB", (20, 20), (200, 30, 30))


@pytest.fixture
def folder(workspace: Path, tmp_path: Path) -> TaggedFolder:
    """List two red images of unlike bytes, whose sidecars say `cat`."""
    for number, path in enumerate(make_images(workspace / "photos", 2, ["cat"])):
        RED.resize((20 + number, 20)).save(path)
    return TaggedFolder(tmp_path / "out")


def planned_tags(out: Folder, *names: str) -> list[list[tuple[str, float, str]]]:
    """Return the tags of each image that a plan sees."""
    inputs = Inputs.from_folder(RunFolder(out), names)
    rows = inputs.objects(inputs.partitions[0]).to_pylist()
    return [sorted((tag["path"], round(tag["score"], 2), tag["tagger"]) for tag in row["tags"]) for row in rows]


# --- tags of several taggers -------------------------------------------------------------------------------------


def test_each_tagger_has_a_table_and_the_plan_sees_all_tags(own_tagger: None, folder: TaggedFolder) -> None:
    custom = write_custom({"returns": {"animal/cat": 0.5, "document": 0.4}})
    receipt = folder.tag(write_sidecar(), custom)
    assert {name for name in receipt.tables if name.startswith("tags/")} == {"tags/first", "tags/mine"}
    assert planned_tags(folder.out, "first", "mine") == [[("animal/cat", 1.0, "first"), ("document", 0.4, "mine")]] * 2
    assert planned_tags(folder.out, "mine") == [[("animal/cat", 0.5, "mine"), ("document", 0.4, "mine")]] * 2


def test_a_tagger_named_by_its_path_is_stored_inside_the_folder_and_survives_garbage_collection(
    folder: TaggedFolder,
) -> None:
    whole = Path("taggers/first.yaml").absolute()
    names = (str(whole), "./taggers/first.yaml", "taggers/first.yaml", f"../../../../../../../../..{whole}", "first")
    write_sidecar()
    parent = Path(folder.out.path).parent
    before = {path for path in parent.rglob("*") if path.is_file()}
    receipt = folder.tag(*(taggers.load(name) for name in names))
    made = {path for path in parent.rglob("*") if path.is_file()} - before
    assert made and all(path.is_relative_to(Path(folder.out.path, "1-tagged")) for path in made)
    assert len(receipt.tables) == 6 and "tags/first" in receipt.tables
    collect_garbage(folder.run_folder, folder.lease)
    for name in names:
        assert planned_tags(folder.out, name) == [[("animal/cat", 1.0, name)]] * 2
    assert not folder.tasks(taggers.load(names[0]))


def test_an_added_tagger_is_an_update(own_tagger: None, folder: TaggedFolder) -> None:
    first = write_sidecar()
    folder.tag(first)
    both = (first, write_custom({"returns": {"document": 0.4}}))
    assert not folder.tasks(*both, update=False) and len(folder.tasks(*both)) == 1
    folder.tag(*both)
    assert planned_tags(folder.out, "first", "mine") == [[("animal/cat", 1.0, "first"), ("document", 0.4, "mine")]] * 2
    assert not folder.tasks(*both)


def test_an_edit_of_one_tagger_costs_the_other_no_call(
    chooser_calls: list[Request], own_tagger: None, folder: TaggedFolder
) -> None:
    walker = write_vlm(name="walker")
    folder.tag(walker)
    calls = len(chooser_calls)
    assert calls
    folder.tag(walker, write_custom({"returns": {"document": 0.4}}))
    folder.tag(walker, write_custom({"returns": {"document": 0.6}}))
    expected = [("animal", 1.0, "walker"), ("animal/cat", 1.0, "walker"), ("document", 0.6, "mine")]
    assert planned_tags(folder.out, "walker", "mine") == [expected] * 2
    assert len(chooser_calls) == calls
    edited = write_vlm(more="question: Hm?\n", name="walker")
    folder.tag(edited, write_custom({"returns": {"document": 0.6}}))
    assert len(chooser_calls) == 2 * calls


def test_a_stored_embedding_stays_when_another_tagger_is_added(
    folder: TaggedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("model/open_clip_config.json"), "{}")
    write(Path("model/weights.bin"), "")
    clip = write_tagger("engine: open_clip\nmodel: model\n", "clip")
    prepared: list[Image.Image] = []

    class Embedder:
        def prepare(self, image: Image.Image, source_meta: str | None) -> int:
            prepared.append(image)
            return 7

        def tag(self, inputs: Sequence[int]) -> list[Tagged]:
            return [Tagged([], np.array([0.25, 0.5], np.float32)) for _ in inputs]

    real = ensemble.open_tagger
    monkeypatch.setattr(ensemble, "open_tagger", lambda spec: Embedder() if spec.name == "clip" else real(spec))
    for specs in ([clip], [clip, write_sidecar()]):
        folder.tag(*specs)
        embeddings = [[float(value) for value in row["embedding"]] for row in folder.rows("images")]
        assert embeddings == [[0.25, 0.5]] * 2
    assert len(prepared) == 2


def test_taggers_of_different_taxonomies_are_refused() -> None:
    write(Path("taggers/taxonomies/other.yaml"), "about: x\ntemplates: ['{}']\ntags: {thing: {means: a thing}}\n")
    write(Path("taggers/strange.yaml"), "about: x\nengine: sidecar\ntaxonomy: other\n")
    with pytest.raises(Mistakes, match="'strange' tags with taxonomy 'other' and 'beside' with 'small'"):
        taggers.load_all(["beside", "strange"])


# --- failures ----------------------------------------------------------------------------------------------------


def test_an_image_that_one_tagger_fails_on_is_quarantined_with_the_detail(
    own_tagger: None, folder: TaggedFolder
) -> None:
    receipt = folder.tag(write_sidecar(), write_custom({"returns": {"animal/kat": 1}}))
    assert receipt.counts == {"quarantined.tagger_failed": 2}
    details = [row["detail"] for row in folder.rows("images")]
    assert len(details) == 2 and all("no tag of 'small' is 'animal/kat'" in detail for detail in details)


def test_an_exception_of_user_code_quarantines_the_image(own_tagger: None, folder: TaggedFolder) -> None:
    receipt = folder.tag(write_custom({"raises": "LookupError"}))
    assert receipt.counts == {"quarantined.tagger_failed": 2}
    details = [row["detail"] for row in folder.rows("images")]
    assert len(details) == 2 and all(
        detail.startswith(r"LookupError: no such \udc80 (own_tagger.py:") for detail in details
    )


def test_exhausted_memory_is_not_the_failure_of_an_image(own_tagger: None, folder: TaggedFolder) -> None:
    with pytest.raises(MemoryError):
        folder.tag(write_custom({"raises": "MemoryError"}))


def test_a_tagger_that_does_not_start_is_not_the_failure_of_an_image(
    folder: TaggedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ImportError("a library\nis missing")

    monkeypatch.setattr(sidecar, "SidecarTagger", refuse)
    with pytest.raises(ModelUnavailable, match=r"^tagger 'first' does not start: ImportError: a library is missing$"):
        folder.tag(write_sidecar())


class Moody:
    """A tagger that fails on some images, by their order, alone or in a batch."""

    def __init__(self, method: str, bad: set[int]) -> None:
        self._method, self._bad, self._prepared = method, bad, 0

    def prepare(self, image: Image.Image, source_meta: str | None) -> int:
        self._prepared += 1
        if self._method == "prepare" and self._prepared in self._bad:
            raise KeyError("an odd image")
        return self._prepared

    def tag(self, inputs: Sequence[int]) -> list[Tagged]:
        if self._method == "tag" and self._bad & set(inputs):
            raise ZeroDivisionError("an odd tensor")
        return [Tagged([]) for _ in inputs]


def tag_first(folder: TaggedFolder, worker: tag.TagWorker) -> Any:
    """Tag the partition with this worker."""
    (task,) = folder.tasks(write_sidecar())
    try:
        return worker.do(task)
    finally:
        worker._decoder.close()


@pytest.mark.parametrize("method", ["prepare", "tag"])
def test_an_image_that_the_tagger_cannot_take_costs_one_row(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(Path("photos"), 6)
    folder = TaggedFolder(tmp_path / "out")
    monkeypatch.setattr(ensemble, "open_tagger", lambda spec: Moody(method, {2, 5}))
    worker = tag.TagWorker(folder.context(write_sidecar()))
    receipt = tag_first(folder, worker)
    assert receipt.counts == {"tagged": 4, "quarantined.tagger_failed": 2} and worker.counters == {"images": 6}


def test_no_image_counts_as_done_before_the_tagger_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(Path("photos"), 6)
    folder = TaggedFolder(tmp_path / "out")

    def refuse(spec: TaggerSpec) -> None:
        raise ModelUnavailable("no weights")

    monkeypatch.setattr(ensemble, "open_tagger", refuse)
    worker = tag.TagWorker(folder.context(write_sidecar()))
    with pytest.raises(ModelUnavailable):
        tag_first(folder, worker)
    assert worker.counters == {"images": 0}


# --- the preview -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raises": "LookupError"}, "tagger mine: LookupError: no such"),
        ({"short": True}, "tagger mine: ValueError: 0 results for 1 images"),
    ],
)
def test_a_preview_reports_the_failure_of_a_tagger_in_one_line(
    own_tagger: None, options: Mapping[str, Any], message: str
) -> None:
    job = cast(Any, SimpleNamespace(definitions=SimpleNamespace(taggers=(write_custom(options),))))
    with pytest.raises(SynthError, match=message) as caught:
        preview._find_tags(preview.PreviewTask(job, RED, "0", 16, 16, None))
    assert "\n" not in str(caught.value)


# --- workers -----------------------------------------------------------------------------------------------------


def test_a_vlm_tagger_works_in_the_tagging_worker(chooser_calls: list[Request], folder: TaggedFolder) -> None:
    assert folder.tag(write_vlm()).counts == {"tagged": 2}
    assert planned_tags(folder.out, "mine") == [[("animal", 1.0, "mine"), ("animal/cat", 1.0, "mine")]] * 2


@pytest.fixture
def specs() -> dict[str, TaggerSpec]:
    """Return a tagger of each kind of need."""
    return {
        "custom": write_custom(name="custom"),
        "sidecar": write_sidecar(),
        "scripted": write_tagger("engine: vlm\nmodel: none\nserve: {kind: scripted}\n", "scripted"),
        "own engine": write_tagger(
            "engine: vlm\nmodel: none\nserve: {kind: 'tests.fixtures.chooser:Chooser'}\n", "own"
        ),
        "vlm": write_tagger("engine: vlm\nmodel: a/b\nserve: {gpus: 2, cpus: 4}\n", "big"),
    }


def test_a_worker_gets_what_its_vlm_needs(folder: TaggedFolder, specs: Mapping[str, TaggerSpec]) -> None:
    resources = {name: tag.resources(folder.context(spec), 0.5) for name, spec in specs.items()}
    assert resources == {
        "custom": (1, 0.5),
        "sidecar": (1, 0.5),
        "scripted": (1, 0.5),
        "own engine": (1, 1),
        "vlm": (4, 2),
    }


def test_a_worker_gets_a_share_of_a_gpu_if_a_tagger_can_use_one_and_nothing_is_configured(
    folder: TaggedFolder, specs: Mapping[str, TaggerSpec]
) -> None:
    resources = {name: tag.resources(folder.context(spec), None) for name, spec in specs.items()}
    assert resources == {
        "custom": (1, None),
        "sidecar": (1, 0),
        "scripted": (1, 0),
        "own engine": (1, 1),
        "vlm": (4, 2),
    }
    assert tag.resources(folder.context(specs["custom"]), 0) == (1, 0)
    assert tag.resources(folder.context(*specs.values()), None) == (4, 2)


@pytest.mark.parametrize(("given", "seen"), [([], ""), ([1], "0,1,2")])
def test_a_worker_without_a_gpu_sees_none(
    given: list[int], seen: str, folder: TaggedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray makes the GPUs of a worker visible, but hides none from a worker that gets none."""
    import ray

    monkeypatch.setattr(ray, "get_gpu_ids", lambda: given)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    loaded_with: list[str] = []

    def load(context: tag.TagContext) -> SimpleNamespace:
        loaded_with.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return SimpleNamespace(do=lambda task: None, counters={"images": 0.0})

    monkeypatch.setattr("synthgen.stages.tag.worker.TagWorker", load)
    worker = asyncio.run(tag.build(folder.context(write_sidecar())))
    assert loaded_with == [seen] and worker.progress() == {"images": 0.0}


# --- pipelines ---------------------------------------------------------------------------------------------------


def test_a_pipeline_names_one_tagger_or_several() -> None:
    write_sidecar()
    pipeline = pipelines.load("small", ["tag.tagger=[beside, first]"])
    assert [spec.name for spec in load_definitions(pipeline).taggers] == ["beside", "first"]
    for wrong, message in (("[]", "must name a tagger"), ("[first, first]", "names a tagger twice")):
        with pytest.raises(Mistakes, match=message):
            pipelines.load("small", [f"tag.tagger={wrong}"])
