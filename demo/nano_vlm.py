"""The nano models' shapes, and how a trained one is written so that stock transformers, vLLM and open_clip load it.

In: a tokenizer or trained weights. Out: a stock `LlavaOnevisionForConditionalGeneration` (SigLIP + MLP + Qwen2) and its folder.
Why this way: nothing here is a class of our own, so whatever serves the real models serves these; the only trick is that vision
weights are named `vision_tower.vision_model.` in the file, which is the name that vLLM expects and transformers accepts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
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

PATCH = 24
PATCHES = (SIZE // PATCH) ** 2
IMAGE_TOKENS = 2 * PATCHES + SIZE // PATCH  # base picture, the same picture as its only crop, one newline a row
WIDTH = 192


def vision_config(patch: int = PATCH) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=WIDTH, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6, image_size=SIZE, patch_size=patch,
        vision_use_head=False,
    )  # fmt: skip


def vlm_config(vocabulary: int, image_token: int, end_token: int, patch: int = PATCH) -> LlavaOnevisionConfig:
    text = Qwen2Config(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=5, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, eos_token_id=end_token,
        bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlavaOnevisionConfig(
        vision_config=vision_config(patch), text_config=text, image_token_id=image_token, video_token_id=5, vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_grid_pinpoints=[[SIZE, SIZE]], tie_word_embeddings=True,
    )  # fmt: skip


def build_vlm(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    return LlavaOnevisionForConditionalGeneration(config)


def processor(tokenizer: PreTrainedTokenizerFast, patch: int) -> LlavaOnevisionProcessor:
    """The stock processor: pictures of any size become one crop of 144 px."""
    pictures = LlavaOnevisionImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_grid_pinpoints=[[SIZE, SIZE]], image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return LlavaOnevisionProcessor(
        image_processor=pictures, tokenizer=tokenizer, video_processor=LlavaOnevisionVideoProcessor(size={"height": SIZE, "width": SIZE}),
        num_image_tokens=(SIZE // patch) ** 2, vision_feature_select_strategy="full", chat_template=tokenizer.chat_template,
        image_token="<image>", video_token="<video>",
    )  # fmt: skip


def export_vlm(model: LlavaOnevisionForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write float16 weights, configuration and processor; a reader never sees half a folder of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    model.config.text_config._attn_implementation = "sdpa"
    model.config.dtype = torch.float16
    model.config.architectures = ["LlavaOnevisionForConditionalGeneration"]  # vLLM picks its own class by this name
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=0)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    processor(tokenizer, model.config.vision_config.patch_size).save_pretrained(folder)
    weights = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor.to(torch.float16).contiguous()
        for name, tensor in stock_names(model).items()
    }
    save_file(weights, folder / "model.tmp", metadata={"format": "pt"})
    (folder / "model.tmp").chmod(0o644)
    (folder / "model.tmp").replace(folder / "model.safetensors")


def stock_names(model: LlavaOnevisionForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The names under which transformers itself would save the weights, which differ from those in memory."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")
