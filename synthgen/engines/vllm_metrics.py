"""vLLM's own metrics, recorded through Ray, so that they stand beside those of the run at the same endpoints.

They are off unless SYNTH_METRICS asks for metrics: vLLM's counting takes a little of the time of each step.
"""

import os
from typing import Any

from synthgen.console import note

VARIABLE = "SYNTH_METRICS"


def are_wanted() -> bool:
    """Return whether metrics were asked for; workers have the variable from the process that started them."""
    return bool(os.environ.get(VARIABLE))


def stat_loggers() -> list[Any] | None:
    """Return what vLLM logs its statistics with; None where metrics are not wanted, or vLLM lacks what it needs."""
    if not are_wanted():
        return None
    try:
        from vllm.v1.metrics import ray_wrappers
    except ImportError as error:
        note(f"vLLM has no metrics for Ray here ({error}); those of the run are served all the same")
        return None
    if ray_wrappers.ray_metrics is None:
        note("vLLM's metrics need a part of Ray that is missing: pip install '.[metrics]'; those of the run are served")
        return None
    return [ray_wrappers.RayPrometheusStatLogger]
