"""What happens in a run, as events: the one way in which progress is told.

Whoever does the work tells events; views render them. The terminal, the plain lines of a log, the JSON lines for
machines and the metrics of a job all see the same ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

Phase = Literal["start", "going", "end", "broken"]
WorkerState = Literal["starting", "loading", "at work", "idle", "silent"]
Change = Literal["started", "ready", "replaced", "ended"]


@dataclass(frozen=True)
class Cost:
    """What was spent, in a currency or in GPU-hours."""

    spent: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Measures:
    """How well a stage does, beside how far it is.

    Attributes:
        detail: In words what no other field says: what is waited for, or the loss of a training.
        counters: What the workers counted, by name.
        acceptance: The share of the rows with an outcome that did not fail.
        tokens_per_second: Tokens that models wrote.
        cached_share: Of the prompts' tokens, those that came from the cache.
        cost: What the engines have cost in this run.
    """

    detail: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)
    acceptance: float | None = None
    tokens_per_second: float | None = None
    cached_share: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class GpuState:
    """A GPU of a worker: the share of the last second in which it was busy, and its memory in bytes."""

    busy: float
    used: int
    memory: int


@dataclass(frozen=True)
class Sample:
    """A pair as a person sees it."""

    question: str
    answer: str
    type: str
    image: str


@dataclass(frozen=True)
class WorkerStatus:
    """A worker at one moment.

    Attributes:
        worker: Its place in the pool, such as generate-1; who replaces it has the same.
        node: The id of its machine; None until it has one.
        seconds: For how long it has been in this state.
        tasks: That it holds.
        in_flight: Conversations that it holds at once; None where it holds none, as a tagger.
        silent_seconds: For how long its engine has answered none of the calls under way.
        tokens_per_second: That its engine writes.
    """

    worker: str
    state: WorkerState
    seconds: float
    node: str | None = None
    tasks: int = 0
    in_flight: int | None = None
    silent_seconds: float | None = None
    tokens_per_second: float | None = None
    gpus: tuple[GpuState, ...] = ()


@dataclass(frozen=True)
class RunStarted:
    """A run begins; its stages are those that it goes through."""

    out: str
    stages: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class StageStarted:
    """A stage looks for what is pending."""

    stage: str


@dataclass(frozen=True)
class Planned:
    """What the rest of a stage costs by the plan and the measured profile of its engine."""

    stage: str
    cost: Cost


@dataclass(frozen=True)
class Progress:
    """How far a stage is; told at its start, about once a second, and at its end.

    Attributes:
        phase: `broken` is an end before everything was done.
        is_bound: Whether `total` is only an upper bound.
        rate: Units a second since the first of them; 0 before it is known.
        seconds_left: At this rate; None while there is none.
    """

    stage: str
    phase: Phase
    done: float
    total: int
    unit: str
    is_bound: bool = False
    rate: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    measures: Measures = field(default_factory=Measures)


@dataclass(frozen=True)
class Workers:
    """The workers of a pool at one moment, and the last pair that one of them made."""

    stage: str
    workers: tuple[WorkerStatus, ...]
    last: Sample | None = None


@dataclass(frozen=True)
class WorkerChanged:
    """A worker was started, is ready, is replaced or ended, and then why.

    Attributes:
        seconds: That it took to be ready, or for which it was there.
    """

    stage: str
    worker: str
    change: Change
    node: str | None = None
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class TaskDone:
    """A worker has done a partition or a piece of one; `seconds` began when it got the task."""

    stage: str
    worker: str
    partition: str
    seconds: float


@dataclass(frozen=True)
class Committed:
    """The driver committed a partition; `counts` are by how much it changed the number of each outcome."""

    stage: str
    partition: str
    revision: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class StageEnded:
    """A stage has nothing pending any more.

    Attributes:
        partitions: That were done in this run.
        passed: Rows that go on to the next stage, with those of earlier runs; `passes` is what they are called.
    """

    stage: str
    seconds: float
    partitions: int
    passed: int | None
    passes: str


@dataclass(frozen=True)
class Note:
    """A message for people; `worker` is the one that wrote it."""

    level: str
    text: str
    worker: str | None = None


@dataclass(frozen=True)
class RunEnded:
    """A run is over; of one that failed or was stopped, `why` is the message."""

    outcome: Literal["done", "failed", "stopped"]
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class Result:
    """What a command prints at its end: the status as `synth status --json` has it, and where the report is."""

    status: Mapping[str, Any]
    report: str | None = None


Event = (
    RunStarted
    | StageStarted
    | Planned
    | Progress
    | Workers
    | WorkerChanged
    | TaskDone
    | Committed
    | StageEnded
    | Note
    | RunEnded
    | Result
)


class View(Protocol):
    """Renders events; it is called in the thread of whoever tells one, and must be quick."""

    def see(self, event: Event) -> None:
        """Render an event, or leave it."""


_VIEWS: list[View] = []


def tell(event: Event) -> None:
    """Have every view see an event."""
    for view in tuple(_VIEWS):
        view.see(event)


def add_view(view: View) -> None:
    """Have a view see all events from now on."""
    _VIEWS.append(view)


@contextmanager
def seen_by(view: View) -> Iterator[None]:
    """Have a view see the events within this block, beside the others."""
    _VIEWS.append(view)
    try:
        yield
    finally:
        _VIEWS.remove(view)


@contextmanager
def only(*views: View) -> Iterator[None]:
    """Have only these views see events within this block."""
    before = list(_VIEWS)
    _VIEWS[:] = views
    try:
        yield
    finally:
        _VIEWS[:] = before


def name_of(event: type[Any]) -> str:
    """Return the name of an event in JSON: RunStarted is run_started."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in event.__name__).lstrip("_")


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as one object; what is not known is left out, and measures stand beside the progress."""
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    measures = values.pop("measures", None)
    flat = {**values, **({each.name: getattr(measures, each.name) for each in fields(measures)} if measures else {})}
    return {"event": name_of(type(event)), **{name: _plain(value) for name, value in flat.items() if _is_known(value)}}


def _is_known(value: Any) -> bool:
    return value is not None and value != "" and value != {}


def _plain(value: Any) -> Any:
    """Return a value of JSON; numbers are rounded to what is worth reading."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        known = {each.name: getattr(value, each.name) for each in fields(value)}
        return {name: _plain(each) for name, each in known.items() if _is_known(each)}
    return value
