"""Whether a reply is right, by rules that anybody can repeat.

    choice    the letter that it gives, or the words of one option
    response  the set of letters that it gives: all of the right ones and no other (CMMU, arXiv 2401.14011)
    text      the words after normalization, as SQuAD compares them (exact match, arXiv 1606.05250)
    number    a number within a tolerance, 5 % by default (relaxed accuracy of ChartQA, arXiv 2203.10244, section 5.1)
    fill      a line of it is near to the answer: difflib's ratio above 0.7 (CMMU, where no model judges)

A reply that cannot be read so is unparsed, which is counted, and never a guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from synthgen.commands.evaluate.question import CHOICE, FILL, LETTERS, NUMBER, WITH_OPTIONS, Question
from synthgen.commands.evaluate.wording import options_at, right_at
from synthgen.config.replies import final_answer, letter_of
from synthgen.config.replies.written import without_thoughts
from synthgen.stages.generate.similarity import decisive_part, normalize, similarity

NEAR = 0.7  # difflib's ratio, of CMMU
ANLS_THRESHOLD = 0.5  # of ST-VQA
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*\s*%?")
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_AND = r"(?:[\s,;/&+、]|\band\b|\bund\b|\bet\b|\by\b|和|与|及)*"
_LISTED = re.compile(rf"[\s*_(\[]*([A-H])(?:[).\]*_]*{_AND}[(\[*_]*([A-H]))*[).\]*_\s]*")
_LINE = re.compile(r"[\s*_(\[-]*([A-H])[*_]*[).\]:、]")


@dataclass(frozen=True)
class Judgement:
    """What a reply says, and whether that is right.

    Attributes:
        parsed: What was compared; None where the reply cannot be read.
        exact: Whether it is one of the answers, word for word or letter by letter.
        relaxed: For words and numbers, how near it is to one of them, 0 to 1: by ANLS, or within the tolerance; 1 where
            it is exact.
        overlap: For words, the F1 of the words that it shares with one of them.
    """

    parsed: str | None
    right: bool
    exact: bool
    relaxed: float | None = None
    overlap: float | None = None


def judge(question: Question, rotation: int, reply: str, is_cut_off: bool, tolerance: float) -> Judgement:
    """Return what a reply to a question says, and whether it is right.

    Args:
        question: The question.
        rotation: Of its options, in which it was asked.
        reply: The whole reply.
        is_cut_off: Whether it reached the limit of tokens.
        tolerance: By which a number may be off, as a share of it.
    """
    right = right_at(question, rotation)
    if question.kind in WITH_OPTIONS:
        options = options_at(question, rotation)
        said = chosen(reply, options, is_cut_off) if question.kind == CHOICE else chosen_set(reply, len(options))
        is_right = said == "".join(right)
        return Judgement(said, is_right, is_right)
    text = final_answer(reply) or decisive_part(without_thoughts(reply), question.form).strip()
    if question.kind == FILL:
        return _filled(reply, text, right)
    if question.kind == NUMBER:
        return _counted(text, right, tolerance)
    is_exact = any(_is_same(text, answer) for answer in right)
    relaxed = 1.0 if is_exact else max(_relaxed(text, answer, tolerance) for answer in right)
    return Judgement(text or None, is_exact, is_exact, relaxed, max(similarity(text, answer) for answer in right))


# --- options ----------------------------------------------------------------------------------------------------------


def chosen(reply: str, options: Sequence[str], is_cut_off: bool = False) -> str | None:
    """Return the letter of the option that a reply chooses, by its letter or by being its words; None if neither."""
    letter = letter_of(reply, is_cut_off)
    if letter is not None:
        return letter if letter in LETTERS[: len(options)] else None
    said = normalize(final_answer(reply) or without_thoughts(reply))
    matches = [LETTERS[place] for place, option in enumerate(options) if normalize(option) == said]
    return matches[0] if len(matches) == 1 else None


def chosen_set(reply: str, count: int) -> str | None:
    """Return the letters that a reply to multiple response gives, in order and each once; None if it gives none.

    It must consist of letters ("A, C", "AC", "A and C"), or of lines that begin with one each. Of the first `count`
    letters alone; another one makes it unreadable.
    """
    text = (final_answer(reply) or without_thoughts(reply)).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    if _LISTED.fullmatch(text):
        found = set(re.findall(r"[A-H]", text))
    elif lines and all(_LINE.match(line) for line in lines):
        found = {match[1] for line in lines if (match := _LINE.match(line))}
    else:
        return None
    return "".join(sorted(found)) if found <= set(LETTERS[:count]) else None


# --- words and numbers ------------------------------------------------------------------------------------------------


def _filled(reply: str, text: str, answers: Sequence[str]) -> Judgement:
    lines = [normalize(line) for line in (text, *without_thoughts(reply).splitlines()) if line.strip()]
    near = {line: max(SequenceMatcher(None, line, normalize(answer)).ratio() for answer in answers) for line in lines}
    best = max(near, key=lambda line: near[line], default=None)
    is_exact = best is not None and any(best == normalize(answer) for answer in answers)
    return Judgement(best, best is not None and near[best] > NEAR, is_exact, near.get(best or "", 0.0))


def _counted(text: str, answers: Sequence[str], tolerance: float) -> Judgement:
    number = _one_number(text)
    if number is None:
        return Judgement(None, False, False, 0.0)
    known = [value for answer in answers if (value := read_number(answer)) is not None]
    is_near = any(_is_near(number, value, tolerance) for value in known)
    return Judgement(f"{number:.12g}", is_near, number in known, float(is_near))


def _relaxed(text: str, answer: str, tolerance: float) -> float:
    """Return how near a text is to an answer: of a number whether it is within the tolerance, else the ANLS."""
    number, value = read_number(text), read_number(answer)
    if value is None:
        return anls(text, answer)
    return float(number is not None and _is_near(number, value, tolerance))


def _is_same(text: str, answer: str) -> bool:
    number, value = read_number(text), read_number(answer)
    return normalize(text) == normalize(answer) or (value is not None and number == value)


def _is_near(number: float, value: float, tolerance: float) -> bool:
    return abs(number - value) <= tolerance * abs(value) * (1 + 1e-12)


def read_number(text: str) -> float | None:
    """Return the number that a text is; None if it is none. "12 %" is 0.12, as ChartQA reads it; "1,234" is 1234."""
    bare = _THOUSANDS.sub("", text.strip().rstrip(".").lstrip("$€£¥"))
    is_share = bare.endswith("%")
    try:
        number = float(bare.rstrip("% "))
    except ValueError:
        return None
    return (number / 100 if is_share else number) if np.isfinite(number) else None


def _one_number(text: str) -> float | None:
    """Return the number that a text is, or the only one in it; None where there is none, or more than one."""
    if (whole := read_number(text)) is not None:
        return whole
    found = _NUMBER.findall(text)
    return read_number(found[0]) if len(found) == 1 else None


def anls(text: str, answer: str) -> float:
    """Return the normalized Levenshtein similarity of two texts, 0 below a half (ST-VQA, arXiv 1905.13648).

    Case and spaces do not count, as in the evaluation of DocVQA (arXiv 2007.00398). The mean over questions is ANLS.
    """
    first, second = (" ".join(each.lower().split()) for each in (text, answer))
    longest = max(len(first), len(second))
    if not longest or first == second:
        return 1.0
    if abs(len(first) - len(second)) > ANLS_THRESHOLD * longest:
        return 0.0
    near = 1.0 - _edits(first, second) / longest
    return near if near >= ANLS_THRESHOLD else 0.0


def _edits(first: str, second: str) -> int:
    """Return the Levenshtein distance of two texts, row by row of its table."""
    letters = np.frombuffer(second.encode("utf-32-le"), np.uint32)
    places = np.arange(len(second) + 1)
    row = places.copy()
    for number, letter in enumerate(np.frombuffer(first.encode("utf-32-le"), np.uint32), 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (letters != letter))
        # An insertion costs one more than the cell to the left, which depends on its own left one in turn.
        row = np.minimum.accumulate(np.concatenate(([number], best)) - places) + places
    return int(row[-1])
