"""Models of real size with random weights, and a bucket of photographs: what a GPU is measured with.

What a call costs depends on the shapes of a model and on the lengths of texts, hardly on what the weights say. So the
shapes are those of released models, the weights are random, and no model hub is needed. The tokenizer is trained here:
it has as many tokens as a released one, but uses few of them, so that a text is about one and a half times as long.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from ingest import make_corpus
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tests.zoo.checkpoints import checkpoint
from tests.zoo.qwen import QWEN2_5_VL
from tests.zoo.vocabulary import save_tokenizer

KINDS = Path(__file__).with_name("everyday_kinds.yaml")
TEMPLATE = Path(__file__).parent.parent / "tests" / "zoo" / "templates" / f"{QWEN2_5_VL.template}.jinja"
SIGLIP = "ViT-B-16-SigLIP2-384"  # the model of taggers/everyday-clip.yaml
TINY = "tiny"


@dataclass(frozen=True)
class Shape:
    """The shape of the language model of a Qwen2.5-VL."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool


SHAPES = {
    "3B": Shape(2048, 11008, 36, 16, 2, 151_936, tied=True),
    "7B": Shape(3584, 18944, 28, 28, 4, 152_064, tied=False),
}


def vlm(size: str, folder: Path) -> Path:
    """Return the folder of a Qwen2.5-VL of a size, made on first use; for "tiny" the smallest that vLLM loads."""
    if size == TINY:
        return checkpoint("qwen2.5-vl")
    target = folder / f"qwen2.5-vl-{size}"
    if (target / "config.json").exists():
        return target
    target.mkdir(parents=True)
    save_tokenizer(QWEN2_5_VL.vocabulary, TEMPLATE.read_text().rstrip("\n"), target)
    _widen(target / "tokenizer.json", SHAPES[size].vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(target)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2_5_VLForConditionalGeneration(_config(SHAPES[size], tokenizer))
    torch.set_default_dtype(torch.float32)
    QWEN2_5_VL.processor(tokenizer).save_pretrained(target)
    model.save_pretrained(target)  # after the rest, because what looks for the folder looks for its config.json
    return target


def _widen(path: Path, size: int) -> None:
    """Fill a tokenizer up with tokens that no text has, because random weights say any token of the output layer."""
    written = json.loads(path.read_text())
    first = 1 + max([*written["model"]["vocab"].values(), *(token["id"] for token in written["added_tokens"])])
    written["model"]["vocab"] |= {f"x{number:06}": number for number in range(first, size)}
    path.write_text(json.dumps(written))


def _config(shape: Shape, tokenizer: Any) -> Qwen2_5_VLConfig:
    """Return the configuration of a released Qwen2.5-VL, with the special tokens of this tokenizer."""
    config: Qwen2_5_VLConfig = QWEN2_5_VL.config(tokenizer.convert_tokens_to_ids)
    config.text_config.update(
        {
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_heads,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "layer_types": ["full_attention"] * shape.layers,
        }
    )
    config.vision_config.update(
        {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": shape.hidden,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "window_size": 112,
        }
    )
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = shape.tied
    config.architectures = [QWEN2_5_VL.model]
    return config


def siglip(size: str, folder: Path) -> Path:
    """Return the folder of an open_clip model of SigLIP's shape, made on first use; for "tiny" of few weights."""
    import open_clip
    from safetensors.torch import save_file

    from tests.fixtures.tagging import clip_model

    target = folder / f"siglip-{size}"
    if target.exists():
        return target
    if size == TINY:
        return clip_model(target)
    target.mkdir(parents=True)
    # open_clip looks for the tokenizer of a model in a folder beside its weights.
    save_tokenizer(replace(QWEN2_5_VL.vocabulary, tokenizer_class="PreTrainedTokenizerFast"), "", target)
    settings: dict[str, Any] = open_clip.get_model_config(SIGLIP)
    model = open_clip.CustomTextCLIP(**{name: value for name, value in settings.items() if name != "custom_text"})
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    text = json.dumps({"model_cfg": settings, "preprocess_cfg": preprocessing})
    (target / "open_clip_config.json").write_text(text)
    save_file(model.state_dict(), target / "open_clip_model.safetensors")
    return target


def fill_bucket(folder: Path, count: int) -> Path:
    """Write photographs at the sizes of a photo bucket, with the tags of everyday kinds of image beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [list(kind["tags"]) for kind in yaml.safe_load(KINDS.read_text()).values() if kind.get("tags")]
    for number, data in enumerate(make_corpus(count)):
        suffix = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}[data[:2]]
        (folder / f"{number:05}.{suffix}").write_bytes(data)
        (folder / f"{number:05}.json").write_text(json.dumps({"tags": kinds[number % len(kinds)]}))
    return folder
