"""The lessons of the demo's second phase are shards that `synth train` learns from by the recipe `nano`."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from demo import lessons
from demo.training_examples import KEYS
from synthgen.commands.schedule import TrainRequest, schedule_of
from synthgen.config.training import TrainConfig
from synthgen.train import train_stages
from synthgen.train.record import read_log
from tests.fixtures.workspace import ROOT

SETS = ("early", "late", "blind")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lessons")
    torch.manual_seed(0)
    lessons.write_lessons(out, 4, "asker")
    lessons.write_start(out / "start", ROOT / "demo" / "models" / "nano-vlm", None)
    return out


def test_every_example_is_a_row_and_those_without_a_picture_are_apart(made: Path) -> None:
    rows = {name: pq.read_table(made / name).to_pylist() for name in SETS}
    assert sum(map(len, rows.values())) == 4 * lessons.EXAMPLES
    assert not any(row["images"] for row in rows["blind"]) and rows["blind"]
    assert all(len(row["images"]) == 1 for name in ("early", "late") for row in rows[name])
    assert {kind for name in SETS for row in rows[name] for kind in row["types"]} <= set(KEYS)
    assert {kind.partition("/")[0] for row in rows["blind"] for kind in row["types"]} == {"blind"}


def test_the_recipe_teaches_the_nano_vlm(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    places = tuple(f"{name}={made / name}" for name in SETS)
    settings = TrainConfig(batch=8, steps=3, workers=1)
    request = TrainRequest(None, "nano", places, 1.0, ("train.batch=8", "train.steps=3", "train.workers=1"))
    result = train_stages(schedule_of(request, settings), str(made / "start"), tmp_path / "out")
    assert not result.skipped
    losses = [line["loss"] for stage in ("1-answer", "2-every-task") for line in read_log(tmp_path / "out" / stage)]
    assert len(losses) == 6 and losses[-1] < losses[0]
