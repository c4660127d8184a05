"""A purge reaches models: which training has seen an image, from which step on, and what is clean of it."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.evaluate import EvaluateRequest, evaluate
from synthgen.commands.purge_models import model_lines
from synthgen.config import pipeline as pipelines
from synthgen.store import Folder, RunFolder
from synthgen.tables import image_id
from synthgen.train import train
from synthgen.train.sightings import sighting, trained
from synthgen.train.stream import rows
from tests.fixtures.tiny_vlm import FAST, Row, commit, model, one_thread, picture, row, stop_after

__all__ = ["model", "one_thread"]
SETTINGS = FAST.model_copy(update={"steps": 7, "checkpoint_every": 1})


def own(number: int) -> Row:
    """Return a sample as a run writes it, about an image like no other."""
    data = picture("red", (40 + number, 30))
    named = {"id": f"sample {number}", "image_id": image_id(data), "width": 40 + number, "height": 30}
    return {**row(("What colour is it?", "It is red."), image=data), **named}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return commit(tmp_path / "run", [own(number) for number in range(7)], [own(number) for number in range(7, 12)])


def lines(run: Path, *numbers: int) -> list[str]:
    """Return what a purge of some images says of models, without the folder of the test."""
    images = {str(own(number)["image_id"]) for number in numbers}
    found = model_lines(RunFolder(Folder(str(run))), images)
    return [line.replace(f"{run.parent}/", "") for line in found]


def seen_in_steps(out: Path, number: int) -> list[int]:
    """Return the steps in which a training takes an image, by the stream itself."""
    of = trained(out)
    assert of
    wanted = own(number)["images"][0]["bytes"]
    settings = of.settings.model_copy(update={"scratch": str(out.with_name("scratch"))})
    taken = islice(rows(of.feed, settings, 0), settings.steps * settings.batch)
    return [1 + place // of.settings.batch for place, each in enumerate(taken) if each["images"][0]["bytes"] == wanted]


def test_the_first_step_and_the_times_are_those_of_the_stream(model: Path, run: Path, tmp_path: Path) -> None:
    train(str(run), str(model), tmp_path / "out", SETTINGS)
    for number in range(12):
        steps = seen_in_steps(tmp_path / "out", number)
        (line,) = lines(run, number)
        assert line.startswith(f"training out: has seen it {len(steps)} times, from step {steps[0]} of 7 on; "), line
        assert line.endswith(f"no checkpoint is clean, only the model that it started from, {model}")
    assert lines(run, 99) == ["training out: has not seen it, and does not in its 7 steps"]


def test_a_checkpoint_from_before_the_image_is_clean(
    model: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    stop_after(2, monkeypatch, lambda: train(str(run), str(model), out, SETTINGS))
    firsts = {number: seen_in_steps(out, number)[0] for number in range(12)}
    first, second, later = (next(number for number in firsts if firsts[number] == step) for step in (1, 2, 3))
    assert "from step 1 of 7 on; no checkpoint is clean" in lines(run, first)[0]
    assert lines(run, second) == [
        "training out: has seen it 1 time, from step 2 of 7 on; its checkpoint step-0000001 is clean"
    ]
    assert lines(run, later) == ["training out: has not seen it in 2 steps; it comes in step 3 of 7"]
    (out / "feed" / "rows").mkdir()
    assert "holds copies of its shards; delete it" in lines(run, later)[1]
    assert lines(run, first, later)[0].startswith("training out: has seen it 1 time, from step 1")


def test_a_model_that_was_tuned_from_one_that_has_seen_it_has_seen_it_too(
    model: Path, run: Path, tmp_path: Path
) -> None:
    other = commit(tmp_path / "other", [own(number) for number in range(20, 24)])
    train(str(run), str(model), tmp_path / "first", SETTINGS)
    train(str(other), str(tmp_path / "first" / "model"), tmp_path / "second", SETTINGS)
    first, second = lines(run, 3)
    assert first.startswith("training first: has seen it")
    assert second == "training second: has not seen it itself, but starts from first, which has; no checkpoint is clean"
    assert lines(other, 3) == ["training second: has not seen it, and does not in its 7 steps"]


def test_an_evaluation_with_a_question_on_it_is_named(run: Path, tmp_path: Path, workspace: Any) -> None:
    for number, out in ((1, "one"), (12, "all")):
        request = EvaluateRequest(str(run), str(tmp_path / out), (), limit=number, exports=("vlmevalkit",))
        evaluate(request, pipelines.load("small"))
    assert lines(run, 11) == [
        "evaluation all: has 1 question on it, and a copy of it; delete the folder",
        "evaluation one: has no question on it",
    ]


def test_a_training_that_is_gone_or_whose_index_is_lost_is_told(model: Path, run: Path, tmp_path: Path) -> None:
    train(str(run), str(model), tmp_path / "out", SETTINGS)
    of = trained(tmp_path / "out")
    assert of and sighting(of, {"nobody"}).step is None
    for path in (tmp_path / "out" / "feed").iterdir():
        path.unlink()
    assert "so nobody can tell which rows are in" in lines(run, 3)[0]
    (tmp_path / "out").rename(tmp_path / "moved")
    assert lines(run, 3) == ["training out: is gone, or was moved; what it had seen is not known"]
