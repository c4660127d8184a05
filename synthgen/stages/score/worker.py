"""The scoring worker: the engine of a pass, and the conversations about the images of its pairs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.engines import Engine
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded
from synthgen.stages.generate import conversation
from synthgen.stages.generate.conversation import Outcome, unscored_rows
from synthgen.stages.generate.engine_worker import EngineWorker, open_watched, poison_failure
from synthgen.stages.generate.in_flight import Limits, or_failed, probe_of
from synthgen.stages.generate.todo import PendingImage, prepare
from synthgen.stages.score.context import PassContext
from synthgen.stages.score.receipt import make_receipt
from synthgen.stages.score.todo import find_pending
from synthgen.store import Receipt
from synthgen.workers import Task

Rows = dict[str, list[dict[str, Any]]]  # score → rows of SCORES


async def build(context: PassContext) -> "ScoreWorker":
    """Start the engine of the pass where the worker is."""
    return ScoreWorker(context, await open_watched(context.model, context.engine))


class ScoreWorker(EngineWorker):
    """An engine, and the conversations in which it scores pairs."""

    def __init__(self, context: PassContext, engine: Engine) -> None:
        probe = probe_of(context.judge.prompts.pack.system_for("judge"))
        limits = Limits(context.source, context.images, context.engine, probe, context.longest_reply())
        super().__init__(limits, engine)
        self._context, self._conversations = context, context.conversations()

    async def do(self, task: Task) -> Receipt | None:
        """Score what is pending in a partition; return None if it is given back with nothing done."""
        pending = await asyncio.to_thread(find_pending, self._context, task)
        scores, is_whole = Rows(), True
        if task.poison:
            for image in pending.images.values():
                self._add(scores, image, unscored_rows(image.unscored, poison_failure(task)))
        else:
            is_whole = await self.score(pending.images, scores)
        # Of a piece of a partition an empty receipt is needed: those of the other pieces count only together with it.
        if not is_whole and not scores and task.only is None:
            return None
        return await asyncio.to_thread(make_receipt, self._context, task, pending, scores, is_whole)

    async def score(self, images: Mapping[str, PendingImage], scores: Rows) -> bool:
        """Add the missing scores of images to `scores`; return whether no image was given back."""

        async def converse(object_id: str, loaded: Decoded) -> None:
            image = images[object_id]
            subject = prepare(image, loaded, self._context.images)
            scoring = conversation.score_again(subject, image.unscored, self._engine, self._conversations)
            outcome = await or_failed(scoring, lambda failure: Outcome([], unscored_rows(image.unscored, failure)))
            self._add(scores, image, outcome.scores)

        def fail(object_id: str, failure: Failure) -> None:
            self._add(scores, images[object_id], unscored_rows(images[object_id].unscored, failure))

        rows = {object_id: image.row for object_id, image in images.items()}
        return await self._in_flight.converse(rows, converse, fail)

    def _add(self, scores: Rows, image: PendingImage, made: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        self._counters["pairs"] += len(image.unscored)
        for name, rows in made.items():
            scores.setdefault(name, []).extend(rows)
            for row in rows:
                self._counters["values" if row["reason"] is None else "without"] += 1
