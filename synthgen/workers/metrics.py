"""The metrics of a run, for Prometheus: recorded with Ray's own library from the events that people see too.

Ray's nodes serve them, each at one endpoint, beside Ray's own metrics and those of vLLM. SYNTH_METRICS asks for them;
its value is the port of the endpoint where Ray is started here, and a cluster has ports of its own.
"""

import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from synthgen.console import Event, seen_by
from synthgen.console.events import (
    Committed,
    Planned,
    Progress,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    WorkerChanged,
    Workers,
    WorkerState,
)
from synthgen.engines.vllm_metrics import VARIABLE, are_wanted
from synthgen.errors import UserMistake, one_line

RECORD_SECONDS = 5.0  # between two records of all values: Ray takes them every ten, and drops a gauge that is not new

Labels = tuple[tuple[str, str], ...]

# Name → what it is, and its labels beside the run. Ray puts `ray_` before a name, and `_total` after a counter's.
GAUGES = {
    "synth_stage_active": ("1 while a stage is at work.", ("stage",)),
    "synth_stage_done": ("Units that a stage has done.", ("stage", "unit")),
    "synth_stage_units": ("Units that a stage has to do.", ("stage", "unit")),
    "synth_stage_seconds_left": ("Seconds until a stage is done at its rate.", ("stage",)),
    "synth_acceptance": ("Share of the rows with an outcome that did not fail, since the stage began.", ("stage",)),
    "synth_cost": ("What the engines of a stage have cost in this run.", ("stage", "unit")),
    "synth_cost_planned": ("What the stage costs by the plan and the profile of its engine.", ("stage", "unit")),
    "synth_workers": ("Workers by what they do.", ("stage", "state")),
    "synth_conversations": ("Conversations that a worker holds at once.", ("stage", "worker")),
    "synth_engine_silent_seconds": (
        "For how long an engine has answered none of the calls under way.", ("stage", "worker")
    ),
    "synth_gpu_busy": ("Share of the time in which a GPU of a worker is busy.", ("stage", "worker", "gpu")),
    "synth_gpu_memory_bytes": ("Memory in use on a GPU of a worker.", ("stage", "worker", "gpu")),
}  # fmt: skip
COUNTERS = {
    "synth_rows": ("Rows that were committed, by their outcome.", ("stage", "outcome")),
    "synth_tokens": ("Tokens of models: prompt (cached ones too), cached and output.", ("stage", "kind")),
    "synth_calls": ("Calls of models that ended, by their outcome.", ("stage", "outcome")),
    "synth_workers_replaced": ("Workers that died or hung.", ("stage", "worker")),
}


@contextmanager
def recording() -> Iterator[None]:
    """Record the metrics of what happens within this block, if they are wanted. Raises UserMistake if Ray cannot."""
    if not are_wanted():
        yield
        return
    endpoint_port()
    _check_exporter()
    view, is_over = MetricsView(), threading.Event()

    def record() -> None:
        while not is_over.wait(RECORD_SECONDS):
            view.record()

    recorder = threading.Thread(target=record, name="metrics", daemon=True)
    recorder.start()  # events may not come for minutes, as while a plan is drawn
    try:
        with seen_by(view):
            yield
    finally:
        is_over.set()
        recorder.join()


def endpoint_port() -> int | None:
    """Return the port of the endpoint of a Ray that is started here; None without metrics, or on a cluster.

    Raises:
        UserMistake: SYNTH_METRICS names no port.
    """
    if not are_wanted() or os.environ.get("RAY_ADDRESS"):
        return None
    value = os.environ[VARIABLE]
    if not value.isdecimal() or not 1024 <= int(value) < 65536:
        raise UserMistake(f"{VARIABLE}={one_line(value)}: is no port; give the endpoint of metrics one, such as 8080")
    return int(value)


def _check_exporter() -> None:
    """Raise UserMistake if Ray is installed without the part that serves metrics."""
    from ray._private.utils import get_dashboard_dependency_error

    if error := get_dashboard_dependency_error():
        raise UserMistake(
            f"{VARIABLE}: Ray serves no metrics here ({one_line(error)}); install it with `pip install '.[metrics]'`"
        )


class MetricsView:
    """Takes events into values, which are recorded now and then, once Ray is joined."""

    def __init__(self) -> None:
        self._run = ""
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._grown: defaultdict[tuple[str, Labels], float] = defaultdict(
            float
        )  # counters since they were last recorded
        self._counted: dict[str, Mapping[str, float]] = {}  # stage → what its workers had counted
        self._metrics: dict[str, Any] = {}
        self._lock = threading.Lock()

    def see(self, event: Event) -> None:
        """Take an event; when a stage or the run is over, all values are recorded."""
        with self._lock:
            self._take(event)
        if isinstance(event, StageEnded | RunEnded):
            self.record()

    def _take(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._run = event.out.rstrip("/").rpartition("/")[2]
        elif isinstance(event, StageStarted):
            self._set("synth_stage_active", 1, stage=event.stage)
        elif isinstance(event, StageEnded):
            self._set("synth_stage_active", 0, stage=event.stage)
            self._forget_workers()
        elif isinstance(event, Planned):
            self._set("synth_cost_planned", event.cost.spent, stage=event.stage, unit=event.cost.unit)
        elif isinstance(event, Committed):
            for outcome, count in event.counts.items():
                self._grow("synth_rows", count, stage=event.stage, outcome=outcome)
        elif isinstance(event, WorkerChanged) and event.change == "replaced":
            self._grow("synth_workers_replaced", 1, stage=event.stage, worker=event.worker)
        elif isinstance(event, Progress):
            self._see_progress(event)
        elif isinstance(event, Workers):
            self._see_workers(event)

    def _see_progress(self, event: Progress) -> None:
        stage, measures = event.stage, event.measures
        self._set("synth_stage_done", event.done, stage=stage, unit=event.unit)
        self._set("synth_stage_units", event.total, stage=stage, unit=event.unit)
        self._set("synth_stage_seconds_left", event.seconds_left or 0.0, stage=stage)
        if measures.acceptance is not None:
            self._set("synth_acceptance", measures.acceptance, stage=stage)
        if measures.cost is not None:
            self._set("synth_cost", measures.cost.spent, stage=stage, unit=measures.cost.unit)
        before = {} if event.phase == "start" else self._counted.get(stage, {})
        self._counted[stage] = now = measures.counters or before
        grown = {name: now.get(name, 0.0) - before.get(name, 0.0) for name in now}
        for kind in ("prompt", "cached", "output"):
            self._grow("synth_tokens", grown.get(f"{kind}_tokens", 0.0), stage=stage, kind=kind)
        failed = grown.get("failed_calls", 0.0)
        self._grow("synth_calls", failed, stage=stage, outcome="failed")
        self._grow("synth_calls", grown.get("calls", 0.0) - failed, stage=stage, outcome="answered")

    def _see_workers(self, event: Workers) -> None:
        states = Counter[str](worker.state for worker in event.workers)
        for state in get_args(WorkerState):
            self._set("synth_workers", states[state], stage=event.stage, state=state)
        for each in event.workers:
            place = {"stage": event.stage, "worker": each.worker}
            if each.in_flight is not None:
                self._set("synth_conversations", each.in_flight, **place)
            if each.silent_seconds is not None:
                self._set("synth_engine_silent_seconds", each.silent_seconds, **place)
            for number, gpu in enumerate(each.gpus):
                self._set("synth_gpu_busy", gpu.busy, **place, gpu=str(number))
                self._set("synth_gpu_memory_bytes", gpu.used, **place, gpu=str(number))

    def _forget_workers(self) -> None:
        """Set the values of workers to 0: Ray serves the last one of a gauge for as long as this process lives."""
        for name, labels in self._gauges:
            if name == "synth_workers" or "worker" in dict(labels):
                self._gauges[name, labels] = 0

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name, tuple(labels.items())] = value

    def _grow(self, name: str, by: float, **labels: str) -> None:
        if by > 0:  # an edit may take rows back, which a counter cannot
            self._grown[name, tuple(labels.items())] += by

    def record(self) -> None:
        """Record all values with Ray; before it is joined they wait."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        with self._lock:
            for (name, labels), value in self._gauges.items():
                self._metric(name).set(value, tags={"run": self._run, **dict(labels)})
            for (name, labels), by in self._grown.items():
                self._metric(name).inc(by, tags={"run": self._run, **dict(labels)})
            self._grown.clear()

    def _metric(self, name: str) -> Any:
        from ray.util.metrics import Counter as RayCounter
        from ray.util.metrics import Gauge

        if name not in self._metrics:
            make, (what, labels) = (Gauge, GAUGES[name]) if name in GAUGES else (RayCounter, COUNTERS[name])
            self._metrics[name] = make(name, what, ("run", *labels))
        return self._metrics[name]
