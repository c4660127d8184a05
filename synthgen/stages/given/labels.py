"""The type, the answer form and the language of turns that somebody else wrote, and the options in their questions.

What the set says itself comes first, where the prompt pack knows it. A form is otherwise a matter of length, and a
language of script and commonest words, of the whole conversation: it names what quotas and rules look at, no more.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.families import InstructionType
from synthgen.config.languages import LANGUAGES, SCRIPTS, words_of
from synthgen.config.replies import LETTERS, letter_of
from synthgen.config.turns import with_options
from synthgen.ingest.sources.instructions import Conversation, Turn

TYPE = "imported/turn"  # of what the set does not name
SHORT, BRIEF = 5, 50  # words of an answer, at most
CHARACTERS = 12  # that a word of a script without spaces may have
UNKNOWN, FIRST = "unknown", "English"
LONGEST = 4000  # characters of a conversation that are looked at
_OPTION = re.compile(r"\n([A-D])\. ([^\n]*)")


@dataclass(frozen=True)
class Label:
    """What a turn is taken for."""

    type: str
    form: str
    language: str


def labels_of(conversations: Sequence[Conversation], types: Mapping[str, InstructionType]) -> list[list[Label]]:
    """Return the labels of the turns of conversations.

    Args:
        conversations: Of one partition.
        types: That the prompt pack has.
    """
    languages = languages_of([_whole(each) for each in conversations])
    return [_labels(each, types, language) for each, language in zip(conversations, languages, strict=True)]


def _labels(conversation: Conversation, types: Mapping[str, InstructionType], language: str) -> list[Label]:
    named = conversation.labels or {}
    labels = list[Label]()
    for place, turn in enumerate(conversation.turns):
        kind, form = (named[name][place] if name in named else "" for name in ("types", "forms"))
        is_known = kind in types and (form or form_of(turn)) in types[kind].forms
        is_choice = form_of(turn) == "choice"
        known = form if is_known and (form == "choice") == is_choice and form else form_of(turn)
        own = kind if is_known and known in types[kind].forms else TYPE
        said = named["languages"][place] if "languages" in named else ""
        labels.append(Label(own, known, said or language))
    return labels


def form_of(turn: Turn) -> str:
    """Return the answer form of a turn by its length; multiple choice is where question and answer spell it so."""
    if split_options(turn)[1]:
        return "choice"
    words = sum(1 + len(word) // CHARACTERS for word in turn.answer.split())
    return "short" if words <= SHORT and "\n" not in turn.answer.strip() else "brief" if words <= BRIEF else "long"


def split_options(turn: Turn) -> tuple[str, list[str]]:
    """Return the question of a turn without its lettered options, and these; none where joining would not restore it.

    Only what ends with two or more options, and is answered with the letter of one, is multiple choice.
    """
    found = list(_OPTION.finditer(turn.question))
    if len(found) < 2:
        return turn.question, []
    question, options = turn.question[: found[0].start()], [match[2] for match in found]
    letter = letter_of(turn.answer) if len(turn.answer.strip()) <= 3 else None
    is_whole = with_options(question, options) == turn.question and len(options) <= len(LETTERS)
    return (question, options) if is_whole and letter and LETTERS.find(letter) < len(options) else (turn.question, [])


# --- languages --------------------------------------------------------------------------------------------------------


def languages_of(texts: Sequence[str]) -> list[str]:
    """Return the language of each text: that of its script, or of the commonest words among those of its script."""
    array = pa.array([text[:LONGEST] for text in texts], pa.string())
    if not len(array):
        return []
    others = [script for script in SCRIPTS if script != "Latin"]
    found = np.zeros((len(others), len(array)), np.int64)
    rest = np.flatnonzero(~np.asarray(pc.string_is_ascii(array)))
    if len(rest):
        some = array.take(pa.array(rest))
        for place, script in enumerate(others):
            found[place, rest] = np.asarray(pc.count_substring_regex(some, rf"\p{{{script}}}"))
    letters = np.asarray(pc.count_substring_regex(array, r"\p{L}"))
    commonest = np.where(found.sum(axis=0) * 2 > letters, found.argmax(axis=0), -1)
    return [
        _of_script(others[place], dict(zip(others, found[:, number].tolist(), strict=True)))
        if place >= 0
        else _of_words(array[number].as_py())
        for number, place in enumerate(commonest.tolist())
    ]


def _of_script(script: str, counts: Mapping[str, int]) -> str:
    if script == "Han" and counts["Hiragana"] + counts["Katakana"] > counts["Han"] // 10:
        script = "Hiragana"
    return next((language.names[0].capitalize() for language in LANGUAGES if script in language.needs), UNKNOWN)


def _of_words(text: str) -> str:
    """Return the language of a text in Latin letters by its commonest words; English where none speaks against it."""
    counts = Counter(words_of(text))
    latin = [language for language in LANGUAGES if "Latin" in language.scripts and language.words]
    scores = [sum(counts[word] for word in language.words) for language in latin]
    best = int(np.argmax(scores))
    if scores[best] > scores[0]:
        return latin[best].names[0].capitalize()
    return FIRST if scores[0] or text.isascii() else UNKNOWN


def _whole(conversation: Conversation) -> str:
    return "\n".join(text for turn in conversation.turns for text in turn)[:LONGEST]
