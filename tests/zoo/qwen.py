"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: an image of any size becomes a grid of patches, four of which are one token."""

from functools import partial
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from tests.zoo.family import TEXT, Family, Ids, Vocabulary

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
QWEN2 = Vocabulary(SPECIAL, NAMED, ("<tool_call>", "</tool_call>"), tokenizer_class="Qwen2Tokenizer")
QWEN3 = Vocabulary(
    SPECIAL, NAMED, ("<tool_call>", "</tool_call>", "<think>", "</think>"), tokenizer_class="Qwen2Tokenizer"
)
PIXELS_2 = (3136, 12_845_056)  # of an image after scaling, fewest and most
PIXELS_3 = (65_536, 16_777_216)


def _ids(ids: Ids) -> dict[str, int]:
    return {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def _text(ids: Ids, sections: list[int], **more: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections, **more}
    end, pad = ids("<|im_end|>"), ids("<|endoftext|>")
    return {**TEXT, "eos_token_id": end, "pad_token_id": pad, "rope_parameters": rope}


def _qwen2(ids: Ids) -> Qwen2VLConfig:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    text = {**_text(ids, [4, 6, 6]), "bos_token_id": None}
    return Qwen2VLConfig(vision_config=vision, text_config=text, **_ids(ids))


def _qwen2_5(ids: Ids) -> Qwen2_5_VLConfig:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    }
    text = {**_text(ids, [4, 6, 6]), "bos_token_id": None}
    return Qwen2_5_VLConfig(vision_config=vision, text_config=text, **_ids(ids))


def _qwen3(ids: Ids) -> Qwen3VLConfig:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    text = {**_text(ids, [6, 5, 5], mrope_interleaved=True), "head_dim": 32}
    return Qwen3VLConfig(vision_config=vision, text_config=text, **_ids(ids))


def _processor(kind: Any, tokenizer: Any) -> Any:
    limits = {"shortest_edge": PIXELS_2[0], "longest_edge": PIXELS_2[1]}
    return kind(
        image_processor=Qwen2VLImageProcessor(size=limits),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=limits),
        chat_template=tokenizer.chat_template,
    )


def _processor_3(tokenizer: Any) -> Any:
    image = Qwen2VLImageProcessor(
        size={"shortest_edge": PIXELS_3[0], "longest_edge": PIXELS_3[1]},
        patch_size=16,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Qwen3VLProcessor(
        image_processor=image,
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )


STOPS = ("<|im_end|>", "<|endoftext|>")
QWEN2_VL = Family(
    name="qwen2-vl",
    config=_qwen2,
    model="Qwen2VLForConditionalGeneration",
    processor=partial(_processor, Qwen2VLProcessor),
    vocabulary=QWEN2,
    template="qwen2_vl",
    marks=2,
    end="<|im_end|>",
    stops=STOPS,
)
QWEN2_5_VL = Family(
    name="qwen2.5-vl",
    config=_qwen2_5,
    model="Qwen2_5_VLForConditionalGeneration",
    processor=partial(_processor, Qwen2_5_VLProcessor),
    vocabulary=QWEN2,
    template="qwen2_vl",
    marks=2,
    end="<|im_end|>",
    stops=STOPS,
)
QWEN3_VL = Family(
    name="qwen3-vl",
    config=_qwen3,
    model="Qwen3VLForConditionalGeneration",
    processor=_processor_3,
    vocabulary=QWEN3,
    template="qwen3_vl",
    marks=2,
    end="<|im_end|>",
    stops=STOPS,
)
QWEN3_VL_THINKING = Family(
    name="qwen3-vl-thinking",
    config=_qwen3,
    model="Qwen3VLForConditionalGeneration",
    processor=_processor_3,
    vocabulary=QWEN3,
    template="qwen3_vl_thinking",
    marks=2,
    end="<|im_end|>",
    stops=STOPS,
    says=(";", "!", "</think>"),  # thoughts, of which no label is one
)
