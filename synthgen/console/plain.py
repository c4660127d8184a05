"""Progress as lines: where stderr is no terminal, and for programs that import the package.

A line when work begins and one when it ends, and some in between: every half minute at first, then seldom enough that a
week leaves a log that a person can read.
"""

from synthgen.console.events import Cost, Event, Measures, Planned, Progress
from synthgen.console.notes import clock, note, pluralize

FIRST_SECONDS, MOST_SECONDS = 30.0, 600.0  # between two lines
SHARE = 0.02  # of the time that the work has taken


class PlainView:
    """Logs progress as notes."""

    def __init__(self) -> None:
        self._lines: dict[str, float] = {}  # stage → seconds at its last line
        self._planned: dict[str, Cost] = {}

    def see(self, event: Event) -> None:
        """Log a line, if it is time for one."""
        if isinstance(event, Planned):
            self._planned[event.stage] = event.cost
        elif isinstance(event, Progress):
            self._see(event)

    def _see(self, event: Progress) -> None:
        if event.phase == "start":
            self._lines[event.stage] = 0.0
            note(f"{event.stage}: {'at most ' if event.is_bound else ''}{pluralize(event.total, event.unit)}")
        elif event.phase == "end":
            note(_last_line(event))
        elif event.phase == "going" and self._is_due(event):
            self._lines[event.stage] = event.seconds
            note(progress_line(event, self._planned.get(event.stage)))

    def _is_due(self, event: Progress) -> bool:
        since = event.seconds - self._lines.get(event.stage, 0.0)
        return since >= min(MOST_SECONDS, max(FIRST_SECONDS, event.seconds * SHARE))


def progress_line(event: Progress, planned: Cost | None = None) -> str:
    """Return how far a stage is, in one line."""
    line = f"{event.stage}: {event.done:,.0f} of {pluralize(event.total, event.unit)}"
    if event.rate:
        line += f", {event.rate:,.1f}/s"
    if event.seconds_left is not None:
        line += f", {clock(event.seconds_left)} left"
    words = in_words(event.measures, planned)
    return f"{line}, {words}" if words else line


def in_words(measures: Measures, planned: Cost | None = None) -> str:
    """Return how well a stage does, in words."""
    parts = [measures.detail]
    if measures.tokens_per_second is not None:
        parts.append(f"{measures.tokens_per_second:,.0f} tokens/s out")
    if measures.cached_share is not None:
        parts.append(f"{measures.cached_share:.0%} of prompts cached")
    if measures.cost is not None:
        parts.append(cost_in_words(measures.cost, planned))
    return ", ".join(filter(None, parts))


def cost_in_words(cost: Cost, planned: Cost | None = None) -> str:
    """Return what was spent, and of how much."""
    of = f" of {planned.spent:,.2f}" if planned and planned.unit == cost.unit else ""
    return f"{cost.spent:,.2f}{of} {cost.unit}"


def _last_line(event: Progress) -> str:
    if event.is_bound:
        return f"{event.stage}: {pluralize(round(event.done), event.unit)} done of at most {event.total:,}"
    measures = Measures(counters=event.measures.counters)
    return progress_line(
        Progress(event.stage, "end", event.done, event.total, event.unit, rate=event.rate, measures=measures)
    )
