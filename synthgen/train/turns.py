"""What the answers of a row are about, by which the monitor tells their losses apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.tables import score_column

TURN_COLUMNS = {"pair_ids": "pair_id", "types": "type", "forms": "form", "languages": "language"}  # lists, one a turn
TEACHER_COLUMN = score_column("likelihood")  # a list too
TAGS_COLUMN = "tags"  # of the image: what each one's path begins with is its branch
NUMBERED_TURNS = 3  # of a conversation; the later ones are told apart no further


@dataclass(frozen=True)
class Turn:
    """A question and its answer in a row, as the shards of a run describe it; other shards leave out some or all.

    Attributes:
        source: The data set, where a training has several.
        sample: The file and the number of the row in it, from 1.
        branches: The roots of the tags of its image.
        place: Which turn of its conversation it is: 1, 2, or 3+.
        likelihood: The geometric mean of the probabilities that the model which answered gave to its tokens.
    """

    pair_id: str | None = None
    type: str | None = None
    form: str | None = None
    language: str | None = None
    source: str | None = None
    sample: str | None = None
    branches: tuple[str, ...] = ()
    place: str | None = None
    likelihood: float | None = None

    @property
    def family(self) -> str | None:
        """The family of the instruction type, which is what its name begins with."""
        return self.type.partition("/")[0] if self.type else None

    @property
    def teacher_loss(self) -> float | None:
        """The mean loss that the model which answered has of a token, in nats."""
        return -math.log(self.likelihood) if self.likelihood else None

    def values(self, view: str) -> tuple[str, ...]:
        """Return what a view of the monitor counts the turn under: one value, several, or none."""
        value = {"branch": self.branches, "turn": self.place}.get(view) or getattr(self, view, None)
        return value if isinstance(value, tuple) else (value,) if value else ()


@dataclass(frozen=True)
class TurnLoss:
    """The loss of an answer in a step: the sum over its tokens.

    Attributes:
        right: The tokens that were the likeliest ones; None where nobody counted.
    """

    turn: Turn
    loss: float
    answer_tokens: int
    right: int | None = None

    @property
    def is_right(self) -> bool:
        """Whether all tokens were the likeliest ones."""
        return self.right == self.answer_tokens

    @property
    def mean(self) -> float:
        """The mean loss of its tokens."""
        return self.loss / max(1, self.answer_tokens)


def turns_of(row: Mapping[str, Any], count: int) -> list[Turn]:
    """Return the turns of a row with so many answers; what the row does not say of each is left out."""
    said = {name: row.get(column) or [] for column, name in (*TURN_COLUMNS.items(), (TEACHER_COLUMN, "likelihood"))}
    said = {name: values for name, values in said.items() if len(values) == count}
    paths = [str(tag["path"]) for tag in row.get(TAGS_COLUMN) or ()]
    of_row: dict[str, Any] = {
        "source": row.get("source"),
        "sample": row.get("sample"),
        "branches": tuple(dict.fromkeys(path.partition("/")[0] for path in paths)),
    }
    return [
        Turn(**{name: values[number] for name, values in said.items()}, **of_row, place=_place(number + 1))
        for number in range(count)
    ]


def _place(number: int) -> str:
    return str(number) if number < NUMBERED_TURNS else f"{NUMBERED_TURNS}+"
