"""The texts that a text encoder compares with an image: what a taxonomy's tags are called, in sentences."""

import re
import string
from collections.abc import Sequence
from typing import Any, Literal, Protocol

Article = Literal["a", "an", "the", "none"]

SLOT = re.compile(r"(?:\ban? )?\{\}")  # of a template, with the article before it
# Spoken as "yoo" or "w", and therefore with "a"; and letters that are spelt out with a vowel first.
CONSONANT_SOUND = re.compile(r"(?:uni(?!n)|use|usu|uti|uku|eu|ewe|one\b|once|u[ -]|usb\b|ui\b|uml\b)")
VOWEL_SOUND = re.compile(r"(?:[aeiou]|hour|heir|honest|[fhlmnrsx][ -]|(?:html|xml|nmr|mri|sms|svg|led|lcd|suv|rna)\b)")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
PREPOSITION = re.compile(r" (?:of|on|in|with|from|at|under|over|for|by|to|and|as|behind|below|above|beside) ")
# After a slot: a noun, to which the article before the slot belongs ("a {} pattern").
NOUN_AFTER = re.compile(r" (?!(?:of|on|in|with|from|at|under|over|for|by|and|or|growing|filmed|full)\b)\w")
# Endings of words that are no plurals although they end in s.
SINGULAR_S = re.compile(r"(?:ss|us|is|lens|series|species|^gas|^atlas|^canvas|^christmas|^rhinoceros|^thermos)$")


class Named(Protocol):
    """A tag, as far as its texts go."""

    @property
    def words(self) -> str:
        """Its name with spaces."""

    @property
    def means(self) -> str:
        """Its meaning."""

    @property
    def values(self) -> Any:
        """The keys of the tag in its file."""

    @property
    def children(self) -> Sequence[str]:
        """The paths of the tags below it."""


def phrasings(tag: Named, templates: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a tag.

    Args:
        tag: The tag.
        templates: Sentences with a slot for its name, for a tag without the key `text`.
    """
    meaning = f"{tag.words}: {tag.means}"
    if sentences := own_sentences(tag.values.get("text")):
        return sentences if tag.children else (*sentences, meaning)
    names = [tag.words, *tag.values.get("also", [])]
    article = tag.values.get("article")
    return (*(fill(template, name, article) for name in names for template in templates), meaning)


def own_sentences(text: Any) -> tuple[str, ...]:
    """Return the key `text` of a tag as sentences."""
    if text is None:
        return ()
    return (text,) if isinstance(text, str) else tuple(text)


def fill(template: str, name: str, article: Article | None = None) -> str:
    """Return a template with a name in its slots, and the article that the name takes where it has one.

    Args:
        template: Text with `{}`.
        name: The words of a tag.
        article: The article of the name; None finds it by rule.
    """
    article = article or article_of(name)

    def replace(slot: re.Match[str]) -> str:
        if slot[0] == "{}":
            return name
        if NOUN_AFTER.match(template, slot.end()):
            return f"{_by_sound(name)} {name}"
        return name if article == "none" else f"{article} {name}"

    return SLOT.sub(replace, template)


def article_of(name: str) -> Article:
    """Return the article of an English name by its sound: none for a plural, `an` before a vowel, else `a`."""
    head = PREPOSITION.split(f"{name} ", maxsplit=1)[0].strip()
    last = head.rpartition(" ")[2]
    if last.endswith("s") and len(last) > 2 and not SINGULAR_S.search(last):
        return "none"
    return _by_sound(name)


def _by_sound(name: str) -> Article:
    return "an" if VOWEL_SOUND.match(name) and not CONSONANT_SOUND.match(name) else "a"


def canonical(text: str) -> str:
    """Return a text as the tokenizers of SigLIP models clean it: lower case, without punctuation.

    This is open_clip's `canonicalize` (big_vision's `prompt_engineering`), by which "c++ code" and "c# code" are one.
    """
    return " ".join(text.replace("_", " ").translate(WITHOUT_PUNCTUATION).lower().split())
