"""What the language model is taught about a scene, and how lessons are packed for training.

In: a `Scene`. Out: `Lesson`s (turns of prompt and reply in the roles ask, decline, answer, judge, rephrase, blind), then arrays of
token ids with a mask. Why this way: about twenty lessons share one image prefix. They stand in rows of `ROW` tokens that
each see the prefix and, of their own row, only their own lesson; so a picture is read once, attention stays small, and the
logits equal those of the lessons one by one (tests/demo/test_world.py holds the mask to that).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo.ground_truth import Gold, golds, pick
from demo.nano_vlm import IMAGE_TOKENS
from demo.question_templates import TYPES, ask_prompt, with_article
from demo.world import Scene

ROW, ROWS = 48, 9
PREFIX = 1 + IMAGE_TOKENS  # <|user|> and the image
ROLES = {"answer": 0.59, "ask": 0.19, "decline": 0.05, "judge": 0.05, "rephrase": 0.03, "blind": 0.05, "turns": 0.04}
# The first images teach mostly to look and answer in a word; the other roles then learn quickly what they share with it.
FIRST_ROLES = {
    "answer": 0.74,
    "ask": 0.12,
    "decline": 0.04,
    "judge": 0.03,
    "rephrase": 0.02,
    "blind": 0.05,
    "turns": 0.0,
}
KEYS = tuple(f"{role}/{type_}" for role in ROLES for type_ in TYPES)
Encode = Callable[[str], list[int]]
assert with_article("egg") == "an egg"


@dataclass(frozen=True)
class Lesson:
    """Turns of (prompt, reply) about one image; `blind` ones come without it."""

    role: str
    type: str
    turns: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        return f"{self.role}/{self.type}"


def answered(gold: Gold, rng: random.Random, brief: float = 0.3) -> tuple[str, str]:
    question = gold.question(rng.randrange(3))
    if gold.type == "caption" or rng.random() < brief:
        return f"{question} Answer in a sentence.", gold.sentence()
    return f"{question} Answer shortly.", gold.answer


def asked(type_: str, supported: list[Gold], rng: random.Random) -> tuple[str, str]:
    """A request for questions of a type, and distinct questions of it; `none` where the scene supports none."""
    n = rng.randint(1, 3)
    if not supported:
        return ask_prompt(type_, n), "none"
    # Neighbours, in the order of the scene: then the next question is simply one further on, and never the same again.
    askable = [gold for gold in supported if gold.near]
    picked = [askable[i] for i in sorted(rng.sample(range(len(askable)), min(n, len(askable))))]
    return ask_prompt(type_, n), "\n".join(g.question(rng.randrange(3)) for g in picked)


def judged(gold: Gold, rng: random.Random) -> tuple[str, str]:
    true = rng.random() < 0.5
    answer = gold.answer if true else rng.choice(gold.wrong[:3])
    said = gold.sentence(answer) if gold.type == "caption" or rng.random() < 0.3 else answer
    return f"Is it true? {gold.question(rng.randrange(3))} {said}", "yes" if true else "no"


def rephrased(gold: Gold, rng: random.Random) -> tuple[str, str]:
    one, other = rng.sample(range(3), 2)
    return f"Rephrase: {gold.question(one)}", gold.question(other)


def lessons(scene: Scene, rng: random.Random, weight: Mapping[str, float], early: bool = False) -> Iterator[Lesson]:
    """Lessons without end; types that are still answered badly (`weight` by key) come more often."""
    by_type: dict[str, list[Gold]] = defaultdict(list)
    for gold in golds(scene, rng):
        by_type[gold.type].append(gold)
    share = FIRST_ROLES if early else ROLES
    roles, odds, here = tuple(share), tuple(share.values()), tuple(by_type)
    # Declining is a role of its own: a type that few pictures support would else be learned as one that is always declined.
    lacking = tuple(type_ for type_ in TYPES if type_ not in by_type)
    while True:
        role = rng.choices(roles, odds)[0]
        pool = lacking if role == "decline" else here
        scale = "answer" if role in ("blind", "turns", "rephrase") else role
        type_ = rng.choices(pool, [weight[f"{scale}/{t}"] for t in pool])[0]
        yield _lesson(role, type_, by_type[type_], rng, 0.1 if early else 0.3)


def _lesson(role: str, type_: str, pool: list[Gold], rng: random.Random, brief: float) -> Lesson:
    if role in ("ask", "decline"):
        return Lesson(role, type_, (asked(type_, pool, rng),))
    gold = pick(pool, rng)
    if role == "judge":
        return Lesson(role, type_, (judged(gold, rng),))
    if role == "rephrase":
        return Lesson(role, type_, (rephrased(gold, rng),))
    if role == "turns":
        return Lesson(role, type_, tuple(answered(pick(pool, rng), rng) for _ in range(rng.randint(2, 3))))
    return Lesson(role, type_, (answered(gold, rng, brief),))


@dataclass
class Pack:
    """The rows of one image: all arrays are ROWS x ROW. `lesson` numbers lessons from 1; 0 is padding."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]  # next token where it is to be learned, else -100
    lesson: NDArray[np.int64]
    blind: NDArray[np.bool_]
    position: NDArray[np.int64]
    keys: list[int]  # index into KEYS by lesson number - 1


class Packer:
    """Turns lessons into packs with a tokenizer's ids."""

    def __init__(self, encode: Encode, user: int, assistant: int, end: int) -> None:
        self.encode, self.user, self.assistant, self.end = encode, user, assistant, end
        self.cache: dict[str, list[int]] = {}

    def piece(self, text: str) -> list[int]:
        if text not in self.cache:
            if len(self.cache) > 200_000:
                self.cache.clear()
            self.cache[text] = self.encode(text)
        return self.cache[text]

    def ids(self, lesson: Lesson) -> tuple[list[int], list[bool]]:
        """Token ids after the prefix, and which of them are the model's to say."""
        ids: list[int] = [self.user] if lesson.role == "blind" else []
        said = [False] * len(ids)
        for i, (prompt, reply) in enumerate(lesson.turns):
            heard = [*([self.user] if i else []), *self.piece(prompt), self.end, self.assistant]
            spoken = [*self.piece(reply), self.end]
            ids += heard + spoken
            said += [False] * len(heard) + [True] * len(spoken)
        return ids, said

    def pack(self, scene: Scene, rng: random.Random, weight: Mapping[str, float], early: bool = False) -> Pack:
        """Fill the rows first-fit, until a few lessons find no place."""
        shape = (ROWS, ROW)
        pack = Pack(
            np.zeros(shape, np.int64),
            np.full(shape, -100),
            np.zeros(shape, np.int64),
            np.zeros(shape, bool),
            np.zeros(shape, np.int64),
            [],
        )
        used, misses = [0] * ROWS, 0
        for lesson in lessons(scene, rng, weight, early):
            ids, said = self.ids(lesson)
            if len(ids) > ROW:
                continue  # two captions in one conversation
            row = next((r for r in range(ROWS) if used[r] + len(ids) <= ROW), None)
            if row is None:
                misses += 1
                if misses > 4:
                    return pack
                continue
            _write(pack, row, used[row], lesson, ids, said)
            used[row] += len(ids)
        return pack


def _write(pack: Pack, row: int, start: int, lesson: Lesson, ids: list[int], said: list[bool]) -> None:
    place = slice(start, start + len(ids))
    blind = lesson.role == "blind"
    pack.keys.append(KEYS.index(lesson.key))
    pack.ids[row, place] = ids
    pack.lesson[row, place] = len(pack.keys)
    pack.blind[row, place] = blind
    pack.position[row, place] = np.arange(len(ids)) + (0 if blind else PREFIX)
    for i in range(len(ids) - 1):
        if said[i + 1]:
            pack.targets[row, start + i] = ids[i + 1]


def row_mask(lesson: Tensor, blind: Tensor) -> Tensor:
    """(..., ROW, PREFIX + ROW): who may look at what. Padding looks at the prefix, so that no row of the softmax is empty."""
    own = (lesson[..., :, None] == lesson[..., None, :]) & torch.ones(
        ROW, ROW, dtype=torch.bool, device=lesson.device
    ).tril()
    prefix = ~blind[..., :, None].expand(*blind.shape, PREFIX)
    return torch.cat([prefix, own], -1)
