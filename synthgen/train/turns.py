"""What the answers of a row are about, by which the monitor tells their losses apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synthgen.tables import STRINGS, score_column

TURN_COLUMNS = {"pair_ids": "pair_id", "types": "type", "forms": "form", "languages": "language"}  # lists, one a turn
TEACHER_COLUMN = score_column("likelihood")  # a list too
COLUMN_KINDS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(TURN_COLUMNS, STRINGS),
    TEACHER_COLUMN: pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class Turn:
    """A question and its answer in a row, as the shards of a run describe it; other shards leave out some or all.

    Attributes:
        likelihood: The geometric mean of the probabilities that the model which answered gave to its tokens.
    """

    pair_id: str | None = None
    type: str | None = None
    form: str | None = None
    language: str | None = None
    likelihood: float | None = None

    @property
    def family(self) -> str | None:
        """The family of the instruction type, which is what its name begins with."""
        return self.type.partition("/")[0] if self.type else None

    @property
    def teacher_loss(self) -> float | None:
        """The mean loss that the model which answered has of a token, in nats."""
        return -math.log(self.likelihood) if self.likelihood else None


@dataclass(frozen=True)
class TurnLoss:
    """The loss of an answer in a step: the sum over its tokens.

    Attributes:
        right: How many of them were the likeliest one, given those before it; None where nobody counted.
    """

    turn: Turn
    loss: float
    answer_tokens: int
    right: int | None = None

    @property
    def is_right(self) -> bool:
        """Whether every token was the likeliest one."""
        return self.right == self.answer_tokens

    @property
    def mean(self) -> float:
        """The mean loss of its tokens."""
        return self.loss / max(1, self.answer_tokens)


def turns_of(row: Mapping[str, Any], count: int) -> list[Turn]:
    """Return the turns of a row with so many answers; what the row does not say of each is left out."""
    said = {name: row.get(column) or [] for column, name in (*TURN_COLUMNS.items(), (TEACHER_COLUMN, "likelihood"))}
    said = {name: values for name, values in said.items() if len(values) == count}
    return [Turn(**{name: values[number] for name, values in said.items()}) for number in range(count)]
