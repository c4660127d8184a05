"""A model finds the instruction types of an image or a question: first families, then types of the families that it chose.

Comes in: an engine, the tree of types, and an image or a question. Goes out: the types chosen, best first; none if the model
says that none fits; or why there is no choice. Two steps, because a list of two hundred types is too long to choose from well.
The words stand here and not on a shelf, because they shape no row of a data set.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from synthgen.config.pipeline import EngineConfig
from synthgen.config.taxonomy import Tree
from synthgen.engines import Engine, EngineDied, ModelName, choice_prompt, open_engine
from synthgen.errors import Failure, ModelUnavailable

FAMILIES = 3  # chosen at most, where several may be
IN_FLIGHT = 64  # questions being sorted at once
LONGEST = 2000  # characters of a question that are read


@dataclass(frozen=True)
class ClassifySubject:
    """What types are chosen for: an image, or the text of a question."""

    text: str = ""
    image: Image | None = None
    image_key: str | None = None


@dataclass(frozen=True)
class Classified:
    """The types, best first; `failure` says why a call gave none."""

    types: tuple[str, ...]
    failure: str | None = None


@dataclass(frozen=True)
class ClassifyTask:
    """What types are to be found for, and what to find them with; it is sent to an actor."""

    model: ModelName
    engine: EngineConfig
    tree: Tree
    about: tuple[ClassifySubject, ...]
    most: int = 1


async def sort_all(task: ClassifyTask) -> list[Classified]:
    """The types of each image or question; ModelUnavailable if the engine dies on the way."""
    engine, slots = await open_engine(task.model, task.engine), asyncio.Semaphore(IN_FLIGHT)

    async def sort_one(about: ClassifySubject) -> Classified:
        async with slots:
            return await choose(engine, task.tree, about, task.most)

    try:
        return list(await asyncio.gather(*map(sort_one, task.about)))
    except EngineDied as error:
        raise ModelUnavailable(
            f"model {task.model.model}: the engine died while it sorted questions: {error}"
        ) from error
    finally:
        await engine.close()


async def choose(engine: Engine, tree: Tree, about: ClassifySubject, most: int) -> Classified:
    """At most `most` types for an image or a question."""
    families = await _among(engine, tree, tree.roots, about, min(most, FAMILIES))
    if isinstance(families, str):
        return Classified((), families)
    by_family: list[list[str]] = []
    for family in families:
        leaves = [path for path in tree.leaves if path.startswith(f"{family}/")]
        found = await _among(engine, tree, leaves, about, most)
        if isinstance(found, str):
            return Classified((), found)
        by_family.append(found)
    longest = max(map(len, by_family), default=0)
    in_turn = [types[place] for place in range(longest) for types in by_family if place < len(types)]
    return Classified(tuple(in_turn[:most]))


async def _among(
    engine: Engine, tree: Tree, paths: Sequence[str], about: ClassifySubject, most: int
) -> list[str] | str:
    """The paths that the model chose, or why it chose none."""
    by_name = {tree.nodes[path].name: path for path in paths}
    asked = (
        f"Which of these kinds of question does the question belong to?\nQuestion: {about.text[:LONGEST]}"
        if about.image is None
        else f"Which of these kinds of question suit the image best? Name at most {most}, the best first."
    )
    meanings = {name: tree.nodes[path].means for name, path in by_name.items()}
    choice = choice_prompt.ChoiceRequest(
        "Kinds of question about an image:", meanings, asked, most, about.image, about.image_key
    )
    found = await choice_prompt.choose(engine, choice)
    return str(found) if isinstance(found, Failure) else [by_name[name] for name in found]
