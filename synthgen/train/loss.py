"""The loss of a forward pass, token by token and answer by answer."""

import contextlib
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

    Logits are computed only at positions where some row predicts an answer token: the vocabulary is the widest axis.

    Returns:
        `(batch, tokens - 1) float32`, with a gradient; place t is of token t + 1.
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
    losses = cross_entropy(
        logits.float().flatten(0, 1),  # (batch * positions, vocabulary) float32
        targets[:, positions].flatten(),  # (batch * positions,) int64
        ignore_index=IGNORED,
        reduction="none",
    )
    whole = torch.zeros_like(targets, dtype=torch.float32)
    return whole.index_copy(1, positions, losses.view(len(targets), -1))


def turn_losses(micro_batch: MicroBatch, losses: torch.Tensor) -> list[TurnLoss]:
    """Return the loss of each answer, of the `(batch, tokens - 1)` losses that answer_losses gives."""
    turn_of = micro_batch.turn_of[:, 1:].where(micro_batch.labels[:, 1:] != IGNORED, 0).flatten()
    sums = torch.zeros(len(micro_batch.turns) + 1, device=losses.device).index_add_(0, turn_of, losses.flatten())
    counts = torch.bincount(turn_of, minlength=len(sums))
    found = zip(micro_batch.turns, sums[1:].tolist(), counts[1:].tolist(), strict=True)
    return [TurnLoss(turn, loss, tokens) for turn, loss, tokens in found if tokens]


def _in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return pixels in the dtype of the weights, and numbers of tokens and sizes as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
