"""Places that users type, some of them patterns.

What exists is taken literally, whatever characters its name has: `data [v2]` is a folder first and a pattern only if
there is no such folder.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from synthgen.errors import UserMistake

WILDCARD = re.compile(r"[*?[]")


def split_pattern(path: str, exists: Callable[[str], bool]) -> tuple[str, str | None]:
    """Return the part of a path before the first component that is a pattern, and the rest; None if there is none.

    Args:
        path: As its filesystem spells it.
        exists: Returns whether a path exists; asked of those only whose last component has a wildcard.
    """
    parts = path.split("/")
    for index, part in enumerate(parts):
        if WILDCARD.search(part) and not exists("/".join(parts[: index + 1])):
            return "/".join(parts[:index]), "/".join(parts[index:])
    return path, None


def files_at(fs: Any, root: str, pattern: str | None, suffix: str) -> list[str]:
    """Return the sorted files at or below a place: those that match a pattern, or those with a suffix.

    Args:
        fs: The fsspec filesystem.
        root: A path on it, taken literally.
        pattern: Of paths below it; None for all.
        suffix: Of the files of a folder, where there is no pattern.
    """
    if pattern is None:
        if fs.isfile(root):
            return [root]
        return sorted(str(path) for path in fs.find(root) if str(path).endswith(suffix))
    matches = re.compile(glob_translate(pattern)).match
    depth = None if "**" in pattern else pattern.count("/") + 1
    paths = (str(path) for path in fs.find(root or "/", maxdepth=depth))
    return sorted(path for path in paths if matches(path[len(root) :].lstrip("/")))


def expand_home(typed: str) -> Path:
    """Return a typed local path with its `~` or `~user` replaced, unless a file of the name `~user` is here.

    Raises:
        UserMistake: There is no such user.
    """
    first = typed.partition("/")[0]
    is_home = first == "~" or (first.startswith("~") and not os.path.lexists(first))
    try:
        return Path(typed).expanduser() if is_home else Path(typed)
    except RuntimeError as error:
        raise UserMistake(f"{typed}: there is no user {first}; fix its name, or write ./{first} for a file") from error
