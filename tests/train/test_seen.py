"""A training leaves what it saw of each pair as scores: the loss, since when it is right, and the loss at the end."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from synthgen.tables import SCORES
from synthgen.train import pretrained, seen, train
from synthgen.train.loss import judge_answers, turn_losses
from synthgen.train.seen import LEARNED, LOSS, LOSS_AFTER, Seen, write_after, write_scores
from synthgen.train.turns import Turn, TurnLoss
from tests.fixtures.tiny_vlm import FAST, part, samples, stop_after, write
from tests.train.test_monitor import described

RIGHT, WRONG = 2, 1  # of two tokens


def view(pair_id: str | None, loss: float, right: int) -> TurnLoss:
    return TurnLoss(Turn(pair_id, "colours/name"), loss, 2, right)


def scores(out: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a score by pair, with the detail read."""
    table = pq.read_table(out / "scores" / f"{name}.parquet")
    assert table.schema.equals(SCORES)
    return {row["pair_id"]: {**row, "detail": json.loads(row["detail"])} for row in table.to_pylist()}


def test_a_pair_has_its_last_loss_and_the_step_from_which_on_it_stayed_right(tmp_path: Path) -> None:
    watched = Seen(tmp_path, 0, is_writing=True)
    watched.add(1, [view("a", 4.0, WRONG), view("b", 2.0, RIGHT), view(None, 9.0, WRONG)])
    watched.add(2, [view("a", 3.0, RIGHT)])
    watched.write(2)
    watched.add(3, [view("a", 2.0, WRONG), view("c", 8.0, WRONG)])
    watched.add(4, [view("a", 1.0, RIGHT), view("b", 1.0, RIGHT)])
    watched.add(5, [view("a", 0.5, RIGHT)])
    watched.write(5)
    write_scores(tmp_path)
    losses, learned = scores(tmp_path, LOSS), scores(tmp_path, LEARNED)
    assert {name: row["value"] for name, row in losses.items()} == {"a": 0.25, "b": 0.5, "c": 4.0}
    assert {name: row["value"] for name, row in learned.items()} == {"a": 4, "b": 1, "c": None}
    assert {name: row["reason"] for name, row in learned.items()} == {"a": None, "b": None, "c": "not_right"}
    about = {"type": "colours/name", "step": 5, "tokens": 2, "right": True, "times": 5, "first": 2.0}
    assert losses["a"]["detail"] == about


def test_a_continued_training_has_the_scores_of_an_unbroken_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, whole, killed = write(tmp_path / "shards", described(6)), tmp_path / "whole", tmp_path / "killed"
    train(str(shards), str(model), whole, FAST)
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), killed, FAST))
    late = Seen(killed, 4, is_writing=True)  # as of a start that wrote, and died before its checkpoint
    late.add(5, [view("p0-0", 99.0, WRONG)])
    late.write(5)
    train(str(shards), str(model), killed, FAST)
    for name in (LOSS, LEARNED):
        assert scores(killed, name) == scores(whole, name)
    assert len(scores(whole, LOSS)) == 12


def test_the_loss_at_the_end_is_that_of_the_tuned_model(model: Path, processor: Any, tmp_path: Path) -> None:
    rows, out = described(4), tmp_path / "out"
    shards = write(tmp_path / "shards", rows)
    train(str(shards), str(model), out, FAST.model_copy(update={"score_after": 4}))
    tuned, batch = pretrained.load_model("tuned", out / "model").eval(), part(processor, rows)
    with torch.no_grad():
        expected = {turn.turn.pair_id: turn for turn in turn_losses(batch, *judge_answers(tuned, batch))}
    found = scores(out, LOSS_AFTER)
    assert {name: row["value"] for name, row in found.items()} == pytest.approx(
        {name: turn.mean for name, turn in expected.items()},
        rel=0.02,  # the tuned folder has 16 bits a weight
    )
    assert {row["detail"]["step"] for row in found.values()} == {FAST.steps}


def test_shards_without_pairs_leave_no_scores(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(str(write(tmp_path / "shards", samples(6))), str(model), out, FAST.model_copy(update={"score_after": 6}))
    assert not (out / "scores").exists() and not (out / seen.FOLDER).exists()


def test_the_losses_at_the_end_name_each_pair_once(tmp_path: Path) -> None:
    write_after(tmp_path, 6, [view("a", 2.0, RIGHT), view("a", 1.0, RIGHT), view(None, 3.0, WRONG)])
    assert {name: row["value"] for name, row in scores(tmp_path, LOSS_AFTER).items()} == {"a": 0.5}
