"""Adapters learn beside frozen weights, and the tuned folder has their products added to these."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch.distributed.checkpoint.filesystem import FileSystemReader

from synthgen.config.training import LoraConfig
from synthgen.errors import UserMistake
from synthgen.train import lora, pretrained, train
from tests.fixtures.tiny_vlm import FAST, losses, part, samples, stop_after, write

SETTINGS = LoraConfig(rank=4, alpha=8.0)
TRAIN = FAST.model_copy(update={"lora": SETTINGS, "learning_rate": 3e-3, "steps": 8})


def changed(before: Path, after: Path) -> set[str]:
    """Return the names of the weights that differ between two model folders."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys(), "the tuned folder has the weights of the starting one"
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("all", {"self_attn", "mlp", "multi_modal_projector"}),
        ("language", {"self_attn", "mlp", "multi_modal_projector"}),
    ],
)
def test_only_linear_layers_of_the_chosen_part_change(model: Path, tmp_path: Path, what: str, parts: set[str]) -> None:
    train(
        str(write(tmp_path / "shards", samples(6))),
        str(model),
        tmp_path / "out",
        TRAIN.model_copy(update={"what": what}),
    )
    names = changed(model, tmp_path / "out" / "model")
    assert names and all(any(part in name.split(".") for part in parts) for name in names), names
    assert not any("embed" in name or "norm" in name or name.endswith("bias") for name in names), names
    assert any("vision_tower" in name for name in names) == (what == "all")


def test_a_merged_model_says_what_the_model_with_adapters_says(model: Path, processor: Any, tmp_path: Path) -> None:
    tuned = pretrained.load_model(str(model), model)
    lora.add_adapters(tuned, SETTINGS)
    torch.manual_seed(3)
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            torch.nn.init.normal_(module.lora_B[lora.ADAPTER].weight, std=0.1)
    inputs = part(processor, samples(2)).inputs
    with torch.no_grad():
        said = tuned.eval()(**inputs).logits
        plain = pretrained.load_model(str(model), model).eval()
        before = plain(**inputs).logits
        plain.load_state_dict(lora.merge(tuned.state_dict(), SETTINGS))
        merged = plain(**inputs).logits
    assert torch.allclose(merged, said, atol=1e-4) and not torch.allclose(before, said, atol=1e-2)


def test_adapters_alone_have_gradients_and_are_in_a_checkpoint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, whole, killed = write(tmp_path / "shards", samples(7)), tmp_path / "whole", tmp_path / "killed"
    train(str(shards), str(model), whole, TRAIN)
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), killed, TRAIN))
    held = FileSystemReader(killed / "checkpoints" / "step-0000004").read_metadata().state_dict_metadata
    assert held and all(".lora_" in name or "param_groups" in name for name in held)
    train(str(shards), str(model), killed, TRAIN)
    assert losses(killed) == losses(whole)


def test_without_peft_the_command_that_installs_it_is_named(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", samples(4))
    code = (
        "import sys\nsys.modules['peft'] = None\nfrom pathlib import Path\n"
        "from synthgen.config.training import TrainConfig\nfrom synthgen.train import train\n"
        "try: train(sys.argv[1], sys.argv[2], Path('o'), TrainConfig(lora={}))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    words = [sys.executable, "-c", code, str(shards), str(model)]
    message = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert message == "UserMistake train.lora needs peft; get it with: pip install peft\n"
    assert not (tmp_path / "o").exists()


def test_a_part_without_a_linear_layer_is_refused(model: Path) -> None:
    frozen = pretrained.load_model(str(model), model)
    frozen.requires_grad_(False)
    with pytest.raises(UserMistake, match="has no linear layer"):
        lora.add_adapters(frozen, SETTINGS)
