"""A folder on local disk or in an object store, with the few operations that the output format needs.

Comes in: a path or an fsspec URL (s3://, gs://; memory:// is refused, it dies with its process). Goes out: whole files as
bytes. Every file is written in one piece: a reader finds all of it or nothing. A store that fails is asked again, a few times;
what then still fails is told in one line, as a SynthError. `create` is the one operation that two
drivers may race for: on local disk a hard link decides, in object stores a conditional put (s3, gs). Where a store has
none the name is only looked up first, and the format stays correct as docs/format.md explains.
"""

import errno
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

from synthgen.errors import SynthError, UserMistake
from synthgen.store.remote import PACKAGES, lacks_package, patiently, shown, shown_error, told, told_of_path

Result = TypeVar("Result")
WRITING = ".writing-"  # begins the name of a local file that is not whole yet
TRIES = 5  # of a conditional put that the store could not decide
_HAS_CONDITION: dict[
    str, bool
] = {}  # bucket -> whether its store refuses a second conditional put, once this process knows


@dataclass(frozen=True)
class Folder:
    """One folder; cheap to make and to send to a worker, which opens its own connection."""

    url: str

    @property
    def fs(self) -> Any:
        """The fsspec filesystem; instances are cached by fsspec, listings are not (another process writes here too)."""
        return fsspec.core.url_to_fs(self.url, use_listings_cache=False)[0]

    @property
    def path(self) -> str:
        """The folder as the filesystem spells it, without the protocol."""
        return os.path.abspath(self.url) if "://" not in self.url else _spelled(self.url)[1]  # noqa: PTH100 - a string is wanted

    @property
    def is_local(self) -> bool:
        """Whether this folder is on a disk of this machine."""
        return "://" not in self.url or _spelled(self.url)[0]

    def child(self, name: str) -> "Folder":
        """The folder `name` inside this one."""
        return Folder(posixpath.join(self.url, name))

    def full(self, name: str) -> str:
        """The filesystem's path of the file `name`."""
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError if there is none."""
        path = self.full(name)
        return self._asked(
            "reading", lambda: Path(path).read_bytes() if self.is_local else bytes(self.fs.cat_file(path))
        )

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """The bytes of several files, fetched side by side where the filesystem can."""
        if len(names) < 2 or self.is_local:
            return {name: self.read(name) for name in names}
        found = self._asked("reading", lambda: self.fs.cat([self.full(name) for name in names]))
        by_path = {str(path).lstrip("/"): bytes(data) for path, data in found.items()}
        return {name: by_path[self.full(name).lstrip("/")] for name in names}

    def write(self, name: str, data: bytes) -> None:
        """Writes a file in one piece, over an older one if there is one."""
        path = self.full(name)
        self._asked(
            "writing", lambda: _write_local(Path(path), data) if self.is_local else self.fs.pipe_file(path, data)
        )

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file only if there is none of that name; False if there was."""
        path = Path(self.full(name))
        return self._asked(
            "writing", lambda: _create_local(path, data) if self.is_local else self._create_remote(name, data)
        )

    def _create_remote(self, name: str, data: bytes) -> bool:
        """A conditional put. How a store words its refusal does not matter: what stands there afterwards decides."""
        tries = 0
        while True:
            try:
                self._put_if_absent(self.full(name), data)
            except Exception as error:
                # Refused; or two puts at once, between which the store could not decide; or the reply was lost.
                if self.fs.exists(self.full(name)):
                    # A put that was sent again after a lost reply finds its own file: then it did create it.
                    return self.read(name) == data
                tries += 1
                if tries == TRIES:
                    raise
                if getattr(error, "errno", None) == errno.ENOSYS:
                    _HAS_CONDITION[self._bucket] = False
                time.sleep(0.1 * tries)
            else:
                return True

    def _put_if_absent(self, path: str, data: bytes) -> None:
        if _HAS_CONDITION.get(self._bucket) is False:
            if self.fs.exists(path):
                raise FileExistsError(path)
            self.fs.pipe_file(path, data)
            return
        self.fs.pipe_file(path, data, mode="create")
        if self._bucket not in _HAS_CONDITION:
            # Some stores take a conditional put for a plain one: they take the same bytes a second time, which changes nothing.
            try:
                self.fs.pipe_file(path, data, mode="create")
                _HAS_CONDITION[self._bucket] = False
            except OSError:
                _HAS_CONDITION[self._bucket] = True

    @property
    def _bucket(self) -> str:
        return "/".join(self.url.split("/")[:3])

    def names(self, suffix: str = "") -> list[str]:
        """The names of the files directly in this folder, sorted; none if the folder does not exist."""
        try:
            found = self._asked("listing", lambda: _local_names(self.path) if self.is_local else self._remote_names())
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.endswith(suffix) and not name.startswith(WRITING))

    def _remote_names(self) -> list[str]:
        return [
            posixpath.basename(str(entry["name"]))
            for entry in self.fs.ls(self.path, detail=True)
            if entry["type"] == "file"
        ]

    def sizes(self, suffix: str) -> dict[str, int]:
        """Every file below this folder with that suffix, by its path from here, and its bytes."""
        found = self._asked(
            "listing", lambda: self.fs.find(self.path, detail=True) if self.fs.exists(self.path) else {}
        )
        return {
            str(path)[len(self.path) + 1 :]: int(entry["size"])
            for path, entry in found.items()
            if str(path).endswith(suffix)
        }

    def unfinished(self) -> dict[str, int]:
        """Every file below this folder whose writing has not ended, or never will, by its path from here, and its bytes so far."""
        paths = (
            os.path.join(top, name)  # noqa: PTH118 - a name need not be UTF-8
            for top, _, names in os.walk(self.path)
            for name in names
            if name.startswith(WRITING)
        )
        found: dict[str, int] = {}
        for path in paths if self.is_local else ():  # a store takes a file whole
            with suppress(FileNotFoundError):  # it is whole by now
                found[path[len(self.path) + 1 :]] = os.path.getsize(path)  # noqa: PTH202 - a name need not be UTF-8
        return found

    def remove(self, names: list[str]) -> None:
        """Deletes files; those already gone are gone."""
        for name in names:
            with suppress(FileNotFoundError):
                self._asked("deleting", partial(self.fs.rm_file, self.full(name)))

    def is_empty(self) -> bool:
        """Whether there is no folder, or nothing in it but what a run leaves that was killed before it wrote anything: its lease."""
        try:
            paths = self._asked("listing", lambda: self.fs.ls(self.path, detail=False))
        except FileNotFoundError:
            return True
        names = [posixpath.basename(str(path).rstrip("/")) for path in paths]
        return all(name == "lease" or name.startswith(WRITING) for name in names)

    def _asked(self, doing: str, call: Callable[[], Result]) -> Result:
        """What a call of the disk or the store gives; only what is not there where it is looked for stays an error of Python's."""
        try:
            return call() if self.is_local else patiently(call)
        except SynthError:
            raise
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            if isinstance(error, FileNotFoundError) and doing != "writing":
                raise
            why = f"{doing} there is impossible ({shown_error(error)})"
            raise UserMistake(f"{shown(self.url)}: {why}; name another folder, or mend its rights") from error
        except Exception as error:
            why = f"{doing} failed ({shown_error(error)})"
            raise SynthError(
                f"{shown(self.url)}: {why}; what is committed stays, start again when that is mended"
            ) from error


def open_folder(url: str) -> Folder:
    """The folder that the user named, or one line on why it cannot be one."""
    reach(url)
    with told_of_path(url):
        folder = Folder(str(Path(url).expanduser().resolve()) if "://" not in url else url.rstrip("/"))
        if folder.is_local and Path(folder.path).is_file():
            raise UserMistake(f"{url}: is a file; give a folder")
    return folder


def reach(url: str) -> None:
    """Raises, in one line, if nothing can be kept or looked for there: no such bucket, no credentials, no right to list it.

    What is only not there yet is no mistake.
    """
    shown_url = shown(url)
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        if isinstance(error, ImportError) and (protocol := url.partition("://")[0]) in PACKAGES:
            raise lacks_package(protocol) from error
        raise UserMistake(f"{shown_url}: cannot be opened ({error}); give a local path, s3://… or gs://…") from error
    if "memory" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        raise UserMistake(f"{shown_url}: memory is lost when a process ends; give a local path, s3://… or gs://…")
    if isinstance(fs, LocalFileSystem):
        return
    with told(shown_url, "opening"):
        try:
            fs.ls(path)
        except FileNotFoundError:
            _find_bucket(fs, shown_url, str(path).lstrip("/").partition("/")[0])


def _find_bucket(fs: Any, url: str, bucket: str) -> None:
    try:
        fs.info(bucket)
    except FileNotFoundError as error:
        raise UserMistake(f"{url}: there is no bucket {bucket}; make it first, or mend its name") from error
    except PermissionError:
        return  # who may list a prefix need not be allowed to ask about its bucket


@cache
def _spelled(url: str) -> tuple[bool, str]:
    """Whether a URL is of this machine's disk, and its path as its filesystem spells it. Working it out takes 0.2 ms."""
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return isinstance(fs, LocalFileSystem), str(path).rstrip("/")


def _local_names(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def _write_local(target: Path, data: bytes) -> None:
    _written_aside(target, data).replace(target)


def _written_aside(target: Path, data: bytes) -> Path:
    """`data`, on disk for good, under a name beside `target` that no reader looks at."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{WRITING}{secrets.token_hex(8)}"
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _create_local(target: Path, data: bytes) -> bool:
    """Creates `target` with all of `data`, or returns False: a hard link refuses a name that exists, atomically."""
    temporary = _written_aside(target, data)
    try:
        os.link(temporary, target)
    except FileExistsError:
        # On a network disk the reply to a link that was made can be lost, and the link sent again finds itself.
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
