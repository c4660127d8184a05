"""A recipe trains stage by stage, each from the model of the one before, and goes on in the stage that was killed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from synthgen.commands.schedule import TrainRequest, schedule_of
from synthgen.config import library, recipe
from synthgen.config.training import TrainConfig
from synthgen.errors import Mistakes, SettingsChanged, UserMistake
from synthgen.train import train_stages
from synthgen.train.feed import of_record
from synthgen.train.image_size import image_size
from synthgen.train.record import read_record
from synthgen.train.schedule import Schedule
from synthgen.train.stream import Order
from tests.fixtures.tiny_vlm import FAST, losses, names, samples, stop_after, write

STAGES = """
about: two stages
train: {batch: 4, learning_rate: 3.0e-3, checkpoint_every: 2, workers: 1}
stages:
  - {name: join, what: projector, steps: 3, data: {captions: 1}}
  - {name: tune, samples: 18, learning_rate: 1.0e-3, data: {captions: 1, shards: 2}}
"""


def schedule(home: Path, monkeypatch: pytest.MonkeyPatch, text: str = STAGES, **request: Any) -> Schedule:
    """Return the schedule of a recipe of the working folder."""
    (home / "pipelines" / "recipes").mkdir(parents=True, exist_ok=True)
    (home / "pipelines" / "recipes" / "mine.yaml").write_text(text)
    monkeypatch.chdir(home)
    typed = {"recipe": "mine", "shards": str(home / "shards"), "data": (f"captions={home / 'captions'}",), **request}
    return schedule_of(TrainRequest(**typed), TrainConfig())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "shards", samples(8))
    write(tmp_path / "captions", samples(10), samples(7))
    return tmp_path


def test_stages_are_trained_in_order_each_on_its_own_terms(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train_stages(schedule(home, monkeypatch), str(model), home / "out")
    assert names(home / "out") == ["1-join", "2-tune", "feed", "recipe.json"]
    assert result.model == str(home / "out" / "2-tune" / "model") and result.steps == 5
    start, joined, tuned = (
        load_file(folder / "model.safetensors")
        for folder in (model, home / "out" / "1-join" / "model", home / "out" / "2-tune" / "model")
    )
    moved = {name for name in start if not torch.equal(start[name], joined[name])}
    assert moved and all("multi_modal_projector" in name for name in moved)
    assert any("language_model" in name and not torch.equal(joined[name], tuned[name]) for name in joined)
    rates = [json.loads(line)["lr"] for line in (home / "out" / "2-tune" / "log.jsonl").read_text().splitlines()]
    assert max(rates) == pytest.approx(1e-3)
    again = train_stages(schedule(home, monkeypatch), str(model), home / "out")
    assert again == result


@pytest.mark.parametrize("steps", [2, 4])
def test_a_recipe_that_is_killed_in_any_stage_goes_on_to_the_same_losses(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    stages = schedule(home, monkeypatch)
    train_stages(stages, str(model), home / "whole")
    stop_after(steps, monkeypatch, lambda: train_stages(stages, str(model), home / "killed"))
    train_stages(stages, str(model), home / "killed")
    for stage in ("1-join", "2-tune"):
        assert losses(home / "killed" / stage) == losses(home / "whole" / stage)


def test_a_stage_goes_on_in_a_data_set_where_the_one_before_stopped(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_stages(schedule(home, monkeypatch), str(model), home / "out")
    record = read_record(home / "out" / "2-tune")
    assert record
    feed = of_record(record["data"], home / "out" / "feed")
    assert feed.before == {"captions": 12, "shards": 0}
    settings = TrainConfig(batch=4)
    whole = Order(of_record([{**each, "before": 0} for each in record["data"]], feed.folder), settings)
    ours = Order(feed, settings)
    assert [count - start for count, start in zip(ours.counts(8), (12, 0), strict=True)] == whole.counts(8)


def test_a_stage_has_the_settings_of_file_recipe_and_command_line_in_that_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, tune = (stage.settings for stage in schedule(home, monkeypatch).stages)
    assert (join.what, join.steps, join.batch, tune.what, tune.steps) == ("projector", 3, 4, "all", 5)
    pipeline = TrainConfig(batch=6, weight_decay=0.5, learning_rate=9.0)
    request = TrainRequest(str(home), "mine", ("captions=x",), 2.0, ("train.batch=6",))
    join, tune = (stage.settings for stage in schedule_of(request, pipeline).stages)
    assert (join.batch, join.weight_decay, join.learning_rate) == (6, 0.5, 3e-3)
    assert (join.steps, tune.steps) == (6, 6), "18 samples in batches of 6, twice"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"data": ()}, "takes from captions, which have no place; give --data captions=PLACE"),
        ({"shards": None}, "takes from shards, which have no place; give SHARDS"),
        ({"data": ("caption=x",)}, "--data caption: no stage of the recipe takes from it: did you mean 'captions'"),
        ({"data": ("captions",)}, "--data captions: write it as NAME=PLACE"),
        ({"data": ("captions=x", "captions=y")}, "--data captions: is given twice"),
        ({"recipe": None}, "--data captions=.*: is for the stages of a recipe; name one with --recipe"),
        ({"recipe": None, "data": (), "shards": None}, "missing: SHARDS, a run's output folder"),
        ({"recipe": None, "data": (), "scale": 2.0}, "--scale 2: is for the stages of a recipe"),
        ({"scale": 0.0}, "--scale 0: must be above 0"),
        ({"recipe": "mien"}, "recipe 'mien' is unknown: did you mean 'mine'"),
    ],
)
def test_a_mistake_in_the_request_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserMistake, match=message):
        schedule(home, monkeypatch, **request_)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{name: a, steps: 3, samples: 4}", "steps and samples both say how long a stage is"),
        ("{name: a, hold_out: 0.1}", "hold_out holds for all stages; name it in `train` of the recipe"),
        ("{name: a, learning_rat: 1}", "learning_rat"),
        ("{name: a}\n  - {name: a}", "two stages are called 'a'"),
        ("{name: A b}", "name"),
        ("{name: a, data: {x: 0}}", "greater than 0"),
        ("{name: a, micro_batch: 2, pack_tokens: 9}", "micro_batch and pack_tokens both"),
    ],
)
def test_a_mistake_in_a_recipe_names_its_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, stage: str, message: str
) -> None:
    with pytest.raises(Mistakes, match=message) as caught:
        schedule(home, monkeypatch, f"about: one\nstages:\n  - {stage}\n")
    assert "mine.yaml:" in str(caught.value)


def test_a_finished_stage_with_other_settings_is_not_taken_for_this_one(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_stages(schedule(home, monkeypatch), str(model), home / "out")
    with pytest.raises(SettingsChanged, match=r"1-join: was started with other settings: steps was 3 and is now 4"):
        train_stages(schedule(home, monkeypatch, STAGES.replace("steps: 3", "steps: 4")), str(model), home / "out")


@pytest.mark.parametrize("name", sorted(library.names("recipe")))
def test_every_shipped_recipe_loads(name: str) -> None:
    loaded = recipe.load(name)
    assert loaded.about and loaded.stages


def test_the_schedule_of_aquila_vl_2b_is_that_of_its_paper() -> None:
    """Table 3 of arXiv 2410.18558."""
    loaded = recipe.load("aquila-vl-2b")
    settings = [recipe.settings_of(loaded, stage, TrainConfig(), ()) for stage in loaded.stages]
    assert [each.what for each in settings] == ["projector", *["all"] * 5]
    assert [each.learning_rate for each in settings] == [1e-3, *[1e-5] * 5]
    assert [each.image_grid for each in settings] == [1, 2, 3, 4, 6, 6]
    assert [each.image_tokens for each in settings] == [None, *(729 * tiles for tiles in (5, 6, 7, 10, 10))]
    assert {each.batch for each in settings} == {512}
    assert [round(each.steps * 512 / 1e6, 1) for each in settings] == [10.0, 8.6, 8.6, 8.6, 6.0, 3.0]
    small = recipe.settings_of(loaded, loaded.stages[0], TrainConfig(batch=8), ("batch",), 0.001)
    assert (small.batch, small.steps) == (8, 1250)


def test_a_grid_bounds_the_tiles_of_an_image(model: Path) -> None:
    from synthgen.train import pretrained

    folder = model
    assert image_size(folder, FAST).processor == {}
    size = image_size(folder, FAST.model_copy(update={"image_grid": 1, "image_tokens": 8}))
    assert size.processor["image_grid_pinpoints"] == size.config["image_grid_pinpoints"] == [[32, 32]]
    assert size.ratio == "anyres_max_1"
    processor = pretrained.load_processor("tiny", folder, FAST.model_copy(update={"image_tokens": 8}))
    assert processor.vision_aspect_ratio == "anyres_max_1"
