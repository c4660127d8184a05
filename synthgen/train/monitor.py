"""What a training learns, and where it goes wrong: rows in `monitor.jsonl`, from what the steps know already.

After the state monitor of HeuriMentor (arXiv 2408.07410): the loss by what is asked, the norms of the gradients, and
how far each layer has moved from the starting model. A step whose loss is far above the usual one has a row at once,
which names the answers that made it. TensorBoard shows the same where it is installed.
"""

import importlib.util
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from synthgen.train.group import Group
from synthgen.train.turns import TurnLoss

FILE = "monitor.jsonl"
EVERY = 20  # steps in a row
VIEWS = ("family", "type", "form", "language", "source", "branch", "turn")
USUAL_STEPS, FEWEST_STEPS = 20, 10  # before a step, with which it is compared
DEVIATIONS = 7.5  # a spike is so many median absolute deviations above their median: five standard ones of a bell curve
LEAST_DEVIATION = 0.02  # of the median, so that the noise of a loss that has settled is no spike
NAMED_ANSWERS = 3  # of a spike
SAMPLED = 4096  # values of a weight by which its way is measured
SHOWN_TYPES = 3

Sample = dict[str, torch.Tensor]
Line = dict[str, Any]


def is_due(step: int) -> bool:
    """Return whether a row is written after a step, whether or not a checkpoint is."""
    return step % EVERY == 0


class Monitor:
    """Gathers what the steps say, and writes it every EVERY steps and with each checkpoint.

    All processes of the group make the same calls; the first one writes.

    Args:
        out: The output folder.
        model: The starting model, of which some values of each trained weight are kept.
        group: The processes.
    """

    def __init__(self, out: Path, model: Any, group: Group) -> None:
        self._path, self._group, self._model = out / FILE, group, model
        self._start = sample_weights(model)
        self._turns: list[TurnLoss] = []
        self._norms: list[float] = []
        self._board = _board(out / "tensorboard") if group.is_first else None

    def add(self, log: Sequence[Line], turns: Sequence[TurnLoss], rows: tuple[int, int]) -> None:
        """Take in a step.

        Args:
            log: The lines of the log, that of the step last; of the first process alone.
            turns: The losses of its answers, in all processes.
            rows: The positions in the stream at which its rows begin and end.
        """
        if not self._group.is_first:
            return
        self._turns += turns
        self._norms.append(log[-1]["norm"])
        loss, before = log[-1]["loss"], [line["loss"] for line in log[:-1]]
        if is_spike(loss, before):
            worst = sorted(turns, key=lambda turn: turn.mean, reverse=True)[:NAMED_ANSWERS]
            usual = statistics.median(before[-USUAL_STEPS:])
            spike = {"loss": loss, "usual": usual, "rows": list(rows), "answers": [_describe(turn) for turn in worst]}
            self._append({"step": log[-1]["step"], "spike": spike})

    def write(self, step: int) -> None:
        """Write a row on the steps since the last one."""
        drift = weight_drift(self._start, sample_weights(self._model), self._group)
        if not self._group.is_first:
            return
        norm = {"mean": statistics.fmean(self._norms), "most": max(self._norms)}
        line = {"step": step, "steps": len(self._norms), "norm": norm, "drift": drift, "loss": mean_losses(self._turns)}
        self._append(line)
        self._turns, self._norms = [], []
        if self._board:
            for name, value in _scalars(line):
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def write_held_out(self, step: int, turns: Sequence[TurnLoss]) -> None:
        """Write a row on the answers that are held out, as the model is after a step; `turns` are all there are."""
        if not self._group.is_first or not turns:
            return
        found = {"all": {"all": _mean(turns)}, **mean_losses(turns)}
        self._append({"step": step, "held_out": found})
        if self._board:
            for view, values in found.items():
                for value, mean in values.items():
                    self._board.add_scalar(f"held out by {view}/{value}", mean["right"], step)
            self._board.flush()

    def _append(self, line: Line) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Return whether a loss is far above those of the steps before it."""
    recent = before[-USUAL_STEPS:]
    if len(recent) < FEWEST_STEPS:
        return False
    usual = statistics.median(recent)
    deviation = statistics.median(abs(each - usual) for each in recent)
    return loss > usual + DEVIATIONS * max(deviation, LEAST_DEVIATION * usual)


def mean_losses(turns: Sequence[TurnLoss]) -> dict[str, dict[str, dict[str, float]]]:
    """Return for each view of VIEWS and each of its values the mean loss of an answer token, and what it is of."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for view in VIEWS:
        members = defaultdict[str, list[TurnLoss]](list)
        for turn in turns:
            for value in turn.turn.values(view):
                members[value].append(turn)
        found[view] = {value: _mean(members[value]) for value in sorted(members)}
    return found


def _mean(turns: Sequence[TurnLoss]) -> dict[str, float]:
    tokens = sum(turn.answer_tokens for turn in turns)
    return {
        "loss": sum(turn.loss for turn in turns) / max(1, tokens),
        "answers": len(turns),
        "answer_tokens": tokens,
        **({} if turns[0].right is None else {"right": statistics.fmean(turn.is_right for turn in turns)}),
    }


def _describe(turn: TurnLoss) -> Line:
    return {
        "pair_id": turn.turn.pair_id,
        "sample": turn.turn.sample,
        "type": turn.turn.type,
        "loss": turn.mean,
        "answer_tokens": turn.answer_tokens,
    }


# --- weights ----------------------------------------------------------------------------------------------------------


def sample_weights(model: Any) -> Sample:
    """Return about SAMPLED values of each trained weight, evenly spaced, by name; of this process's part of them."""
    sample: Sample = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            own = weight.detach()
            flat = (own.to_local() if isinstance(own, DTensor) else own).flatten()
            sample[name] = flat[:: max(1, len(flat) // SAMPLED)].float().cpu().clone()  # (about SAMPLED,) float32
    return sample


def weight_drift(start: Sample, now: Sample, group: Group) -> dict[str, float]:
    """Return by layer the Euclidean length of its way from the start, over that of its weights at the start."""
    own = defaultdict[str, list[float]](lambda: [0.0, 0.0])
    for name, values in start.items():
        sums = own[layer_of(name)]
        sums[0] += float((now[name] - values).square().sum())
        sums[1] += float(values.square().sum())
    shared = group.gather(dict(own))
    ways = {layer: [sum(each[layer][part] for each in shared) for part in (0, 1)] for layer in own}
    return {layer: math.sqrt(way / length) if length else 0.0 for layer, (way, length) in ways.items()}


def layer_of(name: str) -> str:
    """Return the layer that a weight belongs to: its name up to the first number, or without its last part."""
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1] if numbers else parts[:-1])


# --- what is shown ----------------------------------------------------------------------------------------------------


def summary(lines: Sequence[Line]) -> list[str]:
    """Return what to tell at the end: the types with the highest loss, and how many steps were unusual."""
    told, rows = list[str](), [line for line in lines if "loss" in line]
    types = rows[-1]["loss"]["type"] if rows else {}
    if len(types) > 1:
        highest = sorted(types, key=lambda name: float(types[name]["loss"]), reverse=True)[:SHOWN_TYPES]
        told.append(
            "the highest losses at the end: " + ", ".join(f"{name} {types[name]['loss']:.3f}" for name in highest)
        )
    if spikes := [line["step"] for line in lines if "spike" in line]:
        steps = ", ".join(f"{step:,}" for step in spikes[:SHOWN_TYPES])
        told.append(f"unusual losses: {len(spikes):,}, at step {steps}; {FILE} names the answers that made them")
    return told


def _board(folder: Path) -> Any:
    """Return a writer for TensorBoard, or None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder))


def _scalars(line: Line) -> Iterable[tuple[str, float]]:
    """Yield the numbers of a row by the names that TensorBoard groups them under."""
    yield "gradient norm", line["norm"]["mean"]
    for layer, way in line["drift"].items():
        yield f"drift/{layer}", way
    losses: Mapping[str, Mapping[str, Mapping[str, float]]] = line["loss"]
    for view, values in losses.items():
        for value, mean in values.items():
            yield f"loss by {view}/{value}", mean["loss"]
