"""Pairs with known faults: an engine that asks and answers as it is told to, and which fault each of its pairs has.

What is planted for a picture and an instruction type is a function of its scene, so the faults of a run's pairs are
known without being stored with them.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from demo.draw import draw
from demo.ground_truth import QAPair, qa_pairs, unique_things
from demo.laboratory.pictures import load_scenes
from demo.question_templates import ASK_AS, with_article
from demo.training_examples import unanswerable
from demo.world import COLOURS, GROUPS, POSITIONS, Scene
from synthgen.config.engine import EngineConfig
from synthgen.engines.protocol import EngineInfo, ModelName, Reply, Request

TYPE_OF = {words: type_ for type_, words in ASK_AS.items()}
ASKED = re.compile(r"Ask (\d) questions? about (.+)\.")
RIGHT = "right"
WRONG = {  # fault -> the kinds of question whose right answer it replaces by a near miss
    "wrong number": ("count", "value", "number", "sum", "difference"),
    "wrong colour": ("colour", "tallest", "shortest"),
    "wrong place": ("where",),
    "wrong thing": ("at", "shape", "kind", "use", "word", "background"),
    "yes for no, no for yes": ("existence", "relative", "more", "same", "taller"),
}
MADE_UP: dict[str, Callable[[random.Random], str]] = {  # kind -> an answer to a question that has none
    "where": lambda rng: rng.choice(POSITIONS),
    "colour": lambda rng: rng.choice(tuple(COLOURS)),
    "kind": lambda rng: with_article(rng.choice(tuple(GROUPS))),
    "relative": lambda rng: rng.choice(("yes", "no")),
    "value": lambda rng: str(rng.randint(1, 9)),
    "taller": lambda rng: rng.choice(("yes", "no")),
}
RIGHT_SHARE = 0.4


@dataclass(frozen=True)
class Planted:
    """A question, its answer, and what is wrong with them."""

    question: str
    answer: str
    fault: str


def plant(scene: Scene, type_: str) -> list[Planted]:
    """Return two pairs of an instruction type about a scene, or fewer where it supports fewer."""
    rng = scene.rng(f"planted/{type_}")
    pairs = [pair for pair in qa_pairs(scene, rng) if pair.type == type_]
    rng.shuffle(pairs)
    if pairs and rng.random() < 0.1:
        first, second = rng.sample(range(3), 2)
        pair = pairs[0]
        return [
            Planted(pair.question(first), pair.answer, RIGHT),
            Planted(pair.question(second), pair.answer, "the same in other words"),
        ]
    planted = [_planted(scene, pair, rng) for pair in pairs[:2]]
    return list({each.question: each for each in planted}.values())


def _planted(scene: Scene, pair: QAPair, rng: random.Random) -> Planted:
    """Return a pair with one of the faults that it can have, or without."""
    faults = [fault for fault, kinds in WRONG.items() if pair.kind in kinds and pair.distractors]
    unfit = [other for other in unanswerable(scene, rng) if other.type == pair.type and other.kind in MADE_UP]
    faults += ["not in the picture"] if unfit else []
    coloured = [(phrase, thing) for phrase, thing in unique_things(scene) if thing.colour]
    faults += ["gives its answer away"] if pair.kind == "colour" and coloured else []
    is_print = pair.answer not in ("yes", "no") and pair.kind not in ("word", "number")
    faults += ["what the sign says"] if scene.sign and is_print else []
    question = pair.question(rng.randrange(3))
    if not faults or rng.random() < RIGHT_SHARE:
        return Planted(question, pair.answer, RIGHT)
    fault = rng.choice(faults)
    if fault == "not in the picture":
        other = rng.choice(unfit)
        return Planted(other.question(rng.randrange(3)), MADE_UP[other.kind](rng), fault)
    if fault == "gives its answer away":
        _, thing = rng.choice(coloured)
        return Planted(f"What colour is the {thing.colour} {thing.name}?", str(thing.colour), fault)
    if fault == "what the sign says":
        return Planted(question, scene.sign.text if scene.sign else "", fault)
    return Planted(question, rng.choice(pair.distractors[:3]), fault)


def digest(image: Image) -> str:
    """Return what a picture is known by: its pixels."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


class PlantedEngine:
    """An engine that plants pairs about the pictures of the folders that `engine.options.pictures` names."""

    def __init__(self, name: ModelName, settings: EngineConfig) -> None:
        scenes = [scene for folder in settings.options["pictures"] for scene in load_scenes(Path(folder)).values()]
        self._scenes = {digest(draw(scene)): scene for scene in scenes}
        self._answers: dict[tuple[str, str], str] = {}
        self.facts = EngineInfo(name.model, name.revision, frozenset(), None, "planted 1")

    async def generate(self, request: Request) -> Reply:
        """Return the planted questions of the type that is asked for, or the planted answer to one of them."""
        if request.image is None:
            raise ValueError("a planted pair is about a picture")
        key = digest(request.image)
        if asked := ASKED.fullmatch(request.text):
            pairs = plant(self._scenes[key], TYPE_OF[asked[2]])[: int(asked[1])]
            self._answers.update({(key, each.question): each.answer for each in pairs})
            return Reply("\n".join(each.question for each in pairs) or "none")
        return Reply(self._answers[key, request.text.removesuffix(" Answer shortly.")])

    async def close(self) -> None:
        """Do nothing: the engine holds nothing."""
