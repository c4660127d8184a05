"""Words from a user's data as paths of a tree, and as text that is safe to print.

Seeds, labels and sidecar files name tags and types in their own spelling: a whole path or its last name, in any case,
with blanks or hyphens where the trees have underscores.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


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
            path = self._paths.get(_normalize(word))
            if path is None:
                unknown.append(word)
            else:
                paths.append(path)
        return paths, unknown


def read_words(value: Any) -> tuple[str, ...] | None:
    """Return the words in a field: a list of words, one text with commas, or tags with a `path` each.

    Args:
        value: The field as JSON or Parquet gives it.

    Returns:
        The words in order; None if there is no field, which differs from an empty one.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, Mapping):
        return read_words(value.get("path"))
    if not isinstance(value, Sequence):
        return (str(value),)
    return tuple(word for item in value for word in read_words(item) or ())


def make_printable(text: str) -> str:
    """Replace characters with which a foreign word could end a YAML comment or steer a terminal."""
    return re.sub(r"[^\x20-\x7e\u00a1-\ud7ff]", "?", text)


def _normalize(word: str) -> str:
    return word.strip().lower().replace(" ", "_").replace("-", "_")
