"""A folder on local disk or in an object store, with the few operations that the output format needs.

A path or an fsspec URL names it (s3://, gs://; memory:// is refused because it is lost with its process). Every file is
written in one piece, so a reader finds all of it or nothing. A store that fails is asked a few more times; an error
that remains is raised as a SynthError of one line.

`create` is the one operation that two drivers may race for. A hard link decides on local disk, a conditional put in
object stores (s3, gs). Where a store has no conditional put, the name is only looked up first; docs/format.md explains
why the format stays correct then.
"""

import errno
import json
import os
import posixpath
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synthgen.errors import Damaged, SynthError, UserMistake
from synthgen.store.remote import (
    PACKAGES,
    display_uri,
    error_text,
    http_status,
    may_pass,
    missing_package,
    path_errors,
    store_errors,
    with_retries,
)

Result = TypeVar("Result")
WRITING = ".writing-"  # prefix of a local file that is not complete yet
TRIES = 5  # of a conditional put that the store could not decide
# Bucket → whether its store refuses a second conditional put, once this process knows. It is not known where the store
# was busy at that put, and False where it takes no conditional puts at all.
_HAS_CONDITION: dict[str, bool] = {}


@dataclass(frozen=True)
class Folder:
    """One folder; cheap to create and to send to a worker, which opens its own connection."""

    url: str

    @property
    def fs(self) -> Any:
        """The fsspec filesystem. Instances are cached by fsspec, listings are not: other processes write here too."""
        return fsspec.core.url_to_fs(self.url, use_listings_cache=False)[0]

    @property
    def path(self) -> str:
        """The folder as the filesystem spells it, without the protocol."""
        if "://" in self.url:
            return _resolve(self.url)[1]
        return os.path.abspath(self.url)  # noqa: PTH100 - a string is wanted

    @property
    def is_local(self) -> bool:
        """Whether this folder is on a disk of this machine."""
        return "://" not in self.url or _resolve(self.url)[0]

    def child(self, name: str) -> "Folder":
        """Return the folder `name` inside this one."""
        return Folder(posixpath.join(self.url, name))

    def full(self, name: str) -> str:
        """Return the path of the file `name` as the filesystem spells it."""
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        path = self.full(name)
        if self.is_local:
            return self._call("reading", Path(path).read_bytes)
        return self._call("reading", lambda: bytes(self.fs.cat_file(path)))

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Return the bytes of several files by name, fetched concurrently where the filesystem can."""
        if len(names) < 2 or self.is_local:
            return {name: self.read(name) for name in names}
        contents = self._call("reading", lambda: self.fs.cat([self.full(name) for name in names]))
        by_path = {str(path).lstrip("/"): bytes(data) for path, data in contents.items()}
        return {name: by_path[self.full(name).lstrip("/")] for name in names}

    def read_json(self, name: str, repair: str) -> Any:
        """Return the value of a JSON file.

        Args:
            name: Of the file.
            repair: What to do where it is damaged, for the message.

        Raises:
            FileNotFoundError: There is no such file.
            Damaged: It is not JSON.
        """
        return self._parse(name, self.read(name), repair)

    def read_every_json(self, repair: str) -> dict[str, Any]:
        """Return the values of all JSON files in this folder by name, see `read_json`."""
        return {name: self._parse(name, data, repair) for name, data in self.read_many(self.names(".json")).items()}

    def _parse(self, name: str, data: bytes, repair: str) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            where = f"{display_uri(self.url)}/{name}"
            raise Damaged(f"{where}: is not JSON ({error}), so it was damaged; {repair}") from error

    def append(self, data: bytes, check: Callable[[], None] = lambda: None) -> str:
        """Write a file under the next number, 000001.json being the first, and return its name.

        Args:
            data: JSON.
            check: Called where another driver took that number, before the one after it is tried; it may raise.
        """
        number = len(self.names(".json")) + 1
        while not self.create(name := f"{number:06d}.json", data):
            check()
            number += 1
        return name

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one piece, replacing an older one."""
        path = self.full(name)
        if self.is_local:
            self._call("writing", lambda: _write_local(Path(path), data))
        else:
            self._call("writing", lambda: self.fs.pipe_file(path, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file only if there is none of that name.

        Returns:
            False if there was one already; it is unchanged.
        """
        if self.is_local:
            return self._call("writing", lambda: _create_local(Path(self.full(name)), data))
        return self._call("writing", lambda: self._create_remote(name, data))

    def _create_remote(self, name: str, data: bytes) -> bool:
        """Create a file by a conditional put.

        Stores word their refusals differently, so the error is not interpreted: the file that exists afterwards
        decides.
        """
        tries = 0
        while True:
            try:
                self._put_if_absent(self.full(name), data)
            except Exception as error:
                # The put was refused, or it met another one and the store could not decide, or the reply was lost.
                if self.fs.exists(self.full(name)):
                    # A put that was sent again after a lost reply finds the file that it created itself.
                    return self.read(name) == data
                tries += 1
                if tries == TRIES:
                    raise
                if self._takes_no_condition(error, tries):
                    _HAS_CONDITION[self._bucket] = False
                time.sleep(0.1 * tries)
            else:
                return True

    def _takes_no_condition(self, error: Exception, tries: int) -> bool:
        """Return whether an error says that the store takes no conditional puts.

        Some answer 400 to them. So do stores to a put that was garbled on its way, so only a repeated one counts, and
        none where the condition has worked before.
        """
        if getattr(error, "errno", None) == errno.ENOSYS:
            return True
        return http_status(error) == 400 and tries > 1 and self._bucket not in _HAS_CONDITION

    def _put_if_absent(self, path: str, data: bytes) -> None:
        if _HAS_CONDITION.get(self._bucket) is False:
            if self.fs.exists(path):
                raise FileExistsError(path)
            self.fs.pipe_file(path, data)
            return
        self.fs.pipe_file(path, data, mode="create")
        if self._bucket not in _HAS_CONDITION:
            # Some stores ignore the condition. They accept a second put, which changes nothing: its bytes are the same.
            try:
                self.fs.pipe_file(path, data, mode="create")
                _HAS_CONDITION[self._bucket] = False
            except OSError as error:
                if not may_pass(error):
                    _HAS_CONDITION[self._bucket] = True

    @property
    def _bucket(self) -> str:
        return "/".join(self.url.split("/")[:3])

    def names(self, suffix: str = "") -> list[str]:
        """Return the sorted names of the files directly in this folder; none if the folder does not exist."""
        try:
            names = self._call("listing", self._local_names if self.is_local else self._remote_names)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(suffix) and not name.startswith(WRITING))

    def _local_names(self) -> list[str]:
        with os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.is_file()]

    def _remote_names(self) -> list[str]:
        return [
            posixpath.basename(str(entry["name"]))
            for entry in self.fs.ls(self.path, detail=True)
            if entry["type"] == "file"
        ]

    def sizes(self, suffix: str) -> dict[str, int]:
        """Return the bytes of every file with that suffix below this folder, by its path from here."""
        entries = self._call("listing", self._find)
        return {
            str(path)[len(self.path) + 1 :]: int(entry["size"])
            for path, entry in entries.items()
            if str(path).endswith(suffix)
        }

    def _find(self) -> dict[str, Any]:
        return self.fs.find(self.path, detail=True) if self.fs.exists(self.path) else {}

    def unfinished(self) -> dict[str, int]:
        """Return the files below this folder that are being written, or whose writer was killed.

        Returns:
            Path from here → bytes so far. A store has none, because it takes a file whole.
        """
        if not self.is_local:
            return {}
        paths = (
            os.path.join(top, name)  # noqa: PTH118 - a name need not be UTF-8
            for top, _, names in os.walk(self.path)
            for name in names
            if name.startswith(WRITING)
        )
        sizes: dict[str, int] = {}
        for path in paths:
            with suppress(FileNotFoundError):  # it is complete by now
                sizes[path[len(self.path) + 1 :]] = os.path.getsize(path)  # noqa: PTH202 - a name need not be UTF-8
        return sizes

    def remove(self, names: list[str]) -> None:
        """Delete files; a file that does not exist is no error."""
        for name in names:
            with suppress(FileNotFoundError):
                self._call("deleting", partial(self.fs.rm_file, self.full(name)))

    def is_empty(self) -> bool:
        """Return whether the folder is missing, or holds only the lease of a run that was killed before it wrote."""
        try:
            paths = self._call("listing", lambda: self.fs.ls(self.path, detail=False))
        except FileNotFoundError:
            return True
        names = [posixpath.basename(str(path).rstrip("/")) for path in paths]
        return all(name == "lease" or name.startswith(WRITING) for name in names)

    def _call(self, action: str, call: Callable[[], Result]) -> Result:
        """Return the result of a call of the disk or the store.

        Args:
            action: The word for the call in messages, as "reading".
            call: It is tried again while a store fails.

        Raises:
            FileNotFoundError: The file or folder does not exist; not when writing.
            UserMistake: The folder does not allow this action.
            SynthError: The disk or the store failed.
        """
        try:
            return call() if self.is_local else with_retries(call)
        except SynthError:
            raise
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            if isinstance(error, FileNotFoundError) and action != "writing":
                raise
            why = f"{action} there is impossible ({error_text(error)})"
            raise UserMistake(f"{display_uri(self.url)}: {why}; name another folder, or fix its permissions") from error
        except Exception as error:
            why = f"{action} failed ({error_text(error)})"
            raise SynthError(
                f"{display_uri(self.url)}: {why}; committed results are kept, start again when that is fixed"
            ) from error


def open_folder(url: str) -> Folder:
    """Return the folder that the user named.

    Raises:
        SynthError: It cannot be used, see `reach`.
    """
    reach(url)
    with path_errors(url):
        folder = Folder(url.rstrip("/") if "://" in url else str(Path(url).expanduser().resolve()))
        if folder.is_local and Path(folder.path).is_file():
            raise UserMistake(f"{url}: is a file; give a folder")
    return folder


def reach(url: str) -> None:
    """Check that a store can be reached and listed; a local path or a prefix that does not exist yet is accepted.

    Raises:
        UserMistake: There is no such bucket, no credentials, no permission to list it, or no filesystem for the URL.
        SynthError: The store failed.
    """
    display_url = display_uri(url)
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        if isinstance(error, ImportError) and (protocol := url.partition("://")[0]) in PACKAGES:
            raise missing_package(protocol) from error
        raise UserMistake(f"{display_url}: cannot be opened ({error}); give a local path, s3://… or gs://…") from error
    if "memory" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        raise UserMistake(f"{display_url}: memory is lost when a process ends; give a local path, s3://… or gs://…")
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


@cache
def _resolve(url: str) -> tuple[bool, str]:
    """Return whether a URL is on a disk of this machine, and its path as its filesystem spells it.

    It is cached because it takes 0.2 ms.
    """
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return isinstance(fs, LocalFileSystem), str(path).rstrip("/")


def _write_local(target: Path, data: bytes) -> None:
    _write_aside(target, data).replace(target)


def _write_aside(target: Path, data: bytes) -> Path:
    """Write and sync a temporary file beside `target`, under a name that no reader opens; return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{WRITING}{secrets.token_hex(8)}"
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _create_local(target: Path, data: bytes) -> bool:
    """Create `target` by a hard link, which refuses a name that exists atomically; return False if it exists."""
    temporary = _write_aside(target, data)
    try:
        os.link(temporary, target)
    except FileExistsError:
        # On a network disk the reply can be lost; then the link is sent again and finds the one that it created itself.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        raise UserMistake(
            f"{target.parent}: this filesystem has no hard links, which commits need ({error.strerror}); "
            "use another disk, or a bucket by its s3:// or gs:// address"
        ) from error
    finally:
        temporary.unlink()
    return True
