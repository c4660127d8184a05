"""What a store answers when it cannot: patience with it, its errors in words, and uris that may be shown.

Comes in: a call of a store (s3://, gs://), and the uri that the user typed. Goes out: its result, after some attempts; or one line
that says what is wrong there and what to do. The source, the output folder and a trainer's shards all ask here, so that the same
mistake reads the same wherever it is made. Errors are told by name where their library need not be installed.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from synthgen.errors import SynthError, UserMistake

Result = TypeVar("Result")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}  # object stores, and the library of each, which is no dependency
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt; each later pause is three times the one before


class Lasting(Exception):
    """An error that the next attempt would meet again."""


HOPELESS = (FileNotFoundError, PermissionError, IsADirectoryError, Lasting)


def is_about_credentials(error: BaseException) -> bool:
    """Whether the store's library found none; told by name, because the library need not be installed."""
    return type(error).__name__ in ("NoCredentialsError", "DefaultCredentialsError")


def attempts() -> Iterator[bool]:
    """One item for each attempt at something, with a growing pause before each but the first; the item: is it the last?"""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 3 ** (attempt - 1))
        yield attempt == ATTEMPTS - 1


def patiently(call: Callable[[], Result]) -> Result:
    """The call's result, tried again while the store fails; what is missing or forbidden stays so."""
    for is_last in attempts():
        try:
            return call()
        except HOPELESS:
            raise
        except Exception as error:
            if is_last or is_about_credentials(error):
                raise
    raise AssertionError("unreachable")


def shown(uri: str) -> str:
    """A uri as it may be printed: no credentials, no query string."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown_error(error: BaseException) -> str:
    """An error in one line; what it quotes from URLs after a question mark may be a signature, so it is left out."""
    text = " ".join(str(error).split())
    text = re.sub(r"(\w+://[^\s?'\"]*)\?[^\s'\"]*", r"\1", re.sub(r"://[^\s/@]+@", "://", text))
    kind = "" if isinstance(error, Lasting) else type(error).__name__  # ours are words enough
    return ": ".join(part for part in (kind, text[:200]) if part)


def lacks_package(protocol: str) -> UserMistake:
    """What to say where the library of a store is not installed."""
    return UserMistake(f"{protocol}:// needs one more package: pip install {PACKAGES[protocol]}")


@contextmanager
def told(uri: str, doing: str) -> Iterator[None]:
    """A store's errors at `uri` in words; `doing` is what failed where the store itself is at fault ("listing")."""
    bucket = "/".join(uri.split("/")[:3])
    try:
        yield
    except FileNotFoundError as error:
        raise UserMistake(f"{uri}: no such bucket or prefix") from error
    except PermissionError as error:
        raise UserMistake(f"{uri}: access refused by {bucket}; the credentials in use may not list it") from error
    except SynthError:
        raise
    except Exception as error:
        if is_about_credentials(error):
            raise UserMistake(f"{uri}: no credentials found; set those of the store in the environment") from error
        raise SynthError(f"{uri}: {doing} failed: {shown_error(error)}") from error


@contextmanager
def told_of_path(typed: str) -> Iterator[None]:
    """What stands in the way to a local path in words: folders that may not be entered, users that nobody knows."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserMistake(
            f"{typed}: cannot be looked at ({shown_error(error)}); mend its rights or its name"
        ) from error
