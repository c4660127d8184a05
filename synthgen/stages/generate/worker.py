"""The generating worker: an engine, the images in front of it, and the conversations about them.

Images are fetched again, verified against their id and sized for the model; then as many conversations run as the
engine's KV cache has room for. With more images in flight than the cache holds, each call finds its image evicted and
pays for it again. The next partition is fetched while this one is asked, so the engine never drains.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image

from synthgen.config.prompt_file import PackFile
from synthgen.engines import JOB_ERRORS, Engine, Request, open_engine
from synthgen.engines.watchdog import WatchedEngine
from synthgen.errors import Failure, code_failure, one_line
from synthgen.ingest import load
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.sources import ref_of
from synthgen.stages.generate import conversation, scoring
from synthgen.stages.generate.admission import HostBudget, image_bytes
from synthgen.stages.generate.asking import tokens_of
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import Outcome, PreparedImage, failed_rows
from synthgen.stages.generate.measures import Score
from synthgen.stages.generate.receipt import make_receipt
from synthgen.stages.generate.todo import Pending, PendingImage, Row, find_pending
from synthgen.stages.memory import MEGABYTE, QUEUED_IMAGES
from synthgen.store import Receipt
from synthgen.workers import Task
from synthgen.workers.task import FINISH_SECONDS

KV_SHARE = 0.8  # of the KV cache that conversations may fill
CALLS_AT_ONCE = 2.0  # of one conversation, on average: the ask alone, then the answers side by side
DEFAULT_IN_FLIGHT = 16  # conversations, where the engine reports neither its KV cache nor its batch

Loaded = Decoded | Failure  # with one of FAILURE_REASONS
Queue = asyncio.Queue[tuple[str, Loaded | None]]  # object id and image; None after the last


@dataclass
class _TaskRun:
    """A task at work."""

    task: Task
    pending: Pending
    is_whole: bool = True  # False once an image was given back
    outcomes: list[Outcome] = field(default_factory=list)


async def build(context: GenerateContext) -> "GenerateWorker":
    """Start the engine where the worker is."""
    engine = await open_engine(context.model, context.engine)
    return GenerateWorker(context, WatchedEngine(engine, context.engine.stall_seconds))


class GenerateWorker:
    """An engine, a pool of decoders, and the places that conversations wait for."""

    def __init__(self, context: GenerateContext, engine: Engine) -> None:
        self._context, self._engine = context, engine
        self._conversations = context.conversations()
        self._decoder: DecoderPool[str] = DecoderPool(context.images, processes=1)
        self._decoding = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._places: asyncio.Semaphore | None = None
        self.room = 0  # conversations that may run at once; known from the first image on
        self._host = HostBudget(context.engine.host_megabytes * MEGABYTE)
        self._counters: Counter[str] = Counter()
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Start no conversation any more; those in flight have FINISH_SECONDS."""
        self._draining.set()

    def progress(self) -> Mapping[str, float]:
        """Return the pairs, failures and tokens so far."""
        return dict(self._counters)

    async def do(self, task: Task) -> Receipt | None:
        """Ask and score what is pending in a partition; return None if it is given back with nothing done."""
        run = _TaskRun(task, await asyncio.to_thread(find_pending, self._context, task))
        if task.poison:
            failure = Failure("poison", one_line(f"the engine died on this image alone: {task.why}", 500))
            run.outcomes += [self._failed(image, failure) for image in run.pending.images.values()]
        else:
            run.outcomes += [await self._settle(image) for image in run.pending.images.values() if not image.has_calls]
            await self._ask_images(run)
        # Of a piece of a partition an empty receipt is needed: those of the other pieces count only together with it.
        if not run.is_whole and not run.outcomes and task.only is None:
            return None
        made = (self._context, task, run.pending, run.outcomes, self._engine.facts, run.is_whole)
        return await asyncio.to_thread(make_receipt, *made)

    async def ask(self, pending: Pending) -> list[Outcome]:
        """Have the pending conversations and return their outcomes; nothing is written."""
        run = _TaskRun(Task("", 0), pending)
        run.outcomes += [await self._settle(image) for image in pending.images.values() if not image.has_calls]
        await self._ask_images(run)
        return run.outcomes

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
            return await conversation.ask_ahead(*given)
        return await conversation.converse(*given, image.questions)

    async def _ask_images(self, run: _TaskRun) -> None:
        """Start a conversation for each image as soon as it is loaded and there is a place for it."""
        running: set[asyncio.Task[None]] = set()
        queue: Queue = asyncio.Queue(maxsize=QUEUED_IMAGES)
        fetching = asyncio.create_task(self._fetch(run, queue))
        asking = asyncio.create_task(self._ask_each(run, queue, running))
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                run.is_whole = False
                fetching.cancel()
                await asyncio.wait({asking}, timeout=FINISH_SECONDS)
            if asking.done():
                await asking
            if run.is_whole:
                await fetching
        finally:
            for coroutine in (fetching, asking, draining, *running):
                coroutine.cancel()

    async def _ask_each(self, run: _TaskRun, queue: Queue, running: "set[asyncio.Task[None]]") -> None:
        """Start conversations until the last image, or until no new ones are wanted or one found the engine dead."""
        while (item := await queue.get())[1] is not None:
            if any(conversing.done() and conversing.exception() for conversing in running):
                break
            object_id, loaded = item
            if isinstance(loaded, Decoded):
                await (await self._places_for(loaded)).acquire()
                await self._host.take(image_bytes(loaded.image))
                if not run.is_whole:
                    break
                running.add(asyncio.create_task(self._converse(run, object_id, loaded)))
            elif loaded is not None:
                run.outcomes.append(self._failed(run.pending.images[object_id], loaded))
        await asyncio.gather(*running)

    async def _converse(self, run: _TaskRun, object_id: str, loaded: Decoded) -> None:
        image = run.pending.images[object_id]
        key = f"{image.row['image_id'][:32]}-{self._context.images.model_pixels}"
        tags = tuple(tag["path"] for tag in image.row["tags"])
        subject = PreparedImage(loaded.image, key, tags, tuple(image.earlier))
        try:
            outcomes = await asyncio.gather(
                _or_failed(self._hold(subject, image), lambda failure: Outcome(self._failed_rows(image, failure))),
                _or_failed(
                    conversation.score_again(subject, image.unscored, self._engine, self._conversations),
                    lambda failure: Outcome([], _unscored(image, failure)),
                ),
            )
        finally:
            (await self._places_for(loaded)).release()
            await self._host.give(image_bytes(loaded.image))
        for outcome in outcomes:
            self._count(outcome, image)
            run.outcomes.append(outcome)

    def _count(self, outcome: Outcome, image: PendingImage) -> None:
        """Add the rows and tokens of an outcome, without the tokens of a pass before."""
        for row in outcome.pairs:
            self._counters["failed" if row["outcome"] == "failed" else "pairs"] += 1
            question = (image.questions or {}).get(row["assignment_id"])
            before = tokens_of(question) if question else {}
            for name in ("prompt_tokens", "cached_tokens", "output_tokens"):
                if row[name] is not None:  # else the engine did not count them
                    self._counters[name] += row[name] - before.get(name, 0)

    def _failed(self, image: PendingImage, failure: Failure) -> Outcome:
        """Return the rows of an image that cannot be asked about: one per assignment and one per pending score."""
        outcome = Outcome(self._failed_rows(image, failure), _unscored(image, failure))
        self._count(outcome, image)
        return outcome

    def _failed_rows(self, image: PendingImage, failure: Failure) -> list[Row]:
        if self._context.is_first_pass:
            return conversation.failed_questions(image.assignments, failure, self._context.prompts)
        return failed_rows(image.assignments, failure, image.questions)

    async def _fetch(self, run: _TaskRun, queue: Queue) -> None:
        """Fetch, verify and decode the partition's images, a few ahead of the conversations."""
        loop = asyncio.get_running_loop()

        def put(object_id: str, loaded: Loaded) -> None:
            asyncio.run_coroutine_threadsafe(queue.put((object_id, loaded)), loop).result()

        try:
            async with self._decoding:
                await asyncio.to_thread(self._load, run.pending, put)
        finally:
            await queue.put(("", None))

    def _load(self, pending: Pending, put: Callable[[str, Loaded], None]) -> None:
        images = {object_id: image for object_id, image in pending.images.items() if image.has_calls}
        refs = [ref_of(image.row) for image in images.values()]
        image_ids = {object_id: image.row["image_id"] for object_id, image in images.items()}
        for loaded in load.load_images(refs, self._context.source, self._decoder, expected_ids=image_ids):
            put(loaded.object_id, _asking_failure(loaded) if isinstance(loaded.image, Failure) else loaded.image)

    async def _places_for(self, first: Decoded) -> asyncio.Semaphore:
        """Return the places for conversations: measured once, with the first image, by its share of the KV cache."""
        async with self._measuring:
            if self._places is None:
                self.room = self._context.engine.in_flight or await self._room(first)
                self._places = asyncio.Semaphore(self.room)
        return self._places

    async def _room(self, first: Decoded) -> int:
        facts = self._engine.facts
        if facts.kv_tokens is None:
            return facts.sequences or DEFAULT_IN_FLIGHT
        pack = self._context.prompts.pack
        reply = await self._engine.generate(Request("ask", ".", 1, image=first.image, system=pack.system_for("ask")))
        longest = _longest_reply(pack, self._context.is_first_pass)
        room = int(KV_SHARE * facts.kv_tokens / max(1.0, (reply.prompt_tokens or 0) + CALLS_AT_ONCE * longest))
        # Beyond one conversation for each sequence of a batch, more of them only wait, with their images in memory.
        return max(1, min(room, facts.sequences or room))


def _longest_reply(pack: PackFile, is_first_pass: bool) -> int:
    """Return the most tokens that a reply of a conversation has."""
    if is_first_pass:
        return max(prompt.max_tokens for prompt in (pack.ask, pack.ask_choice) if prompt)
    longest = max(answer.max_tokens for answer in pack.answer.values())
    return max(longest, pack.reasoning.max_tokens if pack.reasoning else 0)


async def _or_failed(conversing: Awaitable[Outcome], failed: Callable[[Failure], Outcome]) -> Outcome:
    """Return the outcome of a conversation; an exception that nothing foresaw costs its rows and no other.

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


def _unscored(image: PendingImage, failure: Failure) -> dict[str, list[Row]]:
    """Return a row without a value for each score that a pair of this image lacks."""
    rows: dict[str, list[Row]] = {}
    for pair, names in image.unscored:
        row = scoring.score_row(pair["pair_id"], pair["assignment_id"], Score(None, str(failure)))
        for name in names:
            rows.setdefault(name, []).append(row)
    return rows
