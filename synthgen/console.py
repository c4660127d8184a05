"""Notes and progress for the person who waits; results go to stdout and are not mixed with these.

Notes are records of the logger `synthgen`, so a program that imports the package decides where they go and nothing is
printed unasked. The command line calls `print_notes`, which sends each bare message to stderr. Progress is one live
line on a terminal, and a note every half minute elsewhere.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every module with a note imports this one, and rich takes longer to import than help may take
    from rich.progress import Progress

LOGGER = logging.getLogger("synthgen")
PATIENCE_SECONDS = 8.0  # that people wait without a word
PLAIN_EVERY_SECONDS = 30.0
_HARMLESS = "\n\xa0\u200c\u200d\u202f\u3000"  # not printable to Python, and shown or needed by a terminal


class StderrHandler(logging.Handler):
    """A handler that prints the bare message to stderr and flushes it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        # sys.stderr is looked up for each record: while a live line is shown, rich stands in for it.
        print(for_terminal(self.format(record)), file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Log one message for the user; the command line prints it to stderr at once."""
    LOGGER.info("%s", text)


def show_text(text: str) -> None:
    """Print a result to stdout, escaped as `for_terminal` does."""
    print(for_terminal(text))


def for_terminal(text: str) -> str:
    """Return a text in which nothing is left that a terminal obeys, as models and files may write it.

    It is escaped as in JSON, so that JSON stays the same. Lines stay lines, and spaces and joiners of other scripts
    stay as they are.
    """
    return "".join(
        character if character.isprintable() or character in _HARMLESS else json.dumps(character)[1:-1]
        for character in text
    )


def print_notes() -> None:
    """Print the records of the logger `synthgen` to stderr from now on, as the command line does."""
    if is_printing_notes():
        return
    LOGGER.addHandler(StderrHandler())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # some libraries give the root logger a handler, which would print each note again
    # Without a handler, Python would print each attempt that this library warns of; the error comes to us in the end.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def is_printing_notes() -> bool:
    """Whether `print_notes` was called in this process."""
    return any(isinstance(handler, StderrHandler) for handler in LOGGER.handlers)


class Rate:
    """Units per second, from the first of them on: the time before is loading and no part of the rate."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # when the first units were done, and how many

    def per_second(self, done: float) -> float:
        """Return the rate at which these units were done; 0 if they are the first."""
        now = time.monotonic()
        if done and self._first is None:
            self._first = now, done
        started, first = self._first or (now, done)
        return (done - first) / (now - started) if now > started else 0.0


class StageProgress:
    """The progress of one stage, as a context manager; where there is nothing to do, nothing is shown.

    Args:
        stage: The name that starts each line.
        total: How many units there are to do.
        unit: What is counted, in the singular.
        is_bound: Whether the total is only an upper bound; `add` then counts what was done.
    """

    def __init__(self, stage: str, total: int, unit: str, *, is_bound: bool = False) -> None:
        self._stage, self._total, self._unit, self._is_bound = stage, total, unit, is_bound
        self._last_line = time.monotonic()
        self._added = 0
        self._rate = Rate()
        self._bar: Progress | None = None
        if total and is_printing_notes() and sys.stderr.isatty():
            self._bar = _live_line()
            self._task = self._bar.add_task(stage, total=total, detail="")

    def show(self, done: float, detail: str = "") -> None:
        """Show that `done` of the total are done, and a detail after it."""
        done = min(done, self._total)
        self._rate.per_second(done)
        if self._bar:
            self._bar.update(self._task, completed=done, detail=detail)
        elif time.monotonic() - self._last_line >= PLAIN_EVERY_SECONDS:
            self._last_line = time.monotonic()
            note(self._line(done, detail))

    def add(self, count: int) -> None:
        """Count units that were done, where the total is only a bound."""
        self._added += count

    def _line(self, done: float, detail: str = "") -> str:
        rate = self._rate.per_second(done)
        line = f"{self._stage}: {done:,.0f} of {pluralize(self._total, self._unit)}"
        if rate:
            line += f", {rate:,.1f}/s"
        if rate and done < self._total:
            line += f", {_clock((self._total - done) / rate)} left"
        return f"{line}, {detail}" if detail else line

    def __enter__(self) -> "StageProgress":
        if self._bar:
            self._bar.start()
        elif self._total:
            note(f"{self._stage}: {'at most ' if self._is_bound else ''}{pluralize(self._total, self._unit)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif error is None and self._total:
            done = pluralize(self._added, self._unit)
            bound = f"{self._stage}: {done} done of at most {self._total:,}"
            note(bound if self._is_bound else self._line(self._total))


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun, `1 partition` or `2 partitions`; the noun's plural must end in a plain s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Loading:
    """What is said until the first result is there: what is waited for, and for how long."""

    def __init__(self, what: str) -> None:
        self._what, self._since = what, time.monotonic()
        self._next = self._since + PATIENCE_SECONDS

    def note(self) -> str:
        """Return what is waited for, and the time since it began."""
        return f"{self._what} ({_clock(time.monotonic() - self._since)})"

    def note_now_and_then(self) -> None:
        """Log it once it takes longer than people wait without a word, and every half minute from then on."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_SECONDS
            note(self.note())


def tagging_note(counters: Mapping[str, float], loading: Loading) -> str:
    """Return the detail of the progress line: that the tagger is loading, until the first image is done."""
    return "" if counters.get("images") else loading.note()


def generation_note(counters: Mapping[str, float], tokens: Rate, loading: Loading) -> str:
    """Return the detail of the progress line: that the model is loading, until the first assignment is done.

    Then it is the pairs so far, the share of assignments that became one, the rate of `tokens` that were written, and
    the share of prompts from the cache.
    """
    pairs, failed = counters.get("pairs", 0.0), counters.get("failed", 0.0)
    if not pairs + failed:
        return loading.note()
    parts = [f"{pairs:,.0f} pairs ({pairs / (pairs + failed):.0%})"]
    if "output_tokens" in counters:  # an engine need not count them
        parts.append(f"{tokens.per_second(counters['output_tokens']):,.0f} tokens/s out")
    if "cached_tokens" in counters:
        cached = counters["cached_tokens"] / max(counters.get("prompt_tokens", 0.0), 1.0)
        parts.append(f"{cached:.0%} of prompts cached")
    return ", ".join(parts)


def scoring_note(counters: Mapping[str, float], loading: Loading) -> str:
    """Return the detail of the progress line of passes: that a model is loading, until the first pair is scored."""
    if not counters.get("pairs"):
        return loading.note()
    without = counters.get("without", 0.0)
    return f"{counters.get('values', 0.0):,.0f} values" + (f", {without:,.0f} scores without one" if without else "")


def _live_line() -> "Progress":
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description:<9}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
    )


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
