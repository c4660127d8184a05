"""A model whose weights, gradients and optimizer state are spread over the processes of a group (FSDP2).

Zhao et al., PyTorch FSDP (arXiv 2304.11277), in its form of one DTensor a parameter (`torch.distributed.fsdp`). The
layers that transformers says must not be split are the units that are gathered for their forward pass and given up
after it. Embedding and head are one unit where they share a weight: as two, the forward pass would go on with the
weight of the step before.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from synthgen.train.group import Group


def shard(model: Any, group: Group) -> None:
    """Spread a model over the processes of a group, in place; alone nothing changes."""
    if group.size == 1:
        return
    names = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in names:
            fully_shard(module)
    ends = [module for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module is not None]
    if _are_tied(ends):
        fully_shard(ends)
    else:
        for module in ends:
            fully_shard(module)
    fully_shard(model)


def sum_gradients(model: Any, group: Group, *, is_last: bool) -> None:
    """Have the next backward pass exchange gradients only if it is the last one of its step."""
    if group.size > 1:
        model.set_requires_gradient_sync(is_last)


def whole_norm(norm: torch.Tensor) -> float:
    """Return the norm of the gradients of all processes. All must call this."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole_weights(model: Any, group: Group) -> dict[str, torch.Tensor]:
    """Return all weights on the CPU, in the first process; the others get none. All must call this."""
    if group.size == 1:
        return {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))


def _are_tied(modules: list[nn.Module]) -> bool:
    return len(modules) == 2 and getattr(modules[0], "weight", None) is getattr(modules[1], "weight", 0)
