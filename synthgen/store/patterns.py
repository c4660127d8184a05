"""Places that users type, some of them patterns.

What exists is taken literally, whatever characters its name has: `data [v2]` is a folder first and a pattern only if
there is no such folder. Beside the wildcards of a glob, braces hold words (`{train,val}`) or a range that counts up
(`{00000..00099}`).
"""

import itertools
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from synthgen.errors import UserMistake

BRACES = re.compile(r"\{([^{}/]*(?:,|\.\.)[^{}/]*)\}")
WILDCARD = re.compile(r"[*?[]|\{[^{}/]*(?:,|\.\.)[^{}/]*\}")
RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
MOST_NAMES = 100_000  # that braces may stand for
PLACE = "\0"  # of braces, in a pattern; no name of a file has it


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


def glob_regex(pattern: str) -> re.Pattern[str]:
    """Return the expression of a glob, in which braces hold alternatives.

    Raises:
        ValueError: It is no glob.
    """
    groups = [f"(?:{_inside_regex(inside)})" for inside in BRACES.findall(pattern)]
    parts = glob_translate(BRACES.sub(PLACE, pattern)).split(PLACE)
    return re.compile("".join(itertools.chain.from_iterable(itertools.zip_longest(parts, groups, fillvalue=""))))


def without_braces(pattern: str) -> str:
    """Return a glob without braces that matches whatever this one does."""
    return BRACES.sub("*", pattern)


def named_in_braces(pattern: str) -> set[str]:
    """Return the names that a pattern stands for; none if they are too many, or if it has more than braces."""
    parts, inside = BRACES.sub(PLACE, pattern).split(PLACE), [_words(braces) for braces in BRACES.findall(pattern)]
    is_plain = not any(WILDCARD.search(text) for text in (*parts, *itertools.chain.from_iterable(inside)))
    if not inside or not is_plain or math.prod(map(len, inside)) > MOST_NAMES:
        return set()
    joined = (itertools.chain.from_iterable(zip(parts, words, strict=False)) for words in itertools.product(*inside))
    return {"".join(words) + parts[-1] for words in joined}


def _words(inside: str) -> Sequence[str]:
    """Return the words that braces hold; numbers of a range have as many digits as its first one, at least."""
    match = RANGE.fullmatch(inside)
    if not match:
        return inside.split(",")
    numbers = range(int(match[1]), int(match[2]) + 1)
    return [str(number).zfill(len(match[1])) for number in numbers[: MOST_NAMES + 1]]


def _inside_regex(inside: str) -> str:
    """Return the expression of what braces hold.

    Raises:
        ValueError: It is a range that counts down.
    """
    match = RANGE.fullmatch(inside)
    if not match:
        wholes = (glob_translate(word) for word in inside.split(","))
        return "|".join(whole.removeprefix("(?s:").removesuffix(r")\Z") for whole in wholes)
    number, last, ranges = int(match[1]), int(match[2]), []
    if number > last:
        raise ValueError(f"{{{inside}}} does not count up")
    while number <= last:  # numbers of one length at once
        digits = max(len(match[1]), len(str(number)))
        end = min(last, 10**digits - 1)
        ranges.append(_digits_regex(str(number).zfill(digits), str(end).zfill(digits)))
        number = end + 1
    return "|".join(ranges)


def _digits_regex(first: str, last: str) -> str:
    """Return the expression of the numbers from one to another of the same length."""
    if not first.strip("0") and not last.strip("9"):
        return f"[0-9]{{{len(first)}}}"
    rest = len(first) - 1
    if first[0] == last[0]:
        return first[0] + _digits_regex(first[1:], last[1:])
    low = first[0] + _digits_regex(first[1:], "9" * rest)
    high = last[0] + _digits_regex("0" * rest, last[1:])
    between = "".join(map(str, range(int(first[0]) + 1, int(last[0]))))
    middle = [f"[{between}][0-9]{{{rest}}}"] if between else []
    return f"(?:{'|'.join((low, *middle, high))})"


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
    matches = glob_regex(pattern).match
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
