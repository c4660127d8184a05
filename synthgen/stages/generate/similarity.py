"""How alike two answers are: word overlap (F1) after normalization, as SQuAD compares answers (arXiv 1606.05250)."""

import re
import unicodedata
from collections import Counter

from synthgen.config.replies import letter_of

_ARTICLES = ("a", "an", "the")
_LIST_ITEM = re.compile(r"\s*(?:[-*•+]\s|\d+[.)]\s|\|)")
_NUMBER = re.compile(r"[+\-]?\d+(?:\.\d+)*%?")
_MATHS = re.compile(r"\$(?=\S)([^$]*[^$\s])\$(?!\d)")  # dollars around mathematics; those of "$5 or $6" are money
_NAMED_BY_SIGN = re.compile(r"[^\W\d_](?:\+\+?|-|#)")  # C++, C#, the mark A-
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words, so their characters are compared.
_UNSPACED = re.compile(
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])"
)


def similarity(reply: str, other: str, form: str = "short") -> float:
    """Return the F1 of the words of two replies' decisive parts: 1 for equal, 0 for nothing in common."""
    words = normalize(decisive_part(reply, form)).split()
    other_words = normalize(decisive_part(other, form)).split()
    if words == other_words:
        return 1.0
    shared = sum((Counter(words) & Counter(other_words)).values())
    return 2 * shared / (len(words) + len(other_words)) if shared else 0.0


def decisive_part(reply: str, form: str) -> str:
    """Return the part of a reply that settles the question.

    The letter of a multiple choice; the last line of an explanation, where the prompts ask for the answer. A list or a
    table has no such line and counts as a whole.
    """
    if form == "choice" and (letter := letter_of(reply)):
        return letter
    lines = [line for line in reply.splitlines() if line.strip()]
    if form in ("brief", "detailed") and len(lines) > 1 and not _LIST_ITEM.match(lines[-1]):
        return lines[-1]
    return reply


def normalize(text: str) -> str:
    """Return a text without case, English articles, punctuation and repeated spaces.

    Numbers keep their sign, decimal point and percent sign; currencies, comparisons and arrows are words, and so are
    "C++" and "A-". Scripts without spaces become one word per character, as in MLQA (arXiv 1910.07475). A text of
    articles or signs alone keeps them.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = _THOUSANDS_COMMA.sub("", folded.replace("\N{MINUS SIGN}", "-"))
    folded = _MATHS.sub(r"\1", folded)
    spaced = "".join(f" {character} " if _is_sign(character) else character for character in folded)
    kept = "".join(character if _is_kept(character) else " " for character in spaced)
    words = [word for chunk in _UNSPACED.sub(r" \1 ", kept).split() for word in _words(chunk)]
    return " ".join([word for word in words if word not in _ARTICLES] or words or folded.split())


def _is_sign(character: str) -> bool:
    return character not in "+|~" and unicodedata.category(character) in ("Sc", "Sm")


def _is_kept(character: str) -> bool:
    # Combining marks (category M) are the vowels of many scripts.
    is_mark = unicodedata.category(character)[0] == "M"
    return character.isalnum() or character in "+-.%#" or is_mark or _is_sign(character)


def _words(chunk: str) -> list[str]:
    """Return a number whole; anything else is split at signs and points."""
    whole = chunk.rstrip(".")
    if _NUMBER.fullmatch(whole) or _NAMED_BY_SIGN.fullmatch(whole):
        return [whole]
    return [word for word in re.split(r"[+\-.%#]+", chunk) if word]
