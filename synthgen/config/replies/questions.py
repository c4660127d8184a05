"""The questions in a reply to an asking prompt.

Of the texts only the numbers of a list and the letters of options are cut.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config.replies.answers import KEY
from synthgen.config.replies.grammar import LETTERS, OPTIONS, Style
from synthgen.config.replies.options import speaks_of_others
from synthgen.config.replies.thoughts import without_markup
from synthgen.config.replies.written import Unreadable, load_json, without_fence, without_thoughts
from synthgen.errors import Failure, is_whole_text, one_line


@dataclass(frozen=True)
class Question:
    """A question as the model wrote it; only multiple choice has options.

    Attributes:
        text: The question.
        options: In the order in which they are shown.
        right: The option that its writer calls right, where the prompt asks for it; it is the first as written.
        evidence: What its writer says that it rests on, where the prompt asks for it.
    """

    text: str
    options: tuple[str, ...] = ()
    right: str | None = None
    evidence: str = ""


def parse_questions(reply: str, style: Style, none: str | None, choice: bool) -> list[Question] | Failure:
    """Read the questions in a reply. More questions and further keys than the schema allows do no harm.

    Args:
        reply: The whole reply of the model.
        style: The format that the prompt asked for.
        none: With `lines`, the line by which the model declines; in JSON it declines by an empty list, or with `judged`
            by `"fits": false`.
        choice: Whether every question must come with four options.

    Returns:
        The questions in the order of the reply, or a failure with the reason `declined` or `unparsable`.
    """
    if style == "lines":
        return _parse_lines(without_fence(without_markup(without_thoughts(reply))), none, choice)
    try:
        value = load_json(reply, "questions")
    except Unreadable as error:
        return Failure("unparsable", str(error))
    return _parse_json(value, style, choice)


def shuffled(question: Question, order: Sequence[float]) -> tuple[Question, str | None]:
    """Return a question with its options in the order of the numbers drawn for them, and the letter of the right one.

    A question whose writer named no right option keeps its order and has no letter. Options that are letters, of parts
    of the image, stand in their own order.
    """
    if question.right is None:
        return question, None
    are_letters = sorted(question.options) == sorted(LETTERS)
    places = sorted(
        range(len(question.options)), key=lambda place: question.options[place] if are_letters else order[place]
    )
    options = tuple(question.options[place] for place in places)
    return replace(question, options=options), LETTERS[places.index(0)]


_OPEN, _MARK = r"[(\uff08]?", r"[.):、\uff0e\uff09\uff1a]"  # around a number or a letter; narrow, or wide as in Chinese
_NUMBER = re.compile(
    rf"\s*(?:{_OPEN}\d{{1,2}}(?:\\?{_MARK})(?:\s+|(?!\d))"  # but 2.5 does not number a line
    rf"|\**(?:Question|Q|Frage|Pregunta|Pergunta|Domanda|Vraag|Вопрос|سؤال|السؤال|问题|問題|質問|질문)\s*\d{{1,2}}\**{_MARK}\**\s*"
    rf"|第[\d一二三四五六七八九十]{{1,3}}[题題问問]{_MARK}\s*|[①-⑳]\s*|\[\d{{1,2}}\]\s+)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*[-*•\u2013—·◦▪●○‣]\s+")
# "B. red", "(b) red", "**B.** red", "B - red"
_LETTERED = re.compile(
    rf"\**{_OPEN}([A-D\uff21-\uff24a-d])(?:{_MARK}\**|\*+{_MARK}|\s+[-\u2013—](?=\s))\s*(.+)",
    re.DOTALL,
)
_OPTION = re.compile(
    r"\s*[(\uff08]?(?<![A-Za-z0-9])([A-D\uff21-\uff24])(?:[.)]\s+|[\uff0e\uff09、\uff1a]\s*)"  # on one line
)
_KEY = re.compile(rf"(?:^|\s+){KEY}$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}")  # copied from the prompt instead of filled in


# --- lines ------------------------------------------------------------------------------------------------------------


def _parse_lines(text: str, none: str | None, choice: bool) -> list[Question] | Failure:
    lines = _list_items(text.splitlines())
    if none is not None and [_normalise(line) for line in lines] == [_normalise(none)]:
        return Failure("declined")
    if not lines:
        return Failure("unparsable", "an empty reply")
    if choice:
        lines = [bare for line in lines if (bare := _KEY.sub("", line))]
    questions = [_with_options(line) if choice else Question(line) for line in lines]
    if None in questions:
        return Failure("unparsable", "a line without four options A. … B. … C. … D. …")
    asked = [question for question in questions if question is not None]
    if not all(_is_question(question.text) for question in asked):
        return Failure("unparsable", "a line without a word")
    return asked


def _list_items(lines: list[str]) -> list[str]:
    """Return the lines without numbers or bullets; if some have one, the others are words around the list.

    A list without either may have a line before it that ends in a colon.
    """
    for mark in (_NUMBER, _BULLET):
        if items := [line[match.end() :] for line in lines if (match := mark.match(line))]:
            return [stripped for line in items if (stripped := line.strip())]
    items = [stripped for line in lines if (stripped := line.strip())]
    return items[1:] if len(items) > 1 and items[0][-1] in ":\uff1a" else items


def _with_options(line: str) -> Question | None:
    text, *parts = _OPTION.split(line)
    letters = unicodedata.normalize("NFKC", "".join(parts[0::2]))
    options = tuple(option.strip() for option in parts[1::2])
    if letters != LETTERS or not all((text.strip(), *options)):
        return None
    return Question(text.strip(), options)


def _normalise(text: str) -> str:
    return text.strip(" \t\n*_\"'“”").rstrip(".。").rstrip("*_\"'“”").lower()


# --- JSON -------------------------------------------------------------------------------------------------------------


def _parse_json(value: Any, style: Style, choice: bool) -> list[Question] | Failure:
    items = value.get("questions") if isinstance(value, dict) else None
    if not isinstance(items, list):
        return Failure("unparsable", "JSON without a list of questions")
    evidence = ""
    if style == "judged":
        fits, evidence = value.get("fits"), value.get("evidence", "")
        if not isinstance(fits, bool) or not isinstance(evidence, str):
            return Failure("unparsable", "JSON without a judgement (`fits` is true or false, `evidence` a text)")
        evidence = one_line(evidence)
        if not fits:
            return Failure("declined", evidence)
    questions = [_from_json(item, style, choice) for item in items]
    if None in questions:
        return Failure("unparsable", "a question that is not in the requested format")
    asked = [replace(question, evidence=evidence) for question in questions if question is not None]
    return asked or Failure("declined", evidence)


def _from_json(item: Any, style: Style, choice: bool) -> Question | None:
    if not choice:
        return Question(item.strip()) if _is_question(item) else None
    if not isinstance(item, dict) or not _is_question(item.get("question")):
        return None
    right, options = None, item.get("options")
    if style == "judged":
        right, wrong = item.get("right"), item.get("wrong")
        options = [right, *wrong] if isinstance(wrong, list) else None
        if any(_is_text(option) and speaks_of_others(option) for option in options or ()):
            return None  # it is wrong once the options are shuffled
    if not isinstance(options, list) or len(options) != OPTIONS or not all(_is_text(option) for option in options):
        return None
    stripped = _without_letters(tuple(option.strip() for option in options), in_order=style == "json")
    if stripped is None or _lists(item["question"], stripped):
        return None
    return Question(item["question"].strip(), stripped, stripped[0] if style == "judged" else None)


def _without_letters(options: tuple[str, ...], in_order: bool) -> tuple[str, ...] | None:
    """Return the options without their letters, if each begins with another of A to D; else as they are.

    Args:
        options: As written.
        in_order: Whether the letters must be in order. Those of right and wrong options are in any; where only some of
            these have letters, which would name others once the options are shuffled, there is nothing to return.
    """
    lettered = [match for option in options if (match := _LETTERED.fullmatch(option))]
    letters = unicodedata.normalize("NFKC", "".join(match[1] for match in lettered)).upper()
    is_complete = letters == LETTERS if in_order else "".join(sorted(letters)) == LETTERS
    if is_complete:
        texts = (match[2] for match in lettered)
        return tuple(text.removesuffix("**") if text.count("**") == 1 else text for text in texts)
    return None if len(lettered) > 1 and not in_order else options


def _lists(question: str, options: tuple[str, ...]) -> bool:
    """Return whether a question lists its options with letters itself."""
    listed = _with_options(question)
    return listed is not None and set(map(_normalise, listed.options)) == set(map(_normalise, options))


def _is_text(value: Any) -> bool:
    """Return whether a value is non-blank text without lone surrogates, which JSON can spell and no table can hold."""
    return isinstance(value, str) and bool(value.strip()) and is_whole_text(value)


def _is_question(value: Any) -> bool:
    """Return whether a value is text with a letter or a digit, and not the placeholder of a prompt."""
    return _is_text(value) and any(map(str.isalnum, value)) and not _PLACEHOLDER.fullmatch(value.strip())
