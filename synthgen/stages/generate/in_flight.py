"""Conversations in flight: as many at once as the engine's KV cache has room for, each about one image.

Images are fetched again, verified against their id and sized for the model. With more images in flight than the cache
holds, each call finds its image evicted and pays for it again. The images of the next task are fetched while this one
is talked about, so the engine never drains.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from synthgen.config.engine import EngineConfig
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.engines import JOB_ERRORS, Engine, Request
from synthgen.errors import Failure, code_failure
from synthgen.ingest import load
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.sources import ref_of
from synthgen.stages.generate.admission import HostBudget, image_bytes
from synthgen.stages.memory import MEGABYTE, QUEUED_IMAGES
from synthgen.workers.task import FINISH_SECONDS

KV_SHARE = 0.8  # of the KV cache that conversations may fill
CALLS_AT_ONCE = 2.0  # of one conversation, on average: the ask alone, then the answers side by side
DEFAULT_IN_FLIGHT = 16  # conversations, where the engine reports neither its KV cache nor its batch

Row = dict[str, Any]
Loaded = Decoded | Failure  # with one of FAILURE_REASONS
Queue = asyncio.Queue[tuple[str, Loaded | None]]  # object id and image; None after the last
Converse = Callable[[str, Decoded], Awaitable[None]]  # holds the conversation about the image of an object
Fail = Callable[[str, Failure], None]  # records that the image of an object cannot be loaded
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """The settings of images and engine that bound the conversations of a worker.

    Attributes:
        probe: A call that, with an image, has as many prompt tokens as a conversation has in common.
        longest: Most tokens of one of its replies.
    """

    source: SourceConfig
    images: ImagesConfig
    engine: EngineConfig
    probe: Request
    longest: int


@dataclass
class _Turn:
    """The images of one task."""

    rows: Mapping[str, Row]
    converse: Converse
    fail: Fail
    is_whole: bool = True  # False once an image was given back
    is_over: bool = False  # True once nobody takes an image any more


class ImagesInFlight:
    """A pool of decoders, and the places that conversations with an engine wait for."""

    def __init__(self, limits: Limits, engine: Engine) -> None:
        self._limits, self._engine = limits, engine
        self._decoder: DecoderPool[str] = DecoderPool(limits.images, processes=1)
        self._decoding = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._places: asyncio.Semaphore | None = None
        self.room = 0  # conversations that may run at once; known from the first image on
        self.count = 0  # conversations that run now
        self._host = HostBudget(limits.engine.host_megabytes * MEGABYTE)
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Start no conversation any more; those in flight have FINISH_SECONDS."""
        self._draining.set()

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()

    async def converse(self, rows: Mapping[str, Row], converse: Converse, fail: Fail) -> bool:
        """Start a conversation for each image as soon as it is loaded and there is a place for it.

        Args:
            rows: Object id → row of PLANNED_IMAGES.
            converse: Holds a conversation; what it raises ends the others.
            fail: Records an image that cannot be loaded.

        Returns:
            Whether no image was given back.
        """
        turn = _Turn(rows, converse, fail)
        running: set[asyncio.Task[None]] = set()
        queue: Queue = asyncio.Queue(maxsize=QUEUED_IMAGES)
        fetching = asyncio.create_task(self._fetch(turn, queue))
        asking = asyncio.create_task(self._start_each(turn, queue, running))
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                turn.is_whole, turn.is_over = False, True
                fetching.cancel()
                await asyncio.wait({asking}, timeout=FINISH_SECONDS)
            if asking.done():
                await asking
            if turn.is_whole:
                await fetching
        finally:
            turn.is_over = True
            for coroutine in (fetching, asking, draining, *running):
                coroutine.cancel()
        return turn.is_whole

    async def _start_each(self, turn: _Turn, queue: Queue, running: "set[asyncio.Task[None]]") -> None:
        """Start conversations until the last image, or until no new ones are wanted or one found the engine dead."""
        while (item := await queue.get())[1] is not None:
            if any(conversing.done() and conversing.exception() for conversing in running):
                break
            object_id, loaded = item
            if isinstance(loaded, Decoded):
                await (await self._places_for(loaded)).acquire()
                await self._host.take(_bytes_of(loaded))
                if not turn.is_whole:
                    break
                running.add(asyncio.create_task(self._hold(turn, object_id, loaded)))
            elif loaded is not None:
                turn.fail(object_id, loaded)
        await asyncio.gather(*running)

    async def _hold(self, turn: _Turn, object_id: str, loaded: Decoded) -> None:
        self.count += 1
        try:
            await turn.converse(object_id, loaded)
        finally:
            self.count -= 1
            (await self._places_for(loaded)).release()
            await self._host.give(_bytes_of(loaded))

    async def _fetch(self, turn: _Turn, queue: Queue) -> None:
        """Fetch, verify and decode the images of a task, a few ahead of the conversations."""
        loop = asyncio.get_running_loop()

        def put(object_id: str, loaded: Loaded) -> None:
            asyncio.run_coroutine_threadsafe(queue.put((object_id, loaded)), loop).result()

        try:
            async with self._decoding:
                await asyncio.to_thread(self._load, turn, put)
        finally:
            await queue.put(("", None))

    def _load(self, turn: _Turn, put: Callable[[str, Loaded], None]) -> None:
        refs = [ref_of(row) for row in turn.rows.values()]
        image_ids = {object_id: row["image_id"] for object_id, row in turn.rows.items()}
        for loaded in load.load_images(refs, self._limits.source, self._decoder, expected_ids=image_ids):
            if turn.is_over:
                return
            put(loaded.object_id, _asking_failure(loaded) if isinstance(loaded.image, Failure) else loaded.image)

    async def _places_for(self, first: Decoded) -> asyncio.Semaphore:
        """Return the places for conversations: measured once, with the first image, by its share of the KV cache."""
        async with self._measuring:
            if self._places is None:
                self.room = self._limits.engine.in_flight or await self._room(first)
                self._places = asyncio.Semaphore(self.room)
        return self._places

    async def _room(self, first: Decoded) -> int:
        facts = self._engine.facts
        if facts.kv_tokens is None:
            return facts.sequences or DEFAULT_IN_FLIGHT
        image, *more = first.images
        reply = await self._engine.generate(replace(self._limits.probe, image=image, more=tuple(more)))
        tokens = (reply.prompt_tokens or 0) + CALLS_AT_ONCE * self._limits.longest
        room = int(KV_SHARE * facts.kv_tokens / max(1.0, tokens))
        # Beyond one conversation for each sequence of a batch, more of them only wait, with their images in memory.
        return max(1, min(room, facts.sequences or room))


def _bytes_of(loaded: Decoded) -> int:
    return sum(map(image_bytes, loaded.images))


def probe_of(system: str | None) -> Request:
    """Return the shortest call with a system text."""
    return Request("ask", ".", 1, system=system)


async def or_failed(conversing: Awaitable[Result], failed: Callable[[Failure], Result]) -> Result:
    """Return the result of a conversation; an exception that nothing foresaw costs its rows and no other.

    Raises:
        EngineDied: The engine can serve no further call; so do other errors that no image is to blame for.
    """
    try:
        return await conversing
    except JOB_ERRORS:
        raise
    except Exception as error:
        return failed(code_failure(error))


def _asking_failure(loaded: load.LoadedImage) -> Failure:
    """Return why an image cannot be asked about, as one of FAILURE_REASONS; of a fetch, the detail stays as it was."""
    failure = loaded.image
    assert isinstance(failure, Failure)
    if failure.reason == "changed":
        return Failure("image_changed", failure.detail)
    return Failure("image_unreadable", str(failure) if loaded.image_id else failure.detail)
