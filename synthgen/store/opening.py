"""Opening the folder that a user named: whether its disk or store can be reached, told before any work."""

from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synthgen.errors import UserMistake
from synthgen.store.folder import Folder
from synthgen.store.patterns import expand_home
from synthgen.store.remote import PACKAGES, display_uri, error_text, missing_package, path_errors, store_errors

USAGE = "give a local path, s3://… or gs://…"
PROTOCOLS = ("file", "local", "s3", "s3a", "gs", "gcs", "memory")  # the last one is refused with its reason


def open_folder(url: str) -> Folder:
    """Return the folder that the user named.

    Raises:
        SynthError: It cannot be used, see `reach`.
    """
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol not in PROTOCOLS:
        raise UserMistake(f"{display_uri(url)}: {protocol}:// cannot hold an output folder; {USAGE}")
    reach(url)
    with path_errors(url):
        folder = Folder(url.rstrip("/") if "://" in url else str(expand_home(url).resolve()))
        if folder.is_local and Path(folder.path).is_file():
            raise UserMistake(f"{url}: is a file; give a folder")
    return folder


def reach(url: str) -> None:
    """Check that a store can be reached and listed; a local path or a prefix that does not exist yet is accepted.

    Raises:
        UserMistake: There is no such bucket, no credentials, no permission to list it, or no filesystem for the URL.
        SynthError: The store failed.
    """
    if "://" not in url:
        return
    display_url = display_uri(url)
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except Exception as error:  # each filesystem has its own, as one of a protocol that wants more than a URL
        if isinstance(error, ImportError) and (protocol := url.partition("://")[0]) in PACKAGES:
            raise missing_package(protocol) from error
        raise UserMistake(f"{display_url}: cannot be opened ({error_text(error)}); {USAGE}") from error
    if "memory" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        raise UserMistake(f"{display_url}: memory is lost when a process ends; {USAGE}")
    if isinstance(fs, LocalFileSystem):
        return
    with store_errors(display_url, "opening"):
        try:
            fs.ls(path)
        except FileNotFoundError:
            _check_bucket(fs, display_url, str(path).lstrip("/").partition("/")[0])


def _check_bucket(fs: Any, url: str, bucket: str) -> None:
    try:
        fs.info(bucket)
    except FileNotFoundError as error:
        raise UserMistake(f"{url}: there is no bucket {bucket}; make it first, or fix its name") from error
    except PermissionError:
        return  # a user who may list a prefix need not be allowed to ask about its bucket
