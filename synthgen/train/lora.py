"""LoRA (Hu et al., arXiv 2106.09685): a product of two thin matrices learns beside each frozen weight of a layer.

The adapters are peft's, injected in place, so that the model stays of its class. The tuned folder has the weights with
the product added, since not every server takes adapters: vLLM 0.32 takes none for LLaVA-OneVision.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from synthgen.config.training import LoraConfig
from synthgen.errors import UserMistake

ADAPTER = "default"
ENDS = ("embed_tokens", "lm_head")  # not adapted: the widest layers, often one weight


def add_adapters(model: Any, settings: LoraConfig) -> None:
    """Freeze a model but for an adapter at each linear layer that is trainable now.

    Args:
        model: The model, whose trainable weights say which part of it learns.
        settings: Rank and scale.

    Raises:
        UserMistake: No linear layer is trainable.
    """
    import peft  # not a part of every installation; preconditions.py asks for it

    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad and name.rpartition(".")[2] not in ENDS
    ]
    if not layers:
        raise UserMistake("train.lora: the part that train.what names has no linear layer")
    config = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers)
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name


def merge(weights: Mapping[str, torch.Tensor], settings: LoraConfig) -> dict[str, torch.Tensor]:
    """Return the weights of a model with adapters as those of one without, each product added to its weight."""
    merged = {name.replace(".base_layer.", "."): tensor for name, tensor in weights.items() if ".lora_" not in name}
    scale = settings.alpha / settings.rank
    for name, up in weights.items():
        if name.endswith(f".lora_B.{ADAPTER}.weight"):  # (out, rank)
            down = weights[name.replace(".lora_B.", ".lora_A.")]  # (rank, in)
            layer = f"{name.partition('.lora_B.')[0]}.weight"  # (out, in)
            merged[layer] = merged[layer].float() + scale * (up.float() @ down.float())
    return merged
