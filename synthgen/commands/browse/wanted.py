"""What is looked for, as it stands in the address of a page, and the place from which the search goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import UserMistake

SEPARATORS = "/.:"  # between the parts of types, tags and reasons
ID_LENGTHS = (32, 64)  # hexadecimal digits


@dataclass(frozen=True)
class Wanted:
    """Conditions on pairs or images, all of which must hold; an empty one holds for all.

    Attributes:
        q: Words that a pair or the name of an image has; or an id.
        outcome: What became of it.
        reason: Whole, or what it begins with up to a colon or a dot.
        type: Whole, or a path above it.
        tag: Of the image: whole, or a path above it.
        score: The score that `least` and `most` are limits of.
    """

    q: str = ""
    outcome: str = ""
    reason: str = ""
    type: str = ""
    form: str = ""
    language: str = ""
    tag: str = ""
    score: str = ""
    least: str = ""
    most: str = ""

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Wanted":
        """Return what the query of an address asks for; other names are ignored.

        Raises:
            UserMistake: A limit is no number.
        """
        wanted = Wanted(**{each.name: str(values.get(each.name, "")).strip() for each in fields(Wanted)})
        for name in ("least", "most"):
            _number(name, getattr(wanted, name))
        return wanted

    @property
    def params(self) -> dict[str, str]:
        """The conditions as the query of an address."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name))}

    @property
    def words(self) -> list[str]:
        """The words that are looked for."""
        return self.q.split()

    @property
    def id(self) -> str:
        """The id that is looked for; empty if it is no id."""
        text = self.q.lower()
        return text if len(text) in ID_LENGTHS and all(letter in "0123456789abcdef" for letter in text) else ""

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value of the score."""
        least, most = _number("least", self.least), _number("most", self.most)
        return (float("-inf") if least is None else least, float("inf") if most is None else most)


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value:
        raise UserMistake(f"{name}: '{text}' is no number")
    return value


@dataclass(frozen=True)
class Place:
    """A row of a partition, by its number."""

    partition: str
    row: int

    def __str__(self) -> str:
        """Return it as an address has it."""
        return f"{self.partition}:{self.row}"

    @staticmethod
    def parse(text: str) -> "Place | None":
        """Return the place of an address; None if it is none."""
        partition, _, row = text.rpartition(":")
        return Place(partition, int(row)) if partition and row.removeprefix("-").isdecimal() else None


def is_below(column: pa.ChunkedArray | pa.Array, name: str) -> pa.ChunkedArray | pa.Array:
    """Return which paths are a path or below it, whatever separates their parts."""
    found = pc.equal(column, name)
    for separator in SEPARATORS:
        found = pc.or_(found, pc.starts_with(column, name.rstrip(SEPARATORS) + separator))
    return pc.fill_null(found, False)


def has_words(texts: pa.ChunkedArray | pa.Array, words: list[str]) -> pa.ChunkedArray | pa.Array:
    """Return which texts have all of some words, in either case."""
    found = pa.array([True] * len(texts), pa.bool_())
    for word in words:
        found = pc.and_(found, pc.fill_null(pc.match_substring(texts, word, ignore_case=True), False))
    return found
