"""The model card: in the form of the hub, with what the training knows, and no folder of the machine."""

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from synthgen.config.training import LoraConfig, TrainConfig
from synthgen.train.model_card import Training, model_card

PLANTED = "</td> ![x](http://evil) <script>"
MONITOR = [
    {"step": 20, "loss": {"type": {"old": {"loss": 9.0, "answers": 1}}}},
    {"step": 40, "loss": {"type": {"a/b": {"loss": 0.5, "answers": 40}, PLANTED: {"loss": 1.5, "answers": 8}}}},
    {"step": 41, "spike": {"loss": 7.0}},
]


def training(data: str = "/mydisk/data", model: str = "owner/model") -> Training:
    """Return a training that is over."""
    settings = TrainConfig(steps=40, lora=LoraConfig(rank=8))
    return Training(model, "abc", [data], settings, (2.0, 0.5), MONITOR, {"too_long": 3})


def front(card: Any) -> dict[str, Any]:
    """Return the front matter of a card as huggingface_hub writes it."""
    read: dict[str, Any] = card.data.to_dict()
    return read


def titles(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def test_the_hub_reads_the_front_matter_and_writes_the_same() -> None:
    card = ModelCard(model_card(training()))
    assert isinstance(card.data, ModelCardData) and card.data.base_model == "owner/model"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert front(ModelCard(str(card))) == front(card)


@pytest.mark.parametrize("model", ["/mydisk/models/nano", "./nano", "~/models/nano"])
def test_a_model_of_a_folder_is_no_base_on_the_hub_and_its_folder_is_not_shown(model: str) -> None:
    text = model_card(training(model=model))
    assert "base_model" not in front(ModelCard(text))
    assert "mydisk" not in text and "nano" in text and "~" not in text


def test_a_card_says_how_the_model_was_made_and_what_was_hard_for_it() -> None:
    text = model_card(training())
    assert titles(text) == [
        "How it was made", "What was hard", "Intended use", "How to load it", "How to make it again", "How to cite"
    ]  # fmt: skip
    hard = text.partition("## What was hard")[2].partition("\n## ")[0]
    assert [row.split(" | ")[-2:] for row in hard.splitlines() if row.startswith("|")][2:] == [
        ["1.500", "8 |"],
        ["0.500", "40 |"],
    ]
    assert "2.000 at first, 0.500 at the end" in text and "adapters &#40;LoRA&#41;" not in text
    assert not re.search(r"<script|\]\(http://evil", text)


def test_the_command_makes_the_same_training() -> None:
    lines = model_card(training()).partition("## How to make it again")[2].splitlines()
    command = next(line for line in lines if line.startswith("synth train"))
    assert command.startswith("synth train data --model owner/model --out TUNED --set ")
    assert "--set train.steps=40 " in f"{command} " and """'train.lora={"rank": 8""" in command


def test_what_people_found_wrong_in_the_data_is_known_of_the_model_too(tmp_path: Path) -> None:
    card = "---\ntags: []\n---\n\n# 9 samples\n\nwords\n\n## Contents\nno\n\n## Known faults\nsome\n\n## Columns\nno\n"
    (tmp_path / "5-shards").mkdir()
    (tmp_path / "5-shards/README.md").write_text(card)
    text = model_card(training(data=str(tmp_path)))
    assert "\n## The data\n9 samples\n\n### Known faults\nsome\n\n## What was hard" in text and "Columns" not in text


@pytest.mark.parametrize("data", ["/no/such/folder", "shards/*.parquet"])
def test_data_without_a_card_are_named_and_nothing_else(data: str) -> None:
    assert "The data" not in titles(model_card(training(data=data)))
