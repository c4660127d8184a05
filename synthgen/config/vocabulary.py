"""Words from a user's data as paths of a tree, and as text that is safe to print.

Seeds, labels and sidecar files name tags and types in their own spelling: a whole path or its last name, in any case,
with blanks or hyphens where the trees have underscores.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from synthgen.errors import did_you_mean

REMEMBERED = 10_000  # words of which the nearest name is known
Entry = tuple[Any, Any]  # a word and its score, both as they stand in the data


class Lexicon:
    """The paths of a tree, looked up by any spelling.

    Args:
        paths: The paths of the tree.
        synonyms: Further words of the data, each with its path.
    """

    def __init__(self, paths: Iterable[str], synonyms: Mapping[str, str] | None = None) -> None:
        listed = list(paths)
        by_name = {path.rpartition("/")[2]: path for path in listed}
        by_synonym = {_normalize(word): path for word, path in (synonyms or {}).items()}
        self._paths = by_name | {path: path for path in listed} | by_synonym
        self._names = sorted(by_name.keys() | by_synonym.keys())
        self._nearest = dict[str, str]()

    def path(self, word: str) -> str | None:
        """Return the path that a word means; None if it means none."""
        return self._paths.get(_normalize(word))

    def nearest(self, word: str) -> str:
        """Return a question that names what a word that means no path may stand for; empty if nothing is near."""
        name = _normalize(word)
        if name not in self._nearest and len(self._nearest) < REMEMBERED:  # a source has the same words again and again
            self._nearest[name] = did_you_mean(name.rpartition("/")[2], self._names).rstrip()
        return self._nearest.get(name, "")

    def look_up(self, words: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the paths that words mean, and the words that mean none.

        Args:
            words: Words in the spelling of the data.

        Returns:
            The paths and the unknown words, each in the order of `words`.
        """
        paths: list[str] = []
        unknown: list[str] = []
        for word in words:
            path = self.path(word)
            if path is None:
                unknown.append(word)
            else:
                paths.append(path)
        return paths, unknown


def read_entries(value: Any) -> list[Entry] | None:
    """Return the words in a field of tags with their scores, from any of the forms in docs/tagging.md.

    Args:
        value: The field as JSON or Parquet gives it.

    Returns:
        The words and scores as they stand there, 1.0 where there is no score; None if it has none of the forms.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [(word.strip(), 1.0) for word in value.split(",") if word.strip()]
    if isinstance(value, Mapping):
        return [_entry(value)] if isinstance(value.get("path"), str) else list(value.items())
    if not isinstance(value, list):
        return None
    return [_entry(item) for item in value if item != ""]


def read_words(value: Any) -> tuple[str, ...] | None:
    """Return the words in a field of types or tags: those of `read_entries`, and those of lists in a list.

    Args:
        value: The field as JSON or Parquet gives it.

    Returns:
        The words in order; None if there is no field, which differs from an empty one.
    """
    if value is None:
        return None
    entries = read_entries(value)
    if entries is None:
        return (str(value),)
    return tuple(part for word, _ in entries for part in _parts(word))


def make_printable(text: str) -> str:
    """Replace characters with which a foreign word could end a YAML comment or steer a terminal."""
    return re.sub(r"[^\x20-\x7e\u00a1-\ud7ff]", "?", text)


def _entry(item: Any) -> Entry:
    if not isinstance(item, Mapping) or "path" not in item:
        return item, 1.0
    return item["path"], 1.0 if item.get("score") is None else item["score"]


def _parts(word: Any) -> Iterable[str]:
    """Return the words in an entry, which in a list may be text with commas or a list itself."""
    if isinstance(word, str):
        return [part.strip() for part in word.split(",") if part.strip()]
    return read_words(word) or ()


def _normalize(word: str) -> str:
    return "_".join(word.lower().replace("-", " ").split())
