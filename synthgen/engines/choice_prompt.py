"""A prompt by which a model chooses among names: the tags of an image, the types of a question.

A schema restricts the reply to the names, so that it needs no interpretation. A reply that was cut off, or that comes
from an endpoint which ignores the schema, is a Failure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL.Image import Image

from synthgen.config.taxonomy import Node
from synthgen.engines.protocol import Engine, Request
from synthgen.errors import Failure

TOKENS_PER_NAME, TOKENS_AROUND = 24, 32  # of a reply
QUOTED = 100  # characters of an unreadable reply


@dataclass(frozen=True)
class ChoiceRequest:
    """One choice among names.

    Attributes:
        head: Text before the list of names.
        question: Text after the list.
        most: How many names are chosen at most.
        image_key: Identifies the pixels in the engine's caches.
        names: Name to meaning.
    """

    head: str
    question: str
    most: int
    image: Image | None = None
    image_key: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


async def choose(engine: Engine, choice: ChoiceRequest) -> list[str] | Failure:
    """Return the chosen names, best first, none if the model says that none fits; or why there is no choice.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    request = Request(
        "tag",
        _text(choice),
        TOKENS_PER_NAME * choice.most + TOKENS_AROUND,
        choice.image,
        choice.image_key,
        schema=_schema(list(choice.names), choice.most),
    )
    reply = await engine.generate(request)
    if reply.failure:
        return Failure(reply.failure, reply.detail or "")
    return _parse(reply.text, choice)


async def choose_nodes(engine: Engine, nodes: Iterable[Node], choice: ChoiceRequest) -> list[str] | Failure:
    """Return the paths of the chosen nodes of a tree, best first; the request is given without their names.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    by_name = {node.name: node for node in nodes}
    meanings = {name: node.means for name, node in by_name.items()}
    names = await choose(engine, replace(choice, names=meanings))
    return names if isinstance(names, Failure) else [by_name[name].path for name in names]


def _parse(text: str, choice: ChoiceRequest) -> list[str] | Failure:
    """Return the names in a reply; a name that was not offered makes it unparsable."""
    failure = Failure("unparsable", f"not a choice: {text[:QUOTED]!r}")
    try:
        chosen = json.loads(text)["chosen"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return failure
    if not isinstance(chosen, list) or not all(isinstance(name, str) and name in choice.names for name in chosen):
        return failure
    return list(dict.fromkeys(chosen))[: choice.most]


def _text(choice: ChoiceRequest) -> str:
    """Return the prompt; the list comes first, so that the engine's cache serves it to every question."""
    listed = "\n".join(f"- {name}: {meaning}" for name, meaning in choice.names.items())
    form = 'Reply with JSON alone: {"chosen": ["name"]}, or an empty list if none fits.'
    return f"{choice.head}\n{listed}\n\n{choice.question}\n{form}"


def _schema(names: list[str], most: int) -> dict[str, Any]:
    chosen = {"type": "array", "items": {"type": "string", "enum": names}, "maxItems": most}
    return {"type": "object", "properties": {"chosen": chosen}, "required": ["chosen"], "additionalProperties": False}
