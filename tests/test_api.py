"""The Python API: the functions of a run do what the `synth` commands do; `docs/api.md` lists all of them."""

import contextlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

import synthgen
from synthgen.config.pipeline import Pipeline
from synthgen.errors import Mistakes, SettingsChanged, UserMistake
from synthgen.job.funnel import StageFunnel
from synthgen.store import Folder, Lease, Receipt, StageFolder
from synthgen.tables import LIST, TAG
from tests.fixtures.rows import describe_run
from tests.fixtures.runs import adds_up, assignments
from tests.fixtures.workspace import ROOT, make_images, write_definition_files

IMAGES = 6
PER_IMAGE = 3  # questions, as plan.per_image of the small pipeline


@pytest.fixture(scope="module")
def finished(ray_running: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StageFunnel]]:
    """Return a workspace with a finished run in `out`, and the counts that the run returned."""
    folder = write_definition_files(tmp_path_factory.mktemp("api"))
    make_images(folder / "photos", IMAGES)
    with contextlib.chdir(folder):
        return folder, synthgen.run_pipeline("photos", "out", pipeline="small")


@pytest.fixture
def workspace_of_run(finished: tuple[Path, list[StageFunnel]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the workspace with the finished run, which is the current folder."""
    monkeypatch.chdir(finished[0])
    return finished[0]


def test_every_public_function_is_documented_and_no_other() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    members = re.search(r"^::: synthgen\n    options:\n      members: \[(.+)\]$", page, re.MULTILINE)
    assert members and sorted(members[1].split(", ")) == synthgen.__all__
    functions = {
        name
        for name, value in vars(synthgen).items()
        if inspect.isfunction(value) and value.__module__ == "synthgen" and not name.startswith("_")
    }
    assert functions == set(synthgen.__all__)
    assert not [name for name in synthgen.__all__ if not getattr(synthgen, name).__doc__]


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"ray", "torch", "pyarrow", "numpy", "datasets", "pydantic", "yaml"}
    program = f"import sys, synthgen; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_load_pipeline_returns_the_settings_that_were_replaced(workspace: Path) -> None:
    pipeline = synthgen.load_pipeline("small", {"plan.per_image": 5, "generate.scores": ["answer"]})
    assert isinstance(pipeline, Pipeline)
    assert (pipeline.plan.per_image, pipeline.generate.scores) == (5, ("answer",))
    assert synthgen.load_pipeline("small").plan.per_image == PER_IMAGE


def test_load_pipeline_reports_all_mistakes_together(workspace: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        synthgen.load_pipeline("small", {"plan.mapping": "smal", "tag.tagger": "besides"})
    assert len(caught.value.lines) == 2
    with pytest.raises(UserMistake, match="did you mean 'small'"):
        synthgen.load_pipeline("smal")


def test_run_pipeline_returns_the_counts_of_each_stage(finished: tuple[Path, list[StageFunnel]]) -> None:
    folder, funnels = finished
    assert [funnel.stage for funnel in funnels] == ["tag", "plan", "generate", "select", "pack"]
    assert [funnel.received for funnel in funnels[:3]] == [IMAGES, IMAGES, IMAGES * PER_IMAGE]
    assert all(funnel.is_settled for funnel in funnels) and funnels[-1].passed > 0
    adds_up(folder / "out")


def test_run_pipeline_without_a_source_continues_the_run_of_the_folder(workspace_of_run: Path) -> None:
    before = assignments(workspace_of_run / "out")
    again = synthgen.run_pipeline(None, "out")
    assert all(funnel.is_settled for funnel in again)
    assert assignments(workspace_of_run / "out") == before


def test_run_pipeline_lists_and_runs_as_far_as_it_is_told_and_updates_on_request(
    workspace: Path, ray_running: None
) -> None:
    make_images(workspace / "photos", IMAGES)
    funnels = synthgen.run_pipeline("photos", workspace / "out", pipeline="small", limit=4, until="plan")
    assert [funnel.received for funnel in funnels] == [4, 4, 4 * PER_IMAGE, 0, 0]
    settings = {"plan.per_image": 2}
    with pytest.raises(SettingsChanged, match=r"plan\.per_image was 3 and is 2"):
        synthgen.run_pipeline(None, "out", settings=settings, until="plan")
    synthgen.run_pipeline(None, "out", settings=settings, until="plan", update=True)
    assert len(assignments(workspace / "out")) == 4 * 2


def test_run_pipeline_refuses_a_source_that_is_not_there(workspace: Path) -> None:
    with pytest.raises(UserMistake, match="nowhere: no such file or folder"):
        synthgen.run_pipeline("nowhere", "out", pipeline="small")
    assert not (workspace / "out").exists()


def test_a_number_below_one_is_refused_before_anything_is_written(workspace: Path) -> None:
    make_images(workspace / "photos", 1)
    for call in (
        lambda: synthgen.run_pipeline("photos", "out", pipeline="small", limit=0),
        lambda: synthgen.plan_pipeline("out", pipeline="small", profile=-1),
    ):
        with pytest.raises(UserMistake, match=r"^(limit is 0|profile is -1); give 1 or more, or None$"):
            call()
    assert not (workspace / "out").exists()


def test_run_pipeline_refuses_an_unknown_stage_and_names_the_nearest(workspace: Path) -> None:
    with pytest.raises(UserMistake, match=r"^--until 'packing' is unknown: did you mean 'pack'\?$"):
        synthgen.run_pipeline("photos", "out", pipeline="small", until="packing")


def test_plan_pipeline_counts_the_questions_that_other_settings_would_ask(workspace_of_run: Path) -> None:
    forecast = synthgen.plan_pipeline("out", pipeline="small", settings={"plan.per_image": PER_IMAGE + 1})
    assert forecast.to_ask == IMAGES


def test_run_status_returns_the_counts_of_each_stage(finished: tuple[Path, list[StageFunnel]]) -> None:
    folder, funnels = finished
    status = synthgen.run_status(folder / "out")
    assert status["at_work"] is None and status["unfinished"] == {}
    assert status["stages"] == [{**vars(funnel), "pending": 0, "superseded": 0} for funnel in funnels]
    with pytest.raises(UserMistake, match="holds no synth run"):
        synthgen.run_status(folder / "photos")


def test_load_samples_returns_images_and_messages(
    finished: tuple[Path, list[StageFunnel]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, funnels = finished
    samples = synthgen.load_samples(folder / "out")
    assert sum(len(sample["pair_ids"]) for sample in samples) == funnels[-1].passed > 0
    assert samples[0]["images"][0].size == (64, 48)
    assert [message["role"] for message in samples[0]["messages"][:2]] == ["user", "assistant"]
    streamed = synthgen.load_samples(folder / "out", streaming=True)
    assert isinstance(streamed, datasets.IterableDataset)
    assert [sample["id"] for sample in streamed] == samples["id"]


def test_load_samples_of_a_run_without_shards_says_how_to_finish_it(workspace: Path, ray_running: None) -> None:
    make_images(workspace / "photos", 1)
    synthgen.run_pipeline("photos", "out", pipeline="small", until="plan")
    with pytest.raises(UserMistake) as caught:
        synthgen.load_samples("out")
    assert str(caught.value) == "out: this run has no shards yet; finish it with `synth run --out out`"


def test_load_samples_of_a_folder_that_is_not_there_says_so(workspace: Path) -> None:
    with pytest.raises(UserMistake, match="nowhere: holds no synth run"):
        synthgen.load_samples("nowhere")


def test_load_samples_of_a_finished_run_without_pairs_says_why_there_are_none(workspace: Path) -> None:
    out = Folder(str(workspace / "out"))
    describe_run(out)
    with Lease.take(out) as lease:
        StageFolder(out, LIST).commit(Receipt("b0", 1, {}, {"listed": 2}), lease)
        StageFolder(out, TAG).commit(Receipt("b0", 1, {}, {"quarantined.corrupt": 2}), lease)
    with pytest.raises(UserMistake, match="out: 0 pairs were kept: nothing came out of tag, mostly for"):
        synthgen.load_samples("out")


def test_settings_may_hold_any_character_and_only_values_of_json(workspace: Path) -> None:
    assert synthgen.load_pipeline("small", {"notice": "\U0001f408 é"}).notice == "\U0001f408 é"
    with pytest.raises(UserMistake, match=r"^settings: notice: .* is not JSON serializable; give text"):
        synthgen.load_pipeline("small", {"notice": Path("x")})


def test_preview_image_reports_each_stage_and_stores_nothing(workspace: Path, ray_running: None) -> None:
    [photo] = make_images(workspace / "photos", 1)
    before = sorted(workspace.rglob("*"))
    report = synthgen.preview_image(photo, pipeline="small", settings={"plan.seed": 3})
    assert "animal/cat" in report and "coarse/" in report and "likelihood" in report
    assert sorted(workspace.rglob("*")) == before
    with pytest.raises(UserMistake, match="photos: holds no synth run"):
        synthgen.preview_image(photo, out="photos")
    with pytest.raises(UserMistake, match=r"gone\.jpg: no such image file"):
        synthgen.preview_image("gone.jpg", pipeline="small")
