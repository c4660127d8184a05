"""The experiments do what their papers say, at a size at which it can be seen."""

from pathlib import Path
from typing import Any

import pytest
import torch

from synthgen.train import pretrained
from synthgen.train.loss import answer_loss
from synthgen.train.methods.alignment import alignment_loss, state_movers_distance
from synthgen.train.methods.neurons import assign, importance, train_only
from tests.fixtures.tiny_vlm import COLOURS, part, row, samples

EVERY = torch.ones(1, 2, dtype=torch.bool)


def test_each_state_moves_to_the_nearest_one_of_the_other_text_by_its_length() -> None:
    states, others = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    there = (3 * torch.tensor(10.0).sqrt() + 0) / 4  # [3, 0] goes to [0, 1], [0, 1] stays
    back = (5 * 4.0 + 0) / 6  # [3, 4] goes to [3, 0]
    assert float(state_movers_distance(states, others, EVERY, EVERY)) == pytest.approx(float((there + back) / 2))


def test_padding_is_never_the_nearest() -> None:
    states, others = torch.tensor([[[0.1, 0.0]]]), torch.tensor([[[5.0, 0.0], [0.0, 0.0]]])
    mask, other_mask = torch.tensor([[True]]), torch.tensor([[True, False]])
    assert float(state_movers_distance(states, others, mask, other_mask)) == pytest.approx(4.9)
    padded = torch.cat([states, torch.zeros(1, 1, 2)], 1)
    one = state_movers_distance(padded, others, torch.tensor([[True, False]]), other_mask)
    assert float(one) == pytest.approx(4.9)


def test_the_distance_between_two_languages_shrinks_while_both_are_learned(model: Path, processor: Any) -> None:
    words = dict(zip(COLOURS, ("rot", "blau", "grün", "schwarz"), strict=True))
    english = part(processor, [row(("What colour is it?", f"It is {each}."), colour=each) for each in COLOURS])
    german = part(processor, [row(("Welche Farbe ist es?", f"Es ist {words[each]}."), colour=each) for each in COLOURS])
    distances = []
    for weight in (0.0, 0.4):
        loaded = pretrained.load_model("tiny", model).train()
        optimizer = torch.optim.AdamW(loaded.parameters(), lr=3e-3, weight_decay=0.0)
        for _ in range(15):
            losses = sum(answer_loss(loaded, each) / each.answer_tokens for each in (english, german))
            (losses + weight * alignment_loss(loaded, english, german)).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            distances.append(float(alignment_loss(loaded.eval(), english, german)))
    assert distances[1] < 0.8 * distances[0]


def test_a_neuron_matters_by_what_the_loss_would_change_without_it(model: Path, processor: Any) -> None:
    loaded, batch = pretrained.load_model("tiny", model).eval(), part(processor, samples(4))
    ((name, found),) = importance(loaded, [batch]).items()
    mlp = loaded.get_submodule(name)
    with torch.no_grad():
        before = float(answer_loss(loaded, batch))
        changes = []
        for neuron in range(len(found)):
            kept = mlp.down_proj.weight[:, neuron].clone()
            mlp.down_proj.weight[:, neuron] = 0
            changes.append(abs(float(answer_loss(loaded, batch)) - before))
            mlp.down_proj.weight[:, neuron] = kept
    order = torch.tensor(changes).argsort(descending=True)
    assert float(found[order[:16]].mean()) > 2 * float(found[order[-16:]].mean())


def test_shared_neurons_matter_to_all_and_others_belong_where_they_matter_most() -> None:
    found = {
        "a": {"mlp": torch.tensor([9.0, 8.0, 2.0, 0.1, 1.0])},
        "b": {"mlp": torch.tensor([9.0, 8.0, 0.1, 2.0, 1.0])},
    }
    masks = assign(found, shared=0.4)
    assert masks[""]["mlp"].tolist() == [True, True, False, False, False]
    assert masks["a"]["mlp"].tolist() == [False, False, True, False, True]
    assert masks["b"]["mlp"].tolist() == [False, False, False, True, True]


def test_training_of_some_neurons_moves_these_alone(model: Path, processor: Any) -> None:
    loaded, batch = pretrained.load_model("tiny", model), part(processor, samples(4))
    before = {name: weight.detach().clone() for name, weight in loaded.named_parameters()}
    ((name, found),) = importance(loaded, [batch]).items()
    chosen = torch.zeros(len(found), dtype=torch.bool)
    chosen[:5] = True
    train_only(loaded, {name: chosen})
    optimizer = torch.optim.AdamW([w for w in loaded.parameters() if w.requires_grad], lr=1e-2, weight_decay=0.0)
    answer_loss(loaded, batch).backward()
    optimizer.step()
    moved = {each for each, weight in loaded.named_parameters() if not torch.equal(weight, before[each])}
    assert moved == {f"{name}.{layer}.weight" for layer in ("gate_proj", "up_proj", "down_proj")}
    for layer, axis in (("gate_proj", 1), ("up_proj", 1), ("down_proj", 0)):
        each = f"{name}.{layer}.weight"
        changed = (loaded.get_parameter(each) != before[each]).any(axis)
        assert changed.tolist() == chosen.tolist()
