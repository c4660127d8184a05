"""What people and programs see of a command at work: notes, progress, and the events of a run.

`events` says what happens, and `tell` has the views render it: a live view on a terminal (`live`), lines where stderr
is none (`plain`), JSON lines for machines (`json_lines`). `progress` tells how far a stage is, and `notes` is for
messages. A program that imports the package gets records of the logger `synthgen`, and may add a view of its own.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from synthgen.console.events import (
    Cost,
    Event,
    GpuState,
    Measures,
    Sample,
    View,
    WorkerStatus,
    add_view,
    only,
    seen_by,
    tell,
)
from synthgen.console.json_lines import JsonLines, NoteEvents
from synthgen.console.live import LiveView
from synthgen.console.notes import (
    LOGGER,
    StderrHandler,
    for_terminal,
    is_printing_notes,
    note,
    pluralize,
    print_notes,
    show_text,
)
from synthgen.console.plain import PlainView
from synthgen.console.progress import Loading, Meter, Rate, Spending, StageProgress

__all__ = [
    "LOGGER", "Cost", "Event", "GpuState", "JsonLines", "Loading", "Look", "Measures", "Meter", "Rate", "Sample",
    "Spending", "StageProgress", "TerminalView", "View", "WorkerStatus", "add_view", "for_terminal", "looking", "note",
    "only", "pluralize", "print_notes", "seen_by", "show_text", "tell",
]  # fmt: skip

Look = Literal["terminal", "quiet", "json"]


class TerminalView:
    """The live view where stderr is a terminal and the command line prints notes on it, lines elsewhere."""

    def __init__(self) -> None:
        self._live, self._plain = LiveView(), PlainView()

    def see(self, event: Event) -> None:
        """Have the right one of the two see an event."""
        if self._live.is_open or (is_printing_notes() and sys.stderr.isatty()):
            self._live.see(event)
        else:
            self._plain.see(event)


add_view(TerminalView())


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Show what happens within this block in a way: to a person, only what goes wrong, or as JSON lines on stdout."""
    if look == "terminal":
        yield
        return
    printing = [handler for handler in LOGGER.handlers if isinstance(handler, StderrHandler)]
    levels = [handler.level for handler in printing]
    for handler in printing:  # what goes wrong is on stderr in every way
        handler.setLevel(logging.WARNING if look == "quiet" else logging.ERROR)
    events = NoteEvents()
    try:
        if look == "json":
            LOGGER.addHandler(events)
        with only(*([JsonLines()] if look == "json" else [])):
            yield
    finally:
        LOGGER.removeHandler(events)
        for handler, level in zip(printing, levels, strict=True):
            handler.setLevel(level)
