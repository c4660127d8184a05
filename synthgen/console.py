"""What a waiting user sees: how far, how fast, how long still.

Comes in: a stage's total and counters that grow. Goes out, on stderr: one live line on a terminal, a plain line now and then
in a log file. Data goes to stdout and is never mixed with this.
"""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_SECONDS = 30.0


class StageProgress:
    """The progress of one stage, in units that are named in the singular; a context manager."""

    def __init__(self, stage: str, total: int, unit: str, *, is_bound: bool = False) -> None:
        self._stage, self._total, self._unit, self._is_bound = (
            stage,
            total,
            unit,
            is_bound,
        )  # a bound: it may turn out to be fewer
        self._spoke = time.monotonic()
        self._done = 0  # what was really done, where the total is a bound
        self._begun: tuple[float, float] | None = (
            None  # when the first were done, and how many: what loads before is no rate
        )
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:<9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._task = self._bar.add_task(stage, total=total, note="")

    def show(self, done: float, note: str = "") -> None:
        """Shows that `done` of the total are done."""
        done = min(done, self._total)
        if done and self._begun is None:
            self._begun = time.monotonic(), done
        if self._bar:
            self._bar.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._spoke >= PLAIN_EVERY_SECONDS:
            self._spoke = time.monotonic()
            self._say(done, note)

    def did(self, count: int) -> None:
        """Adds to what was really done, of a total that is only a bound."""
        self._done += count

    def _say(self, done: float, note: str) -> None:
        since, first = self._begun or (time.monotonic(), done)
        seconds = time.monotonic() - since
        rate = (done - first) / seconds if seconds > 0 else 0.0
        speed = f", {rate:,.1f}/s" if rate else ""
        left = f", {_clock((self._total - done) / rate)} left" if rate and done < self._total else ""
        told = f"{self._stage}: {done:,.0f} of {counted(self._total, self._unit)}{speed}{left}"
        print(f"{told}, {note}" if note else told, file=sys.stderr, flush=True)

    def __enter__(self) -> "StageProgress":
        if self._bar:
            self._bar.start()
        elif self._total:
            print(
                f"{self._stage}: {'at most ' if self._is_bound else ''}{counted(self._total, self._unit)}",
                file=sys.stderr,
                flush=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif error is None and self._is_bound and self._total:
            told = counted(self._done, self._unit)
            print(f"{self._stage}: {told} done of at most {self._total:,}", file=sys.stderr, flush=True)
        elif error is None and self._total:
            self._say(self._total, "")


def counted(count: int, noun: str) -> str:
    """`1 partition`, `2 partitions`: a number with a noun that has a plain plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def tagging_note(counters: Mapping[str, float]) -> str:
    """Before the first image is done, what the wait is for."""
    return "" if counters.get("images") else "the tagger is loading"


def generation_note(counters: Mapping[str, float], seconds: float) -> str:
    """Pairs so far, the share of assignments that became one, tokens a second, and the share of prompt tokens from the cache."""
    pairs, failed = counters.get("pairs", 0.0), counters.get("failed", 0.0)
    if not pairs + failed:
        return "the model is loading"
    cached = counters.get("cached_tokens", 0.0) / max(counters.get("prompt_tokens", 0.0), 1.0)
    speed = counters.get("output_tokens", 0.0) / max(seconds, 1e-9)
    return f"{pairs:,.0f} pairs ({pairs / (pairs + failed):.0%}), {speed:,.0f} tokens/s out, {cached:.0%} of prompts cached"


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
