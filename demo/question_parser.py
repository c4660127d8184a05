"""The parser of questions: free text in, a `Query` or None out.

It must not share the strings that trained the model, so it reads English with patterns of its own, wider than the
templates that are taught. A question outside them is unreadable rather than wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from demo.world import COLOURS, GROUPS, OBJECTS, POSITIONS, SHAPES, plural

NOUNS = (*OBJECTS, *SHAPES, *GROUPS, "shape", "thing")
SINGULAR = {form: noun for noun in NOUNS for form in (noun, plural(noun))}
N = r"(?:an? |the )?((?:[a-z]+ )??[a-z]+?)"  # a noun phrase
BAR = r"(?:the )?([a-z]+) (?:bar|one)"
POSITION = r"(?:the )?((?:top|middle|bottom) (?:left|centre|right))"
SIDE = r"(left of|to the left of|right of|to the right of|above|below)"


@dataclass(frozen=True)
class Query:
    """A parsed question; `slots` are singular nouns, colours or positions."""

    kind: str
    slots: tuple[str, ...] = ()


# (kind, alternative patterns, what each group holds: n a noun, c a colour, p a position, s a side)
GRAMMAR: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("background", (r"where is this", r"what(?: is)? the (?:background|place)", r"what place is (?:shown|this)"), ""),
    (
        "picture_kind",
        (r"what (?:kind|sort|type) of picture is (?:this|it)", r"is (?:this|it) a chart, a sign or a scene"),
        "",
    ),
    (
        "caption",
        (r"describe the picture", r"what does the picture show", r"write a caption", r"what is in the picture"),
        "",
    ),
    (
        "tallest",
        (
            r"(?:which|what) bar (?:is the (?:tallest|highest)|has the highest value)",
            r"what colour is the (?:tallest|highest) bar",
        ),
        "",
    ),
    (
        "shortest",
        (
            r"(?:which|what) bar (?:is the (?:shortest|lowest)|has the lowest value)",
            r"what colour is the (?:shortest|lowest) bar",
        ),
        "",
    ),
    (
        "word",
        (
            r"(?:what|which) word (?:is written|can you read|is on the sign)",
            r"read the word(?: on the sign)?",
        ),
        "",
    ),
    (
        "number",
        (
            r"(?:what|which) number (?:is written|can you read|is on the sign)",
            r"read the number(?: on the sign)?",
        ),
        "",
    ),
    ("taller", (rf"is {BAR} (?:taller|higher) than {BAR}", rf"does {BAR} rise above {BAR}"), "cc"),
    (
        "sum",
        (rf"what is the sum of {BAR} and {BAR}", rf"what do {BAR} and {BAR} add up to", rf"add {BAR} and {BAR}"),
        "cc",
    ),
    (
        "difference",
        (
            rf"how much (?:taller|higher) is {BAR} than {BAR}",
            rf"by how much is {BAR} (?:higher|taller) than {BAR}",
        ),
        "cc",
    ),
    ("take", (rf"take {BAR} from {BAR}",), "cc"),
    ("value", (rf"what is the value of {BAR}", rf"how (?:high|tall) is {BAR}", rf"read {BAR}"), "c"),
    (
        "kind",
        (
            rf"what (?:kind|sort) of thing is in {POSITION}",
            rf"which group does the thing in {POSITION} belong to",
        ),
        "p",
    ),
    ("use", (rf"what is the thing in {POSITION} (?:used )?for", rf"what use has the thing in {POSITION}"), "p"),
    ("at", (rf"(?:what|which thing) (?:is|can be seen|can you see) in {POSITION}",), "p"),
    (
        "more",
        (
            rf"are there more {N} than {N}",
            rf"do the {N} outnumber the {N}",
            rf"is the number of {N} larger than the number of {N}",
        ),
        "nn",
    ),
    (
        "same",
        (
            rf"(?:do|does) {N} and {N} have the same colour",
            rf"are {N} and {N} equal in colour",
            rf"is {N} the same colour as {N}",
        ),
        "nn",
    ),
    ("relative", (rf"is {N} (?:placed )?{SIDE} {N}", rf"does {N} lie {SIDE} {N}"), "nsn"),
    ("existence", (rf"(?:is|are) there {N}", rf"can you see {N}", rf"does the picture show {N}"), "n"),
    (
        "count",
        (rf"how many {N} (?:are there|can you see)", rf"count (?:the )?{N}", rf"what is the number of {N}"),
        "n",
    ),
    ("where", (rf"where is {N}", rf"in which part is {N}", rf"what is the position of {N}"), "n"),
    (
        "colour",
        (
            rf"(?:what|which) colour is {N}",
            rf"(?:what|which) colour does {N} have",
            rf"name the colour of {N}",
        ),
        "n",
    ),
    ("shape", (r"(?:what is|name) the ([a-z]+) shape", r"(?:which|what) shape is ([a-z]+)"), "c"),
)
COMPILED = tuple((kind, re.compile("|".join(f"(?:{p})" for p in patterns)), slots) for kind, patterns, slots in GRAMMAR)
TYPE_OF_KIND = {
    "background": "background", "picture_kind": "picture_kind", "caption": "caption", "existence": "existence",
    "at": "object_at_position", "where": "where_is", "word": "printed_word", "number": "printed_number",
    "colour": "colour", "shape": "shape", "kind": "kind_of_thing", "use": "use_of_thing", "count": "counting",
    "relative": "relative_position", "more": "compare_counts", "same": "same_colour", "value": "chart_value",
    "tallest": "chart_extreme", "shortest": "chart_extreme", "taller": "chart_compare", "sum": "chart_arithmetic",
    "difference": "chart_arithmetic",
}  # fmt: skip


def parse_noun(text: str) -> str | None:
    """Return a noun phrase in the singular, `the red stars` -> `red star`; None if it is no noun of this world."""
    text = re.sub(r"^(?:an?|the) ", "", text.strip())
    if text == "bars":
        return "bar"
    colour, _, last = text.rpartition(" ")
    noun = SINGULAR.get(last)
    if noun is None:
        return None
    if colour and (colour not in COLOURS or noun in OBJECTS):
        return None
    return f"{colour} {noun}".strip()


def parse_question(question: str) -> Query | None:
    """Return what a question asks, or None if it cannot be read."""
    plain = re.sub(r"\s+", " ", question.lower()).strip().rstrip("?.! ")
    for kind, pattern, slot_kinds in COMPILED:
        if match := pattern.fullmatch(plain):
            slots = _parse_slots([group for group in match.groups() if group is not None], slot_kinds)
            if slots is not None and kind == "take":
                return Query("difference", (slots[1], slots[0]))
            if slots is not None:
                return Query(kind, slots)
    return None


def _parse_slots(groups: list[str], kinds: str) -> tuple[str, ...] | None:
    """Return the slots in canonical form, or None if one of them is not of its kind."""
    slots: list[str] = []
    for group, kind in zip(groups, kinds, strict=True):
        value = group.removeprefix("to the ") if kind == "s" else group
        if kind == "n":
            noun = parse_noun(group)
            if noun is None:
                return None
            value = noun
        if (kind == "c" and value not in COLOURS) or (kind == "p" and value not in POSITIONS):
            return None
        slots.append(value)
    return tuple(slots)


def question_type(question: str) -> str | None:
    """Return the instruction type that a question belongs to, or None if it cannot be read."""
    query = parse_question(question)
    return TYPE_OF_KIND[query.kind] if query else None
