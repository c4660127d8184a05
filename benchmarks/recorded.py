"""Runs the demo's generate stage with every call recorded, and replays the calls on the same engine in other orders.

Comes in: a number of images. Goes out: seconds of the stage as `synth run` does it (Ray, fetching, decoding, commits), and
seconds of the same calls handed to the engine without it. Both happen in one actor on one engine, caches emptied in
between, so that the machine's moods touch both alike.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver import generate_with

from synthgen import run
from synthgen.config import pipeline as pipelines
from synthgen.engines import EngineInfo, Reply, Request, open_engine
from synthgen.job.job import open_job
from synthgen.job.request import RunRequest
from synthgen.stages.generate import GenerateContext, GenerateWorker
from synthgen.store import Folder, Receipt, RunFolder
from synthgen.workers import Task

REPLAY = "replay"
Order = str  # "image": an image's calls together; "stage": one kind of call over all images, then the next


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    calls: int
    images: int
    stage_seconds: float
    replay_seconds: Mapping[Order, list[float]]
    cached: Mapping[str, float]  # share of prompt tokens from the prefix cache: of the stage, of each order


class RecordingEngine:
    """The real engine, with every call noted."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.facts: EngineInfo = engine.facts
        self.calls: list[Request] = []
        self.replies: list[Reply] = []

    async def generate(self, request: Request) -> Reply:
        """The real reply."""
        reply: Reply = await self.engine.generate(request)
        self.calls.append(request)
        self.replies.append(reply)
        return reply

    async def close(self) -> None:
        """Closes the real engine."""
        await self.engine.close()


class MeasuredWorker:
    """A generating worker whose calls can be replayed."""

    def __init__(self, terms: GenerateContext, recorder: RecordingEngine, in_flight: int) -> None:
        self._worker = GenerateWorker(terms, recorder)
        self._recorder, self._in_flight = recorder, in_flight
        self._began: float | None = None
        self._ended = 0.0
        self._at_work = 0
        self._replaying = asyncio.Lock()

    def progress(self) -> Mapping[str, float]:
        """Nothing is shown."""
        return {}

    async def do(self, work: Task) -> Receipt:
        """A partition, or a replay of everything asked so far."""
        if work.partition.startswith(REPLAY):
            async with self._replaying:
                return await self._replay(work)
        self._began = self._began or time.perf_counter()
        self._at_work += 1
        receipt = await self._worker.do(work)
        self._at_work -= 1
        self._ended = time.perf_counter()
        return receipt

    async def _replay(self, work: Task) -> Receipt:
        while self._at_work:  # the last partitions are handed out beside the first replay
            await asyncio.sleep(0.01)
        order = work.partition.split("/")[1]
        calls = list(self._recorder.calls)
        await self._forget()
        started = time.perf_counter()
        replies = await replay(self._recorder.engine, calls, order, self._in_flight)
        seconds = time.perf_counter() - started
        if failed := [reply for reply in replies if reply.failure]:
            raise RuntimeError(
                f"{len(failed)} of {len(replies)} calls of the replay failed, one with: {failed[0].detail}"
            )
        stage = self._recorder.replies[: len(calls)]
        figures = {
            "replay_us": int(seconds * 1e6),
            "stage_us": int((self._ended - (self._began or 0.0)) * 1e6),
            "calls": len(calls),
        }
        figures |= {"cached_ppm": int(1e6 * cached_share(replies)), "stage_cached_ppm": int(1e6 * cached_share(stage))}
        figures["images"] = len({call.image_key for call in calls if call.image_key})
        return Receipt(work.partition, 1, {}, figures)

    async def _forget(self) -> None:
        llm = self._recorder.engine._llm
        await llm.reset_prefix_cache()
        await llm.reset_mm_cache()
        await llm.reset_encoder_cache()


async def build(terms: GenerateContext) -> MeasuredWorker:
    """Starts the engine and warms it up with a call of every shape that matters."""
    recorder = RecordingEngine(await open_engine(terms.model, terms.engine))
    await asyncio.gather(*(recorder.engine.generate(Request("ask", "warm up", 8)) for _ in range(8)))
    return MeasuredWorker(terms, recorder, terms.engine.in_flight or 16)


async def replay(engine: Any, calls: Sequence[Request], order: Order, in_flight: int) -> list[Reply]:
    """The calls in an order, as fast as the engine takes them, with the same number of images (or calls) in flight."""
    if order == "image":
        groups = _by_image(calls)
        places = asyncio.Semaphore(in_flight)
        found = await asyncio.gather(*(_conversation(engine, group, places) for group in groups))
        return [reply for replies in found for reply in replies]
    replies: list[Reply] = []
    for wave in _by_stage(calls):
        places = asyncio.Semaphore(in_flight * 4)
        replies += await asyncio.gather(*(_one(engine, call, places) for call in wave))
    return replies


async def _conversation(engine: Any, group: list[Request], places: asyncio.Semaphore) -> list[Reply]:
    async with places:
        first = await engine.generate(group[0])
        return [first, *await asyncio.gather(*(engine.generate(call) for call in group[1:]))]


async def _one(engine: Any, call: Request, places: asyncio.Semaphore) -> Reply:
    async with places:
        reply: Reply = await engine.generate(call)
        return reply


def _by_image(calls: Sequence[Request]) -> list[list[Request]]:
    """The calls of each image in the order in which they were made; calls without the image follow their neighbours."""
    groups: dict[str, list[Request]] = {}
    last = ""
    for call in calls:
        last = call.image_key or last
        groups.setdefault(last, []).append(call)
    return list(groups.values())


def _by_stage(calls: Sequence[Request]) -> list[list[Request]]:
    """The k-th call of every image, for k from the first on: what a tool does that finishes a stage before the next."""
    rows = itertools.zip_longest(*_by_image(calls))
    return [[call for call in row if call is not None] for row in rows]


def cached_share(replies: Sequence[Reply]) -> float:
    """The share of prompt tokens that came from the prefix cache."""
    return sum(reply.cached_tokens for reply in replies) / max(1, sum(reply.prompt_tokens for reply in replies))


def measure(images: int, orders: Sequence[Order], overrides: Sequence[str] = ()) -> Figures:
    """Tags and plans demo images, then measures generate and the replays of its calls."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = pipelines.load("demo", ["generate.engine.in_flight=16", *overrides])
        job = open_job(Folder(str(Path(folder) / "out")), pipeline)
        run.run(RunFolder(job.out), job, RunRequest(limit=images), run.StageRange("tag", "plan"))
        replays = [Task(f"{REPLAY}/{order}/{turn}", 1) for turn in range(2) for order in orders]
        receipts = [receipt for receipt in generate_with(build, job, replays) if receipt.partition.startswith(REPLAY)]
    return _figures(receipts, orders)


def _figures(receipts: Sequence[Receipt], orders: Sequence[Order]) -> Figures:
    counts = receipts[0].counts
    seconds = {
        order: [one.counts["replay_us"] / 1e6 for one in receipts if f"/{order}/" in one.partition] for order in orders
    }
    cached = {
        order: next(one.counts["cached_ppm"] for one in receipts if f"/{order}/" in one.partition) / 1e6
        for order in orders
    }
    cached["stage_as_run"] = counts["stage_cached_ppm"] / 1e6
    return Figures(counts["calls"], counts["images"], counts["stage_us"] / 1e6, seconds, cached)
