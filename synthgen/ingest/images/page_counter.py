"""How many pages PDF files have, counted in a child process that may die doing it (page_child.py).

The child asks for the pieces of a file that it needs, which are a few at its end for most, so a listing does not read
files whole. It never opens anything itself.
"""

import json
import os
import select
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any, BinaryIO

from synthgen.errors import Failure, SynthError, one_line
from synthgen.ingest.images.child_process import environment
from synthgen.ingest.images.page_child import SIZE

MODULE = "synthgen.ingest.images.page_child"
SECONDS = 10.0  # on a core, for a file
STALLED_SECONDS = 120.0  # without a word from the child
MEMORY_BYTES = 2**30
TIMES_READ = 8  # so often the child may ask for the bytes of a file; PDFium searches a damaged one for its parts


class PageCounter:
    """A child process that counts; it starts with the first file, and again after one that it died of."""

    def __init__(self, module: str = MODULE, seconds: float = SECONDS) -> None:
        """Take the module that the child runs; tests pass one that dies or hangs on purpose."""
        self._module, self._seconds = module, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""  # the beginning of a line

    def __enter__(self) -> "PageCounter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def count(self, raw: BinaryIO, size: int) -> int | Failure:
        """Return the number of pages of an open file of so many bytes, or why it has none.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            self._start()
            self._write(SIZE.pack(size))
            return self._serve(raw, size)
        except _Lost as lost:
            self._stop()
            return lost.failure
        except BaseException:
            self._stop()  # it waits for a piece that will not come
            raise

    def _serve(self, raw: BinaryIO, size: int) -> int | Failure:
        """Give the child the pieces that it asks for, until it says what it found."""
        left = TIMES_READ * size + TIMES_READ * 2**16
        while "read" in (reply := self._reply()):
            offset, wanted = reply["read"]
            left -= wanted
            if left < 0:
                raise _Lost(Failure("corrupt", "a PDF whose parts lead in circles"))
            raw.seek(offset)
            piece = raw.read(wanted)
            if len(piece) != wanted:
                raise OSError(f"{len(piece):,} bytes at byte {offset:,}, not {wanted:,}")
            self._write(piece)
        return int(reply["pages"]) if "pages" in reply else Failure(reply["reason"], reply["detail"])

    def _start(self) -> None:
        if self._process is not None:
            return
        settings = json.dumps({"memory_bytes": MEMORY_BYTES, "seconds": self._seconds})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
        )
        try:
            self._reply()  # it is ready
        except _Lost:
            _, last_line = self._stop()
            raise SynthError(f"the process that counts the pages of PDF files does not start: {last_line}") from None

    def _stop(self) -> tuple[int, str]:
        """End the process; return its exit status, and the last line that it wrote to standard error."""
        process, self._process, self._unread = self._process, None, b""
        if process is None:
            return 0, ""
        assert process.stdin and process.stdout and process.stderr
        process.kill()
        status = process.wait()
        lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        return status, one_line(lines[-1], 200) if lines else ""

    def _write(self, data: bytes) -> None:
        assert self._process and self._process.stdin
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) or 0 :]
        except BrokenPipeError:
            raise self._lost() from None

    def _reply(self) -> dict[str, Any]:
        assert self._process and self._process.stdout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], STALLED_SECONDS)
            if not ready:
                raise _Lost(Failure("decode_timeout", f"its pages were not counted within {STALLED_SECONDS:g} s"))
            piece = os.read(self._process.stdout.fileno(), 2**16)
            if not piece:
                raise self._lost()
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _lost(self) -> "_Lost":
        """Return what the end of the process says about the file that it had."""
        assert self._process
        if self._process.wait() == -signal.SIGPROF:
            return _Lost(Failure("decode_timeout", f"its pages were not counted within {self._seconds:g} s on a core"))
        return _Lost(Failure("decoder_died", "a decoder died of it"))


class _Lost(Exception):
    """The child is gone, or must go."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure
