"""A decoding process as its parent sees it, and the memory that both share.

The memory belongs to the parent and outlives the process, so a replacement process finds the images there that its
predecessor had not reached.
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

from synthgen.errors import one_line
from synthgen.ingest.images.shared_memory import REQUEST

Key = TypeVar("Key")
SLOTS = 3  # images that a child may hold: one being decoded, one waiting, one done and not yet collected
LARGE = 2**23  # bytes of a file whose pages go back to the system afterwards
INHERITED = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "HOME", "TMPDIR")  # of the environment; no secrets
CHILD_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",  # the pool is the parallelism
    "OMP_NUM_THREADS": "1",
    # glibc: keep the pages of one image for the next; asking the kernel for each costs a fifth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}


@dataclass
class SentImage(Generic[Key]):
    """An image in a slot."""

    key: Key
    slot: int
    length: int  # bytes
    strikes: int = 0  # children that died while they decoded it


@dataclass
class DecoderProcess(Generic[Key]):
    """A process, which may be replaced, and its slots."""

    slot_bytes: int
    fd: int
    memory: mmap.mmap
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    failed_starts: int = 0
    alive_at: float = 0.0  # monotonic time of its last reply, or of its first image after an idle time
    pending: deque[SentImage[Key]] = field(default_factory=deque)  # in the order of the requests
    free: list[int] = field(default_factory=lambda: list(range(SLOTS)))
    _incomplete: bytes = b""  # the beginning of a reply

    @property
    def replies(self) -> IO[bytes]:
        """The reading end of its replies."""
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout

    def start(self, module: str, settings: dict[str, Any]) -> None:
        """Start a new interpreter that runs `module`, and request all images in the slots."""
        arguments = json.dumps({**settings, "fd": self.fd, "slot_bytes": self.slot_bytes})
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(self.fd,),
            env=environment(),
        )
        self.is_ready, self._incomplete, self.alive_at = False, b"", time.monotonic()
        for sent in self.pending:
            self._request(sent)

    def stop(self) -> tuple[int, str]:
        """End the process, if there is one.

        Returns:
            Its exit status, and the last line that it wrote to standard error before it was ready.
        """
        process, self.process = self.process, None
        if process is None:
            return 0, ""
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.kill()
        status = process.wait()
        lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        return status, one_line(lines[-1], 200) if lines else ""

    def send(self, key: Key, data: bytes) -> None:
        """Put an image into a free slot and request it."""
        sent = SentImage(key, self.free.pop(), len(data))
        offset = sent.slot * self.slot_bytes
        self.memory[offset : offset + sent.length] = data
        if not self.pending:
            self.alive_at = time.monotonic()
        self.pending.append(sent)
        self._request(sent)

    def read(self, chunk: bytes) -> list[dict[str, Any]]:
        """Return the replies that this chunk completes. The first line of a process says that it is ready."""
        self.alive_at = time.monotonic()
        *lines, self._incomplete = (self._incomplete + chunk).split(b"\n")
        if lines and not self.is_ready:
            self.is_ready, self.failed_starts = True, 0
            del lines[0]
        return [json.loads(line) for line in lines]

    def vacate(self, sent: SentImage[Key]) -> None:
        """Free the slot; the pages of an unusually large file go back to the system."""
        if sent.length > LARGE and hasattr(mmap, "MADV_REMOVE"):
            self.memory.madvise(mmap.MADV_REMOVE, sent.slot * self.slot_bytes, self.slot_bytes)
        self.free.append(sent.slot)

    def forget(self) -> None:
        """Drop all requests."""
        self.pending.clear()
        self.free = list(range(SLOTS))

    def close(self) -> None:
        """End the process and release the memory."""
        self.stop()
        self.memory.close()
        os.close(self.fd)

    def _request(self, sent: SentImage[Key]) -> None:
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead; the pool is about to read the end of its replies
            self.process.stdin.write(REQUEST.pack(sent.slot, sent.length))


def new_child(largest: int) -> DecoderProcess[Any]:
    """Return a child that is not started yet, with slots for images of up to `largest` bytes.

    Its memory has no name and no place on disk, is independent of the size of /dev/shm, and takes only the pages that
    are written to.
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
    """Return the bytes of a slot for images of up to `largest` bytes: whole pages."""
    return -(-largest // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def environment() -> dict[str, str]:
    """Return the environment of a child: the variables needed to start like its parent, and its settings."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, **CHILD_SETTINGS, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
