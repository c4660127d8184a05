"""A folder on local disk or in an object store, with the few operations that the output format needs.

A path or an fsspec URL names it (s3://, gs://; memory:// is refused because it is lost with its process). Every file is
written in one piece, so a reader finds all of it or nothing. A store that fails is asked a few more times; an error
that remains is raised as a SynthError of one line.

`create` is the one operation that two drivers may race for; writing.py decides it.
"""

import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synthgen.errors import Damaged, SynthError, UserMistake
from synthgen.store.patterns import WILDCARD
from synthgen.store.remote import display_uri, error_text, with_retries
from synthgen.store.writing import (
    WRITING,
    create_local,
    create_remote,
    put_local,
    stream_local,
    stream_remote,
    write_local,
)

Result = TypeVar("Result")
NUMBERED = re.compile(r"[0-9]{6,18}\.json")


@dataclass(frozen=True)
class Folder:
    """One folder; cheap to create and to send to a worker, which opens its own connection."""

    url: str

    @property
    def fs(self) -> Any:
        """The fsspec filesystem. Instances are cached by fsspec, listings are not: other processes write here too."""
        return open_path(self.url)[0]

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

    @property
    def bucket(self) -> str:
        """The address of the bucket of a folder in a store."""
        return "/".join(self.url.split("/")[:3])

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
        if len(names) < 2 or self.is_local or WILDCARD.search(self.path):  # fsspec reads several paths as patterns
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
        number = number_of(names[-1]) + 1 if (names := self.numbered()) else 1
        while not self.create(name := f"{number:06d}.json", data):
            check()
            number += 1
        return name

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one piece, replacing an older one."""
        path = self.full(name)
        if self.is_local:
            self._call("writing", lambda: write_local(Path(path), data))
        else:
            self._call("writing", lambda: self.fs.pipe_file(path, data))

    def put(self, name: str, data: bytes) -> None:
        """Write a file that counts only once a record written later names it: on a disk neither aside nor synced."""
        path = self.full(name)
        if self.is_local:
            self._call("writing", lambda: put_local(Path(path), data))
        else:
            self._call("writing", lambda: self.fs.pipe_file(path, data))

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a file to write to, for one that is too large to be held; it replaces an older one of that name.

        It gets its name when the block ends. If the block raises, or the process is killed, there is no such file.
        """
        path = self.full(name)
        stream = stream_local(Path(path)) if self.is_local else stream_remote(self.fs, path)
        sink = self._call("writing", stream.__enter__)
        try:
            yield sink
        except BaseException as error:
            stream.__exit__(type(error), error, error.__traceback__)
            raise
        self._call("writing", lambda: stream.__exit__(None, None, None))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file only if there is none of that name.

        Returns:
            False if there was one already; it is unchanged.
        """
        if self.is_local:
            return self._call("writing", lambda: create_local(Path(self.full(name)), data))
        return self._call("writing", lambda: create_remote(self.fs, self.full(name), self.bucket, data))

    def names(self, suffix: str = "") -> list[str]:
        """Return the sorted names of the files directly in this folder; none if the folder does not exist."""
        try:
            names = self._call("listing", self._local_names if self.is_local else self._remote_names)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(suffix) and not name.startswith(WRITING))

    def numbered(self) -> list[str]:
        """Return the names of the files that have a number, as 000001.json, in the order of their numbers.

        Files of other names are not from here, and are passed over.
        """
        return sorted(filter(NUMBERED.fullmatch, self.names(".json")), key=number_of)

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


def number_of(name: str) -> int:
    """Return the number of a file that `numbered` lists."""
    return int(name.removesuffix(".json"))


def open_path(url: str) -> tuple[Any, str]:
    """Return the filesystem of a path or URL, and the path as it spells it. A local path may have any name."""
    if "://" not in url:
        return fsspec.filesystem("file", use_listings_cache=False), os.path.abspath(url)  # noqa: PTH100
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return fs, str(path)


def is_local_fs(fs: Any) -> bool:
    """Return whether a filesystem is that of this machine's disks."""
    return isinstance(fs, LocalFileSystem)


@cache
def _resolve(url: str) -> tuple[bool, str]:
    """Return whether a URL is on a disk of this machine, and its path as its filesystem spells it.

    It is cached because it takes 0.2 ms.
    """
    fs, path = open_path(url)
    return is_local_fs(fs), path.rstrip("/")
