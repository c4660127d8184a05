"""Weights and moments of fewer bits learn what float32 learns, and continue exactly after a kill."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from synthgen.config.training import LoraConfig, TrainConfig
from synthgen.train import pretrained, train
from synthgen.train.optimizer import make_optimizer, set_learning_rate
from tests.fixtures.tiny_vlm import FAST, losses, samples, stop_after, write

SMALLER = [("float32", "adamw_8bit"), ("bfloat16", "adamw"), ("bfloat16", "adamw_8bit")]


def settings(precision: str, optimizer: str, **more: Any) -> TrainConfig:
    return FAST.model_copy(update={"precision": precision, "optimizer": optimizer, **more})


def state_bytes(precision: str, optimizer: str) -> float:
    """Return the bytes that AdamW's moments of a wide weight take, a value of the weight."""
    weight = torch.nn.Parameter(torch.ones(256, 256, dtype=getattr(torch, precision)))
    made = make_optimizer([weight], settings(precision, optimizer))
    weight.grad = torch.ones_like(weight)
    made.step()
    parts = [getattr(tensor, "codes", tensor) for tensor in made.state[weight].values()]
    return float(sum(part.nbytes for part in parts) / weight.numel())


@pytest.mark.parametrize(("precision", "optimizer"), SMALLER)
def test_fewer_bits_learn_and_continue_to_the_same_losses(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, optimizer: str
) -> None:
    shards, whole, killed = write(tmp_path / "shards", samples(8)), tmp_path / "whole", tmp_path / "killed"
    chosen = settings(precision, optimizer, steps=30, batch=8, learning_rate=1e-2, checkpoint_every=15)
    assert train(str(shards), str(model), whole, chosen).last_loss < 0.5
    stop_after(15, monkeypatch, lambda: train(str(shards), str(model), killed, chosen))
    train(str(shards), str(model), killed, chosen)
    assert losses(killed) == losses(whole)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, whole / "model"))
    assert {name: tensor.dtype for name, tensor in after.items()} == {
        name: tensor.dtype for name, tensor in before.items()
    }


def test_every_weight_is_in_sixteen_bits_and_positions_are_not(model: Path) -> None:
    loaded = pretrained.load_model(str(model), model, "bfloat16")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    frequencies = [tensor for name, tensor in loaded.named_buffers() if name.endswith("inv_freq")]
    assert frequencies and all(tensor.dtype == torch.float32 for tensor in frequencies)


def test_steps_too_small_for_sixteen_bits_count_on_average() -> None:
    """A bfloat16 near 1 has steps of 0.004 below it; twenty of 0.0001 are lost where each is rounded to the nearest."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(100, 100, dtype=torch.bfloat16))
    optimizer = make_optimizer([weight], settings("bfloat16", "adamw", weight_decay=0.0))
    set_learning_rate(optimizer, 1e-4)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert weight.float().mean().item() == pytest.approx(1 - 20 * 1e-4, abs=2e-4)


def test_moments_of_eight_bits_take_a_byte_each() -> None:
    assert state_bytes("float32", "adamw") == pytest.approx(8, abs=0.1)
    assert state_bytes("bfloat16", "adamw") == pytest.approx(4, abs=0.1)
    assert state_bytes("float32", "adamw_8bit") == state_bytes("bfloat16", "adamw_8bit") == pytest.approx(2, abs=0.1)


def test_adapters_may_stand_beside_weights_of_sixteen_bits(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", samples(8))
    chosen = settings("bfloat16", "adamw", lora=LoraConfig(rank=4, alpha=8.0), learning_rate=1e-2, steps=30, batch=8)
    result = train(str(shards), str(model), tmp_path / "out", chosen)
    assert result.last_loss < result.first_loss - 0.3


def test_sixteen_bits_with_moments_of_eight_are_refused_on_several_processes() -> None:
    with pytest.raises(ValidationError, match="is for one process"):
        TrainConfig(precision="bfloat16", optimizer="adamw_8bit", processes=2)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("{'precision': 'bfloat16'}", "train.precision bfloat16"),
        ("{'optimizer': 'adamw_8bit'}", "train.optimizer adamw_8bit"),
    ],
)
def test_without_torchao_the_command_that_installs_it_is_named(
    model: Path, tmp_path: Path, given: str, named: str
) -> None:
    shards = write(tmp_path / "shards", samples(4))
    code = (
        "import sys\nsys.modules['torchao'] = None\nfrom pathlib import Path\n"
        "from synthgen.config.training import TrainConfig\nfrom synthgen.train import train\n"
        f"try: train(sys.argv[1], sys.argv[2], Path('o'), TrainConfig.model_validate({given}))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    words = [sys.executable, "-c", code, str(shards), str(model)]
    message = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert message == f"UserMistake {named} needs torchao; get it with: pip install torchao\n"
    assert not (tmp_path / "o").exists()
