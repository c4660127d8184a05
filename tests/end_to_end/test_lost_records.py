"""The records of a run that are lost or damaged are named in one line, and nothing goes on with other settings."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import synthgen
from synthgen.cli import app
from synthgen.errors import Damaged, SynthError, UserMistake
from tests.fixtures.runs import adds_up, pairs
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

OTHERWISE = {"generate.sampling.ask_temperature": 0.25}


@pytest.fixture(scope="module")
def finished(workers_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a finished run; tests copy its `out` and never change it."""
    folder = write_definition_files(tmp_path_factory.mktemp("lost"))
    make_images(folder / "photos", 6)
    with contextlib.chdir(folder):
        synthgen.run_pipeline("photos", "out", pipeline="small")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the finished output folder; the workspace is the current folder."""
    monkeypatch.chdir(finished)
    return shutil.copytree(finished / "out", tmp_path / "copy")


def rewritten(change: Callable[[str], str]) -> Callable[[Path], object]:
    """Return a change of the text of the records of a run."""
    return lambda out: [path.write_text(change(path.read_text())) for path in (out / "frozen").iterdir()]


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


LOSSES: dict[str, Callable[[Path], object]] = {
    "no folder": lambda out: shutil.rmtree(out / "frozen"),
    "no files": lambda out: empty(out / "frozen"),
    "empty": rewritten(lambda text: "{}"),
    "cut": rewritten(lambda text: text[:100]),
    "no shape": rewritten(lambda text: text.replace('"shape"', '"x"')),
    "no request": rewritten(lambda text: text.replace('"started_with"', '"x"')),
    "no settings of a stage": rewritten(lambda text: text.replace('"generated"', '"x"')),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_whose_record_is_lost_stops_in_one_line_until_an_update_says_with_what_to_go_on(
    copy: Path, loss: str
) -> None:
    before = pairs(copy)
    LOSSES[loss](copy)
    calls: tuple[Callable[[], object], ...] = (
        lambda: synthgen.run_pipeline("photos", copy, pipeline="small"),
        lambda: synthgen.run_pipeline("photos", copy, pipeline="small", settings=OTHERWISE),
        lambda: synthgen.run_pipeline(None, copy),
        lambda: synthgen.run_pipeline(None, copy, update=True),
    )
    is_pipeline_known = loss == "no settings of a stage"
    for call in calls[:-1] if is_pipeline_known else calls:
        with pytest.raises(Damaged) as caught:
            call()
        line = str(caught.value)
        assert "\n" not in line and str(copy) in line and "so it was damaged; restore it from a copy" in line
        assert "run with --pipeline and --update" in line and "remove" not in line
    assert pairs(copy) == before
    synthgen.run_pipeline("photos", copy, pipeline="small", settings=OTHERWISE, update=True)
    adds_up(copy)
    ids = {row[2] for row in pairs(copy).values()}
    assert len(ids) == len(before) and ids.isdisjoint({row[2] for row in before.values()}), "all are of one recipe"
    synthgen.run_pipeline(None, copy)


def test_an_update_without_a_record_that_changes_nothing_asks_nothing_again(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pairs(copy)
    shutil.rmtree(copy / "frozen")
    with pytest.raises(UserMistake, match="has no record of its source, and no source was given"):
        synthgen.run_pipeline(None, copy, pipeline="small", update=True)
    synthgen.run_pipeline("photos", copy, pipeline="small", update=True)
    assert pairs(copy) == before
    assert "so it was damaged; what was made with other settings than these is done again" in capsys.readouterr().err


def test_a_run_that_was_killed_before_it_stored_a_record_starts_as_a_new_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    out = tmp_path / "killed"
    out.mkdir()
    (out / "run.json").write_text('{"format": 1}')
    assert synthgen.run_pipeline("photos", out, pipeline="small", until="plan")[0].passed == 6


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"format": "one"}'])
def test_a_description_of_the_folder_that_is_lost_is_named_and_can_be_written_again(
    copy: Path, text: str | None
) -> None:
    described = copy / "run.json"
    described.unlink() if text is None else described.write_text(text)
    for words in (["status", str(copy)], ["run", "photos", "--out", str(copy)], ["gc", str(copy)]):
        raised = CliRunner().invoke(app, words).exception
        assert isinstance(raised, SynthError)
        assert str(raised).startswith(f"{described}: does not state the format of this run, so it was damaged; ")
    described.write_text('{"format": 1}')
    assert synthgen.run_status(copy)["stages"]


@pytest.mark.parametrize("loss", ["no folder", "cut"])
def test_a_plan_whose_epoch_is_lost_stops_in_one_line_until_it_is_drawn_again(copy: Path, loss: str) -> None:
    epochs = copy / "2-planned" / "epochs"
    if loss == "cut":
        (epochs / "000001.json").write_text("{")
    else:
        shutil.rmtree(epochs)
    with pytest.raises(Damaged) as caught:
        synthgen.run_pipeline(None, copy)
    line = str(caught.value)
    assert line.startswith(str(epochs / "000001.json")) and "\n" not in line
    assert "restore it from a copy, or run with --replan" in line
    before = pairs(copy)
    done = CliRunner().invoke(app, ["run", "--out", str(copy), "--replan"])
    assert done.exit_code == 0, done.output
    adds_up(copy)
    assert pairs(copy) == before, "the same seed draws the same plan"


def test_files_of_others_among_the_records_are_passed_over(copy: Path) -> None:
    for folder in ("lease", "frozen", "2-planned/epochs"):
        (copy / folder / "zz.json").write_text("{}")
        (copy / folder / "foo.json").write_text("not JSON")
    before = pairs(copy)
    assert synthgen.run_status(copy)["at_work"] is None
    synthgen.run_pipeline("photos", copy, pipeline="small")
    assert pairs(copy) == before
