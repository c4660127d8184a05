"""An old skill kept while a new one is learned: LFR-NMT's search by curvature (arXiv 2211.01542).

The Fisher information of a weight, the mean square of its gradient on samples of the old skill, says how much that
skill suffers when it moves. Of each tensor the values with the most of it stay as they are, and the others move within
a share of their size, so that the model never leaves the region in which it forgets little. Values without any
information are free to move so, however many they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from synthgen.config.training import TrainConfig
from synthgen.config.training_methods import RetainConfig
from synthgen.errors import UserMistake
from synthgen.train import packing
from synthgen.train.dataset import first_rows, pin
from synthgen.train.encode import Encoder, MicroBatch
from synthgen.train.loader import to_device
from synthgen.train.loss import answer_loss

FILE = "retained.safetensors"  # beside the checkpoints: every start holds the same values


@dataclass(frozen=True)
class Limits:
    """How far each trained weight may move: by name its starting values and how far each may go, of the same shape."""

    start: dict[str, Tensor]
    reach: dict[str, Tensor]


def retain(model: Any, optimizer: torch.optim.Optimizer, processor: Any, settings: TrainConfig, out: Path) -> None:
    """Hold the trained weights of a model to their limits after every step of an optimizer.

    Args:
        model: The starting model, on its device.
        optimizer: Of its trainable weights.
        processor: Of the model.
        settings: With `retain`.
        out: The output folder, where the frozen values are kept.

    Raises:
        UserMistake: The shards of the old skill have no usable row.
    """
    assert settings.retain is not None
    path = out / "checkpoints" / FILE
    if path.is_file():
        frozen = _read(path, model)
    else:
        frozen = frozen_values(fisher_information(model, _samples(processor, settings)), settings.retain.frozen)
        path.parent.mkdir(exist_ok=True)
        save_file({name: _packed(mask) for name, mask in frozen.items()}, path)
    limits = limits_of(model, frozen, settings.retain.reach)
    optimizer.register_step_post_hook(lambda *_: clamp(model, limits))


def fisher_information(model: Any, samples: Iterable[MicroBatch]) -> dict[str, Tensor]:
    """Return by name the mean square of the gradient of each trainable weight, over samples of one row each."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    sums, count = {name: torch.zeros_like(weight) for name, weight in trained.items()}, 0
    model.eval()
    for sample in samples:
        placed = to_device(packing.with_axes(model, sample), next(model.parameters()).device)
        model.zero_grad()
        (answer_loss(model, placed) / placed.answer_tokens).backward()
        for name, weight in trained.items():
            if weight.grad is not None:
                sums[name] += weight.grad.square()
        count += 1
    model.zero_grad()
    model.train()
    return {name: total / max(1, count) for name, total in sums.items()}


def frozen_values(fisher: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return by name which values of each tensor stay, bool: the share with the most information, if it has any."""
    return {name: _most(values, share) for name, values in fisher.items()}


def _most(values: Tensor, share: float) -> Tensor:
    flat = values.flatten()
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(round(share * len(flat))).indices] = True
    return (chosen & (flat > 0)).view_as(values)


def limits_of(model: Any, frozen: dict[str, Tensor], reach: float) -> Limits:
    """Return the limits of weights as they are now: frozen values stay, others move by a share of their size."""
    start = {name: weight.detach().clone() for name, weight in model.named_parameters() if name in frozen}
    return Limits(start, {name: (reach * values.abs()) * ~frozen[name] for name, values in start.items()})


def clamp(model: Any, limits: Limits) -> None:
    """Bring the weights back within their limits."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in limits.start:
                start, reach = limits.start[name], limits.reach[name]
                weight.clamp_(start - reach, start + reach)


def _samples(processor: Any, settings: TrainConfig) -> list[MicroBatch]:
    """Return the usable ones of the first rows of the old skill, each alone."""
    own: RetainConfig | None = settings.retain
    assert own is not None
    encoder = Encoder(processor, settings)
    encoded = [encoder.encode([row])[0] for row in first_rows(pin(own.shards), own.samples)]
    usable = [each for each in encoded if each and each.answer_tokens]
    if not usable:
        raise UserMistake(f"train.retain.shards {own.shards}: no row can be trained on")
    return usable


def _packed(mask: Tensor) -> Tensor:
    """Return a mask as bits, eight to a byte, `(bytes,) uint8`."""
    bits = mask.flatten().cpu()
    padded = torch.nn.functional.pad(bits, (0, -len(bits) % 8)).view(-1, 8)  # (bytes, 8)
    return (padded * 2 ** torch.arange(8)).sum(1).to(torch.uint8)


def _read(path: Path, model: Any) -> dict[str, Tensor]:
    """Return the masks of a file, in the shapes and on the device of the weights."""
    packed = load_file(path)
    return {name: _unpacked(packed[name], weight) for name, weight in model.named_parameters() if name in packed}


def _unpacked(packed: Tensor, weight: Tensor) -> Tensor:
    bits = (packed[:, None].int() >> torch.arange(8)) & 1  # (bytes, 8)
    return bits.bool().flatten()[: weight.numel()].view(weight.shape).to(weight.device)
