"""Rules for answers: repeats and loops, letters of multiple choice, places, a planned yes or no, a form asked for."""

# ruff: noqa: RUF001 (signs of many scripts)

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.constraints import Constraint
from synthgen.config.languages import Language, language_of
from synthgen.config.replies import LETTERS, final_answer, letter_of, parse_places
from synthgen.config.replies.options import options_fault
from synthgen.dedup import plain_texts
from synthgen.errors import Failure

Mask = npt.NDArray[np.bool_]

_LOOP, _TIMES, _TAIL = 60, 4, 2000  # characters of a loop; how often its phrase comes; characters that are looked at
_OFTEN = 20  # times of what may repeat: rows of tables, numbers, copied text
_ROW = re.compile(r"\|[^|]*\||&.*\\\\|\\\\.*&|</t[dr]>|\t", re.DOTALL)  # of a table
_ENDED = re.compile(r"[.?!…。？！؟।][\"'”’»)\]*_ ]*$")
_GOES_ON = re.compile(r"\s*[:：=–—-]\s*\S|[\"'”’)]*[ \t]*[^\W_]|\s*[…(]")
_LAST = 8  # characters by which loops are found


def repeats_question(rows: pa.Table, answer: Any) -> Mask:
    """Return the answers that begin with the question; most are ruled out by their first letters."""
    starts = (pc.utf8_slice_codeunits(text, 0, 3) for text in (rows.column("plain"), answer.cast(pa.large_string())))
    has_same_start = pc.equal(*(pc.utf8_lower(start) for start in starts))
    is_candidate = pc.and_(has_same_start, pc.not_equal(rows.column("plain"), ""))
    candidates = np.flatnonzero(np.asarray(pc.fill_null(is_candidate, False)))
    questions = rows.column("plain").take(candidates).to_pylist()
    answers = plain_texts(answer.take(candidates)).to_pylist()
    repeats = np.zeros(rows.num_rows, bool)
    begins = [reply.startswith(question) for question, reply in zip(questions, answers, strict=True)]
    asked, replied = (column.take(candidates).to_pylist() for column in (rows.column("question"), answer))
    goes_on = [_goes_on(*texts) for texts in zip(asked, replied, strict=True)]
    repeats[candidates] = np.asarray(begins, bool) & ~np.asarray(goes_on, bool)
    return repeats


def loops(rows: pa.Table, answer: Any) -> Mask:
    """Return the answers that end in a phrase that comes again and again."""
    found = np.zeros(rows.num_rows, bool)
    candidates = np.flatnonzero(np.asarray(pc.greater_equal(pc.utf8_length(answer), _LOOP)))
    texts, forms = answer.take(candidates).to_pylist(), rows.column("form").take(candidates).to_pylist()
    found[candidates] = [
        text.count(text.rstrip()[-_LAST:]) >= _TIMES and _is_loop(text, form == "text")
        for text, form in zip(texts, forms, strict=True)
    ]
    return found


def choice_faults(rows: pa.Table) -> Iterator[tuple[str, Mask]]:
    """Yield the two rules of multiple choice.

    `broken_choice`: fewer than two options, equal ones, one marked as the right, or an answer that is no option.
    `wrong_key`: the answer is another option than the one that the writer of the question calls right, where it named
    one.
    """
    chosen = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(rows.column("form"), "choice"), False)))
    of_choice = rows.select(["options", "answer", "key"]).take(chosen)
    options, answers, keys = (of_choice.column(name).to_pylist() for name in ("options", "answer", "key"))
    letters = [letter_of(answer or "") for answer in answers]
    is_broken, is_wrong = np.zeros((2, rows.num_rows), bool)
    is_broken[chosen] = [not _is_choice(given or [], letter) for given, letter in zip(options, letters, strict=True)]
    is_wrong[chosen] = [bool(key) and key != letter for key, letter in zip(keys, letters, strict=True)]
    yield "broken_choice", is_broken
    yield "wrong_key", is_wrong


def broken_places(rows: pa.Table) -> Mask:
    """Return the answers that are to list points or boxes and cannot be read."""
    found = np.zeros(rows.num_rows, bool)
    for kind in ("points", "boxes"):
        places = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(rows.column("form"), kind), False)))
        answers = rows.column("answer").take(places).to_pylist()
        found[places] = [isinstance(parse_places(answer or "", kind), Failure) for answer in answers]
    return found


def not_as_planned(rows: pa.Table) -> Mask:
    """Return the answers that do not begin with the yes or the no that the plan says is true.

    An answer that ends with a mark ("Answer: no") is read behind it; of multiple choice, the option counts. Languages
    whose yes and no are not known are passed over.
    """
    found = np.zeros(rows.num_rows, bool)
    planned = np.flatnonzero(np.asarray(pc.is_valid(rows.column("truth"))))
    for place, row in zip(planned, rows.take(planned).to_pylist(), strict=True):
        if language := language_of(row["language"]):
            found[place] = _side(row, language) != row["truth"]
    return found


def breaks_constraint(rows: pa.Table) -> Mask:
    """Return the answers that have not the form that their request asks for, such as three bullets."""
    found = np.zeros(rows.num_rows, bool)
    places = np.flatnonzero(np.asarray(pc.is_valid(rows.column("constraint"))))
    asked, answers = (rows.column(name).take(places).to_pylist() for name in ("constraint", "answer"))
    found[places] = [
        Constraint.model_validate_json(constraint).fault(answer or "") is not None
        for constraint, answer in zip(asked, answers, strict=True)
    ]
    return found


def yes_or_no(rows: pa.Table) -> list[str | None]:
    """Return "yes" or "no" for each answer that begins so, read as `not_as_planned` does, and None for the others.

    Args:
        rows: Pairs with form, language, options and answer.
    """
    columns = rows.select(["form", "language", "options", "answer"]).to_pylist()
    languages = [language_of(row["language"]) for row in columns]
    return [_side(row, language) if language else None for row, language in zip(columns, languages, strict=True)]


# --- one answer -------------------------------------------------------------------------------------------------------


def _goes_on(question: str, answer: str) -> bool:
    """Return whether an answer completes what a title or half a sentence begins ("Name of the shop: Joe's")."""
    start = question.strip()
    if _ENDED.search(start) or not answer.strip().casefold().startswith(start.casefold()):
        return False
    return bool(_GOES_ON.match(answer.strip()[len(start) :]))


def _is_loop(text: str, is_copied: bool) -> bool:
    """Return whether a text ends in a phrase that comes four times or more, over `_LOOP` characters at least.

    Rows of tables repeat, and so may what is copied from an image: of these it takes more, or a text full of it.
    """
    tail = text.rstrip()[-_TAIL:][::-1]
    overlap, period = _overlaps(tail), 0
    for length in range(_LOOP, len(tail) + 1):
        shortest = length - overlap[length - 1]
        if shortest * _TIMES <= length:
            period = shortest
            break
    if not period:
        return False
    phrase, run = tail[:period], _run(tail, period)
    is_often = run >= period * _OFTEN or run >= _TAIL - period
    if any(map(str.isalpha, phrase)):
        return is_often or not (is_copied or _ROW.search(phrase[::-1]))
    return is_often and any(map(str.isdigit, phrase))


def _overlaps(text: str) -> list[int]:
    """Return, for each beginning of a text, the length of the longest that it also ends with (Knuth, Morris, Pratt)."""
    overlap, length = [0] * len(text), 0
    for place in range(1, len(text)):
        while length and text[place] != text[length]:
            length = overlap[length - 1]
        length += text[place] == text[length]
        overlap[place] = length
    return overlap


def _run(text: str, period: int) -> int:
    """Return how long a text goes on with a period."""
    length = period
    while length < len(text) and text[length] == text[length - period]:
        length += 1
    return length


def _is_choice(options: Sequence[str], letter: str | None) -> bool:
    """Return whether there are two or more different options, none marked, and the letter is of one of them."""
    if options_fault(options) or not letter:
        return False
    return ord(letter) - ord("A") < len(options)


def _decisive(row: dict[str, Any]) -> str:
    answer = row["answer"] or ""
    if row["form"] == "choice" and (letter := letter_of(answer)):
        options = row["options"] or []
        place = LETTERS.find(letter)
        return options[place] if 0 <= place < len(options) else ""
    return final_answer(answer) or answer


def _side(row: dict[str, Any], language: Language) -> str | None:
    """Return whether an answer begins with a yes or a no; of "no" and "not there" the longer one counts."""
    text = re.sub(r"^[\W_]+", "", _decisive(row).casefold())
    sides = (language.yes, language.no)
    yes, no = (max((len(word) for word in words if _begins(text, word)), default=0) for words in sides)
    return "yes" if yes > no else "no" if no > yes else None


def _begins(text: str, word: str) -> bool:
    """Return whether a text begins with a word; without spaces between words, with its letters."""
    rest = text.removeprefix(word)
    if rest == text:
        return False
    is_unspaced = word[0] >= "\u2e80" or "\u0e00" <= word[0] <= "\u0eff"
    return is_unspaced or not rest or not (rest[0].isalpha() or rest[0] in "'’")
