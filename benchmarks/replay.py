"""The generate stage with every call recorded, and the same calls replayed on the same engine in other orders.

Measures the seconds of the stage as `synth run` does it (Ray, fetching, decoding, commits), and of the same calls
handed to the engine without it. Both happen in one actor on one engine, caches emptied in between, so that other load
on the machine meets both alike.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driver import generate_with

from synthgen import run
from synthgen.config import pipeline as pipelines
from synthgen.config.engine import EngineConfig
from synthgen.config.pipeline import Pipeline
from synthgen.engines import EngineInfo, ModelName, Reply, Request, open_engine
from synthgen.engines.recorder import Recorder
from synthgen.engines.scripted import ScriptedEngine
from synthgen.job.job import open_job
from synthgen.job.request import RunRequest
from synthgen.stages.generate import GenerateContext, GenerateWorker
from synthgen.store import Folder, Receipt, RunFolder
from synthgen.workers import Task

REPLAY = "replay"
USUAL_TOKENS = {"ask": 90, "answer": 70, "sample": 70}  # of a reply; asked.py plans 52 words an answer
Order = str  # "image": an image's calls together; "stage": one kind of call over all images, then the next


@dataclass(frozen=True)
class Figures:
    """The figures of one measurement."""

    calls: int
    images: int
    stage_seconds: float
    replay_seconds: Mapping[Order, list[float]]
    cached: Mapping[str, float]  # share of prompt tokens from the prefix cache, of the stage and of each order


class MeasuredWorker:
    """A generating worker whose calls can be replayed."""

    def __init__(self, context: GenerateContext, engine: Any, in_flight: int) -> None:
        self._engine, self._recorder, self._in_flight = engine, Recorder(engine), in_flight
        self._worker = GenerateWorker(context, self._recorder)
        self._began: float | None = None
        self._ended = 0.0
        self._running = 0
        self._replaying = asyncio.Lock()

    def progress(self) -> Mapping[str, float]:
        """Return nothing to show."""
        return {}

    def drain(self) -> None:
        """Start no image any more; a replay that runs is finished."""
        self._worker.drain()

    async def do(self, task: Task) -> Receipt | None:
        """Do a partition, or replay everything asked so far."""
        if task.partition.startswith(REPLAY):
            async with self._replaying:
                return await self._replay(task)
        self._began = self._began or time.perf_counter()
        self._running += 1
        receipt = await self._worker.do(task)
        self._running -= 1
        self._ended = time.perf_counter()
        return receipt

    async def _replay(self, task: Task) -> Receipt:
        while self._running:  # the last partitions are handed out beside the first replay
            await asyncio.sleep(0.01)
        order = task.partition.split("/")[1]
        calls = [request for request, _ in self._recorder.calls]
        await self._empty_caches()
        started = time.perf_counter()
        replies = await replay(self._engine, calls, order, self._in_flight)
        seconds = time.perf_counter() - started
        if failed := [reply for reply in replies if reply.failure]:
            raise RuntimeError(
                f"{len(failed)} of {len(replies)} calls of the replay failed, one with: {failed[0].detail}"
            )
        stage = [reply for _, reply in self._recorder.calls]
        figures = {
            "replay_us": int(seconds * 1e6),
            "stage_us": int((self._ended - (self._began or 0.0)) * 1e6),
            "calls": len(calls),
        }
        figures |= {"cached_ppm": int(1e6 * cached_share(replies)), "stage_cached_ppm": int(1e6 * cached_share(stage))}
        figures["images"] = len({call.image_key for call in calls if call.image_key})
        return Receipt(task.partition, 1, {}, figures)

    async def _empty_caches(self) -> None:
        llm = self._engine.wrapped._llm
        await llm.reset_prefix_cache()
        await llm.reset_mm_cache()
        await llm.reset_encoder_cache()


class Spoken:
    """An engine that does a model's work and says what the scripted engine says, for models with random weights.

    Their own words would be no questions, so that no answer would be asked for.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._script = ScriptedEngine(ModelName("scripted", ""), EngineConfig(kind="scripted"))
        self.facts: EngineInfo = engine.facts
        self.wrapped = engine.wrapped

    async def generate(self, request: Request) -> Reply:
        """Generate as many tokens as such a call usually takes; return them as the scripted engine's words."""
        most = min(request.max_tokens, USUAL_TOKENS.get(request.purpose, request.max_tokens))
        reply: Reply = await self._engine.generate(replace(request, max_tokens=most))
        if reply.failure:
            return reply
        said = await self._script.generate(request)
        return replace(reply, text=said.text, labels=said.labels, finish="stop", reasoning="", whole="")

    async def close(self) -> None:
        """Close the model's engine."""
        await self._engine.close()


async def build_spoken(context: GenerateContext) -> MeasuredWorker:
    """Start an engine whose words are the scripted engine's."""
    return await build(context, is_spoken=True)


async def build(context: GenerateContext, is_spoken: bool = False) -> MeasuredWorker:
    """Start the engine and warm it up."""
    engine: Any = await open_engine(context.model, context.engine)
    engine = Spoken(engine) if is_spoken else engine
    await asyncio.gather(*(engine.generate(Request("ask", "warm up", 8)) for _ in range(8)))
    return MeasuredWorker(context, engine, context.engine.in_flight or 16)


async def replay(engine: Any, calls: Sequence[Request], order: Order, in_flight: int) -> list[Reply]:
    """Make the calls in an order, as fast as the engine takes them, with so many images in flight."""
    if order == "image":
        places = asyncio.Semaphore(in_flight)
        conversations = await asyncio.gather(*(_conversation(engine, group, places) for group in _by_image(calls)))
        return [reply for replies in conversations for reply in replies]
    replies: list[Reply] = []
    for wave in _by_stage(calls):
        places = asyncio.Semaphore(in_flight * 4)
        replies += await asyncio.gather(*(_generate(engine, call, places) for call in wave))
    return replies


async def _conversation(engine: Any, group: list[Request], places: asyncio.Semaphore) -> list[Reply]:
    async with places:
        first = await engine.generate(group[0])
        return [first, *await asyncio.gather(*(engine.generate(call) for call in group[1:]))]


async def _generate(engine: Any, call: Request, places: asyncio.Semaphore) -> Reply:
    async with places:
        reply: Reply = await engine.generate(call)
        return reply


def _by_image(calls: Sequence[Request]) -> list[list[Request]]:
    """Return the calls of each image in the order they were made; calls without an image follow their predecessors."""
    groups: dict[str, list[Request]] = {}
    last = ""
    for call in calls:
        last = call.image_key or last
        groups.setdefault(last, []).append(call)
    return list(groups.values())


def _by_stage(calls: Sequence[Request]) -> list[list[Request]]:
    """Return the first call of every image, then the second of every image, and so on."""
    rows = itertools.zip_longest(*_by_image(calls))
    return [[call for call in row if call is not None] for row in rows]


def cached_share(replies: Sequence[Reply]) -> float:
    """Return the share of prompt tokens that came from the prefix cache."""
    cached, prompt = (
        sum(getattr(reply, name) or 0 for reply in replies) for name in ("cached_tokens", "prompt_tokens")
    )
    return float(cached / max(1, prompt))


def measure(pipeline: Pipeline, images: int, orders: Sequence[Order], is_spoken: bool = False) -> Figures:
    """Tag and plan images, then measure generate and the replays of its calls.

    Args:
        pipeline: Names the images and the model.
        images: How many images, at most.
        orders: The orders in which the calls are replayed.
        is_spoken: The model has random weights: it does its work, and the scripted engine says the words.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = open_job(Folder(str(Path(folder) / "out")), pipeline)
        run.run(RunFolder(job.out), job, RunRequest(limit=images), run.StageRange("tag", "plan"))
        replays = [Task(f"{REPLAY}/{order}/{turn}", 1) for turn in range(2) for order in orders]
        worker = build_spoken if is_spoken else build
        receipts = [receipt for receipt in generate_with(worker, job, replays) if receipt.partition.startswith(REPLAY)]
    return _figures(receipts, orders)


def demo(*overrides: str) -> Pipeline:
    """Return the demo's pipeline with sixteen images in flight and some settings changed."""
    return pipelines.load("demo", ["generate.engine.in_flight=16", "score={}", "select.keep={}", *overrides])


def _figures(receipts: Sequence[Receipt], orders: Sequence[Order]) -> Figures:
    counts = receipts[0].counts
    seconds: dict[Order, list[float]] = {}
    cached: dict[str, float] = {}
    for order in orders:
        of_order = [receipt.counts for receipt in receipts if f"/{order}/" in receipt.partition]
        seconds[order] = [figures["replay_us"] / 1e6 for figures in of_order]
        cached[order] = of_order[0]["cached_ppm"] / 1e6
    cached["stage_as_run"] = counts["stage_cached_ppm"] / 1e6
    return Figures(counts["calls"], counts["images"], counts["stage_us"] / 1e6, seconds, cached)
