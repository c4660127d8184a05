"""The process that counts the pages of PDF files: `python -m synthgen.ingest.images.page_child SETTINGS`.

It is started and killed by page_counter.py, and limited as a decoder is (child.py). A file does not come to it whole:
it asks for pieces, a line of JSON each, and reads them from standard input; its last line has the number of pages, or
why there is none.
"""

import io
import json
import os
import struct
import sys
from typing import Any

from synthgen.ingest.images.child import limit_seconds, restrict
from synthgen.ingest.images.documents import count_pages
from synthgen.ingest.images.unfit import Unfit

SIZE = struct.Struct("<Q")  # what the child is sent for each file: its bytes
PIECE = 2**16  # bytes that are asked for at once


class _Pieces(io.RawIOBase):
    """A file that the parent has open."""

    def __init__(self, size: int, replies: int) -> None:
        self._size, self._replies, self._at = size, replies, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        if wanted:
            _say(self._replies, {"read": [self._at, wanted]})
            memoryview(buffer)[:wanted] = _receive(wanted)
        self._at += wanted
        return wanted


def main() -> None:
    """Answer requests until standard input ends."""
    settings = json.loads(sys.argv[1])
    replies = os.dup(1)
    restrict(settings["memory_bytes"])
    _say(replies, {})  # ready
    while len(request := os.read(0, SIZE.size)) == SIZE.size:
        limit_seconds(settings["seconds"])
        try:
            pieces = io.BufferedReader(_Pieces(SIZE.unpack(request)[0], replies), PIECE)
            reply: dict[str, Any] = {"pages": count_pages(pieces)}
        except Unfit as error:
            reply = {"reason": error.failure.reason, "detail": error.failure.detail}
        limit_seconds(0)
        _say(replies, reply)


def _say(replies: int, message: dict[str, Any]) -> None:
    os.write(replies, json.dumps(message).encode() + b"\n")


def _receive(size: int) -> bytes:
    """Return so many bytes of standard input; end the process where the parent is gone."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return bytes(data)


if __name__ == "__main__":
    main()
