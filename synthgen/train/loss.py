"""The loss of a forward pass, token by token and answer by answer."""

import contextlib
from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from synthgen.train.encode import IGNORED, MicroBatch
from synthgen.train.turns import TurnLoss


def answer_loss(model: Any, micro_batch: MicroBatch) -> torch.Tensor:
    """Return the sum of the cross-entropies of the answer tokens, `() float32` with a gradient."""
    return answer_losses(model, micro_batch).sum()


def answer_losses(model: Any, micro_batch: MicroBatch) -> torch.Tensor:
    """Return the cross-entropy of each answer token, and 0 of the others.

    Returns:
        `(batch, tokens - 1) float32`, with a gradient; place t is of token t + 1.
    """
    logits, targets, positions = _answer_logits(model, micro_batch)
    return _spread(_cross_entropies(logits, targets[:, positions]), targets, positions)


def judge_answers(model: Any, micro_batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what answer_losses does, and which answer tokens are the likeliest of all.

    Returns:
        `(batch, tokens - 1) float32`, the losses with a gradient, and of the same shape 1 where a token is the
        likeliest, else 0.
    """
    logits, targets, positions = _answer_logits(model, micro_batch)
    wanted = targets[:, positions]  # (batch, positions) int64
    is_right = (logits.detach().argmax(-1) == wanted).float()  # no token is IGNORED
    losses = _cross_entropies(logits, wanted)
    return _spread(losses, targets, positions), _spread(is_right, targets, positions)


def _answer_logits(model: Any, micro_batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the logits where some row predicts an answer token: the vocabulary is the widest axis.

    Returns:
        `(batch, positions, vocabulary)` of whatever dtype, the targets `(batch, tokens - 1) int64`, and the positions
        in these, `(positions,) int64`.
    """
    targets = micro_batch.labels[:, 1:]  # (batch, tokens - 1) int64: position t predicts token t + 1
    positions = (targets != IGNORED).any(0).nonzero().squeeze(1)  # (positions,) int64
    device = micro_batch.labels.device
    precision = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
    can_select = "logits_to_keep" in signature(model.forward).parameters
    selection = {"logits_to_keep": positions} if can_select else {}
    inputs = {name: _in_dtype(tensor, model.dtype) for name, tensor in micro_batch.inputs.items()}
    with precision:
        # (batch, positions, vocabulary), or all (batch, tokens, vocabulary) of a model that cannot select;
        # bfloat16 on CUDA, the dtype of the weights elsewhere
        logits = model(**inputs, **selection, use_cache=False).logits
    if not can_select:
        logits = logits[:, positions]  # (batch, positions, vocabulary)
    return logits, targets, positions


def _cross_entropies(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropies of `(batch, positions) int64` tokens, as they are, float32."""
    losses = cross_entropy(
        logits.float().flatten(0, 1),  # (batch * positions, vocabulary) float32
        wanted.flatten(),  # (batch * positions,) int64
        ignore_index=IGNORED,
        reduction="none",
    )
    return losses.view_as(wanted)


def _spread(values: torch.Tensor, targets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return `(batch, positions) float32` values at their positions of `(batch, tokens - 1)`, and 0 at the others."""
    return torch.zeros_like(targets, dtype=torch.float32).index_copy(1, positions, values)


def turn_losses(micro_batch: MicroBatch, losses: torch.Tensor, right: torch.Tensor | None = None) -> list[TurnLoss]:
    """Return the loss of each answer.

    Args:
        micro_batch: The answers.
        losses: `(batch, tokens - 1)`, as answer_losses gives them.
        right: `(batch, tokens - 1)`, as judge_answers gives it.
    """
    turn_of = _turn_of_tokens(micro_batch).flatten()
    count = len(micro_batch.turns) + 1
    values = torch.stack([losses.flatten(), *([] if right is None else [right.flatten()])])  # (1 or 2, tokens)
    sums = torch.zeros(len(values), count, device=losses.device).index_add_(1, turn_of, values)[:, 1:].tolist()
    tokens = torch.bincount(turn_of, minlength=count)[1:].tolist()
    rights = [None] * len(tokens) if right is None else [round(each) for each in sums[1]]
    found = zip(micro_batch.turns, sums[0], tokens, rights, strict=True)
    return [TurnLoss(*each) for each in found if each[2]]


def weigh(micro_batch: MicroBatch, losses: torch.Tensor, weights: Mapping[str, float]) -> torch.Tensor:
    """Return `(batch, tokens - 1)` losses with those of each answer times the weight of its type; 1 where it has none.

    Args:
        micro_batch: The rows.
        losses: Of their tokens.
        weights: Type → weight.
    """
    if not weights:
        return losses
    of_turns = [1.0, *(weights.get(turn.type or "", 1.0) for turn in micro_batch.turns)]
    return losses * torch.tensor(of_turns, device=losses.device)[_turn_of_tokens(micro_batch)]


def _turn_of_tokens(micro_batch: MicroBatch) -> torch.Tensor:
    """Return the number of the answer that each predicted token is of, from 1, `(batch, tokens - 1) int64`; else 0."""
    return micro_batch.turn_of[:, 1:].where(micro_batch.labels[:, 1:] != IGNORED, 0)


def _in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return pixels in the dtype of the weights, and numbers of tokens and sizes as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
