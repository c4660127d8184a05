"""MiniCPM-V 4.6, the first of its line that loads without code of its own: a small copy, and up to nine slices."""

from typing import Any

from transformers import (
    MiniCPMV4_6Config,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
)

from tests.zoo.family import TEXT, VISION, Family, Ids, Vocabulary


def _minicpm(ids: Ids) -> MiniCPMV4_6Config:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    text = {
        **TEXT,
        **linear,
        "model_type": "qwen3_5_text",
        "head_dim": 64,
        "layer_types": ["linear_attention", "full_attention"],
        "eos_token_id": ids("<|im_end|>"),
    }
    return MiniCPMV4_6Config(
        vision_config={**VISION, "image_size": 980, "patch_size": 14},
        text_config=text,
        insert_layer_id=0,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
    )


def _processor(tokenizer: Any) -> MiniCPMV4_6Processor:
    return MiniCPMV4_6Processor(
        image_processor=MiniCPMV4_6ImageProcessor(),
        video_processor=MiniCPMV4_6VideoProcessor(),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


MINICPM_V = Family(
    name="minicpm-v-4.6",
    config=_minicpm,
    model="MiniCPMV4_6ForConditionalGeneration",
    processor=_processor,
    vocabulary=Vocabulary(
        special=(
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|image_pad|>",
            "<|video_pad|>",
            "<image>",
            "</image>",
            "<slice>",
            "</slice>",
            "<image_id>",
            "</image_id>",
        ),
        plain=("<think>", "</think>"),
        named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        model_tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
    ),
    template="minicpmv",
    marks=1,  # a line break
    end="<|im_end|>",
    stops=("<|im_end|>", "<|endoftext|>"),
    # Its linear attention has no cache of prefixes without chunks, and on the CPU it takes bfloat16 alone.
    options={"enable_chunked_prefill": True, "dtype": "bfloat16"},
)
