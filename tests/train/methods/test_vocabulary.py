"""New tokens shorten what they stand for, start from their pieces, and learn while everything else stays."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train import pretrained, train
from synthgen.train.methods.vocabulary import choose_tokens, extend, save
from tests.fixtures.tiny_vlm import FAST, losses, row, write

LONG = " extraordinarily"


@pytest.fixture
def tokenizer(model: Path) -> Any:
    return AutoProcessor.from_pretrained(model).tokenizer


def test_the_words_that_save_most_are_chosen(tokenizer: Any) -> None:
    texts = ["a reddish thing", f"it is{LONG} red", f"it is{LONG} blue"]
    assert choose_tokens(texts, tokenizer, 1) == [LONG]
    assert all(len(tokenizer.encode(word)) > 1 for word in choose_tokens(texts, tokenizer, 100))


def test_a_new_token_starts_from_the_mean_of_its_pieces(model: Path, tokenizer: Any) -> None:
    loaded = pretrained.load_model("tiny", model)
    pieces, before = tokenizer.encode(LONG), loaded.get_input_embeddings().weight.detach().clone()
    assert extend(loaded, tokenizer, [LONG, "red", LONG]) == 1, "a word that is one token already is left out"
    (new,) = tokenizer.encode(LONG)
    after = loaded.get_input_embeddings().weight
    assert torch.allclose(after[new], before[pieces].mean(0)) and torch.equal(after[:new], before[:new])
    assert loaded.get_output_embeddings().weight is after
    with pytest.raises(UserMistake, match="one token already"):
        extend(loaded, tokenizer, [LONG])


def test_spare_rows_of_an_embedding_are_used_first(model: Path, tokenizer: Any) -> None:
    loaded = pretrained.load_model("tiny", model)
    loaded.resize_token_embeddings(len(tokenizer) + 5)
    rows = loaded.get_input_embeddings().weight.shape[0]
    extend(loaded, tokenizer, [LONG])
    assert loaded.get_input_embeddings().weight.shape[0] == rows


def test_only_the_new_rows_learn(model: Path, tmp_path: Path) -> None:
    loaded, processor = pretrained.load_model("tiny", model), AutoProcessor.from_pretrained(model)
    count = extend(loaded, processor.tokenizer, [LONG])
    save(loaded, processor, tmp_path / "extended")
    first = len(processor.tokenizer) - count
    rows = [row(("What colour is it?", f"It is{LONG} {colour}."), colour=colour) for colour in ("red", "blue")] * 2
    settings = FAST.model_copy(update={"new_tokens": count, "weight_decay": 0.1, "learning_rate": 3e-2})
    train(str(write(tmp_path / "shards", rows)), str(tmp_path / "extended"), tmp_path / "out", settings)
    tuned, names = pretrained.load_model("tuned", tmp_path / "out" / "model"), list[str]()
    for (name, before), after in zip(loaded.named_parameters(), tuned.parameters(), strict=True):
        if not torch.equal(before, after):
            names.append(name)
            assert torch.equal(before[:first], after[:first]) and not torch.equal(before[first:], after[first:])
    assert len(names) == 1 and "embed_tokens" in names[0]
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]


def test_what_may_move_is_said_once() -> None:
    with pytest.raises(ValueError, match="new_tokens and lora both say which weights may move"):
        TrainConfig.model_validate({"new_tokens": 3, "lora": {}})
    with pytest.raises(ValueError, match="retain is for one process"):
        TrainConfig.model_validate({"retain": {"shards": "x"}, "processes": 2})
