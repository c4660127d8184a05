"""How busy the GPUs of a worker are, by the driver's own library, which Ray brings along."""

import os
import time
from typing import Any

from synthgen.console import GpuState

EVERY_SECONDS = 5.0  # between two looks, which take the driver a few milliseconds


class GpuWatch:
    """Looks at the GPUs of this process, an actor; without one, or without the driver, it sees none."""

    def __init__(self) -> None:
        self._seen: tuple[GpuState, ...] = ()
        self._looked = -EVERY_SECONDS
        self._nvml = _nvml() if os.environ.get("CUDA_VISIBLE_DEVICES") else None

    def look(self) -> tuple[GpuState, ...]:
        """Return their state, of a few seconds ago at most."""
        if self._nvml and time.monotonic() - self._looked >= EVERY_SECONDS:
            self._looked = time.monotonic()
            try:
                self._seen = tuple(_state(self._nvml, name) for name in _names())
            except self._nvml.NVMLError:  # a GPU that fell off the bus is for the engine to report
                self._seen = ()
        return self._seen


def _nvml() -> Any:
    """Return the library, ready to be asked; None where there is no driver."""
    from ray._private.thirdparty import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _names() -> list[str]:
    return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]


def _state(nvml: Any, name: str) -> GpuState:
    by_name = nvml.nvmlDeviceGetHandleByIndex if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID
    handle = by_name(int(name) if name.isdecimal() else name)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return GpuState(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, int(memory.used), int(memory.total))
