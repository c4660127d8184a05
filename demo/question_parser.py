"""How questions of the drawn world are read: free text in, a `Query` or nothing out.

In: a question as a model wrote it. Out: what it asks for (`kind`) and about what (`slots`). Why this way: the oracle must not
compare with the strings that taught the model, so it reads English with patterns of its own, wider than the phrases that are
taught, and a question outside them is unreadable rather than wrong.
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
    """A question, read. `slots` are singular nouns, colours or positions."""

    kind: str
    slots: tuple[str, ...] = ()


# (kind, pattern, which kinds of slot its groups hold)
GRAMMAR: tuple[tuple[str, str, str], ...] = (
    ("background", r"where is this|what(?: is)? the (?:background|place)|what place is (?:shown|this)", ""),
    ("picture_kind", r"what (?:kind|sort|type) of picture is (?:this|it)|is (?:this|it) a chart, a sign or a scene", ""),
    ("caption", r"describe the picture|what does the picture show|write a caption|what is in the picture", ""),
    ("tallest", r"(?:which|what) bar (?:is the (?:tallest|highest)|has the highest value)|what colour is the (?:tallest|highest) bar", ""),
    ("shortest", r"(?:which|what) bar (?:is the (?:shortest|lowest)|has the lowest value)|what colour is the (?:shortest|lowest) bar", ""),
    ("word", r"(?:what|which) word (?:is written|can you read|is on the sign)|read the word(?: on the sign)?", ""),
    ("number", r"(?:what|which) number (?:is written|can you read|is on the sign)|read the number(?: on the sign)?", ""),
    ("taller", rf"is {BAR} (?:taller|higher) than {BAR}|does {BAR} rise above {BAR}", "cc"),
    ("sum", rf"what is the sum of {BAR} and {BAR}|what do {BAR} and {BAR} add up to|add {BAR} and {BAR}", "cc"),
    ("difference", rf"how much (?:taller|higher) is {BAR} than {BAR}|by how much is {BAR} (?:higher|taller) than {BAR}", "cc"),
    ("take", rf"take {BAR} from {BAR}", "cc"),
    ("value", rf"what is the value of {BAR}|how (?:high|tall) is {BAR}|read {BAR}", "c"),
    ("kind", rf"what (?:kind|sort) of thing is in {POSITION}|which group does the thing in {POSITION} belong to", "p"),
    ("use", rf"what is the thing in {POSITION} (?:used )?for|what use has the thing in {POSITION}", "p"),
    ("at", rf"(?:what|which thing) (?:is|can be seen|can you see) in {POSITION}", "p"),
    ("more", rf"are there more {N} than {N}|do the {N} outnumber the {N}|is the number of {N} larger than the number of {N}", "nn"),
    ("same", rf"(?:do|does) {N} and {N} have the same colour|are {N} and {N} equal in colour|is {N} the same colour as {N}", "nn"),
    ("relative", rf"is {N} (?:placed )?{SIDE} {N}|does {N} lie {SIDE} {N}", "nsn"),
    ("existence", rf"(?:is|are) there {N}|can you see {N}|does the picture show {N}", "n"),
    ("count", rf"how many {N} (?:are there|can you see)|count (?:the )?{N}|what is the number of {N}", "n"),
    ("where", rf"where is {N}|in which part is {N}|what is the position of {N}", "n"),
    ("colour", rf"(?:what|which) colour is {N}|(?:what|which) colour does {N} have|name the colour of {N}", "n"),
    ("shape", r"(?:what is|name) the ([a-z]+) shape|(?:which|what) shape is ([a-z]+)", "c"),
)  # fmt: skip
COMPILED = tuple((kind, re.compile(f"(?:{pattern})"), slots) for kind, pattern, slots in GRAMMAR)
TYPE_OF_KIND = {
    "background": "background", "picture_kind": "picture_kind", "caption": "caption", "existence": "existence",
    "at": "object_at_position", "where": "where_is", "word": "printed_word", "number": "printed_number", "colour": "colour",
    "shape": "shape", "kind": "kind_of_thing", "use": "use_of_thing", "count": "counting", "relative": "relative_position",
    "more": "compare_counts", "same": "same_colour", "value": "chart_value", "tallest": "chart_extreme",
    "shortest": "chart_extreme", "taller": "chart_compare", "sum": "chart_arithmetic", "difference": "chart_arithmetic",
}  # fmt: skip


def read_noun(text: str) -> str | None:
    """`red stars` -> `red star`; None if it is no noun of this world."""
    text = re.sub(r"^(?:an?|the) ", "", text.strip())
    colour, _, last = text.rpartition(" ")
    noun = SINGULAR.get(last)
    if noun is None and text == "bars":
        return "bar"
    if noun is None or (colour and (colour not in COLOURS or noun in OBJECTS)):
        return None
    return f"{colour} {noun}".strip()


def parse(question: str) -> Query | None:
    """What a question asks, or None if it cannot be read."""
    plain = re.sub(r"\s+", " ", question.lower()).strip().rstrip("?.! ")
    for kind, pattern, kinds in COMPILED:
        if match := pattern.fullmatch(plain):
            slots = _slots([group for group in match.groups() if group is not None], kinds)
            if slots is not None and kind == "take":
                return Query("difference", (slots[1], slots[0]))
            if slots is not None:
                return Query(kind, slots)
    return None


def _slots(groups: list[str], kinds: str) -> tuple[str, ...] | None:
    slots: list[str] = []
    for group, kind in zip(groups, kinds, strict=True):
        value = group.removeprefix("to the ") if kind == "s" else group
        if kind == "n":
            noun = read_noun(group)
            if noun is None:
                return None
            value = noun
        if (kind == "c" and value not in COLOURS) or (kind == "p" and value not in POSITIONS):
            return None
        slots.append(value)
    return tuple(slots)


def question_type(question: str) -> str | None:
    """The instruction type that a question belongs to."""
    query = parse(question)
    return TYPE_OF_KIND[query.kind] if query else None
