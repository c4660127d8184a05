"""The decoding process: `python -m synthgen.ingest.images.child SETTINGS`, started and killed by pool.py.

It reads the slot and length of each image from standard input, replaces the bytes in that slot of the shared memory
by pixels, and writes one line of JSON to standard output; nothing is ever unpickled. The kernel enforces the limits,
so they hold inside C code and when the parent is gone: a timer ends the process when one image takes too long
(counted on a core, so a busy machine costs no image), RLIMIT_AS bounds its memory, and it cannot write to disk.
"""

import json
import mmap
import os
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from synthgen.ingest.images import shared_memory
from synthgen.ingest.images.decode import decode
from synthgen.ingest.images.unfit import Unfit


def main() -> None:
    """Answer requests until standard input ends."""
    settings = SimpleNamespace(**json.loads(sys.argv[1]))
    limits = SimpleNamespace(**settings.limits)
    memory = mmap.mmap(settings.fd, 0)
    replies = os.dup(1)
    restrict(settings.memory_bytes)
    os.write(replies, b"{}\n")  # ready
    while request := os.read(0, shared_memory.REQUEST.size):
        slot, length = shared_memory.REQUEST.unpack(request)
        limit_seconds(limits.decode_seconds)
        reply = answer(memory, slot * settings.slot_bytes, length, limits)
        limit_seconds(0)
        os.write(replies, json.dumps({"slot": slot, **reply}).encode() + b"\n")


def answer(memory: mmap.mmap, offset: int, length: int, limits: Any) -> dict[str, Any]:
    """Replace the file at this offset by its pixels; return the reply to the parent."""
    try:
        decoded = decode(memory[offset : offset + length], limits)
    except Unfit as error:
        return {"reason": error.failure.reason, "detail": error.failure.detail}
    for image in decoded.images:
        shared_memory.put(image, memory, offset)
        offset += shared_memory.size_of(image.size)
    return {
        "sizes": [image.size for image in decoded.images],
        "is_set": bool(decoded.members),
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "phash": decoded.phash,
        "thumbnail": decoded.thumbnail.hex(),
        "flat_share": decoded.flat_share,
        "stated": decoded.stated,
    }


def limit_seconds(seconds: float) -> None:
    """End this process after so many seconds on a core from now; 0 takes the limit away."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def restrict(memory_bytes: int) -> None:
    """Limit this process for good: `memory_bytes` on top of what it uses now, no files, no output, no core dumps."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they go to the whole terminal; our parent decides
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)  # C libraries print warnings
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel does not enforce it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
