"""The live view of a terminal: the stages of a run, how well the one at work does, its workers, and the last pair.

rich draws it on stderr, once a second, and notes appear above it. Of a run a line for each stage stays; other work
says itself what came of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthgen.console.events import (
    Cost,
    Event,
    Planned,
    Progress,
    RunEnded,
    RunStarted,
    Sample,
    StageEnded,
    StageStarted,
    Workers,
    WorkerStatus,
)
from synthgen.console.notes import clock, for_terminal, pluralize
from synthgen.console.plain import in_words

if TYPE_CHECKING:  # rich takes longer to import than help may take
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

MOST_WORKERS = 8  # that have a line of their own
GIGABYTE = 1e9
COLOURS = {"at work": "green", "silent": "red", "loading": "yellow", "starting": "yellow", "idle": "dim"}


@dataclass
class _Stage:
    """A line of the view: a stage, or work that is no stage of a run."""

    name: str
    started: float | None = None  # on the monotonic clock
    ended: StageEnded | None = None
    progress: Progress | None = None
    planned: Cost | None = None

    @property
    def is_over(self) -> bool:
        return self.ended is not None or (self.progress is not None and self.progress.phase in ("end", "broken"))


@dataclass
class _Shown:
    """Everything that the view shows."""

    stages: dict[str, _Stage] = field(default_factory=dict)
    workers: dict[str, tuple[WorkerStatus, ...]] = field(default_factory=dict)  # by pool
    last: Sample | None = None
    is_run: bool = False

    def forget_workers(self) -> None:
        """Show no worker and no pair: their stage is over, or has not begun."""
        self.workers.clear()
        self.last = None


class LiveView:
    """Draws events on the terminal, from the start of a run or of other work to its end."""

    def __init__(self) -> None:
        self._shown = _Shown()
        self._live: Live | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is drawn now."""
        return self._live is not None

    def see(self, event: Event) -> None:
        """Take an event into what is drawn."""
        shown = self._shown
        if isinstance(event, RunStarted):
            self._open(_Shown({name: _Stage(name) for name in event.stages}, is_run=True))
        elif isinstance(event, RunEnded):
            self._close()
        elif isinstance(event, StageStarted | StageEnded):
            self._see_stage(event)
        elif isinstance(event, Planned):
            self._stage(event.stage).planned = event.cost
        elif isinstance(event, Workers):
            shown.workers[event.stage], shown.last = event.workers, event.last or shown.last
        elif isinstance(event, Progress):
            self._see_progress(event)

    def _see_stage(self, event: StageStarted | StageEnded) -> None:
        self._shown.forget_workers()
        if self._shown.is_run and event.stage not in self._shown.stages:
            return  # a stage that the pipeline has no use for
        if isinstance(event, StageStarted):
            self._stage(event.stage).started = time.monotonic()
        else:
            self._stage(event.stage).ended = event

    def _see_progress(self, event: Progress) -> None:
        if event.phase == "start" and not self.is_open:
            self._open(_Shown())
        stage = self._stage(event.stage)
        stage.progress, stage.started = event, stage.started or time.monotonic()
        if event.phase in ("end", "broken") and not self._shown.is_run:
            self._close()

    def _stage(self, name: str) -> _Stage:
        stages, whole = self._shown.stages, name.partition(" ")[0]  # a pass, "score judge", is shown at its stage
        name = whole if whole in stages else name
        return stages.setdefault(name, _Stage(name))

    def _open(self, shown: _Shown) -> None:
        from rich.console import Console
        from rich.live import Live

        self._shown = shown
        console = Console(stderr=True)
        # Results go to stdout, which may be a file: nothing may stand in for it. Of a run a line for each stage stays.
        self._live = Live(
            get_renderable=self.draw,
            console=console,
            refresh_per_second=1,
            redirect_stdout=False,
            transient=not shown.is_run,
        )
        self._live.start()

    def _close(self) -> None:
        if self._live:
            self._shown.forget_workers()
            live, self._live = self._live, None
            live.stop()

    def draw(self) -> "RenderableType":
        """Return what is to be seen now."""
        from rich.console import Group

        shown = self._shown
        parts: list[RenderableType] = [_stages_table(list(shown.stages.values()), self.is_open)]
        if shown.workers and self.is_open:
            # A copy: rich draws in a thread of its own.
            parts += ["", _workers_table([each for pool in list(shown.workers.values()) for each in pool])]
        if shown.last and self.is_open:
            parts += ["", _pair_table(shown.last)]
        return Group(*parts)


def _grid(*columns: str) -> "Table":
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for justify in columns:
        grid.add_column(justify="right" if justify == "right" else "left", no_wrap=True, overflow="ellipsis")
    return grid


def _stages_table(stages: list[_Stage], is_open: bool) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for stage in stages:
        if not is_open and stage.started is None:
            continue  # what was not begun is no part of what is left on the terminal
        parts.append(_stage_line(stage))
        if stage.progress and not stage.is_over and (words := in_words(stage.progress.measures, stage.planned)):
            parts.append(Text(f"{'':<10}{for_terminal(words)}", style="cyan", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _stage_line(stage: _Stage) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    name = Text(f"{stage.name:<8}", style="bold" if stage.started and not stage.is_over else "")
    if stage.started is None:
        return Text(f"{stage.name:<8}", style="dim")
    if stage.is_over:
        return Text.assemble(name, "  ", _over(stage))
    elapsed = clock(time.monotonic() - stage.started)
    progress = stage.progress
    if progress is None:
        return Text.assemble(name, "  ", (f"at work {elapsed}", "dim"))
    line = _grid("left", "left", "right", "right", "left")
    left = f"{clock(progress.seconds_left)} left" if progress.seconds_left is not None else elapsed
    line.add_row(
        name,
        ProgressBar(total=progress.total, completed=progress.done, width=24),
        f"{progress.done:,.0f}/{progress.total:,}",
        f"{progress.rate:,.1f}/s" if progress.rate else "",
        left,
    )
    return line


def _over(stage: _Stage) -> str:
    """Return what came of a stage that is over."""
    progress, ended = stage.progress, stage.ended
    if progress and progress.phase == "broken":
        return f"{progress.done:,.0f} of {pluralize(progress.total, progress.unit)}, then it was cut short"
    if progress:
        seconds = ended.seconds if ended else progress.seconds
        return f"{pluralize(round(progress.done), progress.unit)} in {clock(seconds)}"
    if ended and ended.passed is not None:
        what = f"{ended.passed:,} {ended.passes}"
        return f"{what} in {clock(ended.seconds)}" if ended.partitions else f"{what} before"
    return f"done in {clock(ended.seconds)}" if ended and ended.partitions else "nothing to do"


def _workers_table(workers: Sequence[WorkerStatus]) -> "RenderableType":
    from rich.text import Text

    rows = _grid("left", "left", "left", "right", "left")
    # Those that need attention come first; of very many, the others are only counted.
    ordered = sorted(workers, key=lambda each: (each.state == "at work", each.worker))
    for each in ordered[:MOST_WORKERS]:
        state = f"{each.state} {clock(each.seconds)}" if each.state != "at work" else each.state
        rows.add_row(
            each.worker,
            Text(state, style=COLOURS[each.state]),
            "" if each.in_flight is None else f"{each.in_flight} in flight",
            "" if each.tokens_per_second is None else f"{each.tokens_per_second:,.0f} tokens/s",
            "  ".join(
                f"GPU {gpu.busy:.0%} {gpu.used / GIGABYTE:.0f}/{gpu.memory / GIGABYTE:.0f} GB" for gpu in each.gpus
            ),
        )
    if hidden := ordered[MOST_WORKERS:]:
        states = {state: sum(each.state == state for each in hidden) for state in COLOURS}
        rows.add_row(f"and {len(hidden)} more", ", ".join(f"{count} {name}" for name, count in states.items() if count))
    return rows


def _pair_table(pair: Sample) -> "RenderableType":
    from rich.text import Text

    lines = ((f"{pair.type}, {pair.image}", "dim"), (f"Q  {pair.question}", ""), (f"A  {pair.answer}", ""))
    return Text("\n").join(
        Text(" ".join(for_terminal(text).split("\n")), style=style, no_wrap=True, overflow="ellipsis")
        for text, style in lines
    )
