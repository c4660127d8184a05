"""Conversations of every length learned from alike: dynamic length sampling (length bias; arXiv 2311.11601).

A model that sees only whole conversations learns long ones, and answers the first question of a talk worse, or the
other way round. So each sample is a piece of l turns of its row, with a probability of l in proportion to
exp(-l / T). The temperature T rises with the epochs, as exp(epoch - even_from): at first pieces are short, and later
all lengths are equally frequent. The image stands before the first turn of a piece. Which piece it is depends on the
seed, the epoch and the row alone, and the stream of rows keeps its length, so a training continues as it would have.

Pieces begin anywhere, so leave it off for shards whose questions go on from earlier ones.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.config.training_methods import LengthsConfig
from synthgen.tables import draw, make_id
from synthgen.train.forms import Row
from synthgen.train.turns import TEACHER_COLUMN, TURN_COLUMNS

Message = Mapping[str, Any]


def pieces(stream: Iterator[Row], epochs: Iterator[int], seed: int, settings: LengthsConfig) -> Iterator[Row]:
    """Yield a piece of each row.

    Args:
        stream: The rows.
        epochs: The epoch of each row, from 0.
        seed: Of the draws.
        settings: How the lengths change over the epochs.
    """
    for row, epoch in zip(stream, epochs, strict=False):
        yield piece_of(row, f"{seed}/{epoch}", temperature(epoch, settings.even_from))


def temperature(epoch: int, even_from: float) -> float:
    """Return the temperature of an epoch, which is 1 at `even_from`."""
    return math.exp(min(50.0, epoch - even_from))


def length_shares(most: int, heat: float) -> list[float]:
    """Return the probabilities of 1 to `most` turns."""
    weights = [math.exp((1 - length) / heat) for length in range(1, most + 1)]
    return [weight / sum(weights) for weight in weights]


def piece_of(row: Row, key: str, heat: float) -> Row:
    """Return a row with some of its turns, or the row itself where its messages are no plain conversation.

    Args:
        row: A row.
        key: Of the draws, beside the row's own name.
        heat: The temperature.
    """
    turns = _turns(row["messages"] or ())
    if len(turns) < 2:
        return row
    name = make_id("row", key, str(row.get("id") or ""), *(_text(message) for message in turns[0]))
    point, length = draw(0, "length", name), 1
    for share in length_shares(len(turns), heat)[:-1]:
        if point < share:
            break
        point, length = point - share, length + 1
    start = int(draw(0, "start", name) * (len(turns) - length + 1))
    return _cut(row, turns, start, length)


def _turns(messages: Sequence[Message]) -> list[tuple[Message, Message]]:
    """Return questions and answers, of messages that alternate between them with images before the first alone."""
    questions, answers = messages[::2], messages[1::2]
    if len(questions) != len(answers) or any(each["role"] != "user" for each in questions):
        return []
    if any(each["role"] != "assistant" for each in answers) or any(_images(each) for each in messages[1:]):
        return []
    return list(zip(questions, answers, strict=True))


def _cut(row: Row, turns: Sequence[tuple[Message, Message]], start: int, length: int) -> Row:
    kept = [message for turn in turns[start : start + length] for message in turn]
    if start:
        first = {**kept[0], "content": [*_images(turns[0][0]), *_content(kept[0])]}
        kept = [first, *kept[1:]]
    lists = {
        name: values[start : start + length]
        for name in (*TURN_COLUMNS, TEACHER_COLUMN)
        if (values := row.get(name)) and len(values) == len(turns)
    }
    return {**row, **lists, "messages": kept}


def _images(message: Message) -> list[Any]:
    return [part for part in _content(message) if part["type"] == "image"]


def _content(message: Message) -> list[Any]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _text(message: Message) -> str:
    return "".join(part["text"] or "" for part in _content(message) if part["type"] == "text")
