"""The JSON schemas that engines hold replies to.

No text has a `minLength`: xgrammar turns a string with a length into one that has no escapes, so that a model can write
neither a quotation mark nor a backslash and ends the text there. The readers refuse empty texts instead.
"""

from typing import Any, Literal

OPTIONS = 4  # per multiple-choice question
LETTERS = "ABCD"
Style = Literal["json", "lines", "judged"]
MOST = 1000  # of a coordinate: the right and the lower edge of the image
NUMBERS = {"points": ("point", 2), "boxes": ("box", 4)}  # kind of places -> key, numbers

_TEXT: dict[str, Any] = {"type": "string"}


def question_schema(choice: bool, n: int, style: Style = "json") -> dict[str, Any]:
    """Return the JSON schema of a reply with at most `n` questions.

    Args:
        choice: Whether every question has four options.
        n: The most questions.
        style: `json`, or `judged`: the model says whether the image fits and on what it bases that, before it asks.
    """
    questions = {"type": "array", "items": _question(choice, style), "maxItems": n}
    if style == "judged":
        return _object({"fits": {"type": "boolean"}, "evidence": _TEXT, "questions": questions})
    return _object({"questions": questions})


def places_schema(kind: Literal["points", "boxes"]) -> dict[str, Any]:
    """Return the JSON schema of an answer that lists points or boxes, with numbers from 0 to 1000."""
    key, count = NUMBERS[kind]
    number = {"type": "integer", "minimum": 0, "maximum": MOST}
    numbers = {"type": "array", "items": number, "minItems": count, "maxItems": count}
    return {"type": "array", "items": _object({key: numbers, "label": _TEXT})}


def letters(n: int) -> tuple[str, ...]:
    """Return the letters of `n` options, for answers that must be one of them."""
    return tuple(LETTERS[:n])


def _question(choice: bool, style: Style) -> dict[str, Any]:
    if not choice:
        return _TEXT
    if style == "judged":
        return _object({"question": _TEXT, "right": _TEXT, "wrong": _texts(OPTIONS - 1)})
    return _object({"question": _TEXT, "options": _texts(OPTIONS)})


def _texts(count: int) -> dict[str, Any]:
    return {"type": "array", "items": _TEXT, "minItems": count, "maxItems": count}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with exactly these keys; engines write them in this order."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
