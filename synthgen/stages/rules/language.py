"""The rule for texts in another language than planned.

The script tells first, then the commonest words of languages that share it. Names, numbers, code and quotations may be
in any language, so a text falls only where most of it is in another one. Answers of other forms than `SENTENCES` are
not looked at, because they may be copied from the image.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import LANGUAGES, SCRIPTS, Language, language_of, words_of

Mask = npt.NDArray[np.bool_]

SENTENCES = ("brief", "detailed", "long")  # the forms whose answers are text of one's own
_COPIED = re.compile(
    r"```.*?(?:```|$)|`[^`]*`|\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|\$[^$]*\$|\\[A-Za-z]+"
    r"|https?://\S+|\S+@\S+|<[^<>]*>",
    re.DOTALL,
)
_FEWEST = 12  # letters of another script in a text that is sure to be in it; half as many of one without spaces
_MOST_OWN = 0.3  # of the letters, in such a text
_CHINESE = "[的是在了这這那们們个個吗嗎没沒着很]"  # in a sentence, and hardly in a Japanese or Korean name or address
_FEW_KANA = 0.1  # of the letters; a text with more is Japanese
# Words of another language in a text without any of its own; in a short one; and where the script is another too.
_WORDS, _DENSE, _FEW = 4, 3, 2


# Of languages that share a script: letters of its own, and letters that it has not.
_LETTERS = {
    "russian": ("ыэё", "іїєґђјљњћџ"),
    "ukrainian": ("іїєґ", "ыэёъ"),
    "bulgarian": ("", "ыэёіїєђјљњћџ"),
    "arabic": ("ةيكىأإ", "پچژگکیٹڈڑںےہ"),
    "persian": ("پچژگکی", "ةيكىٹڈڑںے"),
    "urdu": ("ٹڈڑںےہھ", "ةيكى"),
}
_FOREIGN = 2  # letters that the language has not, in a text without any of its own


def wrong_language(rows: pa.Table, question: Any, answer: Any) -> Mask:
    """Return the pairs whose question, or whose answer in sentences, is surely not in the planned language."""
    found = np.zeros(rows.num_rows, bool)
    names = rows.column("language")
    has_sentences = np.asarray(pc.fill_null(pc.is_in(rows.column("form"), pa.array(SENTENCES)), False))
    for name in pc.unique(names).to_pylist():
        if not (language := language_of(name)):
            continue
        of_it = np.asarray(pc.fill_null(pc.equal(names, name), False))
        for texts, places in ((question, np.flatnonzero(of_it)), (answer, np.flatnonzero(of_it & has_sentences))):
            found[places] |= _in_another(texts.take(places), language)
    return found


def _in_another(texts: Any, language: Language) -> Mask:
    """Return the texts that are not in a language: the candidates are found first, then looked at without copies."""
    candidates = np.flatnonzero(_by_script(texts, language) | _by_words(texts, language) | _by_letters(texts, language))
    found = np.zeros(len(texts), bool)
    if len(candidates):
        bare = pa.array([_COPIED.sub(" ", text) for text in texts.take(candidates).to_pylist()], pa.string())
        by_words = [_has_words_of_another(text, language) for text in bare.to_pylist()]
        found[candidates] = _in_another_script(bare, language) | np.asarray(by_words) | _by_letters(bare, language)
    return found


def _by_script(texts: Any, language: Language) -> Mask:
    """Return the texts that may be in another script; beyond Latin a letter has two bytes, or three in Asia."""
    extra = np.asarray(pc.subtract(pc.binary_length(texts), pc.utf8_length(texts)))
    length = np.asarray(pc.utf8_length(texts))
    if "Latin" in language.scripts:
        return np.asarray(extra > np.maximum(_FEWEST, length / 2))
    others = "".join(rf"\p{{{script}}}" for script in SCRIPTS if script not in (*language.scripts, "Latin"))
    found = (extra < length / 2) | np.asarray(pc.match_substring_regex(texts, f"[{others}]"))
    if language.needs != language.scripts:
        needed = "".join(rf"\p{{{script}}}" for script in language.needs)
        found |= ~np.asarray(pc.match_substring_regex(texts, f"[{needed}]"))
    return np.asarray(found)


def _by_words(texts: Any, language: Language) -> Mask:
    """Return the texts with words of another language of the Latin script and none of their own."""
    if not language.words:
        return np.zeros(len(texts), bool)
    has_own = pc.match_substring_regex(texts, _any_of(language.words - _shared(language)))
    has_other = pc.match_substring_regex(texts, _any_of(_words_of_others(language)))
    return np.asarray(pc.and_(has_other, pc.invert(has_own)))


def _by_letters(texts: Any, language: Language) -> Mask:
    """Return the texts with letters of another language of the same script, and none of their own."""
    own, others = _LETTERS.get(language.names[0], ("", ""))
    if not others:
        return np.zeros(len(texts), bool)
    is_other = pc.greater_equal(pc.count_substring_regex(texts, f"(?i)[{others}]"), _FOREIGN)
    has_own = pc.match_substring_regex(texts, f"(?i)[{own}]") if own else False
    return np.asarray(pc.and_(is_other, pc.invert(has_own)))


def _in_another_script(texts: pa.Array, language: Language) -> Mask:
    counts = {script: np.asarray(pc.count_substring_regex(texts, rf"\p{{{script}}}")) for script in SCRIPTS}
    total = np.maximum(sum(counts.values()), 1)
    others = [script for script in SCRIPTS if script not in (*language.scripts, "Latin")]
    fewest = {script: _FEWEST // 2 if script == "Han" else _FEWEST for script in others}
    own = sum(counts[script] for script in language.scripts)
    found = np.zeros(len(texts), bool)
    for script in others:
        found |= (counts[script] >= fewest[script]) & (own <= _MOST_OWN * total) & (counts[script] >= 0.6 * total)
    if language.scripts == ("Han",):
        kana = counts["Hiragana"] + counts["Katakana"]
        found |= (counts["Hiragana"] >= 4) & (kana >= _FEW_KANA * total)
    needed = sum(counts[script] for script in language.needs)
    is_chinese = np.asarray(pc.match_substring_regex(texts, _CHINESE))
    of_han = (needed == 0) & (counts["Han"] >= _FEWEST) & (own >= (1 - _MOST_OWN) * total) & is_chinese
    return np.asarray(found | of_han)


def _has_words_of_another(text: str, language: Language) -> bool:
    """Return whether a text in Latin letters has many common words of one language, and none of its own."""
    words = list(words_of(text))
    if len(words) < _WORDS:
        return False
    if _is_of_names(text):
        return False
    letters = sum(map(len, words))
    if "Latin" not in language.scripts and sum(len(word) for word in words if word.isascii()) < 0.8 * letters:
        return False
    most = max(_words_of(words, other, language) for other in LANGUAGES if other is not language)
    if "Latin" not in language.scripts:
        return most >= _FEW
    return most >= (_WORDS if len(words) > 2 * _DENSE else _DENSE)


def _words_of(words: Sequence[str], other: Language, language: Language) -> int:
    """Return how many words are of another language; 0 if all are one word, or one is of this language alone."""
    if any(word in language.words and word not in other.words for word in words):
        return 0
    found = [word for word in words if word in other.words and word not in language.words]
    return len(found) if len(set(found)) > 1 else 0


def _is_of_names(text: str) -> bool:
    """Return whether all words of a text but the commonest of some language begin with a capital, as names do."""
    common = _words_of_others(LANGUAGES[0]) | LANGUAGES[0].words
    own = [word for word in re.findall(r"[^\W\d_]+", text) if word.lower() not in common]
    return len(own) > 1 and all(word[0].isupper() for word in own)


@cache
def _shared(language: Language) -> frozenset[str]:
    """Return the words of a language that another has too."""
    return language.words & frozenset().union(*(other.words for other in LANGUAGES if other is not language))


@cache
def _words_of_others(language: Language) -> frozenset[str]:
    return frozenset().union(*(other.words for other in LANGUAGES)) - language.words


@cache
def _any_of(words: frozenset[str]) -> str:
    """Return a pattern of RE2 for any of these words, whose `\\b` knows English letters alone."""
    return rf"(?i)(?:^|[^\p{{L}}\p{{M}}])(?:{'|'.join(sorted(words))})(?:$|[^\p{{L}}\p{{M}}])"
