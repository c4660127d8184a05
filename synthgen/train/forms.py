"""The forms that rows of shards may have, brought to one: that of TRL, in which runs write theirs.

| columns | written by |
|---|---|
| `images`, `messages` | runs, TRL |
| `image` or `images`, `conversations` | LLaVA-OneVision's data and others in the form of LLaVA or ShareGPT |
| `images`, `texts` | FineVision, The Cauldron |

A row without an image is text alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from synthgen.errors import UserMistake
from synthgen.store.parquet import check_columns_differ
from synthgen.tables import STRINGS, TAGS
from synthgen.train.turns import TAGS_COLUMN, TEACHER_COLUMN, TURN_COLUMNS

# With the lists of turns.TURN_COLUMNS where the file has them.
Row = dict[str, Any]  # {"images": [{"bytes": …}], "messages": [{"role": …, "content": [{"type": …, "text": …}]}]}

IMAGES = ("images", "image")
TEXTS = ("messages", "conversations", "texts")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}  # others are called as they are in TRL's form
IMAGE_MARK = "<image>"  # in the texts of LLaVA's form


def columns_of(schema: pa.Schema, where: str) -> list[str]:
    """Return the columns of a file that training reads.

    Args:
        schema: Of the file.
        where: The file, for messages.

    Raises:
        UserMistake: It has no conversations, or a column twice.
    """
    names = schema.names
    texts = next((name for name in TEXTS if name in names), None)
    if texts is None:
        raise UserMistake(
            f"{where}: has no column 'messages'; shards have images and messages, as `synth run` and TRL write them, "
            "conversations as LLaVA has them, or texts as FineVision has them"
        )
    images = next((name for name in IMAGES if name in names), None)
    found = [*([images] if images else []), texts, *_described(schema)]
    check_columns_differ(where, names, found)
    return found


def _described(schema: pa.Schema) -> Iterator[str]:
    """Yield the columns that say what the turns of a row are about, as the shards of a run have them."""
    for name in TURN_COLUMNS:
        if name in schema.names and schema.field(name).type == STRINGS:
            yield name
    for name, kind in ((TAGS_COLUMN, TAGS), (TEACHER_COLUMN, pa.list_(pa.float32()))):
        if name in schema.names and schema.field(name).type == kind:
            yield name


def in_one_form(record: Mapping[str, Any]) -> Row:
    """Return a row in TRL's form; what is wrong with it is found where it is encoded."""
    row = {name: value for name, value in record.items() if name not in (*IMAGES, *TEXTS)}
    return {**row, "images": _images(record), "messages": _messages(record)}


def _images(record: Mapping[str, Any]) -> list[Any]:
    images = record.get("images") if record.get("images") is not None else record.get("image")
    return [] if images is None else images if isinstance(images, list) else [images]


def _messages(record: Mapping[str, Any]) -> Any:
    if "messages" in record:
        return record["messages"] or []
    if "conversations" in record:
        return [_from_llava(message) for message in record["conversations"] or ()]
    return [message for turn in record.get("texts") or () for message in _from_finevision(turn)]


def _from_llava(message: Any) -> Any:
    if not isinstance(message, Mapping) or "value" not in message:
        return message
    role = str(message.get("from") or "")
    pieces = str(message["value"] or "").split(IMAGE_MARK)
    content = list[dict[str, str]]()
    for number, piece in enumerate(pieces):
        content += [{"type": "image"}] if number else []
        text = piece.strip("\n") if len(pieces) > 1 else piece  # the line break beside the mark is a part of it
        content += [{"type": "text", "text": text}] if text else []
    return {"role": ROLES.get(role, role), "content": content}


def _from_finevision(turn: Any) -> Iterator[Any]:
    if not isinstance(turn, Mapping):
        yield turn
        return
    for role in ("user", "assistant"):
        yield {"role": role, "content": str(turn.get(role) or "")}
