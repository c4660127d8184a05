"""The reader of a model's reply to an asking prompt.

Nothing is repaired: a guess at the model's intent would be data that the model did not write. Only the numbers of a
list and the letters of options are cut. The JSON schema that engines hold replies to is beside its parser, because both
must accept the same replies; `letter_of` is here so that scores and selection rules read the same letter.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from synthgen.errors import Failure, is_whole_text

OPTIONS = 4  # per multiple-choice question
LETTERS = "ABCD"
Style = Literal["json", "lines", "judged"]


@dataclass(frozen=True)
class Question:
    """A question as the model wrote it; only multiple choice has options."""

    text: str
    options: tuple[str, ...] = ()
    right: str | None = None
    evidence: str = ""


def question_schema(choice: bool, n: int, style: Style = "json") -> dict[str, Any]:
    """Return the JSON schema of a reply with at most `n` questions, for prompts with `parse: json`."""
    text: dict[str, Any] = {"type": "string", "minLength": 1}
    item = text
    if choice:
        options = {"type": "array", "items": text, "minItems": OPTIONS, "maxItems": OPTIONS}
        item = {
            "type": "object",
            "properties": {"question": text, "options": options},
            "required": ["question", "options"],
            "additionalProperties": False,
        }
    questions = {"type": "array", "items": item, "maxItems": n}
    return {
        "type": "object",
        "properties": {"questions": questions},
        "required": ["questions"],
        "additionalProperties": False,
    }


def parse_questions(reply: str, style: Style, none: str | None, choice: bool) -> list[Question] | Failure:
    """Read the questions in a reply. More questions and further keys than the schema allows do no harm.

    Args:
        reply: The whole reply of the model.
        style: The format that the prompt asked for.
        none: With `lines`, the line by which the model declines; with `json` it declines by an empty list.
        choice: Whether every question must come with four options.

    Returns:
        The questions in the order of the reply, or a failure with the reason `declined` or `unparsable`.
    """
    text = _without_fence(reply)
    return _parse_json(text, choice) if style == "json" else _parse_lines(text, none, choice)


def letter_of(answer: str) -> str | None:
    """Return the letter that an answer to a multiple-choice question gives, or None.

    "B", "(B)", "**B**", "B. a red car" and "B.红色" all give B.
    """
    match = _LETTER.match(unicodedata.normalize("NFKC", answer))
    return match[1] if match else None


# Two letters in a row ("A、B", "A.M.") are no choice; after a space the second one belongs to the option.
_LETTER = re.compile(r"[\W_]*([A-Z])(?:[*_]*[.):、](?![A-Z]\b)|[\W_]*$)")
_OPEN, _MARK = r"[(\uff08]?", r"[.):、\uff0e\uff09\uff1a]"  # around a number or a letter; narrow, or wide as in Chinese
_NUMBER = re.compile(rf"\s*{_OPEN}\d{{1,2}}{_MARK}(?:\s+|(?!\d))")  # but 2.5 does not number a line
_BULLET = re.compile(r"\s*[-*•]\s+")
_LETTERED = re.compile(rf"{_OPEN}([A-D\uff21-\uff24]){_MARK}\s*(.+)", re.DOTALL)
_OPTION = re.compile(r"\s*\b([A-D])[.)]\s+")


def _parse_lines(text: str, none: str | None, choice: bool) -> list[Question] | Failure:
    lines = _list_items(text.splitlines())
    if none is not None and [_normalise(line) for line in lines] == [_normalise(none)]:
        return Failure("declined")
    if not lines:
        return Failure("unparsable", "an empty reply")
    questions = [_with_options(line) if choice else Question(line) for line in lines]
    if None in questions:
        return Failure("unparsable", "a line without four options A. … B. … C. … D. …")
    return [question for question in questions if question is not None]


def _list_items(lines: list[str]) -> list[str]:
    """Return the lines without numbers or bullets; if some have one, the others are words around the list."""
    for mark in (_NUMBER, _BULLET):
        if items := [line[match.end() :] for line in lines if (match := mark.match(line))]:
            lines = items
            break
    return [stripped for line in lines if (stripped := line.strip())]


def _parse_json(text: str, choice: bool) -> list[Question] | Failure:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Failure("unparsable", f"not JSON: {error}")
    items = value.get("questions") if isinstance(value, dict) else None
    if not isinstance(items, list):
        return Failure("unparsable", "JSON without a list of questions")
    questions = [_from_json(item, choice) for item in items]
    if None in questions:
        return Failure("unparsable", "a question that is not in the requested format")
    return [question for question in questions if question is not None] or Failure("declined")


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
    """Return the options without their letters, if they begin with A to D in order; else as they are."""
    lettered = [match for option in options if (match := _LETTERED.fullmatch(option))]
    letters = unicodedata.normalize("NFKC", "".join(match[1] for match in lettered))
    return tuple(match[2] for match in lettered) if letters == LETTERS else options


def _is_text(value: Any) -> bool:
    """Return whether a value is non-blank text without lone surrogates, which JSON can spell and no table can hold."""
    return isinstance(value, str) and bool(value.strip()) and is_whole_text(value)


def _with_options(line: str) -> Question | None:
    text, *parts = _OPTION.split(line)
    letters = "".join(parts[0::2])
    options = tuple(option.strip() for option in parts[1::2])
    if letters != LETTERS or not all((text.strip(), *options)):
        return None
    return Question(text.strip(), options)


def _without_fence(reply: str) -> str:
    """Return the reply without a Markdown code fence, which endpoints without enforced schemas often add."""
    text = reply.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3]
    return text


def _normalise(text: str) -> str:
    return text.strip().rstrip(".").lower()


def shuffled(question: Question, order: Any) -> tuple[Question, str | None]:
    """Return the question."""
    return question, None


def final_answer(reply: str) -> str | None:
    """Return the answer."""
    return reply.rpartition("Answer: ")[2] if "Answer: " in reply else None
