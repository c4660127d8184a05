"""How busy GPUs are: asked of the driver now and then, and of no other GPU than those of the worker."""

from types import SimpleNamespace

import pytest

from synthgen.console import GpuState
from synthgen.workers import gpus
from synthgen.workers.gpus import GpuWatch


class NVMLError(Exception):
    """The error of the driver's library."""


class Driver:
    """The driver's library, with four GPUs; `calls` are those that were looked at."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.calls: list[int | str] = []
        self.is_broken = False

    def nvmlInit(self) -> None:
        if self.is_broken:
            raise NVMLError

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetMemoryInfo(self, handle: int | str) -> SimpleNamespace:
        self.calls.append(handle)
        if self.is_broken:
            raise NVMLError
        return SimpleNamespace(used=7, total=80)

    def nvmlDeviceGetUtilizationRates(self, handle: int | str) -> SimpleNamespace:
        return SimpleNamespace(gpu=97)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Return the library in place of the one that Ray brings along."""
    from ray._private import thirdparty

    fake = Driver()
    monkeypatch.setattr(thirdparty, "pynvml", fake, raising=False)
    return fake


@pytest.mark.parametrize(("visible", "looked"), [("2", [2]), ("1,3", [1, 3]), ("GPU-ab12", ["GPU-ab12"])])
def test_a_worker_looks_at_its_own_gpus(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, visible: str, looked: list[int | str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    watch = GpuWatch()
    assert watch.look() == watch.look() == (GpuState(0.97, 7, 80),) * len(looked)
    assert driver.calls == looked, "the second look is of the same seconds"


def test_a_worker_without_a_gpu_asks_no_driver(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", None):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False) if value is None else monkeypatch.setenv(
            "CUDA_VISIBLE_DEVICES", value
        )
        assert GpuWatch().look() == ()
    assert not driver.calls


def test_a_gpu_that_is_gone_or_a_driver_that_is_missing_is_no_state_and_no_error(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpus, "EVERY_SECONDS", 0.0)
    watch = GpuWatch()
    assert watch.look()
    driver.is_broken = True
    assert watch.look() == ()
    assert GpuWatch().look() == (), "the driver does not start"
