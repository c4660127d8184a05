"""The process that decodes: `python -m synthgen.ingest.images.child SETTINGS`, started by pool.py and killed by it at will.

Comes in: on standard input, slot and length of each image that lies in the shared memory. Goes out: the pixels in the same
slot, and on standard output one line of JSON for each image; nothing is ever unpickled. The limits are the kernel's, so
that they hold inside C code too, and when nobody is left to end the process: a timer ends it when one image takes too long
(on a core, so that a busy machine costs no image), RLIMIT_AS refuses too much memory, and nothing can be written to disk.
"""

import json
import mmap
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from synthgen.ingest.images import shared_memory
from synthgen.ingest.images.decode import decode
from synthgen.ingest.images.headers import Unfit

REQUEST = struct.Struct("<QQ")  # slot, length


def main() -> None:
    """Answers until standard input ends."""
    settings = SimpleNamespace(**json.loads(sys.argv[1]))
    limits = SimpleNamespace(**settings.limits)
    memory = mmap.mmap(settings.fd, 0)
    replies = os.dup(1)
    _fence(settings.memory_bytes)
    os.write(replies, b"{}\n")  # ready
    while request := os.read(0, REQUEST.size):
        slot, length = REQUEST.unpack(request)
        signal.setitimer(signal.ITIMER_PROF, limits.decode_seconds)
        reply = answer(memory, slot * settings.slot_bytes, length, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(replies, json.dumps({"slot": slot, **reply}).encode() + b"\n")


def answer(memory: mmap.mmap, at: int, length: int, limits: Any) -> dict[str, Any]:
    """Decodes the image at that place and leaves its pixels there."""
    try:
        decoded = decode(memory[at : at + length], limits)
    except Unfit as error:
        return {"reason": error.reason, "detail": error.detail}
    shared_memory.put(decoded.image, memory, at)
    return {
        "seen": decoded.image.size,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "phash": decoded.phash,
    }


def _fence(memory_bytes: int) -> None:
    """Limits that last: no more memory than given on top of what is in use, no files, no noise, no core dumps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; our parent decides
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)  # C libraries print warnings
    os.dup2(nowhere, 2)
    Image.MAX_IMAGE_PIXELS = None  # ours is checked first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel does not honour it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
