"""A dense model made into one of experts: sparse upcycling (arXiv 2212.05055), as AquilaMoE does it (2408.06567).

Each layer's MLP is copied into every expert, and a new router sends each token to two of them, so that the model
computes at first what it did before. Two small losses keep the router at work: that of load balance (Switch, arXiv
2101.03961) and that of the largest logit (max z-loss). `guide_routers` adds their gradients wherever the model is
trained; the loss that is shown stays that of the answers.

For Qwen2 language models, alone or in a vision-language model: they become Qwen2-MoE, whose shared expert starts at 0.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from synthgen.errors import UserMistake

ROUTER_VARIANCE = 0.02
BALANCE, MAX_Z = 0.001, 0.01
SHARED = 64  # neurons of the expert that every token passes
KINDS = {"qwen2": "qwen2_moe"}


def upcycle(model: Any, experts: int = 8, chosen: int = 2, seed: int = 0) -> Any:
    """Return a model of experts that computes what a dense one does, which stays as it is.

    Args:
        model: The dense model, on the CPU.
        experts: In each layer.
        chosen: How many of them a token passes.
        seed: Of the routers.

    Raises:
        UserMistake: The language model is of another kind.
    """
    text = model.config.get_text_config()
    if text.model_type not in KINDS:
        raise UserMistake(f"a language model of type {text.model_type} cannot be upcycled; known: {', '.join(KINDS)}")
    if model.config is text:
        raise UserMistake(
            "a language model alone is not upcycled; name a vision-language model, which is what synth trains"
        )
    config = copy.deepcopy(model.config)
    config.text_config = _config_of_experts(text, experts, chosen)
    torch.manual_seed(seed)
    sparse = type(model)(config)
    weights = sparse.state_dict()
    for name, weight in model.state_dict().items():
        if ".mlp." not in name or "language_model" not in name:
            weights[name] = weight
    for name, module in sparse.named_modules():
        if hasattr(module, "experts") and hasattr(module, "gate"):
            weights |= {f"{name}.{part}": weight for part, weight in _experts(model, name, module).items()}
    sparse.load_state_dict(weights)
    return sparse.to(model.dtype)


def _config_of_experts(text: Any, experts: int, chosen: int) -> Any:
    from transformers import AutoConfig

    values = {name: value for name, value in text.to_dict().items() if name not in ("model_type", "architectures")}
    return AutoConfig.for_model(
        KINDS[text.model_type],
        **values,
        moe_intermediate_size=text.intermediate_size,
        shared_expert_intermediate_size=SHARED,
        num_experts=experts,
        num_experts_per_tok=chosen,
        norm_topk_prob=True,  # the weights of the chosen add up to 1, as one MLP did
        decoder_sparse_step=1,
    )


def _experts(model: Any, name: str, block: Any) -> dict[str, Tensor]:
    """Return the weights of a block of experts, each a copy of the dense MLP at the same place."""
    dense = model.get_submodule(name)
    gate_up = torch.cat([dense.gate_proj.weight, dense.up_proj.weight])  # (2 * intermediate, hidden)
    count = block.experts.num_experts
    return {
        "gate.weight": torch.randn_like(block.gate.weight) * math.sqrt(ROUTER_VARIANCE),
        "experts.gate_up_proj": gate_up.detach().repeat(count, 1, 1),
        "experts.down_proj": dense.down_proj.weight.detach().repeat(count, 1, 1),
        "shared_expert.down_proj.weight": torch.zeros_like(block.shared_expert.down_proj.weight),
    }


def balance_loss(logits: Tensor, chosen: int) -> Tensor:
    """Return how unevenly a router spreads tokens, `() float32`: 1 where all experts have equally many.

    Args:
        logits: `(tokens, experts)`.
        chosen: How many experts a token passes.
    """
    probabilities = logits.float().softmax(-1)  # (tokens, experts)
    experts = probabilities.shape[-1]
    picked = probabilities.topk(chosen, -1).indices.flatten()  # (tokens * chosen,)
    shares = torch.bincount(picked, minlength=experts) / len(picked)  # (experts,)
    return experts * (shares * probabilities.mean(0)).sum()


def max_z_loss(logits: Tensor) -> Tensor:
    """Return the mean square of the largest logit of a token, `() float32`, of `(tokens, experts)`."""
    return logits.float().amax(-1).square().mean()


def guide_routers(model: Any, balance: float = BALANCE, max_z: float = MAX_Z) -> None:
    """Let every backward pass of a model add the gradients of the two losses of its routers, once each.

    Raises:
        UserMistake: It has no routers.
    """
    routers = [module for module in model.modules() if type(module).__name__.endswith("TopKRouter")]
    if not routers:
        raise UserMistake("train.routers: this model has no routers; leave the setting out")
    for router in routers:
        router.register_forward_hook(_guide(balance, max_z))


def _guide(balance: float, max_z: float) -> Any:
    def hook(router: nn.Module, _: Any, outputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits, scores, picked = outputs
        if not (router.training and torch.is_grad_enabled()):
            return outputs
        loss = balance * balance_loss(logits, picked.shape[-1]) + max_z * max_z_loss(logits)
        return logits, _WithLoss.apply(scores, loss), picked  # type: ignore[no-untyped-call]

    return hook


class _WithLoss(torch.autograd.Function):
    """Pass a tensor on as it is, and in the backward pass a gradient of 1 to a loss beside it."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, loss: Tensor) -> Tensor:
        context.set_materialize_grads(True)
        return tensor.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return gradient, torch.ones((), dtype=torch.float32, device=gradient.device)
