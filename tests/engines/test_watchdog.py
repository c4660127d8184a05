"""What a watch counts of an engine, for whoever asks how fast it is and whether it answers."""

import asyncio

import pytest

from synthgen.engines import Engine, EngineInfo, Reply, Request
from synthgen.engines.watchdog import WatchedEngine, counters_of, silence_of
from synthgen.errors import Failure

REPLIES = {
    "full": Reply("x", prompt_tokens=100, cached_tokens=60, output_tokens=7),
    "uncounted": Reply("x", prompt_tokens=None, cached_tokens=None, output_tokens=3),
    "failed": Reply.failed(Failure("call_failed", "no")),
}


class Answering:
    """An engine that answers by the text of a request, and one text only once it may."""

    facts = EngineInfo("m", "r", frozenset(), None, "v")

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def generate(self, request: Request) -> Reply:
        if request.text == "late":
            await self.may_answer.wait()
            return REPLIES["full"]
        return REPLIES[request.text]

    async def close(self) -> None:
        """Do nothing."""


def asked(text: str) -> Request:
    return Request("ask", text, 1)


def test_it_counts_calls_failures_and_the_tokens_that_the_engine_counts() -> None:
    async def ask() -> dict[str, float]:
        watched = WatchedEngine(Answering(), 60.0)
        for text in ("full", "uncounted", "failed"):
            await watched.generate(asked(text))
        await watched.close()
        return dict(counters_of(watched))

    assert asyncio.run(ask()) == {
        "calls": 3, "failed_calls": 1, "prompt_tokens": 100, "cached_tokens": 60, "output_tokens": 10
    }  # fmt: skip


def test_an_engine_is_silent_from_its_last_answer_on_and_only_while_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> list[float]:
        now = [100.0]
        monkeypatch.setattr("synthgen.engines.watchdog.time.monotonic", lambda: now[0])
        inner = Answering()
        watched = WatchedEngine(inner, 60.0)
        silences = [silence_of(watched)]
        waiting = asyncio.create_task(watched.generate(asked("late")))
        await asyncio.sleep(0)
        now[0] = 120.0
        silences.append(silence_of(watched))
        await watched.generate(asked("full"))
        now[0] = 125.0
        silences.append(silence_of(watched))
        inner.may_answer.set()
        await waiting
        now[0] = 300.0
        silences.append(silence_of(watched))
        await watched.close()
        return silences

    assert asyncio.run(ask()) == [0.0, 20.0, 5.0, 0.0]


def test_an_engine_without_a_watch_counts_nothing() -> None:
    async def look() -> tuple[dict[str, float], float]:
        engine: Engine = Answering()
        return dict(counters_of(engine)), silence_of(engine)

    assert asyncio.run(look()) == ({}, 0.0)
