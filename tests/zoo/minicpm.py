"""MiniCPM-V 4.6, the first of its line that loads without code of its own: a small copy, and up to nine slices."""

import math
from typing import Any

from transformers import (
    MiniCPMV4_6Config,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
)

from tests.zoo.family import TEXT, VISION, Family, Ids, Size, Vocabulary

SIDE, UNIT, SLICES = 448, 56, 9  # pixels a side of a slice and of a token; most slices


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


def _tokens(width: int, height: int) -> int:
    """Return the tokens of a small copy with its number (5 marks), and of the slices with 2 marks each."""
    grid = _grid(width, height)
    if not grid:
        return 5 + _resized(width, height, enlarge=True)
    rows, columns = grid
    each = 2 + _resized(round(width / columns), round(height / rows), enlarge=True)
    return 5 + _resized(width, height, enlarge=False) + rows * columns * each + rows - 1


def _grid(width: int, height: int) -> Size | None:
    """Return rows and columns of the slices, nearest to the image's form; none for a small image."""
    wanted = min(math.ceil(width * height / SIDE**2), SLICES)
    if wanted <= 1:
        return None
    counts = [count for count in (wanted - 1, wanted, wanted + 1) if 1 < count <= SLICES]
    grids = [(rows, count // rows) for count in counts for rows in range(1, count + 1) if count % rows == 0]
    return min(grids, key=lambda grid: (abs(math.log(width / height) - math.log(grid[1] / grid[0])), -grid[0]))


def _resized(width: float, height: float, *, enlarge: bool) -> int:
    """Return the squares of an image that is brought to the area of a slice; a small one only with `enlarge`."""
    if enlarge or width * height > SIDE**2:
        form = width / height
        height = int(SIDE / math.sqrt(form))
        width = int(height * form)
    return math.prod(max(round(side / UNIT), 1) for side in (width, height))


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
    image_tokens=_tokens,
    marks=1,  # a line break
    end="<|im_end|>",
    stops=("<|im_end|>", "<|endoftext|>"),
    # Its linear attention has no cache of prefixes without chunks, and on the CPU it takes bfloat16 alone.
    options={"enable_chunked_prefill": True, "dtype": "bfloat16"},
)
