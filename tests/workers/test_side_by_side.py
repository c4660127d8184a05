"""Pools side by side: which fit on a cluster together, and that their workers are at work at the same time.

Real Ray; the workers only sleep, and write down when.
"""

import asyncio
import itertools
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.errors import JobFailing, Stopped
from synthgen.store import Receipt
from synthgen.workers import PoolSpec, PoolWork, StopSignals, Task, do_fit, rounds_of, run_pools
from tests.fixtures.scripted_workers import ALL, Script
from tests.fixtures.scripted_workers import build as build_scripted

SECONDS = 0.9  # of a task; a pool looks at its workers at least each half second
Interval = tuple[float, float]


class SleepingWorker:
    """A worker that sleeps, and notes from when to when."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    async def do(self, task: Task) -> Receipt:
        """Sleep."""
        began = time.monotonic()
        await asyncio.sleep(SECONDS)
        (self._trace / task.partition).write_text(f"{began} {time.monotonic()}")
        return Receipt(task.partition, task.revision, {})

    def progress(self) -> Mapping[str, float]:
        """Return no counters."""
        return {}

    def drain(self) -> None:
        """Do nothing: no task takes long."""


async def build(trace: Path) -> SleepingWorker:
    """Build a worker in its actor."""
    return SleepingWorker(trace)


def work(name: str, trace: Path, tasks: int = 4) -> PoolWork:
    """Return a pool of one worker and its tasks."""
    spec = PoolSpec(build, trace, lambda task: ALL, size=1, cpus=0.5)
    return PoolWork(spec, [Task(f"{name}{number}", 1) for number in range(tasks)], lambda counters: None)


def intervals(trace: Path, name: str) -> list[Interval]:
    times = (path.read_text().split() for path in trace.glob(f"{name}*"))
    return sorted((float(began), float(ended)) for began, ended in times)


def do_overlap(first: Sequence[Interval], second: Sequence[Interval]) -> bool:
    return any(
        began < other_ended and other_began < ended for began, ended in first for other_began, other_ended in second
    )


def test_the_workers_of_two_pools_are_at_work_at_the_same_time_and_nothing_is_lost(tmp_path: Path) -> None:
    receipts = list(run_pools([work("a", tmp_path), work("b", tmp_path, 6)], StopSignals()))
    assert sorted(receipt.partition for receipt in receipts) == [
        *(f"a{number}" for number in range(4)),
        *(f"b{number}" for number in range(6)),
    ]
    assert do_overlap(intervals(tmp_path, "a"), intervals(tmp_path, "b"))


def test_a_signal_ends_both_pools_after_their_started_tasks(tmp_path: Path) -> None:
    signals, done = StopSignals(), list[str]()
    with pytest.raises(Stopped):
        for receipt in run_pools([work("a", tmp_path, 40), work("b", tmp_path, 40)], signals):
            done.append(receipt.partition)
            if {name[0] for name in done} == {"a", "b"} and signals.received is None:
                signals.handle(signal.SIGTERM, None)
    assert len(done) < 80, "nothing new was started"


def test_a_pool_whose_workers_only_die_ends_the_other_too(tmp_path: Path) -> None:
    partitions = tuple(f"p{number}" for number in range(9))
    spec = PoolSpec(build_scripted, Script(ALL, "no more", partitions), lambda task: ALL, size=1, cpus=0.5)
    dying = PoolWork(spec, [Task(name, 1) for name in partitions], lambda counters: None)
    with pytest.raises(JobFailing, match="workers died one after the other"):
        list(run_pools([dying, work("b", tmp_path, 400)], StopSignals()))


def pool(gpus: float, size: int = 1, cpus: float = 1) -> PoolSpec:
    return PoolSpec(build, None, lambda task: (), size, cpus, gpus)


def node(gpus: float, cpus: float = 16) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": 1.0}


@pytest.mark.parametrize(
    ("specs", "nodes", "rounds"),
    [
        ([pool(1), pool(1)], [node(1)], [[0], [1]]),
        ([pool(1), pool(1)], [node(2)], [[0, 1]]),
        ([pool(1), pool(1)], [node(1), node(1)], [[0, 1]]),
        ([pool(2), pool(1)], [node(1), node(2)], [[0, 1]]),
        ([pool(2), pool(1)], [node(1), node(1)], [[0], [1]]),
        ([pool(1, 4), pool(1, 4), pool(1, 4)], [node(8)], [[0, 1], [2]]),
        ([pool(0), pool(1), pool(0)], [node(1)], [[0, 1, 2]]),
        ([pool(0), pool(0)], [node(0, 1)], [[0], [1]]),
        ([pool(0.5), pool(0.5)], [node(8)], [[0], [1]]),
        ([pool(0.5), pool(0)], [node(1)], [[0, 1]]),
        ([pool(8)], [node(1)], [[0]]),
        ([], [node(1)], []),
    ],
)
def test_pools_that_fit_together_share_a_round_and_no_two_share_a_gpu(
    specs: list[PoolSpec], nodes: list[dict[str, float]], rounds: list[list[int]]
) -> None:
    assert rounds_of(specs, nodes) == rounds


pools = st.builds(pool, st.sampled_from([0, 0.5, 1, 2]), st.integers(1, 3), st.sampled_from([0, 1, 2]))


@given(st.lists(pools, max_size=5), st.lists(st.builds(node, st.integers(0, 4), st.integers(1, 8)), min_size=1))
def test_every_pool_has_one_round_in_order_and_rounds_of_several_fit(
    specs: list[PoolSpec], nodes: list[dict[str, float]]
) -> None:
    rounds = rounds_of(specs, nodes)
    assert list(itertools.chain.from_iterable(rounds)) == list(range(len(specs)))
    for together in rounds:
        assert len(together) == 1 or do_fit([specs[number] for number in together], nodes)
        gpus = sum((specs[number].gpus or 0) * specs[number].size for number in together)
        cpus = sum(specs[number].cpus * specs[number].size for number in together)
        assert len(together) == 1 or gpus <= sum(each["GPU"] for each in nodes)
        assert len(together) == 1 or cpus <= sum(each["CPU"] for each in nodes)
