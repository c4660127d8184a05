"""The words of a seed as names of our trees.

Comes in: words that a seed has for tags or types, and the paths that there are. Goes out: the paths meant, and the words that
mean none. A word may be a whole path or a name alone, in any case, with blanks or hyphens where our names have underscores.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthgen.commands.learn.records import words
from synthgen.errors import UserMistake


class Lexicon:
    """The paths of a tree by every word for them; `names` adds words of the seed's own."""

    def __init__(self, paths: Iterable[str], names: Mapping[str, str] | None = None) -> None:
        listed = list(paths)
        self._paths = {path.rpartition("/")[2]: path for path in listed} | {path: path for path in listed}
        self._paths |= {_spelled(word): path for word, path in (names or {}).items()}

    def known(self, given: Iterable[str]) -> tuple[list[str], list[str]]:
        """(paths, words that mean none)"""
        found: list[str] = []
        unknown: list[str] = []
        for word in given:
            path = self._paths.get(_spelled(word))
            (unknown if path is None else found).append(word if path is None else path)
        return found, unknown


def types_file(path: Path) -> dict[str, tuple[str, ...]]:
    """Row id -> its words for types: one JSON object of them, or a line for each row with `id` and `types`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserMistake(f"{path}: cannot be read: {error}") from error
    try:
        if path.suffix in (".jsonl", ".ndjson"):
            pairs = [_pair(json.loads(line)) for line in text.splitlines() if line.strip()]
        else:
            pairs = list(json.loads(text).items())
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserMistake(
            f'{path}: is neither {{"row id": ["type"]}} nor lines of {{"id": …, "types": […]}} ({error})'
        ) from error
    return {str(key): words(value) or () for key, value in pairs}


def _pair(record: Any) -> tuple[Any, Any]:
    return record["id"], record["types"]


def _spelled(word: str) -> str:
    return word.strip().lower().replace(" ", "_").replace("-", "_")
