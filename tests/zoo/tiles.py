"""Families that cut an image into tiles of one size: InternVL3, LLaVA-OneVision, Idefics3, SmolVLM and MiniCPM-V."""

from functools import partial
from typing import Any

from transformers import (
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.zoo.family import TEXT, VISION, Family, Ids, Vocabulary

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML_NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


# --- InternVL3 --------------------------------------------------------------------------------------------------------

INTERN_SIDE, INTERN_TOKENS, INTERN_TILES = 448, 256, 12


def _internvl(ids: Ids) -> InternVLConfig:
    text = {**TEXT, "model_type": "qwen2", "eos_token_id": ids("<|im_end|>"), "bos_token_id": None}
    return InternVLConfig(
        vision_config={**VISION, "image_size": [INTERN_SIDE] * 2, "patch_size": [14, 14]},
        text_config=text,
        image_token_id=ids("<IMG_CONTEXT>"),
        tie_word_embeddings=False,
    )


def _internvl_processor(tokenizer: Any) -> InternVLProcessor:
    size = {"height": INTERN_SIDE, "width": INTERN_SIDE}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=INTERN_TILES),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=INTERN_TOKENS,
        chat_template=tokenizer.chat_template,
    )


INTERNVL3 = Family(
    name="internvl3",
    config=_internvl,
    model="InternVLForConditionalGeneration",
    processor=_internvl_processor,
    vocabulary=Vocabulary(
        special=(
            *CHATML,
            "<img>",
            "</img>",
            "<IMG_CONTEXT>",
            "<quad>",
            "</quad>",
            "<ref>",
            "</ref>",
            "<box>",
            "</box>",
        ),
        plain=("<video>",),
        named=CHATML_NAMED,
        model_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        tokenizer_class="Qwen2Tokenizer",
    ),
    template="internvl3",
    marks=1,  # a line break
    end="<|im_end|>",
    stops=("<|im_end|>",),
)


# --- LLaVA-OneVision --------------------------------------------------------------------------------------------------

LLAVA_SIDE, LLAVA_PATCHES, LLAVA_GRID = 384, 27, range(1, 7)
PINPOINTS = [[LLAVA_SIDE * rows, LLAVA_SIDE * columns] for rows in LLAVA_GRID for columns in LLAVA_GRID]


def _llava(ids: Ids) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=LLAVA_SIDE, patch_size=14, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, eos_token_id=ids("<|im_end|>"), bos_token_id=None),
        image_token_id=ids("<image>"),
        video_token_id=ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=False,
    )


def _llava_processor(tokenizer: Any) -> LlavaOnevisionProcessor:
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(),
        num_image_tokens=LLAVA_PATCHES**2,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


LLAVA_ONEVISION = Family(
    name="llava-onevision",
    config=_llava,
    model="LlavaOnevisionForConditionalGeneration",
    processor=_llava_processor,
    vocabulary=Vocabulary(
        (*CHATML, "<image>", "<video>"),
        CHATML_NAMED,
        model_tokens={"image_token": "<image>", "video_token": "<video>"},
        tokenizer_class="Qwen2Tokenizer",
    ),
    template="llava_onevision",
    marks=0,
    end="<|im_end|>",
    stops=("<|im_end|>",),
    renamed={"vision_tower.": "vision_tower.vision_model."},
)


# --- Idefics3 and SmolVLM ---------------------------------------------------------------------------------------------

PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
AROUND = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *PLACES)


def _idefics(kind: Any, side: int, scale: int, ids: Ids) -> Any:
    text = {**TEXT, "model_type": "llama", "eos_token_id": ids("<end_of_utterance>"), "pad_token_id": 0}
    return kind(
        vision_config={**VISION, "image_size": side, "patch_size": 14},
        text_config=text,
        image_token_id=ids("<image>"),
        scale_factor=scale,
        pad_token_id=0,
        tie_word_embeddings=False,
    )


def _idefics_processor(tokenizer: Any) -> Idefics3Processor:
    sides = {"size": {"longest_edge": 4 * 364}, "max_image_size": {"longest_edge": 364}}
    return Idefics3Processor(
        image_processor=Idefics3ImageProcessor(**sides),
        tokenizer=tokenizer,
        image_seq_len=169,
        chat_template=tokenizer.chat_template,
    )


def _smolvlm_processor(tokenizer: Any) -> SmolVLMProcessor:
    sides = {"size": {"longest_edge": 4 * 384}, "max_image_size": {"longest_edge": 384}}
    return SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**sides),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**sides),
        image_seq_len=81,
        chat_template=tokenizer.chat_template,
    )


_LLAMA3 = Vocabulary(
    ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", *AROUND),
    {"bos_token": "<|begin_of_text|>", "eos_token": "<end_of_utterance>", "pad_token": "<|end_of_text|>"},
    adds_first=True,
)
IDEFICS3 = Family(
    name="idefics3",
    config=partial(_idefics, Idefics3Config, 364, 2),
    model="Idefics3ForConditionalGeneration",
    processor=_idefics_processor,
    vocabulary=_LLAMA3,
    template="idefics3",
    marks=0,
    end="<end_of_utterance>",
    stops=("<end_of_utterance>", "<|end_of_text|>"),
)
SMOLVLM = Family(
    name="smolvlm",
    config=partial(_idefics, SmolVLMConfig, 384, 3),
    model="SmolVLMForConditionalGeneration",
    processor=_smolvlm_processor,
    vocabulary=Vocabulary(
        (*CHATML, *AROUND),
        {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"},
        model_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    ),
    template="idefics3",
    marks=0,
    end="<end_of_utterance>",
    stops=("<end_of_utterance>",),
)
