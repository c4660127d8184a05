"""The oracle: whether a question and its answer, in free text, are true of a scene.

The truth is worked out from the scene graph for whatever the question asks, never looked up among the strings that
trained the models. Of a caption every claim must hold. The oracle measures; nothing in the pipeline may consult it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from demo.answer_parser import Contradiction, parse_answer
from demo.question_fit import bar_value, group_at, mismatch, thing_at, things_named
from demo.question_parser import Query, parse_noun, parse_question
from demo.world import POSITIONS, USES, Scene

NOT_SHOWN = re.compile(r"\b(?:not|no|none|nothing|cannot|without)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A judgement; `value` is "true", "false" or "unreadable"."""

    value: str
    reason: str


def judge(scene: Scene, question: str, answer: str) -> Verdict:
    """Return whether an answer to a question is true of a scene."""
    query = parse_question(question)
    if query is None:
        return Verdict("unreadable", f"cannot read the question {question!r}")
    if reason := mismatch(scene, query):
        return Verdict("false", f"the question does not fit: {reason}")
    given = parse_answer(query, answer.strip())
    if given is None:
        return Verdict("unreadable", f"cannot read the answer {answer!r}")
    if isinstance(given, Contradiction):
        return Verdict("false", given.reason)
    if query.kind == "caption":
        wrong = false_claim(scene, given)
        return Verdict("false", wrong) if wrong else Verdict("true", "every claim holds")
    right = true_answers(scene, query)
    return Verdict("true", f"it is {given}") if given in right else Verdict("false", f"it is {right[0]}, not {given}")


def judge_negative(scene: Scene, question: str, answer: str) -> Verdict:
    """Return whether it is true of a scene that it does not answer a question, and whether an answer says no more."""
    query = parse_question(question)
    if query is None:
        return Verdict("unreadable", f"cannot read the question {question!r}")
    reason = mismatch(scene, query)
    if reason is None:
        return Verdict("false", "the scene answers the question")
    if not NOT_SHOWN.search(answer):
        return Verdict("false", f"the answer names something, but {reason}")
    return Verdict("true", reason)


def true_answers(scene: Scene, query: Query) -> list[str]:
    """Return the answers that are true, the fullest first."""
    kind, slots = query.kind, query.slots
    if kind == "at":
        thing = thing_at(scene, slots[0])
        return list(dict.fromkeys((thing.phrase, thing.name))) if thing else ["nothing"]
    if kind == "existence":
        return ["yes" if things_named(scene, slots[0]) else "no"]
    if kind == "count":
        return [str(len(scene.bars) if slots[0] == "bar" else len(things_named(scene, slots[0])))]
    if kind in ("taller", "more", "same", "relative"):
        return ["yes" if _holds(scene, kind, slots) else "no"]
    if kind in ("sum", "difference"):
        first, second = bar_value(scene, slots[0]), bar_value(scene, slots[1])
        return [str(first + second if kind == "sum" else first - second)]
    if kind in ("tallest", "shortest"):
        pick = max if kind == "tallest" else min
        return [pick(scene.bars, key=lambda bar: bar.value).colour]
    single: dict[str, Callable[[], object]] = {
        "background": lambda: scene.background,
        "picture_kind": lambda: scene.kind,
        "word": lambda: scene.sign and scene.sign.text,
        "number": lambda: scene.sign and scene.sign.text,
        "where": lambda: POSITIONS[things_named(scene, slots[0])[0].cell],
        "colour": lambda: things_named(scene, slots[0])[0].colour,
        "shape": lambda: things_named(scene, f"{slots[0]} shape")[0].name,
        "kind": lambda: group_at(scene, slots[0]),
        "use": lambda: USES[group_at(scene, slots[0])],
        "value": lambda: bar_value(scene, slots[0]),
    }
    return [str(single[kind]())]


def _holds(scene: Scene, kind: str, slots: tuple[str, ...]) -> bool:
    """Return the answer to a yes or no question about two things."""
    if kind == "taller":
        return bar_value(scene, slots[0]) > bar_value(scene, slots[1])
    first, last = things_named(scene, slots[0]), things_named(scene, slots[-1])
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


def false_claim(scene: Scene, caption: str) -> str | None:
    """Return why the first false claim of a caption is false, or None; a claim that cannot be read is false."""
    if match := re.fullmatch(r"A chart with (\d) bars: (.+)", caption):
        return _false_bar(scene, int(match[1]), re.split(r", | and ", match[2]))
    match = re.fullmatch(r"The (\w+)(?: with the sign (\w+))?(?: (without things)| (?:with|and) (.+))?", caption)
    if not match:
        return f"cannot read {caption!r}"
    place, text, is_empty, things = match.groups()
    if place != scene.background:
        return f"this is not the {place}"
    if text is not None and (scene.sign is None or text != scene.sign.text):
        return f"no sign says {text}"
    if is_empty and (scene.things or scene.sign):
        return "it is not without things"
    for part in re.split(r", | and ", things or ""):
        if part and (wrong := _false_count(scene, part)):
            return wrong
    return None


def _false_count(scene: Scene, part: str) -> str | None:
    number, _, noun = part.partition(" ")
    known = parse_noun(noun)
    claimed = 1 if number in ("a", "an") else int(number) if number.isdecimal() else -1
    if known is None or claimed < 0:
        return f"cannot read {part!r}"
    actual = len(things_named(scene, known))
    return None if actual == claimed else f"there are {actual}, not {part!r}"


def _false_bar(scene: Scene, number: int, parts: list[str]) -> str | None:
    if number != len(scene.bars):
        return f"there are {len(scene.bars)} bars"
    bars = {f"{bar.colour} {bar.value}" for bar in scene.bars}
    return next((f"no bar is {part}" for part in parts if part not in bars), None)
