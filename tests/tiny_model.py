"""A vision-language model of a few thousand parameters and shards for it: what the tests of `synth train` train."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from synthgen.config import Train
from synthgen.pack.features import sample_schema
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart
from synthgen.train.encode import Encoder, Part

Row = dict[str, Any]

SIDE, PATCH = 32, 16
COLOURS = ("red", "blue", "green", "black")
SPECIAL = ("<pad>", "<|start|>", "<|end|>", "<image>", "<video>")
CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
# Answers end without a mark of their own, the role is not a token, answers are trimmed.
PLAIN = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>\n{% else %}{{ p['text'] | trim }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# As the templates of LLaVA-OneVision: the space after the role is not in the generation prompt.
UNEVEN = CHATML.replace("{{ m['role'] }}\n", "{{ m['role'] + ' ' }}\n")
SHOUTED = CHATML.replace("{{ p['text'] }}", "{{ p['text'] | upper }}")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The model is so small that threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision of a few thousand parameters, in the files that vLLM wants: float16, `vision_tower.vision_model.`"""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=PATCH,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=ids["<|end|>"],
            bos_token_id=None, pad_token_id=ids["<pad>"],
        ),
        image_token_id=ids["<image>"], video_token_id=ids["<video>"], vision_feature_layer=-1, vision_feature_select_strategy="full",
        image_grid_pinpoints=[[SIDE, SIDE]], tie_word_embeddings=True,
    )  # fmt: skip
    tiny = LlavaOnevisionForConditionalGeneration(config)
    torch.manual_seed(1)
    for parameter in tiny.parameters():
        if parameter.ndim >= 2:  # the usual 0.02 suits wide layers; here the image would hardly be seen
            torch.nn.init.normal_(parameter, std=0.12)
    tiny.to(torch.float16).save_pretrained(folder)
    processor_of(tokenizer).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in weights.items()}
    assert named.keys() != weights.keys()
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = ("user assistant system", "What colour is it? It is ", *COLOURS, "Is it light or dark? It is dark. It is light.")
    bpe.train_from_iterator(words * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=["<|start|>", "<image>", "<video>"],
        chat_template=CHATML,
        padding_side="left",
    )


def processor_of(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionProcessor:
    pictures = LlavaOnevisionImageProcessor(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=[[SIDE, SIDE]])
    return LlavaOnevisionProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": SIDE, "width": SIDE}),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
        image_token="<image>",
        video_token="<video>",
    )


@pytest.fixture(scope="session")
def processor(model: Path) -> Any:
    return AutoProcessor.from_pretrained(model)


def picture(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def row(*turns: tuple[str, str], colour: str = "red", image: bytes | None = None) -> Row:
    """A sample in TRL's form, with the nulls that Arrow fills in."""
    messages: list[Row] = []
    for question, answer in turns:
        asked = {"type": "text", "text": question}
        messages.append({"role": "user", "content": [asked] if messages else [{"type": "image", "text": None}, asked]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return {"images": [{"bytes": picture(colour) if image is None else image, "path": None}], "messages": messages}


def samples(count: int = 8) -> list[Row]:
    """Something to learn: the colour, and whether it is light, which nothing but the image tells."""
    told = {colour: "light" if colour in ("red", "green") else "dark" for colour in COLOURS}
    colours = [COLOURS[number % len(COLOURS)] for number in range(count)]
    return [row(("What colour is it?", f"It is {one}."), ("Is it light or dark?", f"It is {told[one]}."), colour=one) for one in colours]


def write(folder: Path, *files: Sequence[Row]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, some in enumerate(files):
        full = [{name: one.get(name) for name in sample_schema(()).names} for one in some]
        pq.write_table(pa.Table.from_pylist(full, schema=sample_schema(())), folder / f"train-{number:05d}.parquet", row_group_size=3)
    return folder


def commit(out: Path, *files: Sequence[Row], revision: int = 1) -> Path:
    """A run's output folder whose pack stage committed these files, the later revision in place of the earlier."""
    stage, aside = Stage(Folder(str(out)), "5-shards"), write(out.with_name("aside"), *files)
    data = [stage.put("data", "train", path.read_bytes(), pq.read_metadata(path).num_rows) for path in sorted(aside.iterdir())]
    with Lease.take(stage.out) as lease:
        stage.commit(Receipt("e001-00000", revision, {"data": TablePart(tuple(data), "f", replaces=True)}), lease, 1)
    shutil.rmtree(aside)
    return out


FAST = Train(steps=6, batch=4, learning_rate=3e-3, checkpoint_every=2, workers=1)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def encoder(processor: Any, template: str = CHATML, **settings: Any) -> Encoder:
    other = processor_of(processor.tokenizer)
    other.chat_template = template
    return Encoder(other, FAST.model_copy(update=settings))


def part(processor: Any, some: Sequence[Row]) -> Part:
    found, skipped = encoder(processor).encode(some)
    assert found is not None and not skipped
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
