"""A model chooses among names: tags of an image, types of a question.

Comes in: an engine, names with a line of meaning each, and what they are chosen for. Goes out: the names chosen, best first, none
if the model says that none fits; or, in words, why there is no choice. The reply is held to the names by a schema, so that it
needs no interpretation; a reply that is cut off, or comes from an endpoint that heeds no schema, is no choice and says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from synthgen.engines import Engine, Request

TOKENS_A_NAME, TOKENS_AROUND = 24, 32  # of a reply


@dataclass(frozen=True)
class ChoiceRequest:
    """What is to be chosen; `names` are listed with their meanings between `head` and `question`."""

    head: str
    names: Mapping[str, str]
    question: str
    most: int
    image: Image | None = None
    image_key: str | None = None


async def choose(engine: Engine, choice: ChoiceRequest) -> list[str] | str:
    """At most `most` of the names, or why there is no choice; raises nothing but EngineDied."""
    request = Request(
        "tag", _text(choice), TOKENS_A_NAME * choice.most + TOKENS_AROUND, choice.image, choice.image_key,
        schema=_schema(list(choice.names), choice.most),
    )  # fmt: skip
    reply = await engine.generate(request)
    if reply.failure:
        return f"{reply.failure}: {reply.detail}"
    return _read(reply.text, choice)


def _read(text: str, choice: ChoiceRequest) -> list[str] | str:
    """The names in a reply; a name that is not among those to choose from makes it no choice."""
    try:
        found = json.loads(text)["chosen"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"not a choice: {text[:100]!r}"
    if not isinstance(found, list) or not all(isinstance(name, str) and name in choice.names for name in found):
        return f"not a choice: {text[:100]!r}"
    return list(dict.fromkeys(found))[: choice.most]


def _text(choice: ChoiceRequest) -> str:
    """The list comes first, so that the engine's cache serves it to every question."""
    listed = "\n".join(f"- {name}: {means}" for name, means in choice.names.items())
    wanted = 'Reply with JSON alone: {"chosen": ["name"]}, or an empty list if none fits.'
    return f"{choice.head}\n{listed}\n\n{choice.question}\n{wanted}"


def _schema(names: list[str], most: int) -> dict[str, Any]:
    chosen = {"type": "array", "items": {"type": "string", "enum": names}, "maxItems": most}
    return {"type": "object", "properties": {"chosen": chosen}, "required": ["chosen"], "additionalProperties": False}
