"""Small workers that do what the plot of a test says, and die where it says so; and the Ray that they run on."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from synthgen.models import EngineDied
from synthgen.store import DataFile, Receipt, TablePart
from synthgen.workers import Work, leave_ray

ALL = tuple("abcdefgh")


@dataclass(frozen=True)
class Plot:
    """What a worker of these tests does: which images kill it, how."""

    poison: tuple[str, ...] = ()
    how: str = "exit"
    where: tuple[str, ...] = ("p0",)
    trace: str = ""  # a folder; each try leaves a file there


class Doer:
    """Writes nothing; its receipts name what it did."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    async def do(self, work: Work) -> Receipt:
        images = work.only or ALL
        if self._plot.trace:
            (Path(self._plot.trace) / f"{work.partition}-{''.join(images)}-{time.monotonic_ns()}").touch()
        if not work.poison and work.partition in self._plot.where and set(images) & set(self._plot.poison):
            await die(self._plot.how)
        file = DataFile(f"{'poison' if work.poison else 'done'} {''.join(images)} {work.why}", len(images), 0, "")
        return Receipt(work.partition, work.revision, {"rows": TablePart((file,), "")}, {"done": len(images)}, {"read": "all"})

    def progress(self) -> Mapping[str, float]:
        return {}

    def drain(self) -> None:
        """Nothing takes long here."""


async def die(how: str) -> None:
    if how == "exit":
        os._exit(1)
    if how == "memory":
        raise MemoryError
    if how == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
        await asyncio.sleep(3600)  # another of its threads may take the signal, a moment later
    raise EngineDied(how)


async def build(plot: Plot) -> Doer:
    return Doer(plot)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for this file, which finds this module in its workers."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    yield
    leave_ray()
