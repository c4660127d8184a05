"""A vision-language model choosing for itself what to ask of a picture, in two ways.

From a list: the types stand in the prompt and a schema holds the reply to their names, families first. Asked for each:
the model is asked for one question of each type, and the score is how likely it is not to decline, as the nano VLM was
trained to. It runs in an actor, as every engine does.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from PIL.Image import Image

from synthgen.commands.learn import classify
from synthgen.config.engine import EngineConfig
from synthgen.config.prompt_pack import Prompts
from synthgen.config.templates import render
from synthgen.engines import Engine, ModelName, Request, open_engine

Ranking = Mapping[str, float]
AT_ONCE = 16  # pictures in flight
MOST = 5  # types that are chosen from a list


@dataclass(frozen=True)
class Task:
    """The input of the actor."""

    model: ModelName
    engine: EngineConfig
    prompts: Prompts
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Choices:
    """A score for every type of every picture, in order, for both ways."""

    listed: list[Ranking]
    asked: list[Ranking]
    failures: list[str]  # of the pictures for which the list gave no choice
    none: int  # pictures for which the model chose the empty list


async def choices(task: Task) -> Choices:
    """Let the model choose both ways for all pictures, on one engine."""
    engine, slots = await open_engine(task.model, task.engine), asyncio.Semaphore(AT_ONCE)

    async def both(number: int, image: Image) -> tuple[classify.Classified, Ranking]:
        key = f"picture {number}"
        async with slots:
            chosen = await classify.choose(engine, task.prompts.tree, classify.ClassifySubject("", image, key), MOST)
            return chosen, await _asked(engine, task.prompts, image, key)

    chosen_and_asked = await asyncio.gather(*(both(number, image) for number, image in enumerate(task.images)))
    await engine.close()
    by_list = [chosen for chosen, _ in chosen_and_asked]
    listed: list[Ranking] = [
        {path: float(MOST - place) for place, path in enumerate(chosen.types)} for chosen in by_list
    ]
    failures = [str(chosen.failure) for chosen in by_list if chosen.failure]
    none = sum(not chosen.types and not chosen.failure for chosen in by_list)
    return Choices(listed, [asked for _, asked in chosen_and_asked], failures, none)


async def _asked(engine: Engine, prompts: Prompts, image: Image, key: str) -> Ranking:
    """Return for each type the probability that the reply does not begin with the word that declines."""
    decline = prompts.pack.ask.none
    assert decline, "this pack has no word to decline with"
    requests = [
        Request(
            "ask",
            render(prompts.pack.ask.text, type=kind, n=1),
            1,
            image,
            key,
            system=prompts.pack.system_for("ask"),
            labels=(decline,),
        )
        for kind in prompts.types.values()
    ]
    replies = await asyncio.gather(*map(engine.generate, requests))
    assert not any(reply.failure for reply in replies), [reply.detail for reply in replies if reply.failure][:1]
    return {path: 1.0 - reply.labels[decline] for path, reply in zip(prompts.types, replies, strict=True)}
