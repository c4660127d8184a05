"""The parser of answers: a word or a sentence in, the canonical answer out.

A sentence repeats the question, so every word of it is checked, not only the value in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from demo.question_parser import Query, parse_noun
from demo.world import COLOURS, GROUPS, POSITIONS, SHAPES, USES, WORDS

YES_NO = ("existence", "taller", "more", "same", "relative")
# kind -> the sentence that answers it: `v` is the value, `s0` and `s1` repeat the question's slots
SENTENCES: dict[str, str] = {
    "background": r"(?:this|it) is (?:the |an? )?(?P<v>\w+)",
    "picture_kind": r"(?:this|it) is (?P<v>.+)",
    "where": r"the (?P<s0>.+?) is in the (?P<v>.+)",
    "word": r"the (?:sign|word) (?:says|is) (?P<v>\w+)",
    "number": r"the (?:sign|number) (?:says|is) (?P<v>\d+)",
    "colour": r"the (?P<s0>.+?) is (?P<v>\w+)",
    "shape": r"the (?P<s0>\w+) shape is (?P<v>.+)",
    "kind": r"the thing in the (?P<s0>.+?) is (?P<v>.+)",
    "use": r"it is (?:used )?for (?P<v>.+)",
    "value": r"the (?P<s0>\w+) bar has the value (?P<v>\d+)",
    "tallest": r"the tallest bar is (?P<v>.+)",
    "shortest": r"the shortest bar is (?P<v>.+)",
    "sum": r"the sum is (?P<v>\d+)",
    "difference": r"the difference is (?P<v>\d+)",
    "at": r"(?P<v>.+?) is in the (?P<s0>.+)",
    "count": r"there (?:is|are) (?P<v>\d+) (?P<s0>.+)",
}
CLAIMS: dict[str, tuple[str, str]] = {  # kind of yes or no question -> the claim and its denial
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
PICTURE_KINDS = {"a scene": "scene", "a sign": "sign", "a chart": "chart", "an empty scene": "empty"}


@dataclass(frozen=True)
class Contradiction:
    """An answer that covers another question, or says yes and no at once."""

    reason: str


def parse_answer(query: Query, text: str) -> str | Contradiction | None:
    """Return the canonical answer to a query, or None if the text cannot be read."""
    plain = text.strip().rstrip(". ")
    if query.kind == "caption":
        return plain
    if query.kind in YES_NO:
        return _parse_yes_no(query, plain.lower())
    answer = plain if query.kind == "word" else plain.lower()
    match = re.fullmatch(SENTENCES[query.kind], answer, re.I)
    if not match or (query.kind == "at" and "is in" not in answer):
        return _canonical(query.kind, answer)
    return _contradiction(query, match) or _canonical(query.kind, match["v"])


def _parse_yes_no(query: Query, text: str) -> str | Contradiction | None:
    head, comma, rest = text.partition(",")
    if head not in ("yes", "no"):
        return None
    if not comma:
        return head
    claim, denial = CLAIMS[query.kind]
    for pattern, meaning in ((denial, "no"), (claim, "yes")):  # the denial first: it is the narrower pattern
        if match := re.fullmatch(pattern, rest.strip()):
            if wrong := _contradiction(query, match):
                return wrong
            return head if meaning == head else Contradiction("it says yes and no at once")
    return None


def _contradiction(query: Query, match: re.Match[str]) -> Contradiction | None:
    """Return the first difference between the slots of a sentence and those of the question, if there is one."""
    for i, slot in enumerate(query.slots):
        named = match.groupdict().get(f"s{i}")
        if named is not None and slot not in (named, parse_noun(named), parse_noun(f"{named}s")):
            return Contradiction(f"it covers {named!r}, the question {slot!r}")
    return None


def _canonical(kind: str, text: str) -> str | None:
    """Return a short answer in the form that the oracle compares, or None if it is none of this kind."""
    bare = re.sub(r"^(?:an?|the) ", "", text)
    if kind in ("number", "value", "sum", "difference", "count"):
        return str(int(text)) if text.isdecimal() else None
    if kind in ("tallest", "shortest"):
        bare = bare.removesuffix(" bar")
    use, position = bare.removeprefix("for "), bare.removeprefix("in the ")
    readers: dict[str, Callable[[], str | None]] = {
        "at": lambda: "nothing" if text == "nothing" else parse_noun(bare),
        "picture_kind": lambda: PICTURE_KINDS.get(text),
        "word": lambda: text if text in WORDS else None,
        "kind": lambda: bare if bare in (*GROUPS, "shape") else None,
        "use": lambda: use if use in USES.values() else None,
        "where": lambda: position if position in POSITIONS else None,
        "shape": lambda: bare if bare in SHAPES else None,
        "background": lambda: bare if bare.isalpha() else None,
    }
    if kind in readers:
        return readers[kind]()
    return bare if bare in COLOURS else None
