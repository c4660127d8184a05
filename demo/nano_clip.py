"""The nano CLIP, a stock open_clip model of 3.6 M parameters, its tokenizer, and its exported folder.

`open_clip.create_model_and_transforms("local-dir:…")` loads the folder. The vision tower has the shape of the VLM's, so
it can take its weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from demo.nano_vlm import PATCH, WIDTH, save_weights
from demo.tag_labels import tag_phrasings
from demo.world import SIZE

CONTEXT = 20  # tokens of a text
Encode = Callable[[list[str]], Tensor]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer in which words of the taxonomy are single tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for texts in tag_phrasings().values() for text in texts * 20), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", padding_side="left", model_max_length=CONTEXT
    )


def make_encoder(tokenizer: PreTrainedTokenizerFast, device: torch.device | str = "cpu") -> Encode:
    """Return the function from n texts to token ids, (n, CONTEXT) int64."""

    def encode(texts: list[str]) -> Tensor:
        ids: Tensor = tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids
        return ids.to(device)

    return encode


def clip_config(vocabulary: int) -> dict[str, Any]:
    """Return the model's configuration, as open_clip's class and its JSON file take it."""
    vision = {
        "image_size": SIZE,
        "patch_size": PATCH,
        "width": WIDTH,
        "layers": 6,
        "head_width": 32,
        "mlp_ratio": 4.0,
        "no_ln_pre": True,
        "pool_type": "avg",
        "act_kwargs": {"approximate": "tanh"},
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": vocabulary,
        "hf_tokenizer_name": "nano-clip",
        "width": 128,
        "heads": 4,
        "layers": 2,
        "pool_type": "last",
        "no_causal_mask": True,
    }
    return {
        "embed_dim": WIDTH,
        "vision_cfg": vision,
        "text_cfg": text,
        "init_logit_scale": math.log(40),
        "init_logit_bias": -6.0,
    }


def copy_tower(clip: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the weights of transformers' SigLIP tower into open_clip's layout.

    open_clip's convolution has no bias, so the bias is added to the positions. Its first position is that of a class
    token, which average pooling does not read.
    """
    tower: Any = clip.visual
    positions = weights["embeddings.position_embedding.weight"]  # (P, D)
    bias = weights["embeddings.patch_embedding.bias"]  # (D,)
    with torch.no_grad():
        tower.conv1.weight.copy_(weights["embeddings.patch_embedding.weight"])  # (D, 3, PATCH, PATCH)
        tower.positional_embedding[1:].copy_(positions + bias)  # (1 + P, D)[1:]
        for i, block in enumerate(tower.transformer.resblocks):
            layer = f"encoder.layers.{i}."
            _copy_block(block, {k.removeprefix(layer): weight for k, weight in weights.items() if k.startswith(layer)})


def _copy_block(block: Any, weights: dict[str, Tensor]) -> None:
    """Copy one transformer layer; open_clip keeps queries, keys and values in one matrix."""
    names = (
        (block.attn.out_proj, "self_attn.out_proj"),
        (block.ln_1, "layer_norm1"),
        (block.ln_2, "layer_norm2"),
        (block.mlp.c_fc, "mlp.fc1"),
        (block.mlp.c_proj, "mlp.fc2"),
    )
    for kind in ("weight", "bias"):
        parts = [weights[f"self_attn.{part}_proj.{kind}"] for part in "qkv"]  # 3 x (D, D), or 3 x (D,)
        getattr(block.attn, f"in_proj_{kind}").copy_(torch.cat(parts))  # (3 * D, D), or (3 * D,)
        for module, name in names:
            getattr(module, kind).copy_(weights[f"{name}.{kind}"])


def export_clip(clip: nn.Module, config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write float16 weights, configuration and tokenizer; a reader never sees half a file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    settings = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1)
    (folder / "open_clip_config.json").write_text(settings + "\n")
    tokenizer.save_pretrained(folder)
    weights = {name: weight.to(torch.float16).contiguous() for name, weight in clip.state_dict().items()}
    save_weights(weights, folder / "open_clip_model.safetensors")
