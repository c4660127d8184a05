"""The worker that asks pairs again: the engine of the stronger path, and its answers about images."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from synthgen.engines import Engine, Reply, add_tokens
from synthgen.engines.recorder import Meter
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded
from synthgen.stages.generate.answering import TOKENS, chosen, pair_of, rated
from synthgen.stages.generate.engine_worker import EngineWorker, open_watched, poison_failure
from synthgen.stages.generate.in_flight import Limits, or_failed, probe_of
from synthgen.stages.generate.measures import Pair, commonest
from synthgen.stages.generate.reasking import (
    AskedAgain,
    DroppedPair,
    ImageAgain,
    ReaskContext,
    images_again,
    make_receipt,
)
from synthgen.stages.generate.session import ImageSession, failure_of, limit_of
from synthgen.stages.generate.todo import image_key
from synthgen.stages.generate.worker import longest_reply, sample_of
from synthgen.store import Receipt
from synthgen.tables import RETRIED_REASONS, draw, make_id, pair_id
from synthgen.workers import Task

Row = dict[str, object]


async def build(context: ReaskContext) -> "Reasker":
    """Start the engine of the path where the worker is."""
    return Reasker(context, await open_watched(context.model, context.engine))


class Reasker(EngineWorker):
    """An engine, and the answers that it gives to questions of dropped pairs."""

    def __init__(self, context: ReaskContext, engine: Engine) -> None:
        pairs = context.pairs
        pack = pairs.prompts.pack
        probe = probe_of(pack.system_for("answer"))
        limits = Limits(pairs.source, pairs.images, context.engine, probe, longest_reply(pack))
        super().__init__(limits, engine)
        self._context = context

    async def do(self, task: Task) -> Receipt | None:
        """Ask the pairs of a task again. A pair whose call failed has no row, so that it is tried another time."""
        images = await asyncio.to_thread(images_again, self._context, task)
        made = list[AskedAgain]()
        if task.poison:
            why = poison_failure(task)
            made += [AskedAgain([_in_vain(pair, why) for pair in image.pairs], {}) for image in images.values()]
        else:

            async def converse(object_id: str, loaded: Decoded) -> None:
                image = images[object_id]
                made.append(await or_failed(self._ask(image, loaded), lambda failure: self._unanswered(image, failure)))

            def fail(object_id: str, failure: Failure) -> None:
                made.append(self._unanswered(images[object_id], failure))

            rows = {object_id: image.row for object_id, image in images.items()}
            await self._in_flight.converse(rows, converse, fail)
        return await asyncio.to_thread(make_receipt, self._context, task, _joined(made))

    def _unanswered(self, image: ImageAgain, failure: Failure) -> AskedAgain:
        """Return the rows of an image whose pairs got no answer; none where another try may help."""
        self._counters["failed"] += len(image.pairs)
        return AskedAgain([row for pair in image.pairs for row in _staying(pair, failure)], {})

    async def _ask(self, image: ImageAgain, loaded: Decoded) -> AskedAgain:
        """Ask all dropped pairs of an image again."""
        pairs = self._context.pairs
        key = image_key(image.row, pairs.images)
        shared, (first, *more) = (pairs.prompts, pairs.sampling, pairs.seed), loaded.images
        session = ImageSession(self._engine, *shared, first, key, tuple(more))
        asked = await asyncio.gather(*(self._ask_pair(session, pair, image) for pair in image.pairs))
        self._counters["pairs"] += sum(bool(each.pairs) for each in asked)
        self._counters["failed"] += sum(not each.pairs for each in asked)
        for each in asked:
            self._last = sample_of(each.pairs[0], image.row) if each.pairs else self._last
        return _joined(asked)

    async def _ask_pair(self, session: ImageSession, dropped: DroppedPair, image: ImageAgain) -> AskedAgain:
        """Ask a pair again; nothing is returned where a call failed for a reason that another try may avoid."""
        context, row = self._context, dropped.row
        known = {other["pair_id"]: other for other in image.known}
        before, meter = pair_of(session.prompts, row, known), Meter(session.engine)
        reply = await _answer(replace(session, engine=meter), before, context)
        failure = reply if isinstance(reply, Failure) else failure_of(reply, "the answer", limit_of(before.turn))
        if failure is None and isinstance(reply, Reply) and not reply.text.strip():
            failure = Failure("empty_answer", reply.detail or "")
        if failure:
            return AskedAgain(_staying(dropped, failure), {})
        assert isinstance(reply, Reply)
        facts, attempt = session.engine.facts, row["attempt"] + 1
        took = {name: getattr(meter, name) for name in TOKENS}
        new = {
            **row,
            "pair_id": pair_id(row["assignment_id"], make_id("reasked", row["recipe"], context.path), attempt),
            "attempt": attempt,
            "answer": reply.text,
            "reasoning": reply.reasoning or None,
            "raw_answer": reply.whole or reply.text,
            **{name: add_tokens(row[name], took[name]) for name in TOKENS},
            "model": facts.model,
            "revision": facts.revision,
            "ask_model": row["ask_model"] or row["model"],
            "ask_revision": row["ask_revision"] or row["revision"],
            "reasked_for": dropped.reason,
            "reasked": row["pair_id"],
            "reasked_answer": row["answer"],
        }
        scores = await rated(session, new, replace(before, pair_id=new["pair_id"], reply=reply), context.pairs.scores)
        return AskedAgain([new], {name: [score] for name, score in scores.items()})


async def _answer(session: ImageSession, pair: Pair, context: ReaskContext) -> Reply | Failure:
    """Return the answer of the path: of one sample that, of more of them the first of those that most agree with."""
    numbers = range(context.samples)
    seeds = [int(draw(session.seed, "reask", pair.pair_id, str(number)) * 2**31) for number in numbers]
    warm = session.sampling.agree_temperature
    temperatures = [warm if number else None for number in numbers]
    asked = zip(seeds, temperatures, strict=True)
    replies = await asyncio.gather(
        *(session.answer(pair.turn, seed=seed, temperature=temperature) for seed, temperature in asked)
    )
    replies = [chosen(reply) if pair.form == "choice" else reply for reply in replies]
    usable = [reply for reply in replies if failure_of(reply, "the answer") is None and reply.text.strip()]
    if len(usable) < 2:
        return usable[0] if usable else replies[0]
    place = await commonest(session, pair, [reply.text for reply in usable])
    return usable[place] if isinstance(place, int) else Failure("score_failed", place.reason or "")


def _staying(pair: DroppedPair, failure: Failure) -> list[Row]:
    """Return the row of a pair that stays, as the path gave no answer in its place; none where another try may help."""
    return [] if failure.reason in RETRIED_REASONS else [_in_vain(pair, failure)]


def _in_vain(pair: DroppedPair, failure: Failure) -> Row:
    return {**pair.row, "reasked_for": pair.reason, "detail": f"asked again in vain: {failure}"}


def _joined(parts: Sequence[AskedAgain]) -> AskedAgain:
    scores: dict[str, list[dict[str, object]]] = {}
    for part in parts:
        for name, rows in part.scores.items():
            scores.setdefault(name, []).extend(rows)
    return AskedAgain([row for part in parts for row in part.pairs], scores)
