"""The worker of an evaluation: an engine, and the calls about the images of a partition, side by side."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from PIL.Image import Image

from synthgen.commands.evaluate.replies import BLIND, REPLIES, Call, Evaluation, Row, reply_row
from synthgen.engines import JOB_ERRORS, Engine, Reply, Request
from synthgen.errors import Failure, code_failure
from synthgen.ingest.images import DecoderPool
from synthgen.stages.generate.engine_worker import open_watched, poison_failure
from synthgen.store import Receipt, TablePart
from synthgen.tables import table
from synthgen.workers import Task
from synthgen.workers.task import FINISH_SECONDS

IMAGES_AT_ONCE = 16  # where the engine does not say how many sequences it serves


async def build(evaluation: Evaluation) -> "EvaluationWorker":
    """Start the engine where the worker is."""
    return EvaluationWorker(evaluation, await open_watched(evaluation.model, evaluation.engine))


class EvaluationWorker:
    """An engine, and the calls that are under way."""

    def __init__(self, evaluation: Evaluation, engine: Engine) -> None:
        self._evaluation, self._engine = evaluation, engine
        self._decoder: DecoderPool[str] = DecoderPool(evaluation.images, processes=1)
        self._decoding = asyncio.Lock()
        self._places = asyncio.Semaphore(evaluation.engine.in_flight or engine.facts.sequences or IMAGES_AT_ONCE)
        self._draining = asyncio.Event()
        self._counters: Counter[str] = Counter()

    def progress(self) -> Mapping[str, float]:
        """Return the replies so far, and those that failed."""
        return dict(self._counters)

    def drain(self) -> None:
        """Start no image any more; calls under way have FINISH_SECONDS."""
        self._draining.set()

    def close(self) -> None:
        """End the processes that decode; those of an actor end with it."""
        self._decoder.close()

    async def do(self, task: Task) -> Receipt | None:
        """Make the pending calls of a partition; return None if it is given back with nothing done."""
        calls, rows = await asyncio.to_thread(self._evaluation.pending, task), list[Row]()
        if task.poison:
            rows = [self._row(call, Reply.failed(poison_failure(task))) for call in calls]
        else:
            await self._ask_all(task, calls, rows)
        if not rows and task.only is None:
            return None
        return await asyncio.to_thread(self._receipt, task, rows)

    async def _ask_all(self, task: Task, calls: Sequence[Call], rows: list[Row]) -> None:
        """Make calls image by image, as places come free, and add their rows."""
        images = await self._decode(task.partition, calls)
        asking = [
            asyncio.create_task(self._ask_image(list(own), images, rows))
            for _, own in groupby(calls, key=lambda call: call.question.image_id)
        ]
        draining = asyncio.create_task(self._draining.wait())
        whole = asyncio.ensure_future(asyncio.gather(*asking))
        try:
            waiting: list[asyncio.Future[Any]] = [whole, draining]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not whole.done():
                await asyncio.wait([whole], timeout=FINISH_SECONDS)
            if whole.done():
                await whole
        finally:
            for coroutine in (draining, *asking):
                coroutine.cancel()

    async def _ask_image(self, calls: Sequence[Call], images: Mapping[str, Image | Failure], rows: list[Row]) -> None:
        async with self._places:
            if self._draining.is_set():
                return
            for asked in asyncio.as_completed([self._ask(call, images) for call in calls]):
                rows.append(await asked)

    async def _ask(self, call: Call, images: Mapping[str, Image | Failure]) -> Row:
        shown = None if call.variant == BLIND else images[call.partner or call.question.image_id]
        if isinstance(shown, Failure):
            return self._row(call, Reply.failed(shown))
        key = f"{(call.partner or call.question.image_id)[:32]}-{self._evaluation.images.model_pixels}"
        prompt, most = self._evaluation.prompt(call), self._evaluation.settings.max_tokens
        request = Request("answer", prompt, most, shown, key if shown is not None else None)
        try:
            return self._row(call, await self._engine.generate(request))
        except JOB_ERRORS:
            raise
        except Exception as error:
            return self._row(call, Reply.failed(code_failure(error)))

    async def _decode(self, partition: str, calls: Sequence[Call]) -> dict[str, Image | Failure]:
        """Return the images that calls show, as models see them."""
        wanted = {call.partner or call.question.image_id for call in calls if call.variant != BLIND}
        async with self._decoding:
            return await asyncio.to_thread(self._decoded, partition, wanted)

    def _decoded(self, partition: str, wanted: set[str]) -> dict[str, Image | Failure]:
        files = self._evaluation.questions.files(partition)
        decoded = self._decoder.decode_many((image, files[image]) for image in sorted(wanted))
        return {
            key: Failure("image_unreadable", str(found)) if isinstance(found, Failure) else found.image
            for key, found in decoded
        }

    def _row(self, call: Call, reply: Reply) -> Row:
        self._counters["replies"] += 1
        self._counters["failed"] += reply.failure is not None
        return reply_row(call, self._evaluation.prompt(call), reply)

    def _receipt(self, task: Task, rows: list[Row]) -> Receipt:
        stage = self._evaluation.replies
        ordered = table(sorted(rows, key=lambda row: str(row["reply_id"])), REPLIES)
        file = stage.write("replies", task.partition, task.revision, ordered)
        failed = sum(row["reason"] is not None for row in rows)
        counts = {"replies": len(rows) - failed, "failed": failed}
        parts = {"replies": TablePart((file,), self._evaluation.fingerprint)}
        return Receipt(task.partition, task.revision, parts, {name: count for name, count in counts.items() if count})
