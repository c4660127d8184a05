"""The tiny checkpoints, built once into a folder that later runs find again.

`python -m tests.zoo.checkpoints [FAMILY…]` builds them and prints their folders.
"""

import hashlib
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName
from synthgen.engines.image_tokens import ImageBound, bound_images
from synthgen.engines.model_files import read_model_files
from tests.fixtures.workspace import ROOT
from tests.zoo.family import Family
from tests.zoo.minicpm import MINICPM_V
from tests.zoo.others import GEMMA3, GLM4_1V, MISTRAL3
from tests.zoo.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL, QWEN3_VL_THINKING
from tests.zoo.tiles import IDEFICS3, INTERNVL3, LLAVA_ONEVISION, SMOLVLM
from tests.zoo.vocabulary import save_tokenizer
from tests.zoo.weights import fill

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        QWEN2_VL,
        QWEN2_5_VL,
        QWEN3_VL,
        QWEN3_VL_THINKING,
        INTERNVL3,
        GEMMA3,
        IDEFICS3,
        SMOLVLM,
        LLAVA_ONEVISION,
        MISTRAL3,
        GLM4_1V,
        MINICPM_V,
    )
}
# Templates that are awkward, on a checkpoint that is not.
FAMILIES["no-system-role"] = replace(QWEN2_5_VL, name="no-system-role", template="no_system")
FAMILIES["string-content"] = replace(MISTRAL3, name="string-content", template="pixtral")
BUILDERS = ("checkpoints", "family", "minicpm", "others", "qwen", "tiles", "vocabulary", "weights")
# A quotation mark closes a text under a grammar soon, and a list that a grammar asks for has something in it.
MARKS = {'"': -0.5, "[": -6.0}
END_IS_LESS_LIKELY = -0.3  # natural logarithm, than any digit


def checkpoint(name: str) -> Path:
    """Return the folder of a family's checkpoint, built on first use.

    SYNTH_ZOO names the folder of all of them; by default it is in pytest's cache. What builds them is part of the name,
    so that a change of it builds anew.
    """
    here = Path(__file__).parent
    sources = sorted([*(here / f"{module}.py" for module in BUILDERS), *(here / "templates").glob("*.jinja")])
    built_by = (path.read_bytes() for path in sources)
    digest = hashlib.sha256(b"".join([transformers.__version__.encode(), *built_by])).hexdigest()[:12]
    base = Path(os.environ.get("SYNTH_ZOO") or ROOT / ".pytest_cache" / "zoo")
    folder = base / digest / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
            build(FAMILIES[name], Path(aside) / name)
            if not folder.exists():  # another process may have been faster
                (Path(aside) / name).rename(folder)
    return folder


def images(name: str, settings: EngineConfig) -> ImageBound:
    """Return what holds for the images of a family's checkpoint under the settings of an engine."""
    files = read_model_files(ModelName(str(checkpoint(name)), "files:zoo"))
    assert files
    return bound_images(files, settings)


def build(family: Family, folder: Path) -> None:
    """Write a checkpoint as released ones are: configuration, weights, tokenizer, processor and chat template."""
    template = (Path(__file__).parent / "templates" / f"{family.template}.jinja").read_text().rstrip("\n")
    folder.mkdir(parents=True)
    save_tokenizer(family.vocabulary, template, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = family.config(tokenizer.convert_tokens_to_ids)
    config.get_text_config().vocab_size = len(tokenizer)
    config.architectures = [family.model]
    model = getattr(transformers, family.model)(config)
    fill(model, _favoured(family, tokenizer), tied=family.tied)
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.stops]
    model.generation_config = GenerationConfig(eos_token_id=stops if len(stops) > 1 else stops[0])
    model.to(torch.float32).save_pretrained(folder)
    family.processor(tokenizer).save_pretrained(folder)
    _rename(folder / "model.safetensors", family)


def _favoured(family: Family, tokenizer: Any) -> dict[int, float]:
    """Return the ids of the favoured tokens, each with the natural logarithm of how much more it is favoured."""
    favoured = {token: 0.0 for said in family.says for token in tokenizer.encode(said, add_special_tokens=False)}
    for said, more in MARKS.items():
        if (token := tokenizer.convert_tokens_to_ids(said)) != tokenizer.unk_token_id:
            favoured[token] = more
    favoured[tokenizer.convert_tokens_to_ids(family.end)] = END_IS_LESS_LIKELY
    return {token: more for token, more in favoured.items() if token is not None}


def _rename(path: Path, family: Family) -> None:
    """Give weights the names that they have in released checkpoints, where transformers saves other ones."""
    if not family.renamed:
        return
    weights = load_file(path)
    for old, new in family.renamed.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    save_file(weights, path, metadata={"format": "pt"})


def main() -> None:
    """Build the named checkpoints, or all, and print their folders."""
    for name in sys.argv[1:] or FAMILIES:
        print(checkpoint(name))


if __name__ == "__main__":
    main()
