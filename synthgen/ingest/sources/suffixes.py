"""The suffixes of names, by which a listing tells images from what it passes over."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

EVERY = "*"  # in place of suffixes
SUFFIX = re.compile(r"\.[a-z0-9_+-]{1,10}")


def has_suffix(path: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file's name ends in one of the suffixes, in any case; `*` is every name.

    A name can keep the query of the URL that it was saved from, as `photo.jpg?w=1024`.
    """
    endings = tuple(suffix.lower() for suffix in suffixes)
    name = path.rpartition("/")[2].lower()
    return EVERY in endings or name.endswith(endings) or name.partition("?")[0].endswith(endings)


def suffix_of(path: str) -> str:
    """Return the suffix by which a file that is left out is counted; names of others' files are never counted by."""
    suffix = PurePosixPath(path.rpartition("/")[2].partition("?")[0]).suffix.lower()
    return suffix if SUFFIX.fullmatch(suffix) else "no suffix"
