"""Arguments of the Python API, checked before any work: a value of another type is a mistake of one line.

The command line gives text and numbers; a notebook can give anything, and a wrong type would surface far from the call.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from synthgen.config.library import LARGEST
from synthgen.errors import UserMistake, one_line


def path_text(name: str, value: object) -> str:
    """Return a path, a name or a URL as text. Raises UserMistake if it is none, or empty."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise _wrong(name, value, "text or a path")
    if not text:
        raise UserMistake(f"{name} is empty; give text or a path")
    return text


def optional_path(name: str, value: object) -> str | None:
    """Return a path as text, or None."""
    return None if value is None else path_text(name, value)


def check_count(name: str, value: object) -> None:
    """Raise UserMistake unless a value is a whole number from 1 on, or None."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, value, "a whole number or None")
    if not 0 < value <= LARGEST:
        shown = f"{value}" if abs(value) <= LARGEST else "too large" if value > 0 else "negative"
        raise UserMistake(f"{name} is {shown}; give 1 or more, or None")


def check_flag(name: str, value: object) -> None:
    """Raise UserMistake unless a value is True or False."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")


def check_optional_text(name: str, value: object) -> None:
    """Raise UserMistake unless a value is text or None."""
    if value is not None and not isinstance(value, str):
        raise _wrong(name, value, "text or None")


def typed_settings(settings: object) -> list[str]:
    """Return settings as `--set` takes them; JSON is YAML. Raises UserMistake for what JSON does not have."""
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        raise _wrong("settings", settings, 'keys with values, as {"plan.per_image": 3}')
    return [_typed_setting(key, value) for key, value in settings.items()]


def _typed_setting(key: object, value: Any) -> str:
    if not isinstance(key, str):
        raise UserMistake(f"settings: the key {one_line(repr(key), 60)} is not text; write it as section.key")
    if "=" in key:
        raise UserMistake(f"settings: '{key}' contains '='; write keys as section.key, and those below as a dictionary")
    try:
        return f"{key}={json.dumps(value, ensure_ascii=False, allow_nan=False)}"
    except (TypeError, ValueError, RecursionError) as error:
        raise UserMistake(
            f"settings: {key}: {one_line(str(error))}; give text, a number, a list or keys with values"
        ) from error


def _wrong(name: str, value: object, expected: str) -> UserMistake:
    return UserMistake(f"{name} is {one_line(repr(value), 60)}, of type {type(value).__name__}; give {expected}")
