"""Every question the drawn world can ask about a scene, with its true answer and near-miss wrong ones.

The language model is trained on these, and the near misses (off by one, a neighbouring colour, another thing of the
scene) measure judges. Whether a model's answer is true is decided independently, in `oracle.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

from demo.captions import caption, wrong_captions
from demo.question_templates import QUESTIONS, fill_question, fill_sentence, with_article
from demo.world import (
    BACKGROUNDS,
    COLOURS,
    GROUPS,
    KINDS,
    OBJECTS,
    POSITIONS,
    SHAPES,
    USES,
    WORDS,
    Scene,
    Thing,
    matches,
    plural,
)

Item = TypeVar("Item")
PICTURE_KINDS = {"scene": "a scene", "sign": "a sign", "chart": "a chart", "empty": "an empty scene"}


@dataclass(frozen=True)
class QAPair:
    """A question before it is worded, its true short answer, and wrong answers, the nearest first."""

    kind: str  # key of QUESTIONS
    slots: tuple[str, ...]
    answer: str
    distractors: tuple[str, ...]
    # Taught as a question to ask: of two things, only neighbours in reading order; of absent things, only the first.
    is_askable: bool = True

    @property
    def type(self) -> str:
        """The instruction type."""
        return QUESTIONS[self.kind][0]

    def question(self, wording: int) -> str:
        """Return the question in one of its three wordings."""
        return fill_question(self.kind, self.slots, wording)

    def sentence(self, answer: str | None = None) -> str:
        """Return the true answer, or another one, as a sentence."""
        return fill_sentence(self.kind, self.slots, self.answer if answer is None else answer)


def qa_pairs(scene: Scene, rng: random.Random) -> list[QAPair]:
    """Return a pair for every question that the scene supports; `rng` picks the absent things and the wrong answers."""
    if scene.bars:
        return [*_of_picture(scene), *_of_chart(scene, rng)]
    return [
        *_of_picture(scene),
        *_of_background(scene, rng),
        *_of_sign(scene, rng),
        *_of_things(scene, rng),
        *_of_relations(scene),
    ]


def pick(pairs: Sequence[QAPair], rng: random.Random) -> QAPair:
    """Return one pair at random; yes and no come equally often where both occur, so that neither can be guessed."""
    answers = sorted({pair.answer for pair in pairs})
    if answers == ["no", "yes"]:
        wanted = rng.choice(answers)
        pairs = [pair for pair in pairs if pair.answer == wanted]
    return rng.choice(pairs)


def _others(pool: tuple[str, ...], right: str, rng: random.Random, nearest: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return wrong answers: the nearest, then three at random from the pool."""
    near = [word for word in dict.fromkeys(nearest) if word != right]
    rest = [word for word in pool if word != right and word not in near]
    return (*near, *rng.sample(rest, min(3, len(rest))))


def _near_numbers(value: int, low: int, high: int) -> tuple[str, ...]:
    """Return the four numbers from `low` to `high` that are nearest to the value."""
    around = sorted((n for n in range(low, high + 1) if n != value), key=lambda n: (abs(n - value), n))
    return tuple(str(n) for n in around[:4])


def _of_picture(scene: Scene) -> Iterator[QAPair]:
    others = tuple(PICTURE_KINDS[kind] for kind in KINDS if kind != scene.kind)
    yield QAPair("picture_kind", (), PICTURE_KINDS[scene.kind], others)
    yield QAPair("caption", (), caption(scene), wrong_captions(scene))


def _of_background(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    if scene.background in BACKGROUNDS:
        yield QAPair("background", (), scene.background, _others(BACKGROUNDS, scene.background, rng))


def _of_sign(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    if not scene.sign:
        return
    text = scene.sign.text
    if text in WORDS:
        alike = sorted((word for word in WORDS if word != text), key=lambda word: (-_same_letters(word, text), word))
        yield QAPair("word", (), text, _others(WORDS, text, rng, tuple(alike[:2])))
    else:
        yield QAPair("number", (), text, _near_numbers(int(text), 0, 99))


def _same_letters(word: str, other: str) -> int:
    """Return in how many places two words have the same letter."""
    return sum(a == b for a, b in zip(word, other, strict=False))


def _of_things(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    yield from _of_cells(scene, rng)
    yield from _of_presence(scene, rng)
    yield from _of_counts(scene, rng)
    for phrase, thing in unique_things(scene):
        position = POSITIONS[thing.cell]
        near = tuple(POSITIONS[other.cell] for other in scene.things if other is not thing)[:2]
        yield QAPair("where", (phrase,), position, _others(POSITIONS, position, rng, near))
        if thing.colour and phrase == thing.name:
            colours = tuple(other.colour for other in scene.things if other.colour)
            yield QAPair("colour", (phrase,), thing.colour, _others(tuple(COLOURS), thing.colour, rng, colours))
    shapes = {thing.colour: with_article(thing.name) for thing in scene.things if thing.colour}
    near = tuple(with_article(thing.name) for thing in scene.things if thing.colour)
    for colour, number in Counter(thing.colour for thing in scene.things if thing.colour).items():
        if number == 1:
            right, pool = shapes[colour], tuple(map(with_article, SHAPES))
            yield QAPair("shape", (colour,), right, _others(pool, right, rng, near))


def _of_cells(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    """Ask of each cell with a thing, and of one empty cell."""
    here = tuple(dict.fromkeys(with_article(thing.phrase) for thing in scene.things))
    everything = (
        *map(with_article, OBJECTS),
        *(with_article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES),
    )
    thing_in = {thing.cell: thing for thing in scene.things}
    free = [cell for cell in range(9) if cell not in thing_in and not (scene.sign and cell // 3 == scene.sign.row)]
    empty = rng.sample(free, min(1, len(free)))
    for cell in sorted((*thing_in, *empty)):
        slots = (POSITIONS[cell],)
        if cell in empty:
            yield QAPair("at", slots, "nothing", _others(everything, "nothing", rng, here))
            continue
        thing = thing_in[cell]
        right = with_article(thing.phrase)
        yield QAPair("at", slots, right, _others((*everything, "nothing"), right, rng, here))
        right, pool = with_article(thing.group), tuple(map(with_article, (*GROUPS, "shape")))
        near = tuple(with_article(other.group) for other in scene.things)
        yield QAPair("kind", slots, right, _others(pool, right, rng, near))
        if thing.group in USES:
            use = USES[thing.group]
            yield QAPair("use", slots, use, _others(tuple(dict.fromkeys(USES.values())), use, rng))


def unique_things(scene: Scene) -> list[tuple[str, Thing]]:
    """Return the things that one phrase picks out, in reading order, each with its phrase.

    The phrase is the name where the name is unique, else colour and name.
    """
    names = Counter(thing.name for thing in scene.things)
    phrases = Counter(thing.phrase for thing in scene.things)
    things = []
    for thing in scene.things:
        if names[thing.name] == 1:
            things.append((thing.name, thing))
        elif thing.colour and phrases[thing.phrase] == 1:
            things.append((thing.phrase, thing))
    return things


def _nouns(scene: Scene) -> list[str]:
    """Return every noun phrase that fits something here, from the particular to the general."""
    phrases = [thing.phrase for thing in scene.things]
    names = [thing.name for thing in scene.things]
    groups = [thing.group for thing in scene.things]
    return list(dict.fromkeys((*phrases, *names, *groups)))


def count(scene: Scene, noun: str) -> int:
    """Return how many things a noun phrase fits."""
    return sum(map(matches(noun), scene.things))


def _absent_nouns(scene: Scene, rng: random.Random) -> list[str]:
    """Return noun phrases that fit nothing here: at most three close to a thing of the scene, then others."""
    near = [rng.choice(tuple(GROUPS[thing.group])) for thing in scene.things if not thing.colour]
    near += [f"{rng.choice(tuple(COLOURS))} {thing.name}" for thing in scene.things if thing.colour]
    far = [
        rng.choice(OBJECTS),
        rng.choice(SHAPES),
        rng.choice((*GROUPS, "shape")),
        f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)}",
    ]
    rng.shuffle(near)
    return [noun for noun in dict.fromkeys((*near[:3], *far)) if count(scene, noun) == 0]


def _of_presence(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    present, absent = _nouns(scene), _absent_nouns(scene, rng)
    for at in sorted(rng.sample(range(len(present)), min(len(present), len(absent)))):
        yield QAPair("existence", (with_article(present[at]),), "yes", ("no",))
    for number, noun in enumerate(absent[: max(1, len(present))]):
        yield QAPair("existence", (with_article(noun),), "no", ("yes",), is_askable=number == 0)


def _of_counts(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    absent = _absent_nouns(scene, rng)
    for noun in [*_nouns(scene), "thing", *absent[:1]]:
        number = count(scene, noun)
        yield QAPair("count", (plural(noun), noun), str(number), _near_numbers(number, 0, 6))


def _of_relations(scene: Scene) -> Iterator[QAPair]:
    things = unique_things(scene)
    for (first, a), (second, b), are_neighbours in _ordered_pairs(things):
        for relation, is_true in relations(a, b).items():
            yield _yes_no("relative", (first, relation, second), is_true, are_neighbours)
    shapes = [(phrase, thing) for phrase, thing in things if thing.colour and phrase == thing.name]
    for (first, a), (second, b), are_neighbours in _ordered_pairs(shapes):
        yield _yes_no("same", (first, second), a.colour == b.colour, are_neighbours)
    for first, second, are_neighbours in _ordered_pairs(list(dict.fromkeys(thing.name for thing in scene.things))):
        is_true = count(scene, first) > count(scene, second)
        yield _yes_no("more", (plural(first), plural(second)), is_true, are_neighbours)


def _ordered_pairs(items: Sequence[Item]) -> Iterator[tuple[Item, Item, bool]]:
    """Yield every two different items in both orders, and whether they are neighbours in the sequence."""
    for i, j in permutations(range(len(items)), 2):
        yield items[i], items[j], abs(i - j) == 1


def _yes_no(kind: str, slots: tuple[str, ...], is_true: bool, is_askable: bool) -> QAPair:
    right, wrong = ("yes", "no") if is_true else ("no", "yes")
    return QAPair(kind, slots, right, (wrong,), is_askable)


def relations(a: Thing, b: Thing) -> dict[str, bool]:
    """Return which relations hold from one thing to another, by the rows and columns of the grid."""
    row, column = divmod(a.cell, 3)
    other_row, other_column = divmod(b.cell, 3)
    return {
        "left of": column < other_column,
        "right of": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }


def _of_chart(scene: Scene, rng: random.Random) -> Iterator[QAPair]:
    bars, values = scene.bars, [bar.value for bar in scene.bars]
    yield QAPair("count", ("bars", "bar"), str(len(bars)), _near_numbers(len(bars), 0, 6))
    for bar in bars:
        right, around = str(bar.value), _near_numbers(bar.value, 1, 9)
        near = dict.fromkeys((*around[:2], *map(str, values), *around))
        yield QAPair("value", (bar.colour,), right, tuple(value for value in near if value != right))
    for kind, extreme in (("tallest", max(values)), ("shortest", min(values))):
        if values.count(extreme) == 1:
            ranked = sorted(bars, key=lambda bar: abs(bar.value - extreme))
            yield QAPair(kind, (), ranked[0].colour, tuple(bar.colour for bar in ranked[1:]))
    for a, b, are_neighbours in _ordered_pairs(bars):
        slots = (a.colour, b.colour)
        total, difference = a.value + b.value, a.value - b.value
        yield _yes_no("taller", slots, difference > 0, are_neighbours)
        yield QAPair("sum", slots, str(total), _near_numbers(total, 2, 18), are_neighbours)
        if difference > 0:
            yield QAPair("difference", slots, str(difference), _near_numbers(difference, 1, 8), are_neighbours)
