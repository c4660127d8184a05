"""Telling progress: how far a stage is, how well it does, and what is waited for until it begins."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from synthgen.console.events import Cost, Measures, Phase, Progress, tell
from synthgen.console.notes import clock, note

PATIENCE_SECONDS = 8.0  # that people wait without a word
LOADING_EVERY_SECONDS = 30.0
TELL_SECONDS = 0.5  # between two events of one stage

Spending = Callable[[Mapping[str, float]], Cost | None]  # the cost of what workers have counted


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


class Loading:
    """What is said until the first result is there: what is waited for, and for how long."""

    def __init__(self, what: str) -> None:
        self._what, self._since = what, time.monotonic()
        self._next = self._since + PATIENCE_SECONDS

    def note(self) -> str:
        """Return what is waited for, and the time since it began."""
        return f"{self._what} ({clock(time.monotonic() - self._since)})"

    def note_now_and_then(self) -> None:
        """Log it once it takes longer than people wait without a word, and every half minute from then on."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOADING_EVERY_SECONDS
            note(self.note())


class StageProgress:
    """The progress of one stage, as a context manager; where there is nothing to do, nothing is told.

    Args:
        stage: The name of what is done.
        total: How many units there are to do.
        unit: What is counted, in the singular.
        is_bound: Whether the total is only an upper bound; `add` then counts what was done.
    """

    def __init__(self, stage: str, total: int, unit: str, *, is_bound: bool = False) -> None:
        self._stage, self._total, self._unit, self._is_bound = stage, total, unit, is_bound
        self._began = time.monotonic()
        self._told = 0.0
        self._added = 0
        self._rate = Rate()
        self._done = 0.0
        self._measures = Measures()

    def show(self, done: float, measures: Measures | str = "") -> None:
        """Tell that `done` of the total are done, and how well it goes, in words or in full; twice a second at most."""
        self._done = min(done, self._total)
        self._measures = Measures(detail=measures) if isinstance(measures, str) else measures
        self._rate.per_second(self._done)
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._tell("going")

    def add(self, count: int) -> None:
        """Count units that were done, where the total is only a bound."""
        self._added += count

    def _tell(self, phase: Phase) -> None:
        if not self._total:
            return
        self._told = time.monotonic()
        rate = self._rate.per_second(self._done)
        left = (self._total - self._done) / rate if rate and self._done < self._total else None
        seconds = self._told - self._began
        counted = self._stage, phase, self._done, self._total, self._unit, self._is_bound
        tell(Progress(*counted, rate, seconds, left, self._measures))

    def __enter__(self) -> "StageProgress":
        self._tell("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._done = float(self._added) if self._is_bound else self._total
        self._tell("end" if error is None else "broken")


class Meter:
    """The measures of a stage, from what its workers count.

    Args:
        loading: What is waited for until they have counted anything.
        spending: Returns the cost of what they counted.
    """

    def __init__(self, loading: Loading, spending: Spending = lambda counters: None) -> None:
        self._loading, self._spending = loading, spending
        self._tokens = Rate()

    def of_images(self, counters: Mapping[str, float]) -> Measures:
        """Return the measures of tagging: that the tagger is loading, until the first image is done."""
        return Measures(counters=counters) if counters.get("images") else self._waiting()

    def of_pairs(self, counters: Mapping[str, float]) -> Measures:
        """Return the measures of conversations: that the model is loading, until the first assignment is done."""
        pairs, failed = counters.get("pairs", 0.0), counters.get("failed", 0.0)
        if not pairs + failed:
            return self._waiting()
        return self._of_calls(
            f"{pairs:,.0f} pairs ({pairs / (pairs + failed):.0%})", counters, pairs / (pairs + failed)
        )

    def of_scores(self, counters: Mapping[str, float]) -> Measures:
        """Return the measures of scoring passes: that a model is loading, until the first pair is scored."""
        if not counters.get("pairs"):
            return self._waiting()
        values, without = counters.get("values", 0.0), counters.get("without", 0.0)
        detail = f"{values:,.0f} values" + (f", {without:,.0f} scores without one" if without else "")
        return self._of_calls(detail, counters, values / (values + without) if values + without else None)

    def _waiting(self) -> Measures:
        return Measures(detail=self._loading.note())

    def _of_calls(self, detail: str, counters: Mapping[str, float], acceptance: float | None) -> Measures:
        prompt, cached, output = (
            counters.get(f"{kind}_tokens") for kind in ("prompt", "cached", "output")
        )  # an engine need not count them
        return Measures(
            detail=detail,
            counters=counters,
            acceptance=acceptance,
            tokens_per_second=None if output is None else self._tokens.per_second(output),
            cached_share=None if cached is None else cached / max(prompt or 0.0, 1.0),
            cost=self._spending(counters),
        )
