"""Gemma 3, where every image is one square; Mistral 3, where it keeps its form; and GLM-4.1V, which is like Qwen-VL."""

from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Glm4vConfig,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Mistral3Config,
    PixtralImageProcessor,
    PixtralProcessor,
)

from tests.zoo.family import TEXT, VISION, Family, Ids, Vocabulary
from tests.zoo.vocabulary import NEWLINES

# --- Gemma 3 ----------------------------------------------------------------------------------------------------------

GEMMA_TOKENS = 256


def _gemma(ids: Ids) -> Gemma3Config:
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 1024, "head_dim": 32}
    return Gemma3Config(
        text_config={**TEXT, **layers, "query_pre_attn_scalar": 32},
        vision_config={**VISION, "image_size": 896, "patch_size": 14, "vision_use_head": False},
        mm_tokens_per_image=GEMMA_TOKENS,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )


def _gemma_processor(tokenizer: Any) -> Gemma3Processor:
    image = Gemma3ImageProcessor(
        size={"height": 896, "width": 896},
        do_pan_and_scan=None,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Gemma3Processor(image, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=GEMMA_TOKENS)


GEMMA3 = Family(
    name="gemma3",
    config=_gemma,
    model="Gemma3ForConditionalGeneration",
    processor=_gemma_processor,
    vocabulary=Vocabulary(
        special=(
            "<pad>",
            "<eos>",
            "<bos>",
            "<unk>",
            "<mask>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ),
        plain=NEWLINES,
        named={"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        model_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        kind="pieces",
        tokenizer_class="GemmaTokenizer",
        adds_first=True,
    ),
    template="gemma3",
    marks=0,
    end="<end_of_turn>",
    stops=("<eos>", "<end_of_turn>"),
    renamed={"vision_tower.": "vision_tower.vision_model."},
    tied=True,
)


# --- Mistral 3 --------------------------------------------------------------------------------------------------------

MISTRAL_LONGEST = 1540


def _mistral(ids: Ids) -> Mistral3Config:
    text = {**TEXT, "model_type": "mistral", "head_dim": 32, "sliding_window": None, "rope_theta": 1e9}
    return Mistral3Config(
        text_config={**text, "bos_token_id": ids("<s>"), "eos_token_id": ids("</s>")},
        vision_config={**VISION, "model_type": "pixtral", "image_size": MISTRAL_LONGEST, "patch_size": 14},
        image_token_index=ids("[IMG]"),
        tie_word_embeddings=False,
    )


def _mistral_processor(tokenizer: Any) -> PixtralProcessor:
    return PixtralProcessor(
        image_processor=PixtralImageProcessor(patch_size=14, size={"longest_edge": MISTRAL_LONGEST}),
        tokenizer=tokenizer,
        patch_size=14,
        spatial_merge_size=2,
        chat_template=tokenizer.chat_template,
    )


MISTRAL3 = Family(
    name="mistral3",
    config=_mistral,
    model="Mistral3ForConditionalGeneration",
    processor=_mistral_processor,
    vocabulary=Vocabulary(
        special=(
            "<unk>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[TOOL_CALLS]",
            "[IMG]",
            "<pad>",
            "[IMG_BREAK]",
            "[IMG_END]",
            "[SYSTEM_PROMPT]",
            "[/SYSTEM_PROMPT]",
        ),
        named={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        adds_first=True,
    ),
    template="mistral3",
    marks=0,
    end="</s>",
    stops=("</s>",),
)


# --- GLM-4.1V ---------------------------------------------------------------------------------------------------------

GLM_PIXELS = (12_544, 9_633_792)  # fewest and most


def _glm(ids: Ids) -> Glm4vConfig:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
    stops = [ids("<|endoftext|>"), ids("<|user|>"), ids("<|observation|>")]
    vision = {"hidden_size": 32, "depth": 2, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 64}
    return Glm4vConfig(
        text_config={**TEXT, "rope_parameters": rope, "eos_token_id": stops, "pad_token_id": stops[0]},
        vision_config=vision,
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
    )


def _glm_processor(tokenizer: Any) -> Glm4vProcessor:
    size = {"shortest_edge": GLM_PIXELS[0], "longest_edge": GLM_PIXELS[1]}
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )


GLM4_1V = Family(
    name="glm-4.1v",
    config=_glm,
    model="Glm4vForConditionalGeneration",
    processor=_glm_processor,
    vocabulary=Vocabulary(
        special=(
            "<|endoftext|>",
            "[MASK]",
            "[gMASK]",
            "[sMASK]",
            "<sop>",
            "<eop>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|observation|>",
            "<|begin_of_image|>",
            "<|end_of_image|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
            "<|image|>",
            "<|video|>",
        ),
        plain=("<think>", "</think>", "<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>"),
        named={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    ),
    template="glm4v",
    marks=2,
    end="<|user|>",  # the next turn begins
    stops=("<|endoftext|>", "<|user|>", "<|observation|>"),
)
