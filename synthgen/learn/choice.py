"""A model chooses among the instruction types: first among the families, then among the types of those that it chose.

Comes in: an engine, the tree of types, and an image or a question. Goes out: the types chosen, best first; none if the model
says that none fits; or why there is no choice. Two steps, because a list of two hundred types is too long to choose from well.
The replies are held to the names by a schema. The words stand here and not on a shelf, because they shape no row of a data set.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from synthgen.config import Engine as EngineSettings
from synthgen.errors import ModelUnavailable
from synthgen.models import Engine, EngineDied, ModelName, Request, open_engine
from synthgen.taxonomy import Tree

FAMILIES = 3  # chosen at most, where several may be
IN_FLIGHT = 64  # questions being sorted at once


@dataclass(frozen=True)
class About:
    """What types are chosen for: an image, or the text of a question."""

    text: str = ""
    image: Image | None = None
    image_key: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The types, best first; `failure` says why a call gave none."""

    types: tuple[str, ...]
    failure: str | None = None


@dataclass(frozen=True)
class Task:
    """Questions to be sorted, and what to sort them with; it is sent to an actor."""

    model: ModelName
    engine: EngineSettings
    tree: Tree
    questions: tuple[str, ...]


async def sort_all(task: Task) -> list[Chosen]:
    """The type of each question; ModelUnavailable if the engine dies on the way."""
    engine, slots = await open_engine(task.model, task.engine), asyncio.Semaphore(IN_FLIGHT)

    async def sort_one(question: str) -> Chosen:
        async with slots:
            return await choose(engine, task.tree, About(question), 1)

    try:
        return list(await asyncio.gather(*map(sort_one, task.questions)))
    except EngineDied as error:
        raise ModelUnavailable(f"model {task.model.model}: the engine died while it sorted questions: {error}") from error
    finally:
        await engine.close()


async def choose(engine: Engine, tree: Tree, about: About, most: int) -> Chosen:
    """At most `most` types for an image or a question."""
    families = await _among(engine, tree, tree.roots, about, min(most, FAMILIES))
    if isinstance(families, str):
        return Chosen((), families)
    by_family: list[list[str]] = []
    for family in families:
        leaves = [path for path in tree.leaves if path.startswith(f"{family}/")]
        found = await _among(engine, tree, leaves, about, most)
        if isinstance(found, str):
            return Chosen((), found)
        by_family.append(found)
    longest = max(map(len, by_family), default=0)
    in_turn = [types[place] for place in range(longest) for types in by_family if place < len(types)]
    return Chosen(tuple(in_turn[:most]))


async def _among(engine: Engine, tree: Tree, paths: Sequence[str], about: About, most: int) -> list[str] | str:
    """The paths that the model chose, or why it chose none."""
    names = {tree.nodes[path].name: path for path in paths}
    reply = await engine.generate(
        Request("tag", _text(tree, paths, about, most), 24 * most + 32, about.image, about.image_key, schema=_schema(list(names), most))
    )
    if reply.failure:
        return f"{reply.failure}: {reply.detail}"
    try:
        chosen = json.loads(reply.text)["chosen"]
        return list(dict.fromkeys(names[name] for name in chosen))[:most]
    except (ValueError, KeyError, TypeError):
        return f"not a choice: {reply.text[:100]!r}"


def _text(tree: Tree, paths: Sequence[str], about: About, most: int) -> str:
    """The list comes first, so that the engine's cache serves it to every question."""
    listed = "\n".join(f"- {tree.nodes[path].name}: {tree.nodes[path].means}" for path in paths)
    asked = (
        "Which of these kinds of question does the question belong to?\n" + f"Question: {about.text[:2000]}"
        if about.image is None
        else f"Which of these kinds of question suit the image best? Name at most {most}, the best first."
    )
    wanted = 'Reply with JSON alone: {"chosen": ["name"]}, or an empty list if none fits.'
    return f"Kinds of question about an image:\n{listed}\n\n{asked}\n{wanted}"


def _schema(names: list[str], most: int) -> dict[str, Any]:
    chosen = {"type": "array", "items": {"type": "string", "enum": names}, "maxItems": most}
    return {"type": "object", "properties": {"chosen": chosen}, "required": ["chosen"], "additionalProperties": False}
