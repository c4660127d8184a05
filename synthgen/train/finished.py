"""The losses of a finished model on the first samples of its training, for the scores beside it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from synthgen.train import packing
from synthgen.train.agreement import Step
from synthgen.train.group import Group
from synthgen.train.loader import Batch, to_device
from synthgen.train.loss import judge_answers, turn_losses
from synthgen.train.turns import TurnLoss


def losses_after(
    model: Any, loader: Iterator[Batch], samples: int, agreed: Callable[[Batch], Step], group: Group
) -> list[TurnLoss]:
    """Return the losses of the answers of so many samples, rounded up to whole batches.

    Args:
        model: The model.
        loader: The batches from the start of the stream on.
        samples: How many are scored.
        agreed: Returns the step of a batch, as the processes agree on it.
        group: The processes, all of which must call this.
    """
    own, position = list[TurnLoss](), 0
    model.eval()
    with torch.no_grad():
        while position < samples:
            planned = agreed(next(loader))
            position = planned.position
            for micro_batch in planned.micro_batches:
                placed = to_device(packing.with_axes(model, micro_batch), group.device)
                own += turn_losses(placed, *judge_answers(model, placed))
    return [turn for each in group.gather(own) for turn in each]
