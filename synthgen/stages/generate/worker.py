"""The generating worker: an engine, and the conversations about the images of a partition."""

import asyncio
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from PIL import Image

from synthgen.config.prompt_file import PackFile
from synthgen.console import Sample
from synthgen.engines import Engine
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded
from synthgen.ingest.sources import display_uri
from synthgen.stages.generate import conversation
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import Outcome, PreparedImage, failed_rows, unscored_rows
from synthgen.stages.generate.engine_worker import EngineWorker, open_watched, poison_failure
from synthgen.stages.generate.in_flight import Limits, or_failed, probe_of
from synthgen.stages.generate.partners import ask_partners
from synthgen.stages.generate.receipt import make_receipt
from synthgen.stages.generate.todo import Pending, PendingImage, Row, find_pending, prepare
from synthgen.store import Receipt
from synthgen.workers import Task

LONGEST_SHOWN = 500  # characters of a question or an answer that travel to whoever looks


@dataclass
class _TaskRun:
    """A task at work."""

    task: Task
    pending: Pending
    is_whole: bool = True  # False once an image was given back
    outcomes: list[Outcome] = field(default_factory=list)


async def build(context: GenerateContext) -> "GenerateWorker":
    """Start the engine where the worker is."""
    return GenerateWorker(context, await open_watched(context.model, context.engine))


class GenerateWorker(EngineWorker):
    """An engine, and the conversations that it holds about images in flight."""

    def __init__(self, context: GenerateContext, engine: Engine) -> None:
        pack = context.prompts.pack
        longest = longest_reply(pack, context.is_first_pass)
        limits = Limits(context.source, context.images, context.engine, probe_of(pack.system_for("ask")), longest)
        super().__init__(limits, engine)
        self._context, self._conversations = context, context.conversations()

    async def do(self, task: Task) -> Receipt | None:
        """Ask and score what is pending in a partition; return None if it is given back with nothing done."""
        run = _TaskRun(task, await asyncio.to_thread(find_pending, self._context, task))
        if task.poison:
            run.outcomes += [self._failed(image, poison_failure(task)) for image in run.pending.images.values()]
        else:
            await self._hold_all(run)
        # Of a piece of a partition an empty receipt is needed: those of the other pieces count only together with it.
        if not run.is_whole and not run.outcomes and task.only is None:
            return None
        made = (self._context, task, run.pending, run.outcomes, self._engine.facts, run.is_whole)
        return await asyncio.to_thread(make_receipt, *made)

    async def ask(self, pending: Pending) -> list[Outcome]:
        """Have the pending conversations and return their outcomes; nothing is written."""
        run = _TaskRun(Task("", 0), pending)
        await self._hold_all(run)
        return run.outcomes

    async def _hold_all(self, run: _TaskRun) -> None:
        """Hold the conversations of a task, after the questions of its negatives are written."""
        run.is_whole = await ask_partners(run.pending, self._context, self._engine, self._in_flight)
        if not run.is_whole:
            return
        run.outcomes += [await self._settle(image) for image in run.pending.images.values() if not image.has_calls]
        await self._ask_images(run)

    async def _settle(self, image: PendingImage) -> Outcome:
        """Return the rows of an image about which no call is to be made, so that it is not loaded either."""
        unseen = PreparedImage(Image.new("RGB", (1, 1)), "")
        outcome = await self._hold(unseen, image)
        self._count(outcome, image)
        return outcome

    async def _hold(self, subject: PreparedImage, image: PendingImage) -> Outcome:
        """Hold the conversation about an image: as much of it as this pass does."""
        given = subject, image.assignments, self._engine, self._conversations
        if self._context.is_first_pass:
            return await conversation.ask_ahead(*given, image.questions)
        return await conversation.converse(*given, image.questions)

    async def _ask_images(self, run: _TaskRun) -> None:
        """Hold the conversations of a task."""
        rows = {object_id: image.row for object_id, image in run.pending.images.items() if image.has_calls}

        async def converse(object_id: str, loaded: Decoded) -> None:
            await self._converse(run, run.pending.images[object_id], loaded)

        def fail(object_id: str, failure: Failure) -> None:
            run.outcomes.append(self._failed(run.pending.images[object_id], failure))

        run.is_whole = await self._in_flight.converse(rows, converse, fail)

    async def _converse(self, run: _TaskRun, image: PendingImage, loaded: Decoded) -> None:
        subject = prepare(image, loaded, self._context.images)
        outcomes = await asyncio.gather(
            or_failed(self._hold(subject, image), lambda failure: Outcome(self._failed_rows(image, failure))),
            or_failed(
                conversation.score_again(subject, image.unscored, self._engine, self._conversations),
                lambda failure: Outcome([], unscored_rows(image.unscored, failure)),
            ),
        )
        for outcome in outcomes:
            self._count(outcome, image)
            run.outcomes.append(outcome)

    def _count(self, outcome: Outcome, image: PendingImage) -> None:
        """Count the rows of an outcome, and keep its last pair to be shown."""
        for row in outcome.pairs:
            is_pair = row["outcome"] != "failed"
            self._counters["pairs" if is_pair else "failed"] += 1
            if is_pair:
                self._last = sample_of(row, image.row)

    def _failed(self, image: PendingImage, failure: Failure) -> Outcome:
        """Return the rows of an image that cannot be asked about: one per assignment and one per pending score."""
        outcome = Outcome(self._failed_rows(image, failure), unscored_rows(image.unscored, failure))
        self._count(outcome, image)
        return outcome

    def _failed_rows(self, image: PendingImage, failure: Failure) -> list[Row]:
        if self._context.is_first_pass:
            return conversation.failed_questions(image.assignments, failure, self._context.prompts)
        return failed_rows(image.assignments, failure, image.questions)


def sample_of(row: Row, image: Row) -> Sample:
    """Return a pair as a person sees it while a run is at work; of a pass that only asks, its question."""
    question, answer = (str(row.get(name) or "")[:LONGEST_SHOWN] for name in ("question", "answer"))
    return Sample(question, answer, row["type"], PurePosixPath(display_uri(image["uri"])).name)


def longest_reply(pack: PackFile, is_first_pass: bool = False) -> int:
    """Return the most tokens that a reply of a conversation has."""
    if is_first_pass:
        return max(prompt.max_tokens for prompt in (pack.ask, pack.ask_choice) if prompt)
    longest = max(answer.max_tokens for answer in pack.answer.values())
    others = [prompt.max_tokens for prompt in (pack.reasoning, pack.unanswerable) if prompt]
    return max([longest, *others])
