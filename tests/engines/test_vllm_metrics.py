"""vLLM's own metrics: off unless they are wanted, and never a reason for which an engine does not start."""

import sys
from types import SimpleNamespace

import pytest

from synthgen.engines.vllm_metrics import are_wanted, stat_loggers


@pytest.fixture
def wrappers(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return vLLM's module of metrics for Ray; they are wanted."""
    monkeypatch.setenv("SYNTH_METRICS", "8080")
    made = SimpleNamespace(ray_metrics=object(), RayPrometheusStatLogger="logger")
    for name in ("vllm", "vllm.v1"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "vllm.v1.metrics", SimpleNamespace(ray_wrappers=made))
    return made


@pytest.mark.usefixtures("wrappers")
def test_vllm_logs_through_ray_where_metrics_are_wanted() -> None:
    assert are_wanted() and stat_loggers() == ["logger"]


@pytest.mark.usefixtures("wrappers")
def test_vllm_counts_nothing_where_no_metrics_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTH_METRICS")
    assert not are_wanted() and stat_loggers() is None


def test_a_part_that_is_missing_is_a_note(wrappers: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    wrappers.ray_metrics = None
    assert stat_loggers() is None
    assert "vLLM's metrics need a part of Ray that is missing: pip install '.[metrics]'" in capsys.readouterr().err


def test_a_vllm_without_such_metrics_is_a_note(
    wrappers: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm.v1.metrics", SimpleNamespace())
    assert stat_loggers() is None
    assert "vLLM has no metrics for Ray here" in capsys.readouterr().err
