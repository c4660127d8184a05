"""What one row of a seed says, whichever of the usual forms it has.

Comes in: a record, as JSON or Parquet gives it. Goes out: its questions and answers, its image, and the words that it has for
its instruction types and tags; or why it is no such row. The form is told by the keys of each record: `conversations` (LLaVA,
ShareGPT), `messages` or `prompt` and `completion` (TRL, OpenAI, this project's shards), `texts` (FineVision).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config.vocabulary import read_words

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
TEXT_COLUMNS = ("conversations", "messages", "prompt", "completion", "texts")
IMAGE_COLUMNS = ("images", "image")


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Row:
    """A row of the seed; words are as they stand there, None where it has none."""

    where: str
    id: str
    turns: tuple[Turn, ...]
    types: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    images: tuple[bytes | str, ...]  # bytes, or a path as the row spells it


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    where: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Fields:
    """Where a row has its words, if it has them."""

    types: str | None = None
    tags: str | None = None


def row_of(where: str, number: int, record: Any, fields: Fields) -> Row | BadRow:
    """A record as a Row."""
    if not isinstance(record, Mapping):
        return BadRow(where, "not_a_record", f"a {type(record).__name__}, not keys with values")
    key = record.get("id")
    return Row(
        where,
        str(number if key is None else key),
        tuple(_turns(record)),
        read_words(record.get(fields.types)) if fields.types else None,
        read_words(record.get(fields.tags)) if fields.tags else None,
        tuple(_images(record)),
    )


def _turns(record: Mapping[str, Any]) -> Iterator[Turn]:
    if isinstance(texts := record.get("texts"), list):
        for turn in texts:
            if isinstance(turn, Mapping) and (question := _plain(turn.get("user"))):
                yield Turn(question, _plain(turn.get("assistant")))
        return
    question = ""
    for role, text in _said(record):
        if role == "user":
            if question:
                yield Turn(question, "")
            question = text
        elif question:
            yield Turn(question, text)
            question = ""
    if question:
        yield Turn(question, "")


def _said(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(role, text) of every message that a user or a model said."""
    given = record.get("conversations") or record.get("messages")
    if not given:
        given = [*_messages(record.get("prompt"), "user"), *_messages(record.get("completion"), "assistant")]
    for message in given if isinstance(given, list) else ():
        if isinstance(message, Mapping):
            role = ROLES.get(str(message.get("from") or message.get("role")))
            if role and (text := _plain(message.get("value") or message.get("content"))):
                yield role, text


def _messages(value: Any, role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else value if isinstance(value, list) else []


def _plain(content: Any) -> str:
    """The text of a message, without the marks that stand for images."""
    if isinstance(content, list):
        content = " ".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content.replace("<image>", " ").strip() if isinstance(content, str) else ""


def _images(record: Mapping[str, Any]) -> Iterator[bytes | str]:
    for column in IMAGE_COLUMNS:
        value = record.get(column)
        for one in value if isinstance(value, list) else [value]:
            found = (one.get("bytes") or one.get("path")) if isinstance(one, Mapping) else one
            if isinstance(found, bytes | str) and found:
                yield found
