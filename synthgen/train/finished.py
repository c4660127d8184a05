"""The losses of a finished model on the first samples of its training, for the scores beside it."""

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from synthgen.train import packing, trials
from synthgen.train.agreement import agree
from synthgen.train.group import Group
from synthgen.train.loader import batches, to_device
from synthgen.train.loss import judge_answers, turn_losses
from synthgen.train.seen import write_after
from synthgen.train.turns import TurnLoss

if TYPE_CHECKING:
    from synthgen.train.loop import TrainingRun


def score_after(run: "TrainingRun", model: Any, processor: Any, group: Group) -> None:
    """Write the losses on as many samples as `train.score_after` says, rounded up to whole batches.

    All processes of the group must call this.
    """
    samples = min(run.settings.score_after, run.feed.rows)
    if not samples:
        return
    settings = run.settings.model_copy(update={"lengths": None})
    spares = trials.spares(processor, settings) if group.size > 1 else None
    own, position = list[TurnLoss](), 0
    model.eval()
    with contextlib.closing(batches(run.feed, processor, settings, 0, group)) as loader, torch.no_grad():
        while position < samples:
            planned = agree(next(loader), spares, group)
            position = planned.position
            for micro_batch in planned.micro_batches:
                placed = to_device(packing.with_axes(model, micro_batch), group.device)
                own += turn_losses(placed, *judge_answers(model, placed))
    turns = [turn for each in group.gather(own) for turn in each]
    if group.is_first:
        write_after(run.out, run.settings.steps, turns)
