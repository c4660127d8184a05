"""The monitor tells losses apart by what is asked, measures how far layers move, and names what made a spike."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from synthgen.errors import SynthError
from synthgen.train import loop, monitor, plots, pretrained, train
from synthgen.train.agreement import Step
from synthgen.train.encode import MicroBatch
from synthgen.train.group import ALONE
from synthgen.train.loss import judge_answers, turn_losses
from synthgen.train.optimizer import make_optimizer
from synthgen.train.record import read_log
from synthgen.train.turns import Turn, TurnLoss, turns_of
from tests.fixtures.tiny_vlm import FAST, Row, part, samples, stop_after, write

TYPES = ("colours/name", "shades/light")


def described(count: int, answer: str | None = None) -> list[Row]:
    """Return samples whose turns say what they are about; the second pair of the first may have another answer."""
    rows = samples(count)
    for number, row in enumerate(rows):
        row |= {"types": list(TYPES), "forms": ["brief", "brief"], "languages": ["en", "en"]}
        row["pair_ids"] = [f"p{number}-0", f"p{number}-1"]
    if answer:
        rows[0]["messages"][3]["content"][0]["text"] = answer
    return rows


def of(view: str, line: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = line["loss"][view]
    return found


def test_losses_are_told_by_type_family_form_and_language(model: Path, tmp_path: Path) -> None:
    shards, out = write(tmp_path / "shards", described(8)), tmp_path / "out"
    train(str(shards), str(model), out, FAST.model_copy(update={"steps": 42, "checkpoint_every": 21}))
    lines, log = read_log(out, monitor.FILE), read_log(out)
    rows = [line for line in lines if "loss" in line]
    assert [(row["step"], row["steps"]) for row in rows] == [(20, 20), (21, 1), (40, 19), (42, 2)]
    assert list(of("type", rows[0])) == list(TYPES) and list(of("family", rows[0])) == ["colours", "shades"]
    assert list(of("form", rows[0])) == ["brief"] and of("language", rows[0])["en"] == of("form", rows[0])["brief"]
    answers = [of("type", rows[0])[name]["answers"] for name in TYPES]
    assert answers == [20 * FAST.batch] * 2
    one = next(row for row in rows if row["step"] == 21)  # a row of one step: its loss is that of the log
    assert of("language", one)["en"]["loss"] == pytest.approx(log[20]["loss"], rel=1e-5)
    assert one["norm"]["mean"] == one["norm"]["most"] == log[20]["norm"] > 0


def test_a_continued_training_has_the_rows_of_an_unbroken_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, whole, killed = write(tmp_path / "shards", described(6)), tmp_path / "whole", tmp_path / "killed"
    train(str(shards), str(model), whole, FAST)
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), killed, FAST))
    with (killed / monitor.FILE).open("a") as file:
        file.write(json.dumps({"step": 5, "loss": {}}) + '\n{"step": 6')
    train(str(shards), str(model), killed, FAST)
    assert read_log(killed, monitor.FILE) == read_log(whole, monitor.FILE) != []


def test_the_losses_of_answers_add_up_also_where_they_are_packed(model: Path, processor: Any) -> None:
    from synthgen.train.packing import pack

    loaded = pretrained.load_model(str(model), model).eval()
    rows = described(3)
    (packed,) = pack([part(processor, [row]) for row in rows], 10_000)
    found = []
    for batch in (part(processor, rows), packed):
        with torch.no_grad():
            losses, is_right = judge_answers(loaded, batch)
        turns = turn_losses(batch, losses, is_right)
        assert sum(turn.loss for turn in turns) == pytest.approx(float(losses.sum()), rel=1e-5)
        assert sum(turn.right or 0 for turn in turns) == int(is_right.sum())
        assert sum(turn.answer_tokens for turn in turns) == batch.answer_tokens
        found.append({turn.turn.pair_id: turn.loss for turn in turns})
    assert found[0] == pytest.approx(found[1], rel=1e-4) and len(found[0]) == 6


def test_a_spike_names_the_answers_that_made_it(model: Path, tmp_path: Path) -> None:
    """One answer in forty is unlike the others; after some steps it stands out."""
    strange = "zqx " * 40
    shards, out = write(tmp_path / "shards", described(40, strange)), tmp_path / "out"
    train(str(shards), str(model), out, FAST.model_copy(update={"steps": 60, "checkpoint_every": 60}))
    spikes = [line for line in read_log(out, monitor.FILE) if "spike" in line]
    assert spikes
    for line in spikes:
        spike, log = line["spike"], read_log(out)
        assert spike["answers"][0]["pair_id"] == "p0-1"
        assert spike["answers"][0]["sample"] == "train-00000.parquet:1"
        assert spike["loss"] == log[line["step"] - 1]["loss"] > spike["usual"]
        assert spike["rows"] == [(line["step"] - 1) * FAST.batch, line["step"] * FAST.batch]
    told = monitor.summary(read_log(out, monitor.FILE))
    assert any("monitor.jsonl names the answers" in line for line in told)


def test_the_same_numbers_go_to_tensorboard(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, out = dict[str, float](), tmp_path / "out"
    board = SimpleNamespace(add_scalar=lambda name, value, step: shown.update({name: value}), flush=lambda: None)
    monkeypatch.setattr(monitor, "_board", lambda folder: board)
    train(str(write(tmp_path / "shards", described(6))), str(model), out, FAST)
    last = read_log(out, monitor.FILE)[-1]
    assert shown["gradient norm"] == last["norm"]["mean"]
    assert shown["loss by type/colours/name"] == of("type", last)["colours/name"]["loss"]
    assert {f"drift/{layer}": way for layer, way in last["drift"].items()}.items() <= shown.items()


def test_tensorboard_itself_reads_the_numbers(model: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "out"
    train(str(write(tmp_path / "shards", described(6))), str(model), out, FAST)
    read = reader.EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    last = read_log(out, monitor.FILE)[-1]
    (found,) = [event for event in read.Scalars("loss by type/colours/name") if event.step == FAST.steps]
    assert found.value == pytest.approx(of("type", last)["colours/name"]["loss"], rel=1e-6)
    assert {f"drift/{layer}" for layer in last["drift"]} <= set(read.Tags()["scalars"])


def test_plots_are_a_page_of_their_own(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "<out>"
    rows = described(6)
    rows[0]["types"] = ["colours/<b>", "shades/light"]
    train(str(write(tmp_path / "shards", rows)), str(model), out, FAST)
    page = (out / "monitor.html").read_text()
    parsed = ElementTree.fromstring(page.replace("<!doctype html>", "").replace('<meta charset="utf-8">', ""))
    titles = [each.text for each in parsed.iter("h2")]
    assert titles[:2] == ["Loss", "Loss by family"] and "Drift of layers from the starting model" in titles
    assert "colours/<b>" in "".join(parsed.itertext()) and "script" not in page and "http" not in page
    drawn = [each for each in parsed.iter() if each.tag == "polyline"]
    assert len(drawn[0].attrib["points"].split()) == FAST.steps


def test_a_plot_of_many_types_shows_the_highest_and_marks_what_was_unusual(tmp_path: Path) -> None:
    types = {f"family/{number}": {"loss": float(number), "answers": 1, "answer_tokens": 1} for number in range(12)}
    lines = [{"step": step, "steps": 1, "norm": {}, "drift": {}, "loss": {"type": types}} for step in (1, 2)]
    spike = {"step": 2, "spike": {"loss": 9.0}}
    for name, content in ((monitor.FILE, [*lines, spike]), ("log.jsonl", [LINE | {"step": 1}, LINE | {"step": 2}])):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in content))
    plots.write_plots(tmp_path)
    page = (tmp_path / "monitor.html").read_text()
    assert "family/11" in page and "family/3" not in page and "and 4 lower ones" in page
    assert page.count('class="spike"') == 1


LINE = {"loss": 1.0, "lr": 1e-3, "norm": 2.0, "tokens": 3}


def test_a_loss_that_is_not_finite_names_its_pairs(
    model: Path, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, batch = pretrained.load_model(str(model), model), part(processor, described(2))
    third = batch.turn_of[:, 1:] == 3  # (batch, tokens - 1)

    def broken(model: Any, micro_batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        losses, is_right = judge_answers(model, micro_batch)
        return losses + torch.where(third, float("nan"), 0.0), is_right

    monkeypatch.setattr(loop, "judge_answers", broken)
    planned = Step([batch], batch.answer_tokens, batch.tokens, Counter(), 2)
    with pytest.raises(SynthError, match=r"^the loss is nan in pair p1-0; start again"):
        loop.step(loaded, make_optimizer(list(loaded.parameters()), FAST), planned, 1e-3)


@pytest.mark.parametrize(
    ("before", "loss", "expected"),
    [
        ([1.0, 1.1] * 5, 1.5, True),
        ([1.0, 1.1] * 5, 1.2, False),
        ([1.0, 1.1] * 4, 9.0, False),  # too few steps to say what is usual
        ([9.0, *[1.0, 1.1] * 9], 2.0, True),  # a spike among them hides no other
        ([1.0] * 20, 1.1, False),
    ],
)
def test_a_spike_is_far_above_the_steps_before_it(before: list[float], loss: float, expected: bool) -> None:
    assert monitor.is_spike(loss, before) == expected


def test_drift_is_the_way_of_a_layer_over_its_length() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False) for _ in range(2)])
    head = torch.nn.Linear(3, 3)
    model = torch.nn.ModuleDict({"layers": layers, "head": head})
    head.weight.requires_grad_(False)
    start = monitor.sample_weights(model)
    with torch.no_grad():
        next(layers.parameters()).mul_(1.5)
    drift = monitor.weight_drift(start, monitor.sample_weights(model), ALONE)
    assert drift == pytest.approx({"layers.0": 0.5, "layers.1": 0.0, "head": 0.0})


def test_shards_that_do_not_say_what_they_ask_are_trained_on_as_others(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(str(write(tmp_path / "shards", samples(6))), str(model), out, FAST)
    rows = read_log(out, monitor.FILE)
    assert rows[-1]["step"] == FAST.steps
    assert {view for view in monitor.VIEWS if rows[-1]["loss"][view]} == {"turn"}, "a conversation tells that itself"
    assert turns_of({"types": ["a", "b"], "forms": None}, 1) == [Turn(place="1")]


def test_the_end_tells_which_types_are_learned_least() -> None:
    turns = [TurnLoss(Turn(type=f"family/{name}"), loss, 2) for name, loss in (("a", 2.0), ("b", 6.0), ("c", 4.0))]
    line = {"step": 1, "steps": 1, "loss": monitor.mean_losses(turns)}
    assert monitor.summary([line]) == ["the highest losses at the end: family/b 3.000, family/c 2.000, family/a 1.000"]
