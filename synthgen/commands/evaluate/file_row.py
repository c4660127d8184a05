"""A row of a question file as a question: which fields it may have, and what makes it unusable.

Nothing is guessed. Of multiple choice the answer is a letter, or the words of one option; an answer that could be
either costs the row.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.commands.evaluate.judging import read_number
from synthgen.commands.evaluate.question import CHOICE, KINDS, LETTERS, NUMBER, RESPONSE, TEXT, WITH_OPTIONS, Question
from synthgen.config.replies.options import options_fault
from synthgen.errors import Failure, nearest
from synthgen.stages.generate.similarity import normalize
from synthgen.tables import make_id

FIELDS = {  # what a field is called here → its names, of which the first that a row has counts
    "id": ("id", "question_id", "index"),
    "image": ("image", "image_path", "images"),
    "question": ("question",),
    "answer": ("answer", "answers"),
    "options": ("options", "choices"),
    "kind": ("kind",),
    "type": ("type", "category"),
    "tags": ("tags",),
    "language": ("language",),
}
LETTERED = re.compile(r"[A-H](?:[\s,;/&]*[A-H])*")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Answered:
    """The kind of a question, its options and its right answers."""

    kind: str
    options: tuple[str, ...]
    answers: tuple[str, ...]


def field(row: Row, name: str) -> Any:
    """Return a field of a row under any of its names; None where it has none, or an empty one."""
    values = (row[key] for key in FIELDS[name] if key in row)
    return next((value for value in values if value not in (None, "", [])), None)


def parse_row(row: Any, image: str, where: str) -> Question | Failure:
    """Return the question of a row, or why it is none.

    Args:
        row: The values of a row by column.
        image: The id of its image.
        where: The file and line, for the record.
    """
    question = field(row, "question")
    if not isinstance(question, str) or not question.strip():
        return Failure("no_question", "it has no text in 'question'")
    answered = _answered(row)
    if isinstance(answered, Failure):
        return answered
    name = field(row, "id")
    known = str(name) if name is not None else make_id("question", image, question, *answered.options)
    kind, language = (str(field(row, key) or "") for key in ("type", "language"))
    return Question(
        question_id=known,
        image_id=image,
        kind=answered.kind,
        question=question.strip(),
        options=answered.options,
        answers=answered.answers,
        type=kind,
        language=language,
        tags=tuple(text for tag in _texts(field(row, "tags")) for part in tag.split(",") if (text := part.strip())),
        source=where,
    )


def _answered(row: Row) -> _Answered | Failure:
    options, answers, kind = _options(row), _texts(field(row, "answer")), field(row, "kind")
    if not answers:
        return Failure("no_answer", "it has no answer to compare with")
    if kind is not None and kind not in KINDS:
        return Failure("unknown_kind", f"kind '{kind}' is unknown: {nearest(str(kind), KINDS)}")
    if not options:
        if kind in WITH_OPTIONS:
            return Failure("no_options", f"kind {kind} needs options")
        if kind == NUMBER and any(read_number(answer) is None for answer in answers):
            return Failure("bad_answer", f"an answer of kind number is none: {answers[0]!r:.60}")
        return _Answered(kind or TEXT, (), answers)
    if kind not in (None, *WITH_OPTIONS):
        return Failure("bad_options", f"kind {kind} has no options")
    if len(options) > len(LETTERS):
        return Failure("bad_options", f"more than {len(LETTERS)} options")
    if fault := options_fault(options):
        return Failure("bad_options", fault)
    return _lettered(kind, options, answers)


def _lettered(kind: str | None, options: tuple[str, ...], answers: tuple[str, ...]) -> _Answered | Failure:
    """Return multiple choice or response with the letters of its right options."""
    if len(answers) == 1 and (kind == RESPONSE or len(answers[0]) > 1) and LETTERED.fullmatch(answers[0]):
        is_words = any(normalize(answers[0]) == normalize(option) for option in options)
        answers = answers if is_words else tuple(re.findall("[A-H]", answers[0]))
    letters = [_letter(options, answer) for answer in answers]
    if fault := next((letter for letter in letters if isinstance(letter, Failure)), None):
        return fault
    right = tuple(sorted({str(letter) for letter in letters}))
    if kind == CHOICE and len(right) > 1:
        return Failure("bad_answer", "kind choice has one right option; several are kind response")
    return _Answered(kind or (RESPONSE if len(right) > 1 else CHOICE), options, right)


def _letter(options: tuple[str, ...], answer: str) -> str | Failure:
    """Return the letter of the option that an answer names, by its letter or by its words."""
    known = LETTERS[: len(options)]
    by_words = {known[place] for place, option in enumerate(options) if normalize(option) == normalize(answer)}
    named = by_words | ({answer} if answer in known and len(answer) == 1 else set())
    if len(named) == 1:
        return named.pop()
    what = "is the letter of one option and the words of another" if named else "is neither a letter nor an option"
    return Failure("ambiguous_answer" if named else "bad_answer", f"the answer {answer!r:.60} {what}")


def _options(row: Row) -> tuple[str, ...]:
    """Return the options: of a field, or of the columns A, B, … up to the first empty one."""
    if given := field(row, "options"):
        return _texts(given)
    found = list[str]()
    for letter in LETTERS:
        if row.get(letter) in (None, ""):
            break
        found.append(str(row[letter]).strip())
    return tuple(found)


def _texts(value: Any) -> tuple[str, ...]:
    """Return a value as texts: a list, the JSON of one, or a single value."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return (value.strip(),)
    values = value if isinstance(value, list | tuple) else () if value is None else (value,)
    return tuple(text for each in values if (text := str(each).strip()))
