"""A watch on an engine: one that answers no call any more counts as dead, although its process lives.

A health check does not see a hang (the process answers, the GPU does not), so the watch looks at replies: when none of
the calls in flight has been answered for too long, they all end with EngineDied, and another actor replaces this one. A
call's own time-out is no sign of life; an error is one, because the engine sent it. It counts the tokens of all
replies, for whoever asks how fast the engine is.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from synthgen.engines.protocol import Engine, EngineDied, Reply, Request

LOOKS = 20  # at the clock within the longest silence
COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens")


class WatchedEngine:
    """An engine whose calls end with EngineDied when it stalls."""

    def __init__(self, engine: Engine, stall_seconds: float) -> None:
        self._engine, self._longest_silence = engine, stall_seconds
        self._calls: set[asyncio.Future[Reply]] = set()
        self._answered_at = 0.0  # or when the first of the calls in flight began
        self._watch: asyncio.Task[None] | None = None
        self._death: str | None = None
        self._counters = Counter[str]()
        self.facts = engine.facts

    @property
    def counters(self) -> Mapping[str, float]:
        """The calls so far, those that failed, and the tokens that the engine counted."""
        return self._counters

    @property
    def silent_seconds(self) -> float:
        """For how long none of the calls under way was answered; 0 without one."""
        return time.monotonic() - self._answered_at if self._calls else 0.0

    async def generate(self, request: Request) -> Reply:
        """Return the engine's reply.

        Raises:
            EngineDied: The engine has died or stalled.
        """
        if self._death:
            raise EngineDied(self._death)
        if not self._calls:
            self._answered_at = time.monotonic()
            self._watch = self._watch or asyncio.create_task(self._look())
        call = asyncio.ensure_future(self._engine.generate(request))
        self._calls.add(call)
        try:
            reply = await call
        except asyncio.CancelledError:
            if self._death:
                raise EngineDied(self._death) from None
            raise
        finally:
            self._calls.discard(call)
        if reply.failure != "call_timeout":
            self._answered_at = time.monotonic()
        self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        self._counters["calls"] += 1
        self._counters["failed_calls"] += reply.failure is not None
        for name in COUNTED:
            if (tokens := getattr(reply, name)) is not None:
                self._counters[name] += tokens

    async def close(self) -> None:
        """Close the engine."""
        if self._watch:
            self._watch.cancel()
        await self._engine.close()

    async def _look(self) -> None:
        while not self._death:
            await asyncio.sleep(self._longest_silence / LOOKS)
            silence = time.monotonic() - self._answered_at
            if self._calls and silence > self._longest_silence:
                self._death = (
                    f"none of {len(self._calls)} calls was answered for {silence:.0f} s "
                    "(engine.stall_seconds sets how long to wait)"
                )
        for call in self._calls:
            call.cancel()


def counters_of(engine: Engine) -> Mapping[str, float]:
    """Return what a watched engine has counted; nothing of another."""
    return engine.counters if isinstance(engine, WatchedEngine) else {}


def silence_of(engine: Engine) -> float:
    """Return for how long a watched engine has answered none of the calls under way."""
    return engine.silent_seconds if isinstance(engine, WatchedEngine) else 0.0
