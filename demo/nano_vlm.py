"""The nano VLM, a stock LLaVA-OneVision (SigLIP, MLP, Qwen2) of 5.3 M parameters, and its exported folder.

No class here is our own, so transformers and vLLM load the folder as they load the real models.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from demo.world import SIZE

PATCH = 24  # pixels a side
PATCHES_A_SIDE = SIZE // PATCH
PATCHES = PATCHES_A_SIDE**2
IMAGE_TOKENS = 2 * PATCHES + PATCHES_A_SIDE  # base picture, the same picture as its only crop, one newline a row
WIDTH = 192


def vision_config(patch: int = PATCH) -> SiglipVisionConfig:
    """Return the configuration of the vision tower, with patches of so many pixels a side."""
    return SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=SIZE,
        patch_size=patch,
        vision_use_head=False,
    )


def vlm_config(vocabulary: int, image_token: int, end_token: int, patch: int = PATCH) -> LlavaOnevisionConfig:
    """Return the configuration of the model.

    Args:
        vocabulary: Number of tokens.
        image_token: Id of `<image>`.
        end_token: Id of `<|end|>`.
        patch: Pixels a side of a patch.
    """
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=end_token,
        bos_token_id=None,
        pad_token_id=0,
    )
    return LlavaOnevisionConfig(
        vision_config=vision_config(patch),
        text_config=text,
        image_token_id=image_token,
        video_token_id=5,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[SIZE, SIZE]],
        tie_word_embeddings=True,
    )


def build_vlm(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    """Return the model with random weights."""
    return LlavaOnevisionForConditionalGeneration(config)


def build_processor(tokenizer: PreTrainedTokenizerFast, patch: int, side: int = SIZE) -> LlavaOnevisionProcessor:
    """Return the stock processor; a picture of any size becomes one crop of `side` pixels a side."""
    image_processor = LlavaOnevisionImageProcessor(
        size={"height": side, "width": side},
        image_grid_pinpoints=[[side, side]],
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaOnevisionProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": side, "width": side}),
        num_image_tokens=(side // patch) ** 2,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
        image_token="<image>",
        video_token="<video>",
    )


def pixel_values(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Return pictures as the processor normalises them, (x / 255 - 0.5) / 0.5.

    Args:
        images: (B, SIZE, SIZE, 3) uint8.
        device: Where the result is to be.

    Returns:
        (B, 3, SIZE, SIZE) float32.
    """
    channels_first = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # (B, 3, SIZE, SIZE)
    return (channels_first.float() / 127.5 - 1.0).contiguous()


def export_vlm(model: LlavaOnevisionForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write float16 weights, configuration and processor; a reader never sees half a file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    model.config.text_config._attn_implementation = "sdpa"
    model.config.dtype = torch.float16
    model.config.architectures = ["LlavaOnevisionForConditionalGeneration"]  # vLLM picks its own class by this name
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=0)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    build_processor(tokenizer, model.config.vision_config.patch_size).save_pretrained(folder)
    weights = {
        # the name that vLLM expects and transformers accepts
        name.replace("vision_tower.", "vision_tower.vision_model."): weight.to(torch.float16).contiguous()
        for name, weight in _saved_weights(model).items()
    }
    save_weights(weights, folder / "model.safetensors")


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file whole or not at all."""
    partial = path.with_name("weights.tmp")
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(path)


def _saved_weights(model: LlavaOnevisionForConditionalGeneration) -> dict[str, Tensor]:
    """Return the weights under the names that transformers saves, which differ from those in memory."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")
