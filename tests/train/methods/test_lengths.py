"""Pieces of conversations are short at first and later of every length alike; each is a conversation with its image."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthgen.config.training_methods import LengthsConfig
from synthgen.train import train
from synthgen.train.methods.lengths import length_shares, piece_of, pieces, temperature
from tests.fixtures.tiny_vlm import FAST, Row, losses, row, stop_after, write

TURNS = 4


def talk(number: int) -> Row:
    turns = [(f"Question {place} of {number}?", f"Answer {place}.") for place in range(TURNS)]
    names = [f"p{number}-{place}" for place in range(TURNS)]
    return {**row(*turns), "id": str(number), "pair_ids": names, "types": ["a/b"] * TURNS}


def lengths_in(epoch: int, count: int = 400) -> Counter[int]:
    taken = pieces((talk(number) for number in range(count)), iter([epoch] * count), 0, LengthsConfig(even_from=1.0))
    return Counter(len(each["messages"]) // 2 for each in taken)


def test_lengths_become_even_over_the_epochs() -> None:
    first, late = lengths_in(0), lengths_in(20)
    assert first[1] > 300 and first[TURNS] < 20
    assert all(late[length] == pytest.approx(100, abs=30) for length in range(1, TURNS + 1))
    assert temperature(1, 1.0) == 1.0 and length_shares(3, 1e20) == pytest.approx([1 / 3] * 3)
    plain = Counter(len(talk(number)["messages"]) // 2 for number in range(5))
    assert plain == {TURNS: 5}, "without the method all are of one length"


def test_a_piece_is_a_conversation_with_its_image_and_what_is_said_of_its_turns() -> None:
    starts = set()
    for number in range(60):
        piece = piece_of(talk(number), "key", 1e9)
        texts = [part["text"] for message in piece["messages"] for part in message["content"] if part["text"]]
        images = [part["type"] for message in piece["messages"] for part in message["content"]].count("image")
        assert images == 1 and piece["messages"][0]["content"][0]["type"] == "image"
        start, length = int(piece["pair_ids"][0].partition("-")[2]), len(piece["pair_ids"])
        wanted = [(f"Question {place} of {number}?", f"Answer {place}.") for place in range(start, start + length)]
        assert texts == [text for turn in wanted for text in turn] and len(piece["types"]) == length
        starts.add(start)
    assert starts == set(range(TURNS))


def test_the_piece_of_a_row_differs_between_epochs_and_not_between_starts() -> None:
    drawn = [[piece_of(talk(number), f"0/{epoch}", 5.0)["pair_ids"] for number in range(20)] for epoch in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def images_later(sample: Row) -> Row:
    messages = [dict(message) for message in sample["messages"]]
    messages[2]["content"] = [{"type": "image", "text": None}, *messages[2]["content"]]
    return {**sample, "messages": messages}


@pytest.mark.parametrize(
    "change",
    [
        images_later,
        lambda sample: {**sample, "messages": sample["messages"][:2]},
        lambda sample: {**sample, "messages": sample["messages"][:3]},
        lambda sample: {**sample, "messages": None},
        lambda sample: {**sample, "messages": [{"role": "system", "content": "x"}, *sample["messages"]]},
    ],
)
def test_other_conversations_stay_whole(change: Any) -> None:
    sample = change(talk(1))
    assert piece_of(sample, "key", 0.01) == sample


def test_a_continued_training_learns_the_same_pieces(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write(tmp_path / "shards", [talk(number) for number in range(6)])
    settings = FAST.model_copy(update={"lengths": LengthsConfig(even_from=0.0)})
    plain, whole, killed = (tmp_path / name for name in ("plain", "whole", "killed"))
    train(str(shards), str(model), plain, FAST)
    train(str(shards), str(model), whole, settings)
    stop_after(2, monkeypatch, lambda: train(str(shards), str(model), killed, settings))
    train(str(shards), str(model), killed, settings)
    assert losses(killed) == losses(whole) != losses(plain)
