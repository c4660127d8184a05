"""One child process that decodes, seen from its parent, and the memory that the two share.

Comes in: images to put into its slots. Goes out: requests down one pipe; the pool listens on the other. The memory belongs
to the parent and outlives the process, so a successor finds in it what its predecessor had not got to.
"""

import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar

from synthgen.ingest.images.headers import one_line

Key = TypeVar("Key")
SLOTS = 3  # images that each child may hold: one is decoded, one waits, one is done and not yet fetched
LARGE = 2**23  # bytes of a file whose pages are not kept for the next
INHERITED = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "HOME", "TMPDIR")  # of the environment; secrets are not
CHILD_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",  # the pool is the parallelism
    "OMP_NUM_THREADS": "1",
    # glibc: keep the pages of one image for the next; asking the kernel anew for each costs a fifth of all time.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}


@dataclass
class SentImage(Generic[Key]):
    """An image in a slot."""

    key: Key
    slot: int
    length: int
    strikes: int = 0  # children that died of it


@dataclass
class DecoderProcess(Generic[Key]):
    """A process, which may be replaced, and its slots."""

    slot_bytes: int
    fd: int
    memory: mmap.mmap
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    failed_starts: int = 0
    since: float = 0.0  # of its last sign of life, or of its first work after idling
    work: deque[SentImage[Key]] = field(default_factory=deque)  # in the order in which it was asked
    free: list[int] = field(default_factory=lambda: list(range(SLOTS)))
    _unread: bytes = b""  # the beginning of a reply

    @property
    def replies(self) -> IO[bytes]:
        """The end of the pipe that its replies come from."""
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout

    def start(self, module: str, settings: dict[str, Any]) -> None:
        """Starts a new interpreter, and asks it for all that lies in the slots."""
        arguments = json.dumps({**settings, "fd": self.fd, "slot_bytes": self.slot_bytes})
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(self.fd,),
            env=_environment(),
        )
        self.is_ready, self._unread, self.since = False, b"", time.monotonic()
        for sent in self.work:
            self._ask(sent)

    def stop(self) -> tuple[int, str]:
        """Ends the process if there is one; its exit status, and the last line it wrote if it never got ready."""
        process, self.process = self.process, None
        if process is None:
            return 0, ""
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.kill()
        status = process.wait()
        words = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        return status, one_line(words[-1]) if words else ""

    def send(self, key: Key, data: bytes) -> None:
        """Puts an image into a free slot and asks for it."""
        sent = SentImage(key, self.free.pop(), len(data))
        at = sent.slot * self.slot_bytes
        self.memory[at : at + sent.length] = data
        if not self.work:
            self.since = time.monotonic()
        self.work.append(sent)
        self._ask(sent)

    def read(self, chunk: bytes) -> list[dict[str, Any]]:
        """The replies that are complete with this chunk; the first that a process sends says that it is ready."""
        self.since = time.monotonic()
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        if lines and not self.is_ready:
            self.is_ready, self.failed_starts = True, 0
            del lines[0]
        return [json.loads(line) for line in lines]

    def vacate(self, sent: SentImage[Key]) -> None:
        """The slot is free; the pages of an unusually large file go back to the system."""
        if sent.length > LARGE and hasattr(mmap, "MADV_REMOVE"):
            self.memory.madvise(mmap.MADV_REMOVE, sent.slot * self.slot_bytes, self.slot_bytes)
        self.free.append(sent.slot)

    def forget(self) -> None:
        """Nothing of what was asked is wanted any more."""
        self.work.clear()
        self.free = list(range(SLOTS))

    def close(self) -> None:
        """Ends the process and gives the memory back."""
        self.stop()
        self.memory.close()
        os.close(self.fd)

    def _ask(self, sent: SentImage[Key]) -> None:
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead; the end of its replies is on its way to the pool
            self.process.stdin.write(sent.slot.to_bytes(8, "little") + sent.length.to_bytes(8, "little"))


def new_child(largest: int) -> DecoderProcess[Any]:
    """A child without a process yet, with slots for images of so many bytes.

    Its memory has no name and no place on disk, is not bound by the size of /dev/shm, and takes only the pages written to.
    """
    slot_bytes = slot_size(largest)
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("synthgen-images", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SLOTS * slot_bytes)
    return DecoderProcess(slot_bytes, fd, mmap.mmap(fd, SLOTS * slot_bytes))


def slot_size(largest: int) -> int:
    """The bytes of a slot for images of so many: whole pages."""
    return -(-largest // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def _environment() -> dict[str, str]:
    """What a child needs to start as its parent did, and its settings."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**kept, **CHILD_SETTINGS, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
