"""A worker for a function that blocks: it runs in a thread, one task after the other, beside the loop of the actor."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from synthgen.store import Receipt


class SerialWorker:
    """A worker that does a blocking function for one task at a time.

    Args:
        work: Does a task.
        counters: They only grow: `work` adds to them, in its thread, and all their names are there from the start.
    """

    def __init__(self, work: Callable[[Any], Receipt], counters: Mapping[str, float]) -> None:
        self._work, self._counters = work, counters
        self._one_at_a_time = asyncio.Lock()
        self._is_draining = False

    async def do(self, task: Any) -> Receipt | None:
        """Do a task. Another one waits: two at once would share the same cores and take twice the memory."""
        async with self._one_at_a_time:
            return None if self._is_draining else await asyncio.to_thread(self._work, task)

    def progress(self) -> Mapping[str, float]:
        """Return the counters."""
        return dict(self._counters)

    def drain(self) -> None:
        """Give back the tasks that are not started; a started one is finished."""
        self._is_draining = True
