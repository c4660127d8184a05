"""What Prometheus gets of a run: values taken from events, and recorded once Ray is joined."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.console import Cost, GpuState, Measures, WorkerStatus, tell
from synthgen.console.events import (
    Committed,
    Event,
    Planned,
    Progress,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    WorkerChanged,
    Workers,
)
from synthgen.errors import UserMistake
from synthgen.workers import cluster, metrics
from synthgen.workers.metrics import COUNTERS, GAUGES, MetricsView, endpoint_port, recording

Values = dict[tuple[str, ...], float]


class Metric:
    """A metric of Ray that keeps what it is given."""

    def __init__(self, values: Values, name: str, tag_keys: tuple[str, ...]) -> None:
        self._values, self._name, self._keys = values, name, tag_keys

    def _place(self, tags: dict[str, str]) -> tuple[str, ...]:
        assert set(tags) == set(self._keys), f"{self._name}: Ray refuses other labels than those it was made with"
        return (self._name, *(tags[key] for key in self._keys if key != "run"))

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._values[self._place(tags)] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "Ray refuses anything else"
        self._values[self._place(tags)] = self._values.get(self._place(tags), 0.0) + value


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> Values:
    """Return what Ray was given, by name and labels without the run; Ray counts as joined."""
    found: Values = {}
    made = SimpleNamespace(
        Gauge=lambda name, what, tag_keys: Metric(found, name, tag_keys),
        Counter=lambda name, what, tag_keys: Metric(found, name, tag_keys),
    )
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ray.util", SimpleNamespace(metrics=made))
    monkeypatch.setitem(sys.modules, "ray.util.metrics", made)
    return found


def recorded(values: Values, *events: Event) -> Values:
    """Return what is recorded of a run in which these events happen."""
    view = MetricsView()
    for event in (RunStarted("s3://bucket/data", (), "0"), *events):
        view.see(event)
    view.record()
    return values


def progress(phase: Any, **counters: float) -> Progress:
    """Return progress of a stage whose workers have counted so much."""
    return Progress("generate", phase, 5, 9, "assignment", measures=Measures(counters=counters))


def test_rows_are_counted_by_outcome_and_what_an_edit_takes_back_is_not(values: Values) -> None:
    counts = ({"pair": 30, "failed.declined": 2}, {"pair": 5, "failed.declined": -2, "retired": 0})
    recorded(values, *(Committed("generate", f"p{number}", 1, each) for number, each in enumerate(counts)))
    assert values == {
        ("synth_rows", "generate", "pair"): 35,
        ("synth_rows", "generate", "failed.declined"): 2,
    }


def test_tokens_and_calls_are_what_workers_have_counted_since_the_stage_began(values: Values) -> None:
    recorded(
        values,
        progress("start"),
        progress("going", prompt_tokens=100, cached_tokens=60, output_tokens=7, calls=3, failed_calls=1),
        progress("going", prompt_tokens=150, cached_tokens=60, output_tokens=9, calls=4, failed_calls=1),
        progress("end"),  # the last event of a stage may have no counters
        progress("start"),  # another run in this process begins at nothing
        progress("going", prompt_tokens=10, calls=1),
    )
    taken = {place[2]: value for place, value in values.items() if place[0] in ("synth_tokens", "synth_calls")}
    assert taken == {"prompt": 160, "cached": 60, "output": 9, "failed": 1, "answered": 4}


def test_a_stage_at_work_has_its_progress_price_and_workers(values: Values) -> None:
    gpu = GpuState(0.5, 10, 20)
    busy = WorkerStatus("generate-1", "at work", 3.0, in_flight=8, silent_seconds=40.0, gpus=(gpu,))
    measures = Measures(acceptance=0.9, cost=Cost(1.5, "USD"))
    recorded(
        values,
        StageStarted("generate"),
        Planned("generate", Cost(6.0, "USD")),
        Progress("generate", "going", 5, 9, "assignment", seconds_left=30.0, measures=measures),
        Workers("generate", (busy, WorkerStatus("generate-2", "loading", 1.0))),
        WorkerChanged("generate", "generate-2", "replaced", why="it died"),
    )
    states = {place[2]: value for place, value in values.items() if place[0] == "synth_workers"}
    assert states == {"starting": 0, "loading": 1, "at work": 1, "idle": 0, "silent": 0}
    rest = {place: value for place, value in values.items() if place[0] != "synth_workers"}
    assert rest == {
        ("synth_stage_active", "generate"): 1,
        ("synth_stage_done", "generate", "assignment"): 5,
        ("synth_stage_units", "generate", "assignment"): 9,
        ("synth_stage_seconds_left", "generate"): 30,
        ("synth_acceptance", "generate"): 0.9,
        ("synth_cost", "generate", "USD"): 1.5,
        ("synth_cost_planned", "generate", "USD"): 6,
        ("synth_conversations", "generate", "generate-1"): 8,
        ("synth_engine_silent_seconds", "generate", "generate-1"): 40,
        ("synth_gpu_busy", "generate", "generate-1", "0"): 0.5,
        ("synth_gpu_memory_bytes", "generate", "generate-1", "0"): 10,
        ("synth_workers_replaced", "generate", "generate-2"): 1,
    }


def test_a_stage_that_is_over_leaves_no_silent_engine_behind(values: Values) -> None:
    silent = WorkerStatus("generate-1", "silent", 3.0, in_flight=8, silent_seconds=40.0)
    recorded(
        values, StageStarted("generate"), Workers("generate", (silent,)), StageEnded("generate", 1.0, 1, 9, "pair")
    )
    assert not any(values.values())


def test_before_ray_is_joined_values_wait_and_none_is_lost(values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    view = MetricsView()
    monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: False)
    view.see(Committed("list", "p0", 1, {"listed": 7}))
    view.see(RunEnded("done", 1.0))
    assert not values
    monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: True)
    view.record()
    view.record()
    assert values == {("synth_rows", "list", "listed"): 7}


def test_every_metric_says_what_it_is() -> None:
    assert all(what.endswith(".") and "stage" in labels for what, labels in (GAUGES | COUNTERS).values())


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield monkeypatch


def test_without_the_variable_nothing_is_recorded(no_cluster: pytest.MonkeyPatch) -> None:
    no_cluster.delenv("SYNTH_METRICS", raising=False)
    no_cluster.setattr(metrics, "MetricsView", lambda: pytest.fail("it was made"))
    with recording():
        tell(StageStarted("tag"))
    assert endpoint_port() is None and cluster._wanted_metrics() == {}


def test_the_variable_is_the_port_of_a_ray_that_is_started_here(no_cluster: pytest.MonkeyPatch) -> None:
    no_cluster.setenv("SYNTH_METRICS", "8080")
    assert endpoint_port() == 8080 and cluster._wanted_metrics() == {"SYNTH_METRICS": "8080"}
    no_cluster.setenv("RAY_ADDRESS", "auto")
    no_cluster.setenv("SYNTH_METRICS", "on")
    assert endpoint_port() is None, "the nodes of a cluster have ports of their own"


@pytest.mark.parametrize("value", ["on", "80", "65536", "8o8o", "-1"])
def test_what_is_no_port_is_a_mistake_in_one_line(no_cluster: pytest.MonkeyPatch, value: str) -> None:
    no_cluster.setenv("SYNTH_METRICS", value)
    with pytest.raises(UserMistake, match=f"SYNTH_METRICS={value}: is no port; .* such as 8080"), recording():
        pass


def test_a_ray_that_cannot_serve_metrics_is_a_mistake_that_says_what_to_install(
    no_cluster: pytest.MonkeyPatch,
) -> None:
    no_cluster.setenv("SYNTH_METRICS", "8080")
    no_cluster.setattr("ray._private.utils.get_dashboard_dependency_error", lambda: ImportError("No module named 'x'"))
    with pytest.raises(UserMistake, match=r"Ray serves no metrics here .*\.\[metrics\]"), recording():
        pass
