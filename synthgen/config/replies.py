"""How a model's reply to an asking prompt is read.

Comes in: the reply as text. Goes out: the questions in it, in its order, or a value that says that the model declined or why
the reply cannot be read. Nothing is repaired: a guess at what was meant would be data that nobody wrote. The numbers of a list
and the letters of options are no words of it and are cut. The schema that engines hold their replies to is here as well, since
it and the parser must accept the same; and how the letter of an answer is read, since scores and rules must read the same one.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

OPTIONS = 4  # of a multiple-choice question
LETTERS = "ABCD"
Style = Literal["json", "lines"]


@dataclass(frozen=True)
class Question:
    """A question as asked; options only for multiple choice."""

    text: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unparsable:
    """A reply that could not be read, and why; the caller keeps the reply itself."""

    why: str


@dataclass(frozen=True)
class Declined:
    """The model says that the image cannot support the type."""


def question_schema(choice: bool, n: int) -> dict[str, Any]:
    """The JSON schema of a reply to an asking prompt that is parsed as json."""
    item: dict[str, Any] = {"type": "string", "minLength": 1}
    if choice:
        options = {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": OPTIONS,
            "maxItems": OPTIONS,
        }
        item = {
            "type": "object",
            "properties": {"question": item, "options": options},
            "required": ["question", "options"],
        }
        item["additionalProperties"] = False
    questions = {"type": "array", "items": item, "maxItems": n}
    return {
        "type": "object",
        "properties": {"questions": questions},
        "required": ["questions"],
        "additionalProperties": False,
    }


def parse_questions(reply: str, style: Style, none: str | None, choice: bool) -> list[Question] | Declined | Unparsable:
    """The questions in a reply, in its order. Beyond what the schema allows, more of them and further keys do no harm.

    `none` is the line that declines, where a style of lines has one; json declines by an empty list.
    """
    text = _unfenced(reply)
    return _parse_json(text, choice) if style == "json" else _parse_lines(text, none, choice)


def letter_of(answer: str) -> str | None:
    """The letter that an answer to a multiple-choice question gives, as "B", "(B)", "**B**", "B. a red car" and "B.红色" do."""
    found = _LETTER.match(unicodedata.normalize("NFKC", answer))
    return found[1] if found else None


# Two letters behind one another ("A、B", "A.M.") are no choice; with a blank between them the second is the option.
_LETTER = re.compile(r"[\W_]*([A-Z])(?:[*_]*[.):、](?![A-Z]\b)|[\W_]*$)")
_OPEN, _MARK = r"[(\uff08]?", r"[.):、\uff0e\uff09\uff1a]"  # around a number or a letter, narrow or wide as in Chinese
_NUMBER = re.compile(rf"\s*{_OPEN}\d{{1,2}}{_MARK}(?:\s+|(?!\d))")  # 2.5 is no number of a list
_BULLET = re.compile(r"\s*[-*•]\s+")
_LETTERED = re.compile(rf"{_OPEN}([A-D\uff21-\uff24]){_MARK}\s*(.+)", re.DOTALL)
_OPTION = re.compile(r"\s*\b([A-D])[.)]\s+")


def _parse_lines(text: str, none: str | None, choice: bool) -> list[Question] | Declined | Unparsable:
    lines = _items(text.splitlines())
    if none is not None and [_bare(line) for line in lines] == [_bare(none)]:
        return Declined()
    if not lines:
        return Unparsable("an empty reply")
    questions = [_with_options(line) if choice else Question(line) for line in lines]
    if None in questions:
        return Unparsable("a line without four options A. … B. … C. … D. …")
    return [question for question in questions if question is not None]


def _items(lines: list[str]) -> list[str]:
    """What the lines of a list say, bare; where some are numbered, or have a bullet, the others are words around the list."""
    for mark in (_NUMBER, _BULLET):
        if marked := [line[found.end() :] for line in lines if (found := mark.match(line))]:
            lines = marked
            break
    return [stripped for line in lines if (stripped := line.strip())]


def _parse_json(text: str, choice: bool) -> list[Question] | Declined | Unparsable:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unparsable(f"not JSON: {error}")
    items = value.get("questions") if isinstance(value, dict) else None
    if not isinstance(items, list):
        return Unparsable("JSON without a list of questions")
    questions = [_from_json(item, choice) for item in items]
    if None in questions:
        return Unparsable("a question of another shape than asked for")
    return [question for question in questions if question is not None] or Declined()


def _from_json(item: Any, choice: bool) -> Question | None:
    if not choice:
        return Question(item.strip()) if _is_text(item) else None
    if not isinstance(item, dict) or not _is_text(item.get("question")):
        return None
    options = item.get("options")
    if not isinstance(options, list) or len(options) != OPTIONS or not all(_is_text(option) for option in options):
        return None
    return Question(item["question"].strip(), _without_letters(tuple(option.strip() for option in options)))


def _without_letters(options: tuple[str, ...]) -> tuple[str, ...]:
    """Options without the letters that all of them begin with, each with its own; others stay as they are."""
    found = [match for option in options if (match := _LETTERED.fullmatch(option))]
    letters = unicodedata.normalize("NFKC", "".join(match[1] for match in found))
    return tuple(match[2] for match in found) if letters == LETTERS else options


def _is_text(value: Any) -> bool:
    """Whether it says something that can be written down; JSON can spell half a character, which no table can hold."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


def _with_options(line: str) -> Question | None:
    text, *rest = _OPTION.split(line)
    options = tuple(option.strip() for option in rest[1::2])
    if "".join(rest[0::2]) != LETTERS or not all((text.strip(), *options)):
        return None
    return Question(text.strip(), options)


def _unfenced(reply: str) -> str:
    """The reply without a Markdown code fence, which endpoints without enforced schemas like to add."""
    text = reply.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3]
    return text


def _bare(text: str) -> str:
    return text.strip().rstrip(".").lower()
