"""Writing one file whole, and creating one that two processes may race for.

A hard link decides on local disk, a conditional put in object stores (s3, gs). Where a store has no conditional put,
the name is only looked up first; docs/format.md explains why the format stays correct then.
"""

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from synthgen.errors import UserMistake
from synthgen.store.remote import http_status, may_pass

WRITING = ".writing-"  # prefix of a local file that is not complete yet
TRIES = 5  # of a conditional put that the store could not decide
# Bucket → whether its store refuses a second conditional put, once this process knows. It is not known where the store
# was busy at that put, and False where it takes no conditional puts at all.
_HAS_CONDITION: dict[str, bool] = {}


def write_local(target: Path, data: bytes) -> None:
    """Write a file on a disk of this machine in one piece."""
    _write_aside(target, data).replace(target)


def put_local(target: Path, data: bytes) -> None:
    """Write a file on a disk of this machine under its name at once, without waiting for the disk."""
    try:
        target.write_bytes(data)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _write_aside(target: Path, data: bytes) -> Path:
    """Write and sync a temporary file beside `target`, under a name that no reader opens; return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{WRITING}{secrets.token_hex(8)}"
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


@contextmanager
def stream_local(target: Path) -> Iterator[IO[bytes]]:
    """Yield a file beside `target` that takes its name when the block ends, and is deleted if the block raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{WRITING}{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def stream_remote(fs: Any, path: str) -> Iterator[IO[bytes]]:
    """Yield a file in a store that is there, whole, when the block ends, and not at all if the block raises."""
    file = fs.open(path, "wb", autocommit=False)
    try:
        yield file
        file.close()
    except BaseException:
        file.closed = True  # otherwise it would send what it has when it is collected
        file.discard()
        raise
    file.commit()


def create_local(target: Path, data: bytes) -> bool:
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


def create_remote(fs: Any, path: str, bucket: str, data: bytes) -> bool:
    """Create a file in a store by a conditional put; return False if it exists.

    Stores word their refusals differently, so the error is not interpreted: the file that exists afterwards decides.

    Args:
        fs: The fsspec filesystem of the store.
        path: The file, as the filesystem spells it.
        bucket: The address of the bucket; what one put shows of its store holds for all.
        data: The bytes of the file.
    """
    tries = 0
    while True:
        try:
            _put_if_absent(fs, path, bucket, data)
        except Exception as error:
            # The put was refused, or it met another one and the store could not decide, or the reply was lost.
            if fs.exists(path):
                # A put that was sent again after a lost reply finds the file that it created itself.
                return bytes(fs.cat_file(path)) == data
            tries += 1
            if tries == TRIES:
                raise
            if _takes_no_condition(error, tries, bucket):
                _HAS_CONDITION[bucket] = False
            time.sleep(0.1 * tries)
        else:
            return True


def _takes_no_condition(error: Exception, tries: int, bucket: str) -> bool:
    """Return whether an error says that the store takes no conditional puts.

    Some answer 400 to them. So do stores to a put that was garbled on its way, so only a repeated one counts, and none
    where the condition has worked before.
    """
    if getattr(error, "errno", None) == errno.ENOSYS:
        return True
    return http_status(error) == 400 and tries > 1 and bucket not in _HAS_CONDITION


def _put_if_absent(fs: Any, path: str, bucket: str, data: bytes) -> None:
    if _HAS_CONDITION.get(bucket) is False:
        if fs.exists(path):
            raise FileExistsError(path)
        fs.pipe_file(path, data)
        return
    fs.pipe_file(path, data, mode="create")
    if bucket not in _HAS_CONDITION:
        # Some stores ignore the condition. They accept a second put, which changes nothing: its bytes are the same.
        try:
            fs.pipe_file(path, data, mode="create")
            _HAS_CONDITION[bucket] = False
        except OSError as error:
            if not may_pass(error):
                _HAS_CONDITION[bucket] = True
