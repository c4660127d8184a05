"""Experiment: states of two languages drawn together by the state mover's distance (arXiv 2210.15851).

Where the same is said in two languages, or by an image and its caption, a model that translates or transfers well has
like states for both. The distance is that of word mover's with its bound by nearest neighbours: each state goes to the
nearest one of the other text, weighted by its length. It was not measured here beyond tests; use it as an auxiliary
loss, weighted by .2 to .4.
"""

from typing import Any

import torch
from torch import Tensor

from synthgen.train import packing
from synthgen.train.encode import IGNORED, MicroBatch


def state_movers_distance(states: Tensor, others: Tensor, mask: Tensor, other_mask: Tensor) -> Tensor:
    """Return the mean of both directions over the batch, `() float32`; each direction moves its own side alone.

    Args:
        states: `(batch, tokens, width)`.
        others: `(batch, other tokens, width)`.
        mask: `(batch, tokens) bool`, true on tokens that count; one at least in each row.
        other_mask: `(batch, other tokens) bool`, likewise.
    """
    there = _one_way(states, others.detach(), mask, other_mask)
    back = _one_way(others, states.detach(), other_mask, mask)
    return (there + back).mean() / 2


def _one_way(states: Tensor, others: Tensor, mask: Tensor, other_mask: Tensor) -> Tensor:
    """Return the distance of each row to the other text, `(batch,)`."""
    # Padding is infinitely far: as zeros it would be the nearest of all.
    distances = torch.cdist(states, others).masked_fill(~other_mask[:, None], torch.inf)  # (batch, tokens, others)
    nearest = distances.amin(-1)  # (batch, tokens)
    lengths = states.detach().norm(dim=-1) * mask  # (batch, tokens)
    weights = lengths / lengths.sum(-1, keepdim=True).clamp_min(1e-12)
    distance: Tensor = (weights * nearest).sum(-1)
    return distance


def alignment_loss(model: Any, micro_batch: MicroBatch, other: MicroBatch) -> Tensor:
    """Return the distance of the last states on the answers of two micro-batches whose rows say the same, `()`.

    Args:
        model: The model.
        micro_batch: In one language; each row has an answer.
        other: The same rows in another language.
    """
    found = [(_last_states(model, each), each.labels != IGNORED) for each in (micro_batch, other)]
    (states, mask), (others, other_mask) = found
    return state_movers_distance(states, others, mask, other_mask)


def _last_states(model: Any, micro_batch: MicroBatch) -> Tensor:
    """Return the states before the head, `(batch, tokens, width) float32`."""
    outputs = model(**packing.with_axes(model, micro_batch).inputs, output_hidden_states=True, use_cache=False)
    states: Tensor = outputs.hidden_states[-1].float()
    return states
