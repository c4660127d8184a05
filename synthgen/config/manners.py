"""Voices and levels of a prompt pack: who asks and how hard the question is, and the types that each of them suits."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pydantic import Field, model_serializer, model_validator

from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import matches, matching, nearest_pattern


class Manner(Section):
    """A voice or a level; in the file its text alone, where it suits every type."""

    text: str
    types: tuple[str, ...] = Field(default=("**",), min_length=1)  # patterns of the types that it suits
    never: tuple[str, ...] = ()  # patterns of those of them that it does not

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        if self.types == ("**",) and not self.never:
            return self.text
        return {"text": self.text, "types": list(self.types), "never": list(self.never)}


@cache
def suiting(manners: tuple[Manner, ...], path: str) -> tuple[str, ...]:
    """Return the voices or the levels that suit a type; none, where all of them are for others."""
    return tuple(manner.text for manner in manners if _suits(manner, path))


def unknown_patterns(document: Document, types: Sequence[str]) -> Iterator[str]:
    """Yield a fault for each pattern of a voice or a level that fits no type of the pack."""
    for key in ("voices", "levels"):
        entries = document.at((key,))
        for number in range(len(entries) if isinstance(entries, list) else 0):
            for name in ("types", "never"):
                for place, pattern in document.names_at((key, number, name)).items():
                    if not matching([pattern], types):
                        where = document.where(place)
                        yield f"{where}: no instruction type matches '{pattern}': {nearest_pattern(pattern, types)}"


def _suits(manner: Manner, path: str) -> bool:
    return any(matches(one, path) for one in manner.types) and not any(matches(one, path) for one in manner.never)
