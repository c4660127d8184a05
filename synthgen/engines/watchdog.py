"""A watch on an engine: one that answers nothing any more is dead, though its process lives.

Comes in: an engine. Goes out: the same engine, whose calls end with EngineDied once none of those in flight has been answered
for too long; its actor then dies and another takes its place. A health check sees no hang (the process answers, the GPU does
not), so what is watched is replies. A call's own time-out is no answer; an error is one, for it comes from somebody.
"""

import asyncio
import time

from synthgen.engines import Engine, EngineDied, Reply, Request

LOOKS = 20  # at the clock in the time that an engine is given


class WatchedEngine:
    """An engine that is not waited for in vain."""

    def __init__(self, engine: Engine, stall_seconds: float) -> None:
        self._engine, self._limit = engine, stall_seconds
        self._calls: set[asyncio.Future[Reply]] = set()
        self._answered_at = 0.0  # or when the first of the calls in flight began
        self._watch: asyncio.Task[None] | None = None
        self._died: str | None = None
        self.facts = engine.facts

    async def generate(self, request: Request) -> Reply:
        """The engine's reply; EngineDied if it has died or stalled."""
        if self._died:
            raise EngineDied(self._died)
        if not self._calls:
            self._answered_at = time.monotonic()
            self._watch = self._watch or asyncio.create_task(self._look())
        call = asyncio.ensure_future(self._engine.generate(request))
        self._calls.add(call)
        try:
            reply = await call
        except asyncio.CancelledError:
            if self._died:
                raise EngineDied(self._died) from None
            raise
        finally:
            self._calls.discard(call)
        if reply.failure != "call_timeout":
            self._answered_at = time.monotonic()
        return reply

    async def close(self) -> None:
        """Closes the engine."""
        if self._watch:
            self._watch.cancel()
        await self._engine.close()

    async def _look(self) -> None:
        while not self._died:
            await asyncio.sleep(self._limit / LOOKS)
            silent = time.monotonic() - self._answered_at
            if self._calls and silent > self._limit:
                self._died = (
                    f"none of {len(self._calls)} calls was answered for {silent:.0f} s "
                    "(generate.engine.stall_seconds says how long to wait)"
                )
        for call in self._calls:
            call.cancel()
