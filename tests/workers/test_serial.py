"""A worker for a function that blocks: one task at a time, and none that is not started once it drains."""

import asyncio
import threading

from synthgen.store import Receipt
from synthgen.workers import SerialWorker, Task


def test_tasks_are_done_one_at_a_time_and_those_not_started_are_given_back() -> None:
    counters, at_work, together = {"images": 0.0}, list[str](), list[int]()
    has_started, may_end = threading.Event(), threading.Event()

    def work(task: Task) -> Receipt:
        at_work.append(task.partition)
        together.append(len(at_work))
        has_started.set()
        assert may_end.wait(20)
        at_work.remove(task.partition)
        counters["images"] += 1
        return Receipt(task.partition, task.revision, {})

    async def run() -> list[Receipt | None]:
        worker = SerialWorker(work, counters)
        tasks = [asyncio.create_task(worker.do(Task(name, 1))) for name in ("p0", "p1")]
        await asyncio.to_thread(has_started.wait, 20)
        assert worker.progress() == {"images": 0.0}, "the loop answers while a task is at work"
        worker.drain()
        may_end.set()
        done = await asyncio.gather(*tasks)
        assert worker.progress() == {"images": 1.0}
        return done

    assert asyncio.run(run()) == [Receipt("p0", 1, {}), None]
    assert together == [1]
