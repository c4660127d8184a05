"""The oracle: whether a question and an answer, in free text, are true of a scene.

In: a `Scene` and the text of a question and an answer. Out: a `Verdict` (true, false or unreadable) with its reason. Why this way:
the truth is worked out anew from the scene graph for whatever the question is read to ask (`question_parser.py`), never looked up
among the strings that taught the models. Sentences and captions are read claim by claim, and all claims must hold. It measures;
nothing in the pipeline may consult it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from demo.answer_parser import read_answer
from demo.question_parser import TYPE_OF_KIND, Query, parse, question_type, read_noun
from demo.world import GROUP_OF, POSITIONS, USES, WORDS, Scene, Thing

__all__ = ["Verdict", "judge", "question_type", "unfit"]


@dataclass(frozen=True)
class Verdict:
    """`value` is "true", "false" or "unreadable"."""

    value: str
    reason: str


def judge(scene: Scene, question: str, answer: str) -> Verdict:
    """Is this answer to this question true of this scene?"""
    query = parse(question)
    if query is None:
        return Verdict("unreadable", f"cannot read the question {question!r}")
    if why := unfit(scene, query):
        return Verdict("false", f"the question does not fit: {why}")
    said = read_answer(query, answer.strip())
    if said is None:
        return Verdict("unreadable", f"cannot read the answer {answer!r}")
    if said.startswith("!"):
        return Verdict("false", said[1:])
    if query.kind == "caption":
        wrong = false_claim(scene, said)
        return Verdict("false", wrong) if wrong else Verdict("true", "every claim holds")
    right = truths(scene, query)
    return Verdict("true", f"it is {said}") if said in right else Verdict("false", f"it is {right[0]}, not {said}")


# -- what the scene says ---------------------------------------------------------------------------------------------------------


def fitting(scene: Scene, noun: str) -> list[Thing]:
    """The things that a noun phrase names."""
    colour, _, name = noun.rpartition(" ")
    return [
        t
        for t in scene.things
        if (name == "thing" or name == t.name or name == GROUP_OF.get(t.name, "shape"))
        and (not colour or t.colour == colour)
    ]


def unfit(scene: Scene, query: Query) -> str | None:
    """Why the question cannot be asked of this scene, or None."""
    kind, slots = query.kind, query.slots
    if kind in NEEDS_BARS and not scene.bars:
        return "there is no chart"
    if kind not in NEEDS_BARS and kind not in ("picture_kind", "caption", "count") and scene.bars:
        return "this is a chart"
    return FITS[kind](scene, slots) if kind in FITS else None


NEEDS_BARS = ("value", "tallest", "shortest", "taller", "sum", "difference")


def _one_each(scene: Scene, slots: tuple[str, ...]) -> str | None:
    for noun in slots:
        if len(fitting(scene, noun)) != 1:
            return f"{len(fitting(scene, noun))} things are a {noun}"
    return (
        "both are the same thing" if len(slots) == 2 and fitting(scene, slots[0]) == fitting(scene, slots[1]) else None
    )


def _coloured(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return _one_each(scene, slots) or next(
        (f"a {n} has no one colour" for n in slots if not fitting(scene, n)[0].colour), None
    )


def _bars(scene: Scene, slots: tuple[str, ...]) -> str | None:
    here = [bar.colour for bar in scene.bars]
    missing = next((f"there is no {colour} bar" for colour in slots if colour not in here), None)
    return missing or ("it is one bar twice" if len(set(slots)) < len(slots) else None)


def _difference(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return _bars(scene, slots) or (
        None if _value(scene, slots[0]) > _value(scene, slots[1]) else "the first bar is not the taller one"
    )


def _cell(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return "the sign is there" if scene.sign and POSITIONS.index(slots[0]) // 3 == scene.sign.row else None


def _thing_there(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return _cell(scene, slots) or (None if _at(scene, slots[0]) else "nothing is there")


def _useful(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return _thing_there(scene, slots) or (None if _group(_at(scene, slots[0])) in USES else "it has no one use")


def _extreme(best: Callable[[list[int]], int]) -> Callable[[Scene, tuple[str, ...]], str | None]:
    def fits(scene: Scene, _: tuple[str, ...]) -> str | None:
        values = [bar.value for bar in scene.bars]
        return None if values.count(best(values)) == 1 else "several bars share it"

    return fits


def _written(word: bool) -> Callable[[Scene, tuple[str, ...]], str | None]:
    def fits(scene: Scene, _: tuple[str, ...]) -> str | None:
        return (
            None
            if scene.sign and (scene.sign.text in WORDS) == word
            else f"no {'word' if word else 'number'} is written"
        )

    return fits


def _one_shape(scene: Scene, slots: tuple[str, ...]) -> str | None:
    n = len(fitting(scene, f"{slots[0]} shape"))
    return None if n == 1 else f"{n} shapes are {slots[0]}"


def _countable(scene: Scene, slots: tuple[str, ...]) -> str | None:
    wrong = (slots[0] == "bar") != bool(scene.bars)
    return "there is nothing of that kind to count" if wrong else None


def _two_kinds(scene: Scene, slots: tuple[str, ...]) -> str | None:
    return next((f"there is no {noun}" for noun in slots if not fitting(scene, noun)), None) or (
        "both are the same" if slots[0] == slots[1] else None
    )


FITS: dict[str, Callable[[Scene, tuple[str, ...]], str | None]] = {
    "value": _bars, "taller": _bars, "sum": _bars, "difference": _difference, "tallest": _extreme(max), "shortest": _extreme(min),
    "at": _cell, "kind": _thing_there, "use": _useful, "where": _one_each, "colour": _coloured, "same": _coloured,
    "relative": lambda scene, slots: _one_each(scene, (slots[0], slots[2])), "word": _written(True), "number": _written(False),
    "shape": _one_shape, "count": _countable, "more": _two_kinds,
}  # fmt: skip


def _at(scene: Scene, position: str) -> Thing | None:
    return next((t for t in scene.things if t.cell == POSITIONS.index(position)), None)


def _group(thing: Thing | None) -> str:
    return GROUP_OF.get(thing.name, "shape") if thing else ""


def _value(scene: Scene, colour: str) -> int:
    return next(bar.value for bar in scene.bars if bar.colour == colour)


def truths(scene: Scene, query: Query) -> list[str]:
    """The answers that are true, the fullest first."""
    kind, slots = query.kind, query.slots
    if kind == "at":
        thing = _at(scene, slots[0])
        return (
            [f"{thing.colour} {thing.name}", thing.name]
            if thing and thing.colour
            else [thing.name if thing else "nothing"]
        )
    if kind == "existence":
        return ["yes" if fitting(scene, slots[0]) else "no"]
    if kind == "count":
        return [str(len(scene.bars) if slots[0] == "bar" else len(fitting(scene, slots[0])))]
    if kind in ("taller", "more", "same", "relative"):
        return ["yes" if _holds(scene, kind, slots) else "no"]
    if kind in ("sum", "difference"):
        first, second = _value(scene, slots[0]), _value(scene, slots[1])
        return [str(first + second if kind == "sum" else first - second)]
    if kind in ("tallest", "shortest"):
        return [(max if kind == "tallest" else min)(scene.bars, key=lambda bar: bar.value).colour]
    single: dict[str, Callable[[], object]] = {
        "background": lambda: scene.background,
        "picture_kind": lambda: scene.kind,
        "word": lambda: scene.sign and scene.sign.text,
        "number": lambda: scene.sign and scene.sign.text,
        "where": lambda: POSITIONS[fitting(scene, slots[0])[0].cell],
        "colour": lambda: fitting(scene, slots[0])[0].colour,
        "shape": lambda: fitting(scene, f"{slots[0]} shape")[0].name,
        "kind": lambda: _group(_at(scene, slots[0])),
        "use": lambda: USES[_group(_at(scene, slots[0]))],
        "value": lambda: _value(scene, slots[0]),
    }
    return [str(single[kind]())]


def _holds(scene: Scene, kind: str, slots: tuple[str, ...]) -> bool:
    if kind == "taller":
        return _value(scene, slots[0]) > _value(scene, slots[1])
    first, last = fitting(scene, slots[0]), fitting(scene, slots[-1])
    if kind == "more":
        return len(first) > len(last)
    if kind == "same":
        return first[0].colour == last[0].colour
    (row, column), (other_row, other_column) = divmod(first[0].cell, 3), divmod(last[0].cell, 3)
    return {
        "left of": column < other_column,
        "right of": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[slots[1]]


# -- captions --------------------------------------------------------------------------------------------------------------------


def false_claim(scene: Scene, caption: str) -> str | None:
    """The first claim of a caption that does not hold, or None. What cannot be read does not hold."""
    if match := re.fullmatch(r"A chart with (\d) bars: (.+)", caption):
        return _false_bar(scene, int(match[1]), re.split(r", | and ", match[2]))
    match = re.fullmatch(r"The (\w+)(?: with the sign (\w+))?(?: (without things)| (?:with|and) (.+))?", caption)
    if not match:
        return f"cannot read {caption!r}"
    place, text, empty, told = match.groups()
    if place != scene.background:
        return f"this is not the {place}"
    if text is not None and (scene.sign is None or text != scene.sign.text):
        return f"no sign says {text}"
    if empty and (scene.things or scene.sign):
        return "it is not without things"
    return next(
        (wrong for part in re.split(r", | and ", told or "") if part and (wrong := _false_count(scene, part))), None
    )


def _false_count(scene: Scene, part: str) -> str | None:
    number, _, noun = part.partition(" ")
    known = read_noun(noun)
    n = 1 if number in ("a", "an") else int(number) if number.isdecimal() else -1
    if known is None or n < 0:
        return f"cannot read {part!r}"
    return None if len(fitting(scene, known)) == n else f"there are {len(fitting(scene, known))}, not {part!r}"


def _false_bar(scene: Scene, number: int, parts: list[str]) -> str | None:
    if number != len(scene.bars):
        return f"there are {len(scene.bars)} bars"
    here = {f"{bar.colour} {bar.value}" for bar in scene.bars}
    return next((f"no bar is {part}" for part in parts if part not in here), None)


assert set(TYPE_OF_KIND) >= set(FITS)
