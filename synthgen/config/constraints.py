"""What a request asks of the form of its answer, such as three bullets or twenty words, and whether an answer keeps it.

Counts are taken twice, once as low and once as high as one can count, and only an answer that is outside both ways is
at fault: "well-lit" is one word or two, and "St. Mark" ends a sentence for some.
"""

# ruff: noqa: RUF001 (signs of many scripts)

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from synthgen.config.library import Section
from synthgen.config.replies.written import without_fence


def _as_range(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Count = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], BeforeValidator(_as_range)]
Counted = tuple[int, int]  # as few and as many as one can count


class Constraint(Section):
    """The form that an answer must have; a count is a number, or the least and the most."""

    words: Count | None = None
    letters: Count | None = None  # and digits; of scripts that put no spaces between words
    characters: Count | None = None
    sentences: Count | None = None
    lines: Count | None = None
    paragraphs: Count | None = None
    bullets: Count | None = None  # lines that begin with a bullet or a number
    numbered: Count | None = None  # lines that begin with a number
    hashtags: Count | None = None
    without: tuple[str, ...] = ()  # what it must not contain, in capitals or not
    starts: str | None = None
    ends: str | None = None
    case: Literal["upper", "lower"] | None = None
    keys: tuple[str, ...] = ()  # the answer is a JSON object with these keys

    def fault(self, answer: str) -> str | None:
        """Return how an answer breaks it, or None."""
        text = without_fence(answer).strip()
        for name, count in COUNTS.items():
            wanted = getattr(self, name)
            if wanted is not None and (fault := _outside(count(text), wanted)):
                return f"{fault} {name}"
        return self._fault_of_wording(text)

    def _fault_of_wording(self, text: str) -> str | None:
        folded, bare = text.casefold(), text.strip("\"'*_“”„«»‘’「」 ")
        if found := next((part for part in self.without if part.casefold() in folded), None):
            return f"has {found!r}"
        if self.starts and not (text.startswith(self.starts) or bare.startswith(self.starts)):
            return f"does not begin with {self.starts!r}"
        if self.ends and not bare.endswith(self.ends):
            return f"does not end with {self.ends!r}"
        if self.case and text != (text.upper() if self.case == "upper" else text.lower()):
            return f"is not all in {self.case} case"
        return _fault_of_keys(text, self.keys) if self.keys else None


def _outside(counted: Counted, wanted: Counted) -> str | None:
    if counted[0] > wanted[1]:
        return f"has {counted[0]} and not at most {wanted[1]}"
    return f"has {counted[1]} and not at least {wanted[0]}" if counted[1] < wanted[0] else None


def _fault_of_keys(text: str, keys: tuple[str, ...]) -> str | None:
    try:
        value = json.loads(text)
    except ValueError:
        return "is no JSON"
    if not isinstance(value, dict) or {key.casefold() for key in value} != {key.casefold() for key in keys}:
        return f"has other keys than {', '.join(keys)}"
    return None


_NUMBERED = r"\(?\d{1,2}[.)、\uff0e\uff09:]|[①-⑳]|[一二三四五六七八九十]、"
_ITEM = re.compile(rf"^\s*(?:\*\*)?(?:[-*+–—]\s|[•●▪◦‣·]|{_NUMBERED})\s*\S", re.MULTILINE)
_NUMBER = re.compile(rf"^\s*(?:\*\*)?(?:{_NUMBERED})\s*\S", re.MULTILINE)
_END = re.compile(r"[.!?…。！？؟।]+[\"'”’»」)\]]*")
# Certain to end a sentence: behind a word of three letters or more, and before another sentence or the end.
_SURE_END = re.compile(r"(?:(?<=[\w'’]{3})[.!?…؟]+[\"'”’»)\]]*(?=\s+[^\Wa-zа-яёіїєґ\d]|\s*$)|[。！？।])")
_LIST_NUMBER = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_HASHTAG = re.compile(r"(?<!\w)#\w+")


def _words(text: str) -> Counted:
    bare = re.sub(r"[*_#`|>]", " ", _LIST_NUMBER.sub("", text))
    apart = sum(any(map(str.isalnum, word)) for word in bare.split())
    return apart, max(apart, len(re.findall(r"[^\W_]+", bare)))


def _sentences(text: str) -> Counted:
    parts = [part for line in text.splitlines() for part in _END.split(line) if any(map(str.isalnum, part))]
    return max(1, len(_SURE_END.findall(text))), max(1, len(parts))


def _lines(text: str) -> Counted:
    return _same(sum(bool(line.strip()) for line in text.splitlines()))


def _paragraphs(text: str) -> Counted:
    blank = len([part for part in re.split(r"\n\s*\n", text) if part.strip()])
    return blank, max(blank, _lines(text)[1])


def _same(count: int) -> Counted:
    return count, count


COUNTS: Mapping[str, Callable[[str], Counted]] = {
    "words": _words,
    "letters": lambda text: _same(sum(map(str.isalnum, text))),
    "characters": lambda text: _same(len(text)),
    "sentences": _sentences,
    "lines": _lines,
    "paragraphs": _paragraphs,
    "bullets": lambda text: _same(len(_ITEM.findall(text))),
    "numbered": lambda text: _same(len(_NUMBER.findall(text))),
    "hashtags": lambda text: _same(len(_HASHTAG.findall(text))),
}
