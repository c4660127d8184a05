"""Experiment: which neurons a skill or a language uses, and training of that part alone (NA-MNMT; ACL 2021).

A neuron of an MLP matters to a skill by the mean of |activation times gradient| on its samples, the first term of what
the loss would change without it. Neurons that matter most to all skills are shared; of the others each belongs to the
skills to which it matters about as much as to the one to which it matters most. It was not measured here beyond tests.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synthgen.train import packing
from synthgen.train.encode import MicroBatch
from synthgen.train.loss import answer_loss

SHARED, OWN = 0.7, 0.9
LAST = "down_proj"  # the layer of an MLP whose inputs are its neurons
Importance = dict[str, Tensor]  # the name of an MLP → `(neurons,) float32`
Masks = dict[str, Tensor]  # the name of an MLP → `(neurons,) bool`


def importance(model: Any, samples: Iterable[MicroBatch]) -> Importance:
    """Return how much each neuron of each MLP of a model matters to the answers of some samples."""
    sums, seen = Importance(), dict[str, Tensor]()
    mlps = {name.removesuffix(f".{LAST}"): each for name, each in model.named_modules() if name.endswith(f".{LAST}")}
    hooks = [each.register_forward_pre_hook(_keep(name, seen)) for name, each in mlps.items()]
    try:
        for sample in samples:
            model.zero_grad()
            answer_loss(model, packing.with_axes(model, sample)).backward()
            for name, activations in seen.items():
                if activations.grad is not None:
                    product = (activations * activations.grad).detach().abs()  # (batch, tokens, neurons)
                    sums[name] = sums.get(name, torch.zeros(())) + product.flatten(0, -2).mean(0)
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad()
    return sums


def _keep(name: str, seen: dict[str, Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        inputs[0].retain_grad()
        seen[name] = inputs[0]

    return hook


def assign(found: Mapping[str, Importance], shared: float = SHARED, own: float = OWN) -> dict[str, Masks]:
    """Return for each skill the neurons that are its own, and under "" those that all share.

    Args:
        found: Skill → importance.
        shared: The share of the neurons of an MLP that all skills have, those with the largest sum.
        own: Another neuron belongs to each skill to which it matters more than so much of the most.
    """
    masks: dict[str, Masks] = {"": {}, **{skill: {} for skill in found}}
    for name in next(iter(found.values())):
        by_skill = torch.stack([each[name] for each in found.values()])  # (skills, neurons)
        order = by_skill.sum(0).argsort(descending=True)
        is_shared = torch.zeros(by_skill.shape[1], dtype=torch.bool)
        is_shared[order[: round(shared * len(order))]] = True
        masks[""][name] = is_shared
        for skill, values in zip(found, by_skill, strict=True):
            masks[skill][name] = ~is_shared & (values > own * by_skill.amax(0))
    return masks


def train_only(model: Any, masks: Masks) -> None:
    """Freeze a model but for some neurons: what goes into them and what comes out gets a gradient, the rest 0.

    Train with `weight_decay` 0, which would move the rest.
    """
    for parameter in model.parameters():
        parameter.requires_grad = False
    for name, mask in masks.items():
        mlp = model.get_submodule(name)
        for layer, is_output in ((mlp.gate_proj, True), (mlp.up_proj, True), (mlp.down_proj, False)):
            layer.weight.requires_grad = True
            of_weight = mask[:, None] if is_output else mask[None]  # (out, 1) or (1, in)
            layer.weight.register_hook(lambda gradient, kept=of_weight: gradient * kept.to(gradient.device))
