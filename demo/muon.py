"""The optimizers of the recipe: Muon (Jordan et al., 2024) for inner matrices, AdamW for everything else.

Orthogonalised momentum learns markedly faster here at the same rate (README.md). torch's own Muon computes in bfloat16,
which a CPU without bfloat16 units runs thirty times slower than float32. Matrices of one shape are orthogonalised as
one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic iteration; singular values end near 1
ITERATIONS = 4
# Parts of the names of two-dimensional weights that are tables of vectors, not matrices between layers.
TABLES = ("embed", "position", "lm_head", "newline")


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return roughly the nearest orthogonal matrices, by Newton-Schulz iteration: (n, rows, columns) -> same shape."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if is_tall else matrices  # (n, r, c) with r <= c
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # (n, r, r)
        x = a * x + (b * gram + c * gram @ gram) @ x  # (n, r, c)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, scaled so that a step is as large as AdamW's at the same learning rate."""

    def __init__(
        self, weights: Iterable[nn.Parameter] | list[dict[str, object]], lr: float, decay: float = 0.01
    ) -> None:
        super().__init__(weights, {"lr": lr, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient; `closure` is not called."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                momenta = torch.stack([self._momentum(weight, group["momentum"]) for weight in weights])  # (n, r, c)
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for weight, update in zip(weights, orthogonalise(momenta), strict=True):  # (r, c) each
                    weight.mul_(1 - group["lr"] * group["decay"]).sub_(update, alpha=scale)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Return the Nesterov momentum of a weight, of its shape."""
        assert weight.grad is not None
        buffer: Tensor = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


def build_optimizers(
    module: nn.Module, rate: float, slow_prefix: str = "", slow_share: float = 1.0
) -> list[torch.optim.Optimizer]:
    """Return Muon and AdamW for the weights of a module.

    Args:
        module: The model.
        rate: Learning rate.
        slow_prefix: Weights whose name starts so are AdamW's and learn slowly; empty for none.
        slow_share: Their rate as a share of `rate`.
    """
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, weight in module.named_parameters():
        is_table = any(part in name for part in TABLES)
        if slow_prefix and name.startswith(slow_prefix):
            slow.append(weight)
        elif is_table or weight.ndim != 2:
            outer.append(weight)
        else:
            inner.append(weight)
    groups: list[dict[str, object]] = [{"params": outer, "share": 1.0}, {"params": slow, "share": slow_share}]
    return [
        Muon([{"params": inner, "share": 1.0}], rate),
        torch.optim.AdamW([group for group in groups if group["params"]], rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Set the rate of all weights, each by its group's share."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
