"""Events for machines: one JSON object a line on stdout, which is also the structured log of a job.

Each has when it happened, the run, the stage that is at work, and the partition and the worker where there is one.
"""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from synthgen.console.events import Event, Note, Progress, RunEnded, RunStarted, StageStarted, Workers, as_json, tell
from synthgen.console.notes import for_terminal

EVERY_SECONDS = 5.0  # between two events of progress, and of workers, of one stage


class JsonLines:
    """Writes events as JSON lines; those that come twice a second are thinned out."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or _to_stdout
        self._run: str | None = None
        self._stage: str | None = None
        self._last: dict[tuple[str, str], float] = {}

    def see(self, event: Event) -> None:
        """Write an event."""
        if isinstance(event, RunStarted):
            self._run = event.out.rstrip("/").rpartition("/")[2]
        elif isinstance(event, StageStarted):
            self._stage = event.stage
        if self._is_due(event):
            place = {name: value for name, value in (("run", self._run), ("stage", self._stage)) if value}
            when = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._write(json.dumps({"at": when, **place, **as_json(event)}, ensure_ascii=False))
        if isinstance(event, RunEnded):
            self._stage = None

    def _is_due(self, event: Event) -> bool:
        if not isinstance(event, Progress | Workers) or (isinstance(event, Progress) and event.phase != "going"):
            return True
        key, now = (type(event).__name__, event.stage), time.monotonic()
        if now - self._last.get(key, -EVERY_SECONDS) < EVERY_SECONDS:
            return False
        self._last[key] = now
        return True


class NoteEvents(logging.Handler):
    """A handler that tells each record as an event."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        tell(Note(record.levelname.lower(), self.format(record), getattr(record, "worker", None)))


def _to_stdout(line: str) -> None:
    print(for_terminal(line), flush=True)
