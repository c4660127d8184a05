"""The optimizer, and the learning rate of each step.

AdamW (Loshchilov and Hutter, 2019) with decay on matrices only, not on biases and the gains of norms. Where memory is
short, torchao's: weights in bfloat16 are rounded up or down at random, in proportion, so that steps too small for their
eight bits still count on average, and moments take eight bits (Dettmers et al., arXiv 2110.02861).
"""

import math
from collections.abc import Sequence

import torch

from synthgen.config.training import TrainConfig
from synthgen.train.preconditions import needs_torchao

BETAS = (0.9, 0.95)


def make_optimizer(parameters: Sequence[torch.nn.Parameter], settings: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of some parameters, which are all of the dtype that the settings name."""
    decay = 0.0 if settings.new_tokens else settings.weight_decay  # the rows of the other tokens stay as they are
    groups = [
        {"params": [weight for weight in parameters if weight.ndim >= 2], "weight_decay": decay},
        {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not needs_torchao(settings):
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)
    from torchao import optim  # not a part of every installation; preconditions.py asks for it

    kind = optim.AdamW8bit if settings.optimizer == "adamw_8bit" else optim._AdamW
    if parameters[0].device.type == "cpu":
        torch.compiler.set_stance("force_eager")  # torchao compiles its step: no gain here, and it takes a compiler
    made: torch.optim.Optimizer = kind(
        groups, lr=settings.learning_rate, betas=BETAS, bf16_stochastic_round=settings.precision == "bfloat16"
    )
    return made


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao's
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(steps: int, settings: TrainConfig) -> float:
    """Return the learning rate of the step after `steps` steps.

    It rises linearly over the warm-up and falls to zero along half a cosine (Loshchilov and Hutter, SGDR, 2017).
    """
    warmup = max(1, round(settings.warmup * settings.steps))
    if steps < warmup:
        return settings.learning_rate * (steps + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (steps - warmup) / max(1, settings.steps - warmup)))
