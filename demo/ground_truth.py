"""What is true of a scene, as questions and answers.

In: a `Scene`. Out: every question the world can ask about it, with the right short answer and near-miss wrong ones (off by one,
the neighbouring colour, another thing of the same scene). Why this way: the language model is taught from here and the near
misses measure judges; whether an answer given by a model is true is decided elsewhere (`oracle.py`), by another road.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TypeVar

from demo.question_templates import ASKING as _ASKING
from demo.question_templates import ask, sentence, with_article
from demo.world import (
    BACKGROUNDS,
    COLOURS,
    GROUP_OF,
    GROUPS,
    KINDS,
    NUMBERS,
    OBJECTS,
    POSITIONS,
    SHAPES,
    USES,
    WORDS,
    Scene,
    Thing,
    matches,
    plural,
)  # fmt: skip

Item = TypeVar("Item")
PICTURE_KINDS = {"scene": "a scene", "sign": "a sign", "chart": "a chart", "empty": "an empty scene"}


@dataclass(frozen=True)
class Gold:
    """One question in the abstract, its true short answer, and wrong answers in order of nearness."""

    kind: str
    slots: tuple[str, ...]
    answer: str
    wrong: tuple[str, ...]
    near: bool = True  # it may be asked for: of two things they are neighbours in reading order, of what is absent it is the first

    @property
    def type(self) -> str:
        return _ASKING[self.kind][0]

    def question(self, way: int) -> str:
        return ask(self.kind, self.slots, way)

    def sentence(self, answer: str | None = None) -> str:
        return sentence(self.kind, self.slots, self.answer if answer is None else answer)


def golds(scene: Scene, rng: random.Random) -> list[Gold]:
    """Every supported question, absent things sampled by `rng`."""
    if scene.bars:
        return [*_picture(scene), *_chart(scene, rng)]
    return [*_picture(scene), *_place(scene, rng), *_sign(scene, rng), *_things(scene, rng), *_relations(scene)]


def pick(pool: Sequence[Gold], rng: random.Random) -> Gold:
    """One of these; of yes and no, each as often where both are right of something, so that neither can be guessed."""
    answers = sorted({gold.answer for gold in pool})
    if answers == ["no", "yes"]:
        wanted = rng.choice(answers)
        pool = [gold for gold in pool if gold.answer == wanted]
    return rng.choice(pool)


def look(thing: Thing) -> str:
    return f"{thing.colour} {thing.name}" if thing.colour else thing.name


def _others(pool: tuple[str, ...], right: str, rng: random.Random, first: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Wrong answers: those named first, then three more of the pool."""
    near = [w for w in dict.fromkeys(first) if w != right]
    rest = [w for w in pool if w != right and w not in near]
    return (*near, *rng.sample(rest, min(3, len(rest))))


def _near_numbers(value: int, low: int, high: int) -> tuple[str, ...]:
    around = sorted((n for n in range(low, high + 1) if n != value), key=lambda n: (abs(n - value), n))
    return tuple(str(n) for n in around[:4])


def _picture(scene: Scene) -> Iterator[Gold]:
    right = PICTURE_KINDS[scene.kind]
    yield Gold("picture_kind", (), right, tuple(PICTURE_KINDS[k] for k in KINDS if k != scene.kind))
    told = caption(scene)
    yield Gold("caption", (), told, tuple(dict.fromkeys(c for s in _neighbours(scene) if (c := caption(s)) != told)))


def caption(scene: Scene) -> str:
    """One sentence that names all there is."""
    if scene.bars:
        values = _list([f"{bar.colour} {bar.value}" for bar in scene.bars])
        return f"A chart with {len(scene.bars)} bars: {values}."
    counts = Counter(look(thing) for thing in scene.things)
    told = _list([with_article(noun) if n == 1 else f"{n} {plural(noun)}" for noun, n in counts.items()])
    place = f"The {scene.background}"
    if scene.sign:
        place += f" with the sign {scene.sign.text}"
        return f"{place} and {told}." if told else f"{place}."
    return f"{place} with {told}." if told else f"{place} without things."


def _list(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1] if parts else "")))


def _neighbours(scene: Scene) -> Iterator[Scene]:
    """Scenes that differ in one thing, for wrong captions."""
    rng = scene.rng("neighbours")
    if scene.bars:
        at = rng.randrange(len(scene.bars))
        bar = scene.bars[at]
        changed = replace(bar, value=bar.value + 1 if bar.value < 9 else 8)
        yield replace(scene, bars=(*scene.bars[:at], changed, *scene.bars[at + 1 :]))
        return
    if scene.things:
        at = rng.randrange(len(scene.things))
        thing = scene.things[at]
        pool = tuple(COLOURS) if thing.colour else tuple(GROUPS[GROUP_OF[thing.name]])
        new = _others(pool, thing.colour or thing.name, rng)[0]
        changed_thing = replace(thing, colour=new) if thing.colour else replace(thing, name=new)
        yield replace(scene, things=(*scene.things[:at], changed_thing, *scene.things[at + 1 :]))
        yield replace(scene, things=(*scene.things, replace(thing, cell=-1)))  # one too many
    if scene.sign:
        pool = WORDS if scene.sign.text in WORDS else NUMBERS
        yield replace(scene, sign=replace(scene.sign, text=_others(pool, scene.sign.text, rng)[0]))
    yield replace(scene, background=_others(BACKGROUNDS, str(scene.background), rng)[0])


def _place(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    if scene.background in BACKGROUNDS:
        yield Gold("background", (), scene.background, _others(BACKGROUNDS, scene.background, rng))


def _sign(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    if not scene.sign:
        return
    text = scene.sign.text
    if text in WORDS:
        alike = sorted(
            (w for w in WORDS if w != text), key=lambda w: (-sum(a == b for a, b in zip(w, text, strict=False)), w)
        )
        yield Gold("word", (), text, _others(WORDS, text, rng, tuple(alike[:2])))
    else:
        yield Gold("number", (), text, _near_numbers(int(text), 0, 99))


def _things(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    here = tuple(dict.fromkeys(with_article(look(t)) for t in scene.things))
    yield from _cells(scene, rng, here)
    yield from _presence(scene, rng)
    yield from _counts(scene, rng)
    for phrase, thing in unique(scene):
        others = [POSITIONS[t.cell] for t in scene.things if t is not thing]
        yield Gold(
            "where", (phrase,), POSITIONS[thing.cell], _others(POSITIONS, POSITIONS[thing.cell], rng, tuple(others[:2]))
        )
        if thing.colour and phrase == thing.name:
            near = tuple(t.colour for t in scene.things if t.colour)
            yield Gold("colour", (phrase,), thing.colour, _others(tuple(COLOURS), thing.colour, rng, near))
    for colour, number in Counter(t.colour for t in scene.things if t.colour).items():
        if number == 1:
            right = with_article(next(t.name for t in scene.things if t.colour == colour))
            near = tuple(with_article(t.name) for t in scene.things if t.colour)
            yield Gold("shape", (str(colour),), right, _others(tuple(map(with_article, SHAPES)), right, rng, near))


def _cells(scene: Scene, rng: random.Random, here: tuple[str, ...]) -> Iterator[Gold]:
    at = {thing.cell: thing for thing in scene.things}
    free = [c for c in range(9) if c not in at and not (scene.sign and c // 3 == scene.sign.row)]
    everything = (
        *map(with_article, OBJECTS),
        *(f"a {c} {s}" if c != "orange" else f"an orange {s}" for c in COLOURS for s in SHAPES),
    )
    empty = rng.sample(free, min(1, len(free)))
    for cell in sorted((*at, *empty)):
        if cell in empty:
            yield Gold("at", (POSITIONS[cell],), "nothing", _others(everything, "nothing", rng, here))
            continue
        thing = at[cell]
        right, slot = with_article(look(thing)), (POSITIONS[cell],)
        yield Gold("at", slot, right, _others((*everything, "nothing"), right, rng, here))
        group = GROUP_OF.get(thing.name, "shape")
        near = tuple(with_article(GROUP_OF.get(t.name, "shape")) for t in scene.things)
        yield Gold(
            "kind",
            slot,
            with_article(group),
            _others(tuple(map(with_article, (*GROUPS, "shape"))), with_article(group), rng, near),
        )
        if group in USES:
            yield Gold("use", slot, USES[group], _others(tuple(dict.fromkeys(USES.values())), USES[group], rng))


def unique(scene: Scene) -> list[tuple[str, Thing]]:
    """Things that one phrase picks out, in reading order: by name where it is the only one, else by colour and name."""
    names, looks = Counter(t.name for t in scene.things), Counter(look(t) for t in scene.things)
    phrases = [(t.name if names[t.name] == 1 else look(t), t) for t in scene.things]
    return [(phrase, t) for phrase, t in phrases if names[t.name] == 1 or (t.colour and looks[phrase] == 1)]


def _nouns(scene: Scene) -> list[str]:
    """Every noun phrase that fits something here, from the particular to the general."""
    looks = dict.fromkeys(look(t) for t in scene.things)
    names = dict.fromkeys(t.name for t in scene.things)
    groups = dict.fromkeys(GROUP_OF.get(t.name, "shape") for t in scene.things)
    return list(dict.fromkeys((*looks, *names, *groups)))


def count(scene: Scene, noun: str) -> int:
    return sum(map(matches(noun), scene.things))


def _absent(scene: Scene, rng: random.Random) -> list[str]:
    """Nouns that fit nothing here: some near what is here, some at large."""
    near = [rng.choice(tuple(GROUPS[GROUP_OF[t.name]])) for t in scene.things if not t.colour]
    near += [f"{rng.choice(tuple(COLOURS))} {t.name}" for t in scene.things if t.colour]
    far = [
        rng.choice(OBJECTS),
        rng.choice(SHAPES),
        rng.choice((*GROUPS, "shape")),
        f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)}",
    ]
    rng.shuffle(near)
    return [noun for noun in dict.fromkeys((*near[:3], *far)) if count(scene, noun) == 0]


def _presence(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    present, absent = _nouns(scene), _absent(scene, rng)
    for at in sorted(rng.sample(range(len(present)), min(len(present), len(absent)))):
        yield Gold("existence", (with_article(present[at]),), "yes", ("no",))
    for number, noun in enumerate(absent[: max(1, len(present))]):
        yield Gold("existence", (with_article(noun),), "no", ("yes",), near=number == 0)


def _counts(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    absent = _absent(scene, rng)
    for noun in [*_nouns(scene), "thing", *absent[:1]]:
        number = count(scene, noun)
        yield Gold("count", (plural(noun), noun), str(number), _near_numbers(number, 0, 6))


def _relations(scene: Scene) -> Iterator[Gold]:
    for (first, a), (second, b), near in _pairs(unique(scene)):
        for relation, true in relations(a, b).items():
            yield Gold("relative", (first, relation, second), _yes(true), (_yes(not true),), near)
    shapes = [one for one in unique(scene) if one[1].colour and one[0] == one[1].name]
    for (first, a), (second, b), near in _pairs(shapes):
        same = a.colour == b.colour
        yield Gold("same", (first, second), _yes(same), (_yes(not same),), near)
    for name, other, near in _pairs(list(dict.fromkeys(t.name for t in scene.things))):
        true = count(scene, name) > count(scene, other)
        yield Gold("more", (plural(name), plural(other)), _yes(true), (_yes(not true),), near)


def _pairs(items: Sequence[Item]) -> Iterator[tuple[Item, Item, bool]]:
    """Every two different items in both orders, and whether they stand side by side."""
    for i, j in permutations(range(len(items)), 2):
        yield items[i], items[j], abs(i - j) == 1


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def relations(a: Thing, b: Thing) -> dict[str, bool]:
    """By rows and columns of the grid."""
    row, column, other_row, other_column = *divmod(a.cell, 3), *divmod(b.cell, 3)
    return {
        "left of": column < other_column, "right of": column > other_column, "above": row < other_row, "below": row > other_row,
    }  # fmt: skip


def _chart(scene: Scene, rng: random.Random) -> Iterator[Gold]:
    bars, values = scene.bars, [bar.value for bar in scene.bars]
    yield Gold("count", ("bars", "bar"), str(len(bars)), _near_numbers(len(bars), 0, 6))
    for bar in bars:
        near = (*_near_numbers(bar.value, 1, 9)[:2], *(str(v) for v in values), *_near_numbers(bar.value, 1, 9))
        yield Gold("value", (bar.colour,), str(bar.value), tuple(v for v in dict.fromkeys(near) if v != str(bar.value)))
    for kind, extreme in (("tallest", max(values)), ("shortest", min(values))):
        if values.count(extreme) == 1:
            ranked = sorted((b for b in bars if b.value != extreme), key=lambda b: abs(b.value - extreme))
            yield Gold(kind, (), next(b.colour for b in bars if b.value == extreme), tuple(b.colour for b in ranked))
    for a, b, beside in _pairs(bars):
        true = a.value > b.value
        yield Gold("taller", (a.colour, b.colour), _yes(true), (_yes(not true),), beside)
        yield Gold("sum", (a.colour, b.colour), str(a.value + b.value), _near_numbers(a.value + b.value, 2, 18), beside)
        if true:
            yield Gold(
                "difference",
                (a.colour, b.colour),
                str(a.value - b.value),
                _near_numbers(a.value - b.value, 1, 8),
                beside,
            )
