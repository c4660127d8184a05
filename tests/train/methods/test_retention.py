"""An old skill is kept while a new one is learned: what it needs stays, and the rest moves little."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from synthgen.config.training_methods import RetainConfig
from synthgen.errors import UserMistake
from synthgen.train import pretrained, train
from synthgen.train.loss import answer_loss
from synthgen.train.methods import retention
from synthgen.train.methods.retention import clamp, fisher_information, frozen_values, limits_of
from tests.fixtures.tiny_vlm import COLOURS, FAST, losses, part, row, stop_after, write

OLD = [row(("What colour is it?", f"It is {colour}."), colour=colour) for colour in COLOURS]
NEW = [row(("Is it light or dark?", "It is green."), colour=colour) for colour in COLOURS]


@pytest.fixture(scope="module")
def skilled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model that has the old skill."""
    folder = tmp_path_factory.mktemp("skilled")
    settings = FAST.model_copy(update={"steps": 60, "checkpoint_every": 60, "learning_rate": 5e-3})
    train(str(write(folder / "shards", OLD)), str(model), folder / "out", settings)
    return folder / "out" / "model"


def loss_on(model: Path, processor: Any, rows: list[Any]) -> float:
    loaded, batch = pretrained.load_model("tuned", model).eval(), part(processor, rows)
    with torch.no_grad():
        return float(answer_loss(loaded, batch)) / batch.answer_tokens


def test_the_old_skill_is_kept_while_the_new_one_is_learned(skilled: Path, processor: Any, tmp_path: Path) -> None:
    old, new = write(tmp_path / "old", OLD), write(tmp_path / "new", NEW)
    settings = FAST.model_copy(update={"steps": 30, "checkpoint_every": 30})
    kept = settings.model_copy(update={"retain": RetainConfig(shards=str(old), samples=4)})
    for name, each in (("plain", settings), ("kept", kept)):
        train(str(new), str(skilled), tmp_path / name, each)
    before = loss_on(skilled, processor, OLD)
    plain, retained = (loss_on(tmp_path / name / "model", processor, OLD) for name in ("plain", "kept"))
    assert retained - before < 0.5 * (plain - before), (before, plain, retained)
    learned = loss_on(tmp_path / "kept" / "model", processor, NEW)
    assert learned < 0.7 * loss_on(skilled, processor, NEW), "nothing new was learned"


def test_weights_stay_within_their_limits(model: Path, processor: Any, tmp_path: Path) -> None:
    start = pretrained.load_model("tiny", model)
    fisher = fisher_information(start, [part(processor, [each]) for each in OLD])
    frozen = frozen_values(fisher, 0.75)
    shards = write(tmp_path / "shards", NEW)
    retain = RetainConfig(shards=str(write(tmp_path / "old", OLD)), samples=4, reach=0.1)
    train(str(shards), str(model), tmp_path / "out", FAST.model_copy(update={"retain": retain}))
    tuned = dict(pretrained.load_model("tuned", tmp_path / "out" / "model").named_parameters())
    moved = 0
    for name, weight in start.named_parameters():
        way = (tuned[name] - weight).abs()
        assert not way[frozen[name]].any(), name
        assert bool((way <= 0.1 * weight.abs() * 1.01 + 1e-6).all()), name
        moved += int((way > 0).sum())
    assert moved


def test_the_most_informative_share_of_each_tensor_stays() -> None:
    fisher = {"a": torch.tensor([[4.0, 1.0], [3.0, 2.0]]), "b": torch.tensor([0.0, 0.0, 5.0, 0.0])}
    assert frozen_values(fisher, 0.5)["a"].tolist() == [[True, False], [True, False]]
    assert frozen_values(fisher, 0.75)["b"].tolist() == [False, False, True, False]


def test_clamping_brings_a_weight_back() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
    limits = limits_of(layer, {"weight": torch.tensor([[True, False]])}, 0.2)
    with torch.no_grad():
        layer.weight.add_(1.0)
    clamp(layer, limits)
    assert layer.weight.tolist() == [[1.0, pytest.approx(-1.6)]]


def test_a_continued_training_holds_the_same_values(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, old = write(tmp_path / "shards", NEW), write(tmp_path / "old", OLD)
    settings = FAST.model_copy(update={"retain": RetainConfig(shards=str(old), samples=2)})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(str(shards), str(model), whole, settings)
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), killed, settings))
    packed = load_file(killed / "checkpoints" / retention.FILE)
    assert {tensor.dtype for tensor in packed.values()} == {torch.uint8}
    monkeypatch.setattr(retention, "fisher_information", lambda *_: pytest.fail("was measured again"))
    train(str(shards), str(model), killed, settings)
    assert losses(killed) == losses(whole)


def test_an_old_skill_without_a_usable_row_is_refused(model: Path, tmp_path: Path) -> None:
    broken = write(tmp_path / "old", [{**OLD[0], "messages": []}])
    settings = FAST.model_copy(update={"retain": RetainConfig(shards=str(broken))})
    with pytest.raises(UserMistake, match=r"train.retain.shards .*old: no row can be trained on"):
        train(str(write(tmp_path / "shards", NEW)), str(model), tmp_path / "out", settings)
