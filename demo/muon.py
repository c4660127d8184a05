"""The optimizer of the recipe: Muon for inner matrices, AdamW for everything else.

In: a module. Out: two torch optimizers. Why this way: orthogonalised momentum learns markedly faster here at the same rate (see
README.md), and torch's own Muon computes in bfloat16, which a CPU without bfloat16 units runs fifty times slower than float32.
Matrices of one shape are orthogonalised together, as one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic iteration; singular values land near 1
ROUNDS = 4


def orthogonal(stack: Tensor) -> Tensor:
    """Nearest orthogonal matrices of a batch (n, rows, columns), roughly: enough for a step's direction."""
    tall = stack.shape[-2] > stack.shape[-1]
    x: Tensor = stack.mT if tall else stack
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; scaled so that a step is as large as AdamW's at the same learning rate."""

    def __init__(
        self, weights: Iterable[nn.Parameter] | list[dict[str, object]], lr: float, decay: float = 0.01
    ) -> None:
        super().__init__(weights, {"lr": lr, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                momenta = torch.stack([self._momentum(weight, group["momentum"]) for weight in weights])
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for weight, update in zip(weights, orthogonal(momenta), strict=True):
                    weight.mul_(1 - group["lr"] * group["decay"]).sub_(update, alpha=scale)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        assert weight.grad is not None
        buffer: Tensor = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


def optimizers(module: nn.Module, rate: float, slow: str = "", slowly: float = 1.0) -> list[torch.optim.Optimizer]:
    """Muon and AdamW. Weights whose name starts with `slow` are AdamW's and learn `slowly` times as fast (their `share`)."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    late: list[nn.Parameter] = []
    for name, weight in module.named_parameters():
        table = any(part in name for part in ("words", "embed", "position", "lm_head", "newline"))
        (late if slow and name.startswith(slow) else outer if table or weight.ndim != 2 else inner).append(weight)
    rest: list[dict[str, object]] = [{"params": outer, "share": 1.0}, {"params": late, "share": slowly}]
    return [
        Muon([{"params": inner, "share": 1.0}], rate),
        torch.optim.AdamW([group for group in rest if group["params"]], rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def set_rate(tools: list[torch.optim.Optimizer], rate: float) -> None:
    for tool in tools:
        for group in tool.param_groups:
            group["lr"] = rate * group["share"]
