"""A model of experts computes what the dense one did, and its routers are kept at work while it learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from synthgen.config.training_methods import RoutersConfig
from synthgen.errors import UserMistake
from synthgen.train import pretrained, train
from synthgen.train.loss import answer_loss, answer_losses
from synthgen.train.methods.upcycling import balance_loss, guide_routers, max_z_loss, upcycle
from tests.fixtures.tiny_vlm import FAST, losses, part, samples, write


def routers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__.endswith("TopKRouter")]


def test_experts_compute_what_the_dense_model_did(model: Path, processor: Any) -> None:
    dense, batch = pretrained.load_model("tiny", model).eval(), part(processor, samples(4))
    sparse = upcycle(dense, experts=4).eval()
    with torch.no_grad():
        assert torch.allclose(answer_losses(sparse, batch), answer_losses(dense, batch), atol=1e-4)
    (router,) = routers(sparse)
    assert router.weight.shape[0] == 4 and float(router.weight.detach().std()) == pytest.approx(0.02**0.5, rel=0.3)


def test_a_model_of_experts_trains_from_its_folder(model: Path, processor: Any, tmp_path: Path) -> None:
    sparse = upcycle(pretrained.load_model("tiny", model), experts=4)
    sparse.save_pretrained(tmp_path / "sparse")
    processor.save_pretrained(tmp_path / "sparse")
    shards = write(tmp_path / "shards", samples(8))
    settings = FAST.model_copy(update={"routers": RoutersConfig(), "steps": 3})
    train(str(shards), str(tmp_path / "sparse"), tmp_path / "out", settings)
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]
    with pytest.raises(UserMistake, match=r"train.routers: this model has no routers"):
        train(str(shards), str(model), tmp_path / "dense", settings)


def test_the_losses_of_a_router_are_least_where_it_is_even_and_small() -> None:
    even, uneven = torch.eye(4).repeat(3, 1), torch.eye(4)[:1].repeat(12, 1)
    assert float(balance_loss(even, 1)) == pytest.approx(1.0) and float(balance_loss(uneven, 1)) > 1.5
    assert float(max_z_loss(even)) == 1.0 and float(max_z_loss(10 * even)) == 100.0


def test_guided_routers_get_the_gradients_of_their_losses_and_no_others_change(model: Path, processor: Any) -> None:
    batch, gradients, shown = part(processor, samples(4)), [], []
    for is_guided in (False, True):
        sparse = upcycle(pretrained.load_model("tiny", model), experts=4).train()
        if is_guided:
            guide_routers(sparse, balance=0.5, max_z=0.1)
        loss = answer_loss(sparse, batch)
        loss.backward()
        shown.append(loss.item())
        gradients.append({name: weight.grad for name, weight in sparse.named_parameters() if weight.grad is not None})
    plain, guided = gradients
    assert shown[0] == shown[1], "the loss that is shown is that of the answers"
    (router,) = [name for name in plain if name.endswith("mlp.gate.weight")]
    assert not torch.allclose(plain[router], guided[router])
    experts = next(name for name in plain if name.endswith("experts.down_proj"))
    assert torch.allclose(plain[experts], guided[experts])


def test_guided_routers_spread_their_tokens(model: Path, processor: Any) -> None:
    """A router that sends all to the same experts comes back to an even load, which without the loss it does not."""
    batch, spread = part(processor, samples(4)), []
    for weight in (0.0, 1.0):
        sparse = upcycle(pretrained.load_model("tiny", model), experts=4).train()
        (router,) = routers(sparse)
        seen: list[torch.Tensor] = []
        router.register_forward_hook(lambda module, inputs, outputs, seen=seen: seen.append(outputs[0].detach()))
        guide_routers(sparse, balance=weight, max_z=0.0)
        optimizer = torch.optim.AdamW([router.weight], lr=3e-2, weight_decay=0.0)
        for _ in range(25):
            answer_loss(sparse, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        spread.append(float(balance_loss(seen[-1], 2)))
    assert spread[1] < spread[0] and spread[1] < 1.05


def test_another_kind_of_model_is_refused(model: Path) -> None:
    alone = Qwen2ForCausalLM(Qwen2Config(vocab_size=8, hidden_size=64, intermediate_size=8, num_hidden_layers=1))
    with pytest.raises(UserMistake, match=r"a language model alone is not upcycled"):
        upcycle(alone)
    sparse = upcycle(pretrained.load_model("tiny", model))
    with pytest.raises(UserMistake, match=r"type qwen2_moe cannot be upcycled; known: qwen2"):
        upcycle(sparse)
