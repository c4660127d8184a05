"""One row of a seed, read from any of the usual forms.

The keys of each record decide its form: `conversations` (LLaVA, ShareGPT), `messages` or `prompt` and `completion`
(TRL, OpenAI, the shards of a run), `texts` (FineVision).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config.vocabulary import read_words
from synthgen.errors import Failure

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
TEXT_COLUMNS = ("conversations", "messages", "prompt", "completion", "texts")
IMAGE_COLUMNS = ("images", "image")


@dataclass(frozen=True)
class Row:
    """A row of the seed; `types` and `tags` are words of the seed first, then paths of the trees."""

    where: str
    id: str
    questions: tuple[str, ...]
    types: tuple[str, ...] | None  # None where the row has no such field
    tags: tuple[str, ...] | None
    images: tuple[bytes | str, ...]  # bytes, or a path as the row spells it

    def reject(self, reason: str, detail: str) -> "BadRow":
        """Return this row as left out, with the reason."""
        return BadRow(self.where, Failure(reason, detail))


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    where: str
    failure: Failure


@dataclass(frozen=True)
class Fields:
    """The fields in which rows name their types and tags; None where these have to be found."""

    types: str | None = None
    tags: str | None = None


def parse_row(where: str, number: int, record: Any, fields: Fields) -> Row | BadRow:
    """Return a record as a row.

    Args:
        where: The file and the line, for messages.
        number: The row's place in the seed, which is its id where the record has none.
        record: The record as JSON or Parquet gives it.
        fields: Where the record names its types and tags.
    """
    if not isinstance(record, Mapping):
        return BadRow(where, Failure("not_a_record", f"a {type(record).__name__}, not keys with values"))
    row_id = record.get("id")
    return Row(
        where,
        str(number if row_id is None else row_id),
        tuple(_questions(record)),
        read_words(record.get(fields.types)) if fields.types else None,
        read_words(record.get(fields.tags)) if fields.tags else None,
        tuple(_images(record)),
    )


def _questions(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the user of a record asks."""
    if isinstance(texts := record.get("texts"), list):
        asked = (_plain_text(turn.get("user")) for turn in texts if isinstance(turn, Mapping))
        yield from filter(None, asked)
        return
    yield from (text for role, text in _messages(record) if role == "user")


def _messages(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (role, text) of every message of a user or a model that has a text."""
    messages = record.get("conversations") or record.get("messages")
    if not messages:
        messages = [*_as_list(record.get("prompt"), "user"), *_as_list(record.get("completion"), "assistant")]
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, Mapping):
            role = ROLES.get(str(message.get("from") or message.get("role")))
            if role and (text := _plain_text(message.get("value") or message.get("content"))):
                yield role, text


def _as_list(value: Any, role: str) -> list[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return value if isinstance(value, list) else []


def _plain_text(content: Any) -> str:
    """Return the text of a message, without the marks that stand for images."""
    if isinstance(content, list):
        content = " ".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content.replace("<image>", " ").strip() if isinstance(content, str) else ""


def _images(record: Mapping[str, Any]) -> Iterator[bytes | str]:
    for column in IMAGE_COLUMNS:
        value = record.get(column)
        for image in value if isinstance(value, list) else [value]:
            data = (image.get("bytes") or image.get("path")) if isinstance(image, Mapping) else image
            if isinstance(data, bytes | str) and data:
                yield data
