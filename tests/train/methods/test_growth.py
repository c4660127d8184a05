"""A grown model computes what the small one did (FPI), or starts nearer to it than chance, unlike copies (AKI-Pro)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from synthgen.errors import UserMistake
from synthgen.train import pretrained
from synthgen.train.loss import answer_losses
from synthgen.train.methods.growth import Size, grow, size_of
from tests.fixtures.tiny_vlm import part, samples

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LARGER = Size(hidden=32, intermediate=60, heads=8, layers=3)


def small(kind: str, *, tied: bool) -> Any:
    torch.manual_seed(0)
    config, build = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[kind]
    model = build(config(**SMALL, tie_word_embeddings=tied)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(20)[None] * 7 % 40).logits
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [LARGER, Size(16, 24, 8, 3), Size(16, 50, 4, 3), Size(48, 24, 12, 3)])
def test_fpi_preserves_what_a_model_computes(kind: str, tied: bool, size: Size) -> None:
    model = small(kind, tied=tied)
    larger = grow(model, size, "fpi")
    assert size_of(larger) == size
    assert torch.allclose(logits(larger), logits(model), atol=1e-4)


def test_fpi_preserves_the_answers_of_a_vision_language_model(model: Path, processor: Any) -> None:
    loaded, batch = pretrained.load_model("tiny", model).eval(), part(processor, samples(4))
    larger = grow(loaded, Size(64, 100, 4, 1), "fpi").eval()
    with torch.no_grad():
        assert torch.allclose(answer_losses(larger, batch), answer_losses(loaded, batch), atol=1e-4)


def test_a_grown_model_is_saved_and_loaded_as_it_is(model: Path, processor: Any, tmp_path: Path) -> None:
    larger = grow(pretrained.load_model("tiny", model), Size(64, 128, 4, 2))
    larger.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = pretrained.load_model("grown", tmp_path)
    assert size_of(again) == Size(64, 128, 4, 2)
    for one, other in zip(larger.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_aki_pro_takes_added_neurons_from_the_next_layer_and_interpolates_the_depth() -> None:
    model = small("qwen2", tied=False)
    larger = grow(model, Size(16, 30, 4, 6), "aki_pro")
    old = [layer.mlp.gate_proj.weight for layer in model.model.layers]
    new = [layer.mlp.gate_proj.weight for layer in larger.model.layers]
    for layer, weight in enumerate(new):
        source = layer // 2  # six layers from three: each twice, side by side
        assert torch.equal(weight[:24], old[source]) and torch.equal(weight[24:], old[min(source + 1, 2)][:6])
    copies = grow(model, Size(16, 30, 4, 6), "fpi").model.layers[0].mlp.gate_proj.weight
    assert torch.equal(copies[24:], copies[:6]), "FPI copies within a layer"


def test_heads_are_added_within_their_group() -> None:
    model = small("llama", tied=False)
    larger = grow(model, Size(16, 24, 6, 3), "fpi")
    old, new = (each.model.layers[0].self_attn.q_proj.weight.view(-1, 4, 16) for each in (model, larger))
    assert [next(h for h in range(4) if torch.equal(new[head], old[h])) for head in range(6)] == [0, 1, 0, 2, 3, 2]


def test_a_grown_model_starts_below_the_loss_of_chance() -> None:
    """A small model that knows a sequence: what grew from it knows more of it than one that starts from nothing."""
    model, tokens = small("llama", tied=False), torch.arange(20)[None] * 7 % 40
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(60):
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    fresh = type(model)(grow(model, LARGER).config)
    losses = {
        name: each(tokens, labels=tokens).loss.item()
        for name, each in (("fpi", grow(model, LARGER, "fpi")), ("aki_pro", grow(model, LARGER)), ("fresh", fresh))
    }
    assert losses["fpi"] < 0.1 and losses["aki_pro"] < losses["fresh"]


def test_what_cannot_grow_is_refused() -> None:
    model = small("llama", tied=False)
    with pytest.raises(UserMistake, match=r"hidden 8: is below the 16 of the small model"):
        grow(model, Size(8, 24, 4, 3))
    with pytest.raises(UserMistake, match=r"heads 5: is no multiple of the 2 key and value heads"):
        grow(model, Size(16, 24, 5, 3))
    with pytest.raises(UserMistake, match=r"its layers have self_attn.q_norm.weight"):
        grow(Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=4)), LARGER)
