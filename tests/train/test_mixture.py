"""What is still to be learned of each type becomes bounded factors, which a training may move its weights by."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.training import TrainConfig
from synthgen.config.training_methods import MixtureConfig
from synthgen.errors import UserMistake
from synthgen.train import mixture as mixing
from synthgen.train import train
from synthgen.train.loss import weigh
from synthgen.train.mixture import Mixture, advance
from synthgen.train.record import read_log
from synthgen.train.reducible import TypeLosses, factors
from synthgen.train.turns import Turn, TurnLoss
from tests.fixtures.tiny_vlm import FAST, Row, losses, part, stop_after, write
from tests.train.test_monitor import TYPES, described

MOVING = MixtureConfig(every=2, bound=2.0)
counts, nats = st.integers(1, 10_000), st.floats(0, 20)


def rated(count: int) -> list[Row]:
    """Return samples whose first answers their teacher was sure of, and whose second ones it hardly believed."""
    return [{**row, "score_likelihood": [0.99, 0.001]} for row in described(count)]


def moving(steps: int = 6) -> TrainConfig:
    return FAST.model_copy(update={"mixture": MOVING, "steps": steps})


@given(st.dictionaries(st.sampled_from("abcdef"), st.builds(TypeLosses, counts, nats, nats), min_size=1))
def test_factors_are_bounded_and_grow_with_what_is_to_be_learned(types: dict[str, TypeLosses]) -> None:
    found = factors(types, 2.0)
    assert found.keys() == types.keys() and all(0.5 <= factor <= 2.0 for factor in found.values())
    same = [TypeLosses(50, losses.student, losses.teacher) for losses in types.values()]
    of_same = factors({str(number): losses for number, losses in enumerate(same)}, 2.0)
    ranked = sorted(range(len(same)), key=lambda number: same[number].reducible)
    ordered = [of_same[str(number)] for number in ranked]
    assert ordered == sorted(ordered)


def test_a_type_of_few_answers_stays_near_the_others() -> None:
    few, many = (
        factors({"a": TypeLosses(1000, 1.0, 0.5), "b": TypeLosses(count, 1.0, 0.0)}, 10.0) for count in (1, 500)
    )
    assert 1.0 < few["b"] < 1.2 < many["b"]


def test_where_nothing_is_left_to_learn_every_factor_is_one() -> None:
    assert factors({"a": TypeLosses(9, 0.1, 0.2), "b": TypeLosses(9, 0.3, 0.3)}) == {"a": 1.0, "b": 1.0}


def test_weights_move_every_so_many_steps_and_are_one_on_average() -> None:
    turns = [
        TurnLoss(Turn(type="easy", likelihood=0.5), 2.0, 2),
        TurnLoss(Turn(type="hard", likelihood=0.9), 30.0, 6),
        TurnLoss(Turn(type="unrated"), 9.0, 3),
    ]
    before = advance(Mixture(), 1, turns, MOVING, None)
    assert not before.weights and before.seen["hard"][:3] == [1.0, 6.0, 30.0]
    after = advance(before, 2, turns, MOVING, None)
    assert not after.seen and after.weights["hard"] > 1 > after.weights["easy"] and "unrated" not in after.weights
    assert (2 * after.weights["easy"] + 6 * after.weights["hard"]) / 8 == pytest.approx(1.0)


def test_the_loss_of_an_answer_counts_by_the_weight_of_its_type(processor: Any) -> None:
    batch = part(processor, described(2))
    losses = (batch.labels[:, 1:] >= 0).float()
    weighed = weigh(batch, losses, {TYPES[0]: 3.0})
    of_first = torch.isin(batch.turn_of[:, 1:], torch.tensor([1, 3]))
    assert torch.equal(weighed, losses * torch.where(of_first, 3.0, 1.0)) and weigh(batch, losses, {}) is losses


def test_a_training_logs_its_moves_and_continues_to_the_same_weights(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write(tmp_path / "shards", rated(6), scores=("likelihood",))
    plain, whole, killed = (tmp_path / name for name in ("plain", "whole", "killed"))
    train(str(shards), str(model), plain, FAST)
    train(str(shards), str(model), whole, moving())
    moves = read_log(whole, mixing.FILE)
    assert [move["step"] for move in moves] == [2, 4, 6] and not (plain / mixing.FILE).exists()
    assert moves[0]["weights"][TYPES[0]] > moves[0]["weights"][TYPES[1]]
    assert losses(whole)[:2] == losses(plain)[:2] and losses(whole)[3] != losses(plain)[3]
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), killed, moving()))
    train(str(shards), str(model), killed, moving())
    assert read_log(killed, mixing.FILE) == moves and losses(killed) == losses(whole)


def test_shards_that_do_not_say_how_sure_the_teacher_was_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="column score_likelihood"):
        train(str(write(tmp_path / "shards", described(4))), str(model), tmp_path / "out", moving())
    assert not (tmp_path / "out").exists()
