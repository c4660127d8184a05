"""Rules for questions: one that breaks off, and two in one."""

# ruff: noqa: RUF001 (signs of many scripts)

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import language_of

Mask = npt.NDArray[np.bool_]

_ENDED = r"[.?!…。？！؟।:：;][\"'”’»」』)\]）】*_` ]*$"
# Between quotation marks or brackets stands what the question is about, which may ask or break off itself.
_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’|\([^()]*\)|`[^`]*`"
)
_OPEN = re.compile(r"[“„«「『《(（\[【{]|(?<![\d\w])\"")
_SMILEY = re.compile(r"[:;=8]-?[(\[{]\s*$")
_REASON = re.compile(r"\W*(?:and )?(?:why(?: or why not)?|how (?:do|can) (?:you|we) (?:tell|know)|how come)\W*", re.I)
_ASKED = re.compile(r"[?？؟]+")
_AGAIN = r"[?？؟].*\S.*[?？؟]"
_WH = r"(?:what|which|who|whom|whose|where|when|why|how)"
# "What is it, where does it stand and how old is it?": two can be one question ("in common, and where do they differ"),
# three are a list.
_LISTED = rf"(?i)^\W*{_WH}\b.*[,;]\s*{_WH}\b.*\band\s+(?:also\s+)?(?:{_WH}|is|are|does|do|can)\b"


def breaks_off(rows: pa.Table, question: Any) -> Mask:
    """Return the questions that end inside a quotation or a bracket, or in a word that no text ends in.

    Requests and titles end without a mark, so the lack of one is not enough.
    """
    found = np.zeros(rows.num_rows, bool)
    unended = np.flatnonzero(~np.asarray(pc.match_substring_regex(question, _ENDED)))
    texts, names = (column.take(unended).to_pylist() for column in (question, rows.column("language")))
    found[unended] = [_breaks_off(text.strip(), name) for text, name in zip(texts, names, strict=True)]
    return found


def two_questions(question: Any) -> Mask:
    """Return the questions that ask twice; "…? Why?" goes with the question before it."""
    found = np.asarray(pc.match_substring_regex(question, f"{_AGAIN}|{_LISTED}"))
    candidates = np.flatnonzero(found)
    found = np.zeros(len(found), bool)
    found[candidates] = [_asks_twice(text) for text in question.take(candidates).to_pylist()]
    return found


def _breaks_off(text: str, language: str | None) -> bool:
    if _OPEN.search(_QUOTED.sub("", text)) and not _SMILEY.search(text):
        return True
    words = re.split(r"[\s'’]+", text)
    last = words[-1] if len(words[-1]) == 1 else words[-1].lower()  # "A" may be a letter
    known = language_of(language)
    return bool(known and len(words) > 1 and last in known.never_last)


def _asks_twice(text: str) -> bool:
    bare = _QUOTED.sub("“”", text)
    asked = [part for part in _ASKED.split(bare)[:-1] if _weight(part) > 2 and not _REASON.fullmatch(part)]
    return len(asked) > 1 or bool(re.search(_LISTED, bare))


def _weight(part: str) -> int:
    """Return the words of a part of a question; of scripts without spaces, two letters are about one."""
    words = re.findall(r"[^\W_]+", part)
    return sum(1 if word[0] < "\u2e80" or "\uac00" <= word[0] <= "\ud7a3" else (len(word) + 1) // 2 for word in words)
