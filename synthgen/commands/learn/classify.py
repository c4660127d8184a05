"""A model classifies an image or a question: it chooses families first, then types of these families.

A list of two hundred types is too long to choose from well, so there are two steps. The prompts are here and not in a
prompt pack, because they shape no row of a data set.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from synthgen.config.engine import EngineConfig
from synthgen.config.taxonomy import Tree
from synthgen.engines import Engine, EngineDied, ModelName, choice_prompt, open_engine
from synthgen.errors import Failure, ModelUnavailable

FAMILIES = 3  # chosen at most, where several may be
IN_FLIGHT = 64  # questions that are classified at once, unless the engine's settings say otherwise
LONGEST = 2000  # characters of a question that are read


@dataclass(frozen=True)
class ClassifySubject:
    """An image, or the text of a question, that types are chosen for."""

    text: str = ""
    image: Image | None = None
    image_key: str | None = None


@dataclass(frozen=True)
class Classified:
    """Instruction types, best first; none where none fits, or where a call failed."""

    types: tuple[str, ...]
    failure: Failure | None = None


@dataclass(frozen=True)
class ClassifyTask:
    """Subjects to classify, and the model and types to do it with, as sent to an actor."""

    model: ModelName
    engine: EngineConfig
    tree: Tree
    subjects: tuple[ClassifySubject, ...]


async def classify_all(task: ClassifyTask) -> list[Classified]:
    """Return the types of each subject, in order.

    Raises:
        ModelUnavailable: The engine died.
    """
    engine, slots = await open_engine(task.model, task.engine), asyncio.Semaphore(task.engine.in_flight or IN_FLIGHT)

    async def classify_one(subject: ClassifySubject) -> Classified:
        async with slots:
            return await choose(engine, task.tree, subject, most=1)

    try:
        return list(await asyncio.gather(*map(classify_one, task.subjects)))
    except EngineDied as error:
        raise ModelUnavailable(
            f"model {task.model.model}: the engine died while it sorted questions: {error}"
        ) from error
    finally:
        await engine.close()


async def choose(engine: Engine, tree: Tree, subject: ClassifySubject, most: int) -> Classified:
    """Return at most `most` types for a subject, the best of each family before the second best of any."""
    families = await _choose_among(engine, tree, tree.roots, subject, min(most, FAMILIES))
    if isinstance(families, Failure):
        return Classified((), families)
    by_family: list[list[str]] = []
    for family in families:
        leaves = [path for path in tree.leaves if path.startswith(f"{family}/")]
        types = await _choose_among(engine, tree, leaves, subject, most)
        if isinstance(types, Failure):
            return Classified((), types)
        by_family.append(types)
    longest = max(map(len, by_family), default=0)
    in_turn = [types[place] for place in range(longest) for types in by_family if place < len(types)]
    return Classified(tuple(in_turn[:most]))


async def _choose_among(
    engine: Engine, tree: Tree, paths: Sequence[str], subject: ClassifySubject, most: int
) -> list[str] | Failure:
    question = (
        f"Which of these kinds of question does the question belong to?\nQuestion: {subject.text[:LONGEST]}"
        if subject.image is None
        else f"Which of these kinds of question suit the image best? Name at most {most}, the best first."
    )
    choice = choice_prompt.ChoiceRequest(
        "Kinds of question about an image:", question, most, subject.image, subject.image_key
    )
    return await choice_prompt.choose_nodes(engine, [tree.nodes[path] for path in paths], choice)
