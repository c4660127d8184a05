"""The rules that drop a pair for what its texts are, without a model: each is a mask over a whole partition.

A rule says no only where it is sure. A wrong pair that passes costs little; right ones that are dropped for their kind
(answers that the image does not show it, requests without a question mark) are missing from every set.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import UNSPACED
from synthgen.config.selection import SelectConfig
from synthgen.stages.rules.answers import (
    breaks_constraint,
    broken_places,
    choice_faults,
    loops,
    not_as_planned,
    repeats_question,
    yes_or_no,
)
from synthgen.stages.rules.language import wrong_language
from synthgen.stages.rules.questions import breaks_off, holds_answer, two_questions
from synthgen.stages.rules.self_talk import speaks_of_itself

__all__ = ["COLUMNS", "RULES_VERSION", "mask", "rules", "yes_or_no"]

RULES_VERSION = "6"  # part of the fingerprint of decisions; raise it when a rule changes
# Of PAIRS, that rules read.
COLUMNS = ["form", "language", "question", "options", "key", "truth", "constraint", "answer"]
_UNSPACED = "[" + "".join(rf"\p{{{script}}}" for script in UNSPACED) + "]"


def rules(rows: pa.Table, settings: SelectConfig) -> Iterator[tuple[str, Any]]:
    """Yield each rule with a Boolean array of the pairs that break it, in the order in which they count.

    Args:
        rows: Pairs with `COLUMNS` and `plain`, the question as it is compared with others.
        settings: The limits of lengths, and the patterns that are forbidden.
    """
    question, answer = (pc.fill_null(rows.column(name), "") for name in ("question", "answer"))
    yield "empty_question", pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(question)), 0)
    yield "empty_answer", pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(answer)), 0)
    yield "question_too_short", pc.less(_length(question), settings.min_question_characters)
    yield "answer_too_long", pc.greater(pc.utf8_length(answer), settings.max_answer_characters)
    yield "answer_in_question", holds_answer(question)
    yield "breaks_off", breaks_off(rows, question)
    yield "two_questions", two_questions(question)
    is_copied = pc.equal(rows.column("form"), "text")
    yield "meta", speaks_of_itself(question) | (speaks_of_itself(answer) & ~mask(is_copied))
    yield "repeats_question", repeats_question(rows, answer)
    yield "loops", loops(rows, answer)
    yield "wrong_language", wrong_language(rows, question, answer)
    yield from choice_faults(rows)
    yield "broken_places", broken_places(rows)
    yield "not_as_planned", not_as_planned(rows)
    yield "breaks_constraint", breaks_constraint(rows)
    for pattern in settings.forbidden:
        yield "forbidden", pc.or_(*(pc.match_substring_regex(text, pattern) for text in (question, answer)))


def mask(values: Any) -> npt.NDArray[np.bool_]:
    """Return a Boolean array as numpy; null counts as False."""
    if isinstance(values, np.ndarray):
        return values
    found: npt.NDArray[np.bool_] = np.asarray(pc.fill_null(values, False), dtype=bool)
    return found


def _length(question: Any) -> Any:
    """Return the characters of each question; a letter of a script without spaces says as much as two of others."""
    length = pc.utf8_length(pc.utf8_trim_whitespace(question))
    if pc.all(pc.string_is_ascii(question)).as_py():
        return length
    return pc.add(length, pc.count_substring_regex(question, _UNSPACED))
