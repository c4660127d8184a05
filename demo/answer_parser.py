"""How answers of the drawn world are read: a reply in free text in, what it says out.

In: a `Query` and the reply, a word or a sentence. Out: the canonical answer; `!` and a reason where it answers something else or
contradicts itself; None where it cannot be read. Why this way: a sentence repeats the question, so it is held to every word that
it says, not only to the value in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from demo.question_parser import Query, read_noun
from demo.world import COLOURS, GROUPS, POSITIONS, SHAPES, USES, WORDS

YES_NO = ("existence", "taller", "more", "same", "relative")
SENTENCES: dict[str, str] = {
    "background": r"(?:this|it) is (?:the |an? )?(?P<v>\w+)", "picture_kind": r"(?:this|it) is (?P<v>.+)",
    "where": r"the (?P<s0>.+?) is in the (?P<v>.+)", "word": r"the (?:sign|word) (?:says|is) (?P<v>\w+)",
    "number": r"the (?:sign|number) (?:says|is) (?P<v>\d+)", "colour": r"the (?P<s0>.+?) is (?P<v>\w+)",
    "shape": r"the (?P<s0>\w+) shape is (?P<v>.+)", "kind": r"the thing in the (?P<s0>.+?) is (?P<v>.+)",
    "use": r"it is (?:used )?for (?P<v>.+)", "value": r"the (?P<s0>\w+) bar has the value (?P<v>\d+)",
    "tallest": r"the tallest bar is (?P<v>.+)", "shortest": r"the shortest bar is (?P<v>.+)", "sum": r"the sum is (?P<v>\d+)",
    "difference": r"the difference is (?P<v>\d+)", "at": r"(?P<v>.+?) is in the (?P<s0>.+)",
    "count": r"there (?:is|are) (?P<v>\d+) (?P<s0>.+)",
}  # fmt: skip
CLAIMS: dict[str, tuple[str, str]] = {  # of yes and no questions: the claim and its denial
    "existence": (r"there is (?P<s0>.+)", r"there is (?:not|no) (?P<s0>.+)"),
    "taller": (
        r"the (?P<s0>\w+) bar is taller than the (?P<s1>\w+) bar",
        r"the (?P<s0>\w+) bar is not taller than the (?P<s1>\w+) bar",
    ),
    "more": (r"there are more (?P<s0>.+) than (?P<s1>.+)", r"there are not more (?P<s0>.+) than (?P<s1>.+)"),
    "same": (
        r"the (?P<s0>.+) and the (?P<s1>.+) have the same colour",
        r"the (?P<s0>.+) and the (?P<s1>.+) have different colours",
    ),
    "relative": (
        r"the (?P<s0>.+) is (?P<s1>left of|right of|above|below) the (?P<s2>.+)",
        r"the (?P<s0>.+) is not (?P<s1>left of|right of|above|below) the (?P<s2>.+)",
    ),
}
PICTURES = {"a scene": "scene", "a sign": "sign", "a chart": "chart", "an empty scene": "empty"}


def read_answer(query: Query, text: str) -> str | None:
    """The canonical answer; `!` and a reason if it answers something else; None if it cannot be read."""
    plain = text.strip().rstrip(". ")
    if query.kind == "caption":
        return plain
    if query.kind in YES_NO:
        return _read_yes_no(query, plain.lower())
    low = plain if query.kind == "word" else plain.lower()
    match = re.fullmatch(SENTENCES[query.kind], low, re.I)
    if not match or (query.kind == "at" and "is in" not in low):
        return _canonical(query.kind, low)
    if wrong := _other_slots(query, match):
        return wrong
    return _canonical(query.kind, match["v"])


def _read_yes_no(query: Query, text: str) -> str | None:
    head, comma, rest = text.partition(",")
    if head not in ("yes", "no"):
        return None
    if not comma:
        return head
    for claim, means in zip(
        CLAIMS[query.kind][::-1], ("no", "yes"), strict=True
    ):  # the denial first: it is the narrower pattern
        if match := re.fullmatch(claim, rest.strip()):
            wrong = _other_slots(query, match)
            return wrong or (head if means == head else "!it says yes and no at once")
    return None


def _other_slots(query: Query, match: re.Match[str]) -> str | None:
    for i, slot in enumerate(query.slots):
        said = match.groupdict().get(f"s{i}")
        if said is not None and said != slot and read_noun(said) != slot and read_noun(f"{said}s") != slot:
            return f"!it speaks of {said!r}, the question of {slot!r}"
    return None


def _canonical(kind: str, text: str) -> str | None:
    bare = re.sub(r"^(?:an?|the) ", "", text)
    if kind in ("number", "value", "sum", "difference", "count"):
        return str(int(text)) if text.isdecimal() else None
    if kind in ("tallest", "shortest"):
        bare = bare.removesuffix(" bar")
    readers: dict[str, Callable[[], str | None]] = {
        "at": lambda: "nothing" if text == "nothing" else read_noun(bare),
        "picture_kind": lambda: PICTURES.get(text),
        "word": lambda: text if text in WORDS else None,
        "kind": lambda: bare if bare in (*GROUPS, "shape") else None,
        "use": lambda: bare.removeprefix("for ") if bare.removeprefix("for ") in USES.values() else None,
        "where": lambda: bare.removeprefix("in the ") if bare.removeprefix("in the ") in POSITIONS else None,
        "shape": lambda: bare if bare in SHAPES else None,
        "background": lambda: bare if bare.isalpha() else None,
    }
    return readers[kind]() if kind in readers else (bare if bare in COLOURS else None)
