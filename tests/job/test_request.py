"""A folder continues as it was last started: with its pipeline, source, model and settings where a request has none."""

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from synthgen import cli
from synthgen.commands.open import pipeline_with_run
from synthgen.config import pipeline as pipelines
from synthgen.errors import UserMistake
from synthgen.ingest.sources import kinds
from synthgen.job import job, request, run_record
from synthgen.job.changes import write_settings
from synthgen.job.request import RunRequest
from synthgen.store import Folder, RunFolder
from tests.fixtures.packages import InstallPackage
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write, write_definition_files

USING = "using the settings of the last run of"
ENDING = "(--pipeline replaces all but the source)"
FIRST = RunRequest("small", ('source.uri="photos"', "plan.per_image=2", "train.steps=7"), limit=5)
ALL_STAGES = ("tag", "pack")


def start(out: str, wanted: RunRequest) -> None:
    """Write the record of a new folder as `synth run` does, without running anything."""
    opened = job.open_job(Folder(out), pipelines.load(wanted.name, wanted.settings))
    write_settings(RunFolder(opened.out), opened, wanted, ALL_STAGES, is_redraw=False)


@pytest.fixture
def started(workspace: Path) -> Path:
    """Return the workspace, which is the current folder, with a folder `out` in which a run was started."""
    make_images(workspace / "photos", 1)
    start("out", FIRST)
    return workspace


def refuse(*words: str) -> tuple[list[str], str]:
    """Return the notes of a command that is refused, and the message of its refusal."""
    done = CliRunner().invoke(cli.app, [*words])
    assert isinstance(done.exception, UserMistake), done.output
    return done.stderr.splitlines(), str(done.exception)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_request_is_completed_by_the_last_one_of_the_folder_and_the_additions_are_reported(
    started: Path, command: str
) -> None:
    notes, refusal = refuse(command, "--out", "out", "--set", "plan.forms={}")
    assert notes == [
        f"{USING} out: {started}/photos --pipeline small --set plan.per_image=2 --set train.steps=7 --limit 5 {ENDING}"
    ]
    assert "plan.forms" in refusal and "per_image" not in refusal


def test_a_preview_takes_the_settings_of_a_run_that_it_names(started: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = pipeline_with_run(RunRequest(None, ("plan.seed=4",)), "out")
    assert (pipeline.about, pipeline.plan.per_image, pipeline.plan.seed) == ("a small job without a model", 2, 4)
    assert pipeline_with_run(RunRequest("small"), None).plan.per_image == 3
    assert refuse("preview", "gone.jpg", "--out", "out")[1] == "gone.jpg: no such image file"
    assert refuse("preview", "gone.jpg", "--out", "photos")[1].endswith("photos: holds no synth run")


def test_what_a_request_names_is_not_taken_from_the_folder(started: Path) -> None:
    notes, refusal = refuse("run", "elsewhere", "--out", "out", "--set", "plan.per_image=9", "--limit", "9")
    assert notes == [f"{USING} out: --pipeline small --set train.steps=7 {ENDING}"]
    assert "elsewhere" in refusal
    make_images(started / "elsewhere", 1)
    _, refusal = refuse("run", "elsewhere", "--out", "out", "--set", "plan.per_image=9")
    assert "plan.per_image was 2 and is 9" in refusal


def test_a_request_with_a_pipeline_takes_only_the_source_from_the_folder(started: Path) -> None:
    notes, refusal = refuse("run", "--out", "out", "-p", "small")
    assert notes == [
        "the last run of out also had --set plan.per_image=2 --set train.steps=7 --limit 5; this command drops it"
    ]
    assert refusal.startswith(f"{started}/out: was made with other settings: plan.per_image was 2 and is 3. ")


def test_another_pipeline_is_reported_by_name(started: Path) -> None:
    write(started / "pipelines/other.yaml", DEFINITION_FILES["pipelines/small.yaml"] + "images: {model_pixels: 9000}\n")
    _, refusal = refuse("run", "--out", "out", "-p", "other", "--set", "plan.per_image=2")
    difference = "images.model_pixels was 1003520 and is 9000"
    assert f"/out: was made with pipeline 'small', not 'other': {difference}. Without --" in refusal


def test_a_folder_whose_first_request_named_no_pipeline_has_the_default_one() -> None:
    first = RunRequest(None, ("a.b=1",))
    assert request.complete(first, RunRequest(), "out", "") == (RunRequest("everyday", ("a.b=1",)), None)
    second, before = RunRequest(None, ("a.b=2",)), RunRequest("everyday", ("a.b=1",))
    assert request.complete(second, before, "out", "") == (RunRequest("everyday", ("a.b=2",)), None)


def test_a_pipeline_that_is_not_here_is_reported_with_the_folder_it_was_started_in(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(started / "photos")
    _, refusal = refuse("run", "--out", f"{started}/out")
    assert refusal.startswith("pipeline 'small' is unknown: ")
    assert refusal.endswith(f"; {started}/out was last started with it in {started}")


def test_where_names_mean_other_files_the_folder_to_start_in_is_reported(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = write_definition_files(started / "elsewhere")
    path = elsewhere / "pipelines/mappings/small.yaml"
    write(path, path.read_text().replace("fine/**: 4", "fine/**: 5"))
    monkeypatch.chdir(elsewhere)
    notes, refusal = refuse("run", "--out", "../out")
    assert notes[0].startswith(f"{USING} ../out, started in {started}: {started}/photos --pipeline small ")
    where = f"It was started in {started}, where names may mean other files: start it there."
    assert f"the mapping changed. {where} Run with" in refusal
    for words in (["run", "--out", "../out", "--update"], ["plan", "--out", "../out", "--diff"]):
        notes, refusal = refuse(*words)
        assert notes == [] and refusal == (
            f"../out: was started in {started}, where names may mean other files; start it there, or name the pipeline "
            "with --pipeline to take the files of this folder"
        )


def test_in_a_folder_without_a_run_missing_images_are_reported(started: Path) -> None:
    notes, refusal = refuse("run", "--out", "uot")
    assert notes == []
    assert refusal.startswith("uot: holds no synth run, and no source was given: the images (a folder, ")
    assert refusal.endswith("; for example: synth run photos --out uot")


def test_an_edit_of_the_pipeline_is_noticed(started: Path) -> None:
    path = started / "pipelines/small.yaml"
    write(path, path.read_text() + "images: {model_pixels: 9000}\n")
    assert "images.model_pixels was 1003520 and is 9000" in refuse("run", "--out", "out")[1]


def test_training_takes_the_pipeline_of_the_run_and_its_settings_of_training(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    trainer = SimpleNamespace(train_stages=lambda *arguments: calls.append(arguments))
    monkeypatch.setitem(sys.modules, "synthgen.train", trainer)
    monkeypatch.setattr("synthgen.train", trainer, raising=False)
    write(started / "shards.parquet", "")
    for words, steps in (
        (["out"], 7),
        (["out", "--set", "train.steps=9"], 9),
        (["out", "-p", "small"], 300),
        (["shards.parquet"], 300),
    ):
        done = CliRunner().invoke(cli.app, ["train", *words, "--model", "m", "--out", "tuned"])
        assert done.exit_code == 0, done.output
        schedule = calls[-1][0]
        (stage,) = schedule.stages
        assert (list(schedule.sources.values()), stage.settings.steps) == ([words[0]], steps)
        is_completed = words[0] == "out" and "-p" not in words
        assert (f"{USING} out: --pipeline small" in done.stderr) == is_completed
    assert len(calls) == 4


def test_a_mapping_is_learned_from_a_run_with_the_pipeline_of_the_run(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("taught", RunRequest("small", ('source.uri="photos"', "learn.top_k=2", "plan.seed=3")))
    orders: list[tuple[Any, ...]] = []
    learner = SimpleNamespace(
        LearnRequest=lambda *arguments: orders.append(arguments),
        learn=lambda _: ("mapping", []),
    )
    monkeypatch.setitem(sys.modules, "synthgen.commands.learn", learner)
    monkeypatch.setattr("synthgen.commands.learn", learner, raising=False)
    done = CliRunner().invoke(cli.app, ["learn", "taught", "--name", "mine", "--set", "learn.min_support=4"])
    assert done.exit_code == 0, done.output
    assert done.stderr == f"{USING} taught: --pipeline small --set learn.top_k=2 {ENDING}\n"
    _, _, pipeline, *_ = orders[0]
    assert (pipeline.learn.top_k, pipeline.learn.min_support, pipeline.plan.seed) == (2, 4, 0)


def test_a_later_command_on_the_folder_keeps_its_request(started: Path) -> None:
    before = run_record.record_of(RunFolder(Folder("out")))
    folder = RunFolder(Folder("out"))
    reopened, stored = job.reopen(folder), RunRequest.of(run_record.record_of(folder))
    assert stored.limit == 5
    assert stored.settings == (f'source.uri="{started}/photos"', "plan.per_image=2", "train.steps=7")
    write_settings(folder, reopened, stored, ALL_STAGES, is_redraw=False)
    assert run_record.record_of(RunFolder(Folder("out"))) == before


def test_a_folder_whose_source_was_of_a_package_that_is_gone_keeps_it(
    workspace: Path, install_package: InstallPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from synthgen.ingest.sources import SourceKind, spell_out_file\n"
    text += "KIND = SourceKind('toy', lambda source: iter(()), None, spell_out=spell_out_file)\n"
    install_package("toy-source", "toy_source", text, "toy = toy_source:KIND", kinds.ENTRY_POINTS)
    start("out", RunRequest("small", ('source.uri="toy:a.toy"',)))
    install_package("toy-source", "toy_source", text, "", kinds.ENTRY_POINTS)
    monkeypatch.chdir(write_definition_files(workspace / "elsewhere"))
    record = run_record.record_of(RunFolder(Folder("../out")))
    whole = f"toy:{workspace}/a.toy"
    assert run_record.source_of(record).uri == whole
    assert refuse("run", "--out", "../out")[1] == f"{whole}: no such file or folder"
    opened = job.reopen(RunFolder(Folder("../out")))
    assert opened.shape == record["shape"]


def test_a_stored_request_means_the_same_in_any_folder(tmp_path: Path) -> None:
    typed = RunRequest.typed("mine/small.yaml", "my photos", "models/small", ["plan.seed=3"])
    stored = typed.spell_out(tmp_path, is_folder=True)
    assert stored == RunRequest(
        f"{tmp_path}/mine/small.yaml",
        ("plan.seed=3", f'source.uri="{tmp_path}/my photos"', f'generate.model="{tmp_path}/models/small"'),
    )
    assert stored.spell_out(Path("/elsewhere"), is_folder=True) == stored
    of_hub = typed.spell_out(tmp_path, is_folder=False)
    assert of_hub.settings[2] == 'generate.model="models/small"', "the name of a hub or an endpoint"
    bucket = RunRequest.typed("small", "s3://bucket/photos/", None, None)
    assert bucket.spell_out(tmp_path, is_folder=False).settings == ('source.uri="s3://bucket/photos"',)


def test_the_command_line_of_a_request_can_be_typed_again() -> None:
    typed = RunRequest.typed("small", "it's/photos", "org/model", ["plan.forms={short: 1}"])
    assert shlex.split(typed.command_line()) == [
        "it's/photos", "--pipeline", "small", "--set", "plan.forms={short: 1}", "--model", "org/model",
    ]  # fmt: skip
    signed = RunRequest.typed("small", "https://host/list.txt?sig=SECRET", None, None)
    assert "https://host/list.txt" in signed.command_line() and "SECRET" not in signed.command_line()


SETTINGS = st.lists(
    st.one_of(
        st.integers(1, 9).map("plan.per_image={}".format),
        st.integers(1, 9).map("plan.forms.short={}".format),
        st.integers(1, 9).map("plan.forms={{brief: {}}}".format),
        st.integers(1, 9).map("plan={{mapping: small, seed: {}}}".format),
    ),
    max_size=4,
)


@given(before=SETTINGS, typed=SETTINGS)
def test_the_settings_of_the_folder_and_of_the_request_apply_in_their_order(
    workspace: Path, before: list[str], typed: list[str]
) -> None:
    out = Folder(f"out-{abs(hash((*before, '|', *typed)))}")
    out.create("run.json", b'{"format": 1}')
    folder = RunFolder(out)
    folder.write_record({"started_with": {"pipeline": "small", "settings": before}})
    whole, _ = request.complete(RunRequest(None, tuple(typed)), RunRequest.of(run_record.record_of(folder)), "out", "")
    assert pipelines.read("small", whole.settings).values == pipelines.read("small", [*before, *typed]).values
    from_folder = whole.settings[: len(whole.settings) - len(typed)]
    keys = [{setting.partition("=")[0] for setting in settings} for settings in (from_folder, typed)]
    assert not keys[0] & keys[1]


def test_a_limit_is_dropped_by_another_one_alone() -> None:
    none, few = RunRequest(limit=0), RunRequest(limit=5)
    assert (none.over(few).limit, few.over(none).limit, RunRequest().over(none).limit) == (0, 5, 0)
    assert (few.without(none).limit, few.without(RunRequest()).limit) == (None, 5)


def test_a_run_that_was_killed_before_it_stored_its_settings_is_to_be_started_again(tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "killed"))
    with pytest.raises(UserMistake, match=r"killed: holds no synth run$"):
        run_record.record_of(RunFolder(out))
    out.create("run.json", b'{"format": 1}')
    message = r"killed: a run was killed here before it stored its settings; start `synth run` again$"
    with pytest.raises(UserMistake, match=message):
        run_record.record_of(RunFolder(out))
