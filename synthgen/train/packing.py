"""Several samples in one sequence, where rows would be padded to the longest of them.

The positions of tokens begin anew with each sample. There is no attention mask: without one, transformers keeps apart
what such positions part. A model whose positions have three axes (mRoPE, arXiv 2409.12191) gets them a sample at a
time, beside those of the text. Whether a model does keep samples apart is tried before the first step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from synthgen.errors import UserMistake, one_line
from synthgen.train.encode import IGNORED, PROCESSOR_ERRORS, MicroBatch
from synthgen.train.turns import Turn

EXACT, COARSE = 1e-4, 2e-2  # relative rounding of a loss in float32, and in bfloat16

Loss = Callable[[MicroBatch], float]


def pack(samples: Sequence[MicroBatch], most: int) -> list[MicroBatch]:
    """Join micro-batches of one sample each into sequences.

    Args:
        samples: In any order.
        most: Tokens in a sequence; a sample that is longer is one alone.

    Returns:
        The sequences, each a micro-batch of one row: the longest samples first, each in the first with room for it.
    """
    bins: list[list[MicroBatch]] = []
    for sample in sorted(samples, key=lambda sample: sample.tokens, reverse=True):
        room = (each for each in bins if sum(other.tokens for other in each) + sample.tokens <= most)
        if (found := next(room, None)) is not None:
            found.append(sample)
        else:
            bins.append([sample])
    return [_join(each) for each in bins]


def _join(samples: Sequence[MicroBatch]) -> MicroBatch:
    inputs = {name: _concatenate(name, samples) for name in samples[0].inputs if name != "attention_mask"}
    ranges = [torch.arange(sample.tokens) for sample in samples]
    inputs["position_ids"] = torch.cat(ranges)[None]  # (1, tokens) int64
    labels = [sample.labels.clone() for sample in samples]  # (1, tokens of the sample) int64
    turn_of, turns = list[torch.Tensor](), list[Turn]()
    for each, sample in zip(labels, samples, strict=True):
        each[:, 0] = IGNORED  # the token before it is another sample's
        turn_of.append((sample.turn_of + len(turns)).where(sample.turn_of > 0, 0))
        turns += sample.turns
    return MicroBatch(inputs, torch.cat(labels, dim=1), torch.cat(turn_of, dim=1), turns)


def _concatenate(name: str, samples: Sequence[MicroBatch]) -> torch.Tensor:
    """Join the tensors of one name: of tokens along the sequence, of images one after the other.

    Where samples have tensors of images of other sizes, zeros fill up the smaller ones, as processors do.
    """
    tensors = [sample.inputs[name] for sample in samples]
    if all(tensor.shape == sample.labels.shape for tensor, sample in zip(tensors, samples, strict=True)):
        return torch.cat(tensors, dim=1)  # (1, tokens)
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([_fill(tensor, largest) for tensor in tensors], dim=0)  # (images or samples or patches, …)


def _fill(tensor: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Return a tensor with zeros at the ends of all its axes but the first, up to some sizes."""
    missing = [full - size for size, full in zip(tensor.shape[1:], sizes, strict=True)]
    return pad(tensor, [end for each in reversed(missing) for end in (0, each)])


def with_axes(model: Any, micro_batch: MicroBatch) -> MicroBatch:
    """Return a packed micro-batch with the positions that a model of several axes takes; any other as it is.

    Those are `position_ids: (4, 1, tokens) int64`: of the text, then time, height and width.
    """
    index = getattr(getattr(model, "model", None), "get_rope_index", None)
    if index is None or "position_ids" not in micro_batch.inputs:
        return micro_batch
    inputs = dict(micro_batch.inputs)
    text = inputs["position_ids"]  # (1, tokens) int64
    lengths = _lengths(text)
    known = {name: inputs[name] for name in signature(index).parameters if name in inputs}
    by_sample = {
        name: pad_sequence(tensor[0].split(lengths), batch_first=True) if tensor.shape == text.shape else tensor
        for name, tensor in known.items()  # (samples, longest) int64 of tokens, (images, 3) of sizes
    }
    mask = pad_sequence([torch.ones(length, dtype=torch.int64) for length in lengths], batch_first=True)
    axes, _ = index(**by_sample, attention_mask=mask)  # (3, samples, longest) int64
    inputs["position_ids"] = torch.cat([text, axes[:, mask.bool()]])[:, None]
    return replace(micro_batch, inputs=inputs)


def _lengths(positions: torch.Tensor) -> list[int]:
    """Return the lengths of the samples in `(1, tokens)` positions that begin anew with each of them."""
    starts = [*(positions[0] == 0).nonzero().flatten().tolist(), positions.shape[1]]
    return [end - start for start, end in pairwise(starts)]


def check_apart(model: Any, samples: Sequence[MicroBatch], loss: Loss) -> None:
    """Raise UserMistake if a model lets the samples of a sequence see each other, or cannot take them in one.

    Args:
        model: The model.
        samples: Two of one row each.
        loss: Returns the loss of a micro-batch, without gradients.
    """
    first, second = samples
    silent = replace(first, labels=torch.full_like(first.labels, IGNORED))
    answers = first.labels != IGNORED  # (1, tokens)
    ids = first.inputs["input_ids"].masked_fill(answers, int(first.labels[answers][0]))
    other = replace(silent, inputs={**first.inputs, "input_ids": ids})
    try:
        alone, beside, beside_other = (loss(_join(each)) for each in ([second], [silent, second], [other, second]))
    except PROCESSOR_ERRORS as error:
        raise _refused(model, f"fails: {one_line(error)}") from error
    rounding = EXACT if model.dtype == torch.float32 and model.device.type == "cpu" else COARSE
    # The same shapes give the same rounding, all but.
    if abs(beside - beside_other) > rounding / 10 * abs(beside) or abs(beside - alone) > rounding * abs(alone):
        raise _refused(model, f"has the loss {alone:.4f} alone, {beside:.4f} and {beside_other:.4f} beside others")


def _refused(model: Any, why: str) -> UserMistake:
    return UserMistake(
        f"train.pack_tokens: a sample of a sequence {why}; models of the kind {model.config.model_type} do not keep "
        "samples apart, so leave it out"
    )
