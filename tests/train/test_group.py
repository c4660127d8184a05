"""A training on several processes makes the steps of one alone, and goes on with another number of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthgen.train import train
from synthgen.train.record import read_log
from tests.fixtures.tiny_vlm import FAST, losses, names, row, samples, write

SHARED = FAST.model_copy(update={"steps": 8, "processes": 2, "batch": 5})  # of five rows one process has three
ALONE = SHARED.model_copy(update={"processes": 1})


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Write shards of which some rows are unusable, two of them in a row."""
    bad = [row(("Q", "A"), image=b"no image") for _ in range(2)]
    return write(tmp_path / "shards", [*samples(7), *bad], samples(6))


def test_two_processes_make_the_steps_of_one(model: Path, shards: Path, tmp_path: Path) -> None:
    alone = train(str(shards), str(model), tmp_path / "alone", ALONE)
    shared = train(str(shards), str(model), tmp_path / "shared", SHARED)
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    for key in ("tokens", "lr", "step"):
        of_both = [[line[key] for line in read_log(tmp_path / name)] for name in ("shared", "alone")]
        assert of_both[0] == of_both[1], key
    assert (shared.steps, shared.skipped) == (alone.steps, alone.skipped)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("shared", "alone"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-3) for name in theirs)
    assert names(tmp_path / "shared") == ["lease", "log.jsonl", "model", "training.json"]
