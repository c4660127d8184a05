"""The words of a seed as names of our trees.

Comes in: words that a seed has for tags or types, and the paths that there are. Goes out: the paths meant, and the words that
mean none. A word may be a whole path or a name alone, in any case, with blanks or hyphens where our names have underscores.
"""

import json
from pathlib import Path
from typing import Any

from synthgen.config.vocabulary import read_words
from synthgen.errors import UserMistake


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
    return {str(key): read_words(value) or () for key, value in pairs}


def _pair(record: Any) -> tuple[Any, Any]:
    return record["id"], record["types"]
