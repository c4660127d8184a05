"""A folder goes on as it was last started: with the pipeline, the images, the model and the settings that a line leaves out."""

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
from synthgen.commands.learn import TfidfSettings
from synthgen.config import pipeline as pipelines
from synthgen.errors import UserMistake
from synthgen.job import changes, job, request, run_record
from synthgen.job.request import RunRequest
from synthgen.store import Folder
from tests.fixtures.workspace import SHELVES, make_images, put_shelves, write

ENDED = "(a line with --pipeline says all itself)"
FIRST = RunRequest("small", ('source.uri="photos"', "plan.per_image=2", "train.steps=7"), limit=5)


def start(out: str, said: RunRequest) -> None:
    """Begins a folder as `synth run` does, without running anything."""
    changes.settle(
        job.open_job(Folder(out), pipelines.load(said.name, said.settings), line=said), "tag", "pack", replan=False
    )


@pytest.fixture
def begun(workspace: Path) -> Path:
    """The workspace with a folder `out` that has only begun; the current folder."""
    make_images(workspace / "photos", 1)
    start("out", FIRST)
    return workspace


def told(*words: str) -> tuple[list[str], str]:
    """What a command says on its way, and with what it is refused."""
    done = CliRunner().invoke(cli.app, [*words])
    assert isinstance(done.exception, UserMistake), done.output
    return done.stderr.splitlines(), str(done.exception)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_a_line_leaves_out_is_as_the_folder_was_last_started_and_is_told(begun: Path, command: str) -> None:
    said, refused = told(command, "--out", "out", "--set", "plan.forms={}")
    assert said == [
        f"as out was last started: {begun}/photos --pipeline small --set plan.per_image=2 --set train.steps=7 --limit 5 {ENDED}"
    ]
    assert "plan.forms" in refused and "per_image" not in refused


def test_what_a_line_names_itself_is_not_taken_from_the_folder(begun: Path) -> None:
    said, refused = told("run", "elsewhere", "--out", "out", "--set", "plan.per_image=9", "--limit", "9")
    assert said == [f"as out was last started: --pipeline small --set train.steps=7 {ENDED}"]
    assert "elsewhere" in refused
    make_images(begun / "elsewhere", 1)
    assert "plan.per_image was 2 and is 9" in told("run", "elsewhere", "--out", "out", "--set", "plan.per_image=9")[1]


def test_a_line_with_a_pipeline_says_all_itself_but_the_images(begun: Path) -> None:
    said, refused = told("run", "--out", "out", "-p", "small")
    assert said == [
        "out was last started with --set plan.per_image=2 --set train.steps=7 --limit 5 too; this line leaves that out"
    ]
    assert refused.startswith(f"{begun}/out: was made with other settings: plan.per_image was 2 and is 3. ")


def test_another_pipeline_is_told_by_name(begun: Path) -> None:
    write(begun / "pipelines/other.yaml", SHELVES["pipelines/small.yaml"] + "images: {model_pixels: 9000}\n")
    refused = told("run", "--out", "out", "-p", "other", "--set", "plan.per_image=2")[1]
    assert (
        "/out: was made with pipeline 'small', not 'other': images.model_pixels was 1003520 and is 9000. Without --"
        in refused
    )


def test_a_folder_whose_first_line_named_no_pipeline_was_started_with_the_usual_one() -> None:
    assert request.meant(RunRequest(None, ("a.b=1",)), RunRequest(), "out", "") == (
        RunRequest("everyday", ("a.b=1",)),
        None,
    )
    before = RunRequest("everyday", ("a.b=1",))
    assert request.meant(RunRequest(None, ("a.b=2",)), before, "out", "") == (RunRequest("everyday", ("a.b=2",)), None)


def test_of_a_pipeline_that_is_not_here_it_is_told_where_it_was(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun / "photos")
    refused = told("run", "--out", f"{begun}/out")[1]
    assert refused.startswith("pipeline 'small' is unknown: ")
    assert refused.endswith(f"; {begun}/out was last started with it in {begun}")


def test_where_names_mean_other_files_the_folder_to_start_in_is_told(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = put_shelves(begun / "elsewhere")
    path = elsewhere / "pipelines/mappings/small.yaml"
    write(path, path.read_text().replace("fine/**: 4", "fine/**: 5"))
    monkeypatch.chdir(elsewhere)
    said, refused = told("run", "--out", "../out")
    assert said[0].startswith(f"as ../out was last started in {begun}: {begun}/photos --pipeline small ")
    assert (
        f"the mapping changed. It was started in {begun}, where names may mean other files: start it there. Run with"
        in refused
    )


def test_a_folder_without_a_run_is_told_where_the_images_are_missing(begun: Path) -> None:
    said, refused = told("run", "--out", "uot")
    assert said == [] and refused.startswith(
        "uot: holds no synth run, and the line does not name the images (a folder, "
    )
    assert refused.endswith("; for example: synth run photos --out uot")


def test_an_edit_of_the_pipeline_is_noticed(begun: Path) -> None:
    path = begun / "pipelines/small.yaml"
    write(path, path.read_text() + "images: {model_pixels: 9000}\n")
    assert "images.model_pixels was 1003520 and is 9000" in told("run", "--out", "out")[1]


def test_training_takes_the_pipeline_of_the_run_and_of_its_settings_those_of_the_training(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    asked = SimpleNamespace(train=lambda *given: seen.update(enumerate(given)))
    monkeypatch.setitem(sys.modules, "synthgen.train", asked)
    monkeypatch.setattr("synthgen.train", asked, raising=False)
    write(begun / "shards.parquet", "")
    for words, steps in (
        (["out"], 7),
        (["out", "--set", "train.steps=9"], 9),
        (["out", "-p", "small"], 300),
        (["shards.parquet"], 300),
    ):
        done = CliRunner().invoke(cli.app, ["train", *words, "--model", "m", "--out", "tuned"])
        assert done.exit_code == 0, done.output
        assert (seen[0], seen[3].steps) == (words[0], steps)
        assert ("as out was last started: --pipeline small" in done.stderr) == (words[0] == "out" and "-p" not in words)


def test_a_mapping_is_learned_from_a_run_with_the_pipeline_of_the_run(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("taught", RunRequest("small", ('source.uri="photos"', "learn.top_k=2", "plan.seed=3")))
    orders: list[Any] = []
    asked = SimpleNamespace(
        LearnRequest=lambda *given: orders.append(given), TfidfSettings=TfidfSettings, learn=lambda _: ("mapping", [])
    )
    monkeypatch.setitem(sys.modules, "synthgen.commands.learn", asked)
    monkeypatch.setattr("synthgen.commands.learn", asked, raising=False)
    done = CliRunner().invoke(cli.app, ["learn", "taught", "--name", "mine", "--set", "learn.min_support=4"])
    assert done.exit_code == 0, done.output
    assert done.stderr == f"as taught was last started: --pipeline small --set learn.top_k=2 {ENDED}\n"
    _, _, pipeline, settings, *_ = orders[0]
    assert (settings.top_k, settings.min_support, pipeline.plan.seed) == (2, 4, 0)


def test_what_is_done_to_a_folder_afterwards_keeps_what_it_was_started_with(begun: Path) -> None:
    before = run_record.record(Folder("out"))
    again = job.reopen(Folder("out"))
    assert again.line.limit == 5
    assert again.line.settings == (f'source.uri="{begun}/photos"', "plan.per_image=2", "train.steps=7")
    changes.settle(again, "tag", "pack", replan=False)
    assert run_record.record(Folder("out")) == before


def test_a_line_is_kept_so_that_it_says_the_same_in_any_folder(tmp_path: Path) -> None:
    said = RunRequest.typed("mine/small.yaml", "my photos", "models/small", ["plan.seed=3"])
    kept = said.in_full(tmp_path, is_folder=True)
    assert kept == RunRequest(
        f"{tmp_path}/mine/small.yaml",
        ("plan.seed=3", f'source.uri="{tmp_path}/my photos"', f'generate.model="{tmp_path}/models/small"'),
    )
    assert kept.in_full(Path("/elsewhere"), is_folder=True) == kept
    assert said.in_full(tmp_path, is_folder=False).settings[2] == 'generate.model="models/small"', (
        "the name of a hub or an endpoint"
    )
    assert RunRequest.typed("small", "s3://bucket/photos/", None, None).in_full(tmp_path, is_folder=False).settings == (
        'source.uri="s3://bucket/photos"',
    )


def test_the_words_of_a_line_can_be_typed_again() -> None:
    said = RunRequest.typed("small", "it's/photos", "org/model", ["plan.forms={short: 1}"])
    assert shlex.split(said.words()) == [
        "it's/photos", "--pipeline", "small", "--set", "plan.forms={short: 1}", "--model", "org/model",
    ]  # fmt: skip
    assert "SECRET" not in RunRequest.typed("small", "https://host/list.txt?sig=SECRET", None, None).words()


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
def test_a_folder_settings_and_the_lines_own_are_those_of_both_in_their_order(
    workspace: Path, before: list[str], typed: list[str]
) -> None:
    said = RunRequest(None, tuple(typed))
    out = Folder(f"out-{abs(hash((*before, '|', *typed)))}")
    out.create("run.json", b'{"format": 1}')
    run_record.write(out, {"started_with": {"pipeline": "small", "settings": before}})
    whole, _ = request.meant(said, RunRequest.of(run_record.record(out)), out.url, "")
    assert pipelines.read("small", whole.settings).values == pipelines.read("small", [*before, *typed]).values
    kept = whole.settings[: len(whole.settings) - len(typed)]
    assert not {one.partition("=")[0] for one in kept} & {one.partition("=")[0] for one in typed}
