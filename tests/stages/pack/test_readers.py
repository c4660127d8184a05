"""Shards load with common libraries, and the card describes them and guesses nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.stages.pack.card import ShardContents, card
from synthgen.stages.pack.schema import card_features, sample_schema
from tests.fixtures.packing import World, pictures

# --- readers ----------------------------------------------------------------------------------------------------------


def test_the_datasets_library_reads_the_features_as_if_it_had_written_them() -> None:
    datasets = pytest.importorskip("datasets")
    schema = sample_schema(("likelihood",))
    features = datasets.Features.from_arrow_schema(schema)
    assert features["images"] == datasets.List(datasets.Image())
    assert json.loads(features.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])
    assert features.arrow_schema.equals(schema)
    assert features._to_yaml_list() == card_features(schema)


def test_load_dataset_returns_decoded_pictures_and_messages(world: World, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    world.add(1, pictures(3))
    world.pack()
    world.add(2, pictures(2, start=3))
    world.pack()
    glob = f"{world.out.path}/5-shards/data/*.parquet"
    data = datasets.load_dataset("parquet", data_files=glob, split="train", cache_dir=str(tmp_path / "cache"))
    assert data.num_rows == 5
    assert data[0]["images"][0].size == (48, 48)
    assert data[0]["messages"][1]["content"][0]["text"] == "answer 0"
    by_card = datasets.load_dataset(f"{world.out.path}/5-shards", split="train", cache_dir=str(tmp_path / "cache"))
    assert by_card["id"][:] == data["id"][:]
    assert by_card.features == data.features


def test_trl_collates_a_batch_of_samples(world: World, tmp_path: Path) -> None:
    datasets, trainer = pytest.importorskip("datasets"), pytest.importorskip("trl.trainer.sft_trainer")
    processor = _processor()
    world.add(1, pictures(2))
    world.pack()
    data = datasets.load_dataset(
        "parquet", data_files=str(world.files[0]), split="train", cache_dir=str(tmp_path / "cache")
    )
    collator = trainer.DataCollatorForVisionLanguageModeling(processor)
    batch = collator([data[index] for index in range(2)])
    assert batch["pixel_values"].shape[0] == 2
    assert batch["input_ids"].shape == batch["labels"].shape
    assert "How many dogs are there?" in processor.tokenizer.decode(batch["input_ids"][0])


def _processor() -> Any:
    """Return a processor as LLaVA-OneVision has it, with a tokenizer trained on two questions."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=False))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    special = ["<image>", "<video>", "<pad>", "<|user|>", "<|assistant|>"]
    bpe = tokenizers.trainers.BpeTrainer(
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), special_tokens=special
    )
    plain.train_from_iterator(["What colour is it? How many dogs are there?"], bpe)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", extra_special_tokens=special[:2]
    )
    pixels = transformers.LlavaOnevisionImageProcessor(
        size={"height": 28, "width": 28}, image_grid_pinpoints=[[28, 28]]
    )
    video = transformers.LlavaOnevisionVideoProcessor()
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    return transformers.LlavaOnevisionProcessor(
        pixels, tokenizer, video, num_image_tokens=4, vision_feature_select_strategy="full", chat_template=template
    )


# --- the card ---------------------------------------------------------------------------------------------------------


def front_matter(world: World) -> Any:
    """Return the YAML head of the card."""
    return yaml.safe_load(Path(world.out.path, "5-shards", "README.md").read_text().split("---\n")[1])


def test_the_card_names_exactly_the_current_files_and_guesses_nothing(world: World) -> None:
    world.add(1, pictures(3))
    world.pack()
    front = front_matter(world)
    assert front["configs"][0]["data_files"][0]["path"] == [f"data/{file.name}" for file in world.files]
    assert front["dataset_info"]["splits"][0]["num_examples"] == 3
    assert front["size_categories"] == ["n<1K"]
    assert "license" not in front and "language" not in front
    world.context = replace(world.context, pack=PackConfig(license="cc-by-4.0", languages=("en",)))
    world.pack()
    assert (front_matter(world)["license"], front_matter(world)["language"]) == ("cc-by-4.0", ["en"])


def test_the_card_counts_dropped_pairs_by_reason(world: World) -> None:
    world.select = SelectConfig(forbidden=("answer 1",))
    world.add(1, pictures(3))
    world.pack()
    text = Path(world.out.path, "5-shards", "README.md").read_text()
    assert "| rule&#58;forbidden | 3 | 50.0% |" in text
    assert "| counting/objects | 3 |" in text


def test_the_card_of_the_scripted_engine_states_first_that_its_replies_mean_nothing() -> None:
    turns: dict[str, dict[str, int]] = {"type": {}, "form": {}, "language": {}}
    contents = ShardContents([], [], 0, 0, turns, {}, {})
    scripted, vllm = (card(contents, {"Engine": kind}, SelectConfig(), PackConfig()) for kind in ("scripted", "vllm"))
    assert "**The replies mean nothing.**" in scripted.partition("## Where")[0]
    assert "mean nothing" not in vllm


def test_text_from_data_or_models_is_never_markup_in_the_card() -> None:
    evil = "</td><script>alert(1)</script> | ![x](http://e) `code` [a](javascript:b) \n# head *b* _i_ ~s~ &amp; \\ {x}"
    counts = {evil: 1}
    turns = {"type": counts, "form": counts, "language": counts}
    contents = ShardContents([("a.parquet", 1)], [], 1, 1, turns, counts, counts)
    text = card(contents, {evil: evil, "Engine": "vllm"}, SelectConfig(), PackConfig(license="evil: [1]\n---\n"))
    body = text.split("---\n\n# ", 1)[1]
    for markup in ("<script", "![", "](", "`code`", "*b*", "_i_", "~s~", "&amp;", "\n# head"):
        assert markup not in body
    assert yaml.safe_load(text.split("---\n\n# ", 1)[0].removeprefix("---\n"))["license"] == "evil: [1]\n---\n"
