"""Calls to object stores: retries, errors put into words, and uris that are safe to print.

The source, the output folder and a trainer's shards all use these functions, so one mistake has one message wherever it
is made. Some errors are recognised by the name of their class, because the library that defines it need not be
installed.
"""

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from synthgen.errors import SynthError, UserMistake, one_line

Result = TypeVar("Result")
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
}  # protocol → its library, which is an optional dependency
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt; each later pause is three times the one before


class PermanentError(Exception):
    """An error that another attempt would meet again."""


PASSING = {errno.EIO, errno.EREMOTEIO, errno.EBUSY, errno.ETIMEDOUT}  # of a store that is busy or out of reach
PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, PermanentError)


def is_about_credentials(error: BaseException) -> bool:
    """Return whether a store's library found no credentials, or the store asks for some."""
    return type(error).__name__ in ("NoCredentialsError", "DefaultCredentialsError") or http_status(error) == 401


def is_refused(error: BaseException) -> bool:
    """Return whether a store refuses access to these credentials."""
    is_forbidden = isinstance(error, OSError) and str(error).startswith("Forbidden")  # of gcsfs
    return isinstance(error, PermissionError) or is_forbidden or http_status(error) == 403


def may_pass(error: OSError) -> bool:
    """Return whether an error says nothing of the request: the store was busy, failed or could not be reached."""
    return isinstance(error, TimeoutError | ConnectionError) or error.errno in PASSING


def http_status(error: BaseException) -> int | None:
    """Return the status of the answer behind an error of a store's library, or None if it is not known."""
    response = getattr(error.__cause__, "response", None)  # of s3fs
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    status = status or getattr(error, "code", None)  # of gcsfs, as a number or as text
    return int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdecimal()) else None


def attempts() -> Iterator[bool]:
    """Yield for each attempt whether it is the last one; pause before each but the first."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 3 ** (attempt - 1))
        yield attempt == ATTEMPTS - 1


def with_retries(call: Callable[[], Result]) -> Result:
    """Return the result of a call, tried again while the store fails.

    Raises:
        Exception: The error of the last attempt, or the first one that another attempt would meet again.
    """
    for is_last in attempts():
        try:
            return call()
        except PERMANENT:
            raise
        except Exception as error:
            if is_last or is_about_credentials(error) or is_refused(error):
                raise
    raise AssertionError("unreachable")


def display_uri(uri: str) -> str:
    """Return a uri without credentials and query string, to be printed."""
    if "://" not in uri:
        return uri
    name, _, rest = uri.partition(":")
    if not rest.startswith("//"):  # of a kind of source, as in manifest:s3://bucket/list.csv
        return f"{name}:{display_uri(rest)}"
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    rest = f"#{parts.fragment}" if parts.fragment and parts.scheme not in ("http", "https") else ""  # of a name
    return f"{parts.scheme}://{host}{parts.path}{rest}"


def error_text(error: BaseException) -> str:
    """Return an error as one line, without credentials and query strings of URLs in it: those can be signatures."""
    text = " ".join(str(error).split())
    text = re.sub(r"://[^\s/@]+@", "://", text)
    text = re.sub(r"(\w+://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)
    kind = "" if isinstance(error, PermanentError) else type(error).__name__  # ours need no name
    return ": ".join(part for part in (kind, one_line(text, 200)) if part)


def missing_package(protocol: str) -> UserMistake:
    """Return the error to raise where the library of a store is not installed."""
    return UserMistake(f"{protocol}:// needs one more package: pip install {PACKAGES[protocol]}")


@contextmanager
def store_errors(uri: str, action: str) -> Iterator[None]:
    """Turn the errors of a store into one line each.

    Args:
        uri: The uri as it may be printed.
        action: The word for what failed where the store itself is at fault, as "listing".

    Raises:
        UserMistake: The prefix does not exist, access is refused, or there are no credentials.
        SynthError: The store failed.
    """
    bucket = "/".join(uri.split("/")[:3])
    try:
        yield
    except FileNotFoundError as error:
        raise UserMistake(f"{uri}: no such bucket or prefix") from error
    except SynthError:
        raise
    except Exception as error:
        if is_refused(error):
            raise UserMistake(f"{uri}: access refused by {bucket}; the credentials in use may not list it") from error
        if is_about_credentials(error):
            raise UserMistake(f"{uri}: no credentials found; set those of the store in the environment") from error
        raise SynthError(f"{uri}: {action} failed: {error_text(error)}") from error


@contextmanager
def path_errors(typed: str) -> Iterator[None]:
    """Turn the errors of a local path into one line each: a folder without access, an unknown user after `~`.

    Raises:
        UserMistake: The path cannot be read.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserMistake(f"{typed}: cannot be read ({error_text(error)}); fix its permissions or its name") from error
