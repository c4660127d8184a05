"""A generating worker: an engine, the images in front of it, and the conversations about them.

Comes in: a piece of work. Goes out: a receipt for a row of each assignment and the scores of the pairs. Images are fetched
again, verified against their id and sized for the model; then as many conversations run as the engine's KV cache has room
for. Admission matters: with more images in flight than the cache holds, each call finds its image evicted and pays for it
again. The next partition is already being fetched while this one is asked, so the engine never drains.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from synthgen.engines import Engine, Request, open_engine
from synthgen.engines.watchdog import WatchedEngine
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.sources import read_objects, ref_of
from synthgen.stages.generate import conversation
from synthgen.stages.generate.admission import HostBudget, image_bytes
from synthgen.stages.generate.context import GENERATED, PLANNED, GenerateContext
from synthgen.stages.generate.conversation import LoadedImage, Outcome, failed_rows
from synthgen.stages.generate.counts import changes
from synthgen.stages.generate.todo import ImageTask, Pending, Row, look
from synthgen.stages.memory import FETCHED_AHEAD, MEGABYTE
from synthgen.store import Receipt, Stage, TablePart
from synthgen.tables import PAIRS, SCORES, image_id, table
from synthgen.workers import Task
from synthgen.workers.task import GIVEN_SECONDS

KV_SHARE = 0.8  # of the KV cache that conversations may fill
CALLS_AT_ONCE = 2.0  # of one conversation, on average: the ask alone, then the answers side by side
DEFAULT_IN_FLIGHT = 16  # conversations, where the engine tells neither its KV cache nor its batch


@dataclass(frozen=True)
class MissingImage:
    """An image that cannot be asked about, and why (one of tables.FAILURE_REASONS)."""

    reason: str
    detail: str


Found = Decoded | MissingImage


@dataclass
class _Job:
    """A piece of work at work."""

    work: Task
    left: Pending
    is_whole: bool = True  # False once an image was given back
    outcomes: list[Outcome] = field(default_factory=list)


async def build(terms: GenerateContext) -> "GenerateWorker":
    """Starts the engine where the worker is."""
    engine = await open_engine(terms.model, terms.engine)
    return GenerateWorker(terms, WatchedEngine(engine, terms.engine.stall_seconds))


class GenerateWorker:
    """An engine, a pool of decoders, and the places that conversations wait for."""

    def __init__(self, terms: GenerateContext, engine: Engine) -> None:
        self._terms, self._engine = terms, engine
        self._talk = conversation.ConversationContext(terms.prompts, terms.sampling, terms.scores, terms.seed)
        self._decoder: DecoderPool[str] = DecoderPool(terms.images, processes=1)
        self._decoding = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._places: asyncio.Semaphore | None = None
        self.room = 0  # conversations that may run at once; known from the first image on
        self._host = HostBudget(terms.engine.host_megabytes * MEGABYTE)
        self._counters: Counter[str] = Counter()
        self._drains = asyncio.Event()

    def drain(self) -> None:
        """No conversation is begun any more; those in flight have GIVEN_SECONDS."""
        self._drains.set()

    def progress(self) -> Mapping[str, float]:
        """Pairs, failures and tokens so far."""
        return dict(self._counters)

    async def do(self, work: Task) -> Receipt:
        """Does what is left of a partition."""
        job = _Job(work, await asyncio.to_thread(look, self._terms, work))
        if work.poison:
            for task in job.left.tasks.values():
                told = f"the engine died on this image alone: {work.why}"[:500]
                job.outcomes.append(self._failed(task, "poison", told))
        else:
            await self._ask_images(job)
        return await asyncio.to_thread(self._receipt, job)

    async def ask(self, left: Pending) -> list[Outcome]:
        """Has the conversations that are left and hands over what they came to; nothing is written."""
        job = _Job(Task("", 0), left)
        await self._ask_images(job)
        return job.outcomes

    async def _ask_images(self, job: _Job) -> None:
        """Starts a conversation for each image as soon as it is in hand and there is a place for it."""
        running: set[asyncio.Task[None]] = set()
        queue: asyncio.Queue[tuple[str, Found | None]] = asyncio.Queue(maxsize=FETCHED_AHEAD)
        fetching = asyncio.create_task(self._fetch(job, queue))
        asking = asyncio.create_task(self._ask_each(job, queue, running))
        draining = asyncio.create_task(self._drains.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                job.is_whole = False
                fetching.cancel()
                await asyncio.wait({asking}, timeout=GIVEN_SECONDS)
            if asking.done():
                await asking
            if job.is_whole:
                await fetching
        finally:
            for task in (fetching, asking, draining, *running):
                task.cancel()

    async def _ask_each(
        self, job: _Job, queue: "asyncio.Queue[tuple[str, Found | None]]", running: "set[asyncio.Task[None]]"
    ) -> None:
        """Until the last image is told, or no new ones are wanted, or a conversation found the engine dead."""
        while (item := await queue.get())[1] is not None and not any(one.done() and one.exception() for one in running):
            object_id, found = item
            if isinstance(found, Decoded):
                await (await self._places_for(found)).acquire()
                await self._host.take(image_bytes(found.image))
                if not job.is_whole:
                    break
                running.add(asyncio.create_task(self._converse(job, object_id, found)))
            elif found is not None:
                job.outcomes.append(self._failed(job.left.tasks[object_id], found.reason, found.detail))
        await asyncio.gather(*running)

    async def _converse(self, job: _Job, object_id: str, found: Decoded) -> None:
        task = job.left.tasks[object_id]
        key = f"{task.image['image_id'][:32]}-{self._terms.images.model_pixels}"
        subject = LoadedImage(found.image, key, tuple(tag["path"] for tag in task.image["tags"]))
        try:
            outcomes = await asyncio.gather(
                conversation.converse(subject, task.assignments, self._engine, self._talk),
                conversation.score_again(subject, task.unscored, self._engine, self._talk),
            )
        finally:
            (await self._places_for(found)).release()
            await self._host.give(image_bytes(found.image))
        for outcome in outcomes:
            self._count(outcome)
            job.outcomes.append(outcome)

    def _count(self, outcome: Outcome) -> None:
        for row in outcome.pairs:
            self._counters["pairs" if row["outcome"] == "pair" else "failed"] += 1
            for name in ("prompt_tokens", "cached_tokens", "output_tokens"):
                self._counters[name] += row[name]

    def _failed(self, task: ImageTask, reason: str, detail: str) -> Outcome:
        """What becomes of an image that cannot be asked about: a row for each assignment, and for each score that a pair lacks."""
        outcome = Outcome(failed_rows(task.assignments, reason, detail), _unscored(task, f"{reason}: {detail}"))
        self._count(outcome)
        return outcome

    async def _fetch(self, job: _Job, queue: "asyncio.Queue[tuple[str, Found | None]]") -> None:
        """Fetches, verifies and decodes the partition's images, a few ahead of the conversations."""
        loop = asyncio.get_running_loop()

        def put(object_id: str, found: Found) -> None:
            asyncio.run_coroutine_threadsafe(queue.put((object_id, found)), loop).result()

        try:
            async with self._decoding:
                await asyncio.to_thread(self._read_and_decode, job, put)
        finally:
            await queue.put(("", None))

    def _read_and_decode(self, job: _Job, put: Callable[[str, Found], None]) -> None:
        def readable() -> Iterator[tuple[str, bytes]]:
            refs = [ref_of(task.image) for task in job.left.tasks.values()]
            for ref, data in read_objects(refs, self._terms.source, self._terms.images):
                if isinstance(data, Failure):
                    put(
                        ref.object_id,
                        MissingImage("image_changed" if data.reason == "changed" else "image_unreadable", data.detail),
                    )
                elif image_id(data) != job.left.tasks[ref.object_id].image["image_id"]:
                    put(ref.object_id, MissingImage("image_changed", "the bytes differ from those that were tagged"))
                else:
                    yield ref.object_id, data

        for object_id, found in self._decoder.decode_many(readable()):
            put(
                object_id,
                MissingImage("image_unreadable", f"{found.reason}: {found.detail}")
                if isinstance(found, Failure)
                else found,
            )

    async def _places_for(self, first: Decoded) -> asyncio.Semaphore:
        """How many conversations may run: measured once, with the first image, from what its prompt takes of the KV cache."""
        async with self._measuring:
            if self._places is None:
                self.room = self._terms.engine.in_flight or await self._room(first)
                self._places = asyncio.Semaphore(self.room)
        return self._places

    async def _room(self, first: Decoded) -> int:
        facts = self._engine.facts
        if facts.kv_tokens is None:
            return facts.sequences or DEFAULT_IN_FLIGHT
        system = self._terms.prompts.pack.system
        reply = await self._engine.generate(Request("ask", ".", 1, image=first.image, system=system))
        longest = max(answer.max_tokens for answer in self._terms.prompts.pack.answer.values())
        room = int(KV_SHARE * facts.kv_tokens / max(1.0, reply.prompt_tokens + CALLS_AT_ONCE * longest))
        # Beyond one conversation for each sequence of a batch, more of them only wait, with their images in memory.
        return max(1, min(room, facts.sequences or room))

    def _receipt(self, job: _Job) -> Receipt:
        work, stage = job.work, Stage(self._terms.out, GENERATED)
        pairs = sorted((row for outcome in job.outcomes for row in outcome.pairs), key=lambda row: row["assignment_id"])
        for row in pairs:
            row.update(model=self._engine.facts.model, revision=self._engine.facts.revision)
        files = {"pairs": stage.write("pairs", work.partition, work.revision, table(pairs, PAIRS))}
        for name in self._terms.scores:
            rows = sorted(
                (row for outcome in job.outcomes for row in outcome.scores.get(name, [])),
                key=lambda row: row["pair_id"],
            )
            files[f"scores/{name}"] = stage.write(f"scores/{name}", work.partition, work.revision, table(rows, SCORES))
        prints = self._terms.fingerprints()
        parts = {name: TablePart((file,), prints[name]) for name, file in files.items()}
        # What was given back is not covered: without `reads` the partition stays to do.
        reads = work.inputs[PLANNED].digests(PLANNED, [work.partition]) if job.is_whole else {}
        counts = changes(self._terms, work, job.left, job.outcomes)
        if work.is_first:
            counts["retired"] = job.left.never_asked - work.inputs[GENERATED].counts([work.partition]).get("retired", 0)
        return Receipt(work.partition, work.revision, parts, counts, reads)


def _unscored(task: ImageTask, reason: str) -> dict[str, list[Row]]:
    """A row without a value for each score that a pair lacks."""
    rows: dict[str, list[Row]] = {}
    for pair, names in task.unscored:
        found = {
            "pair_id": pair["pair_id"],
            "assignment_id": pair["assignment_id"],
            "value": None,
            "reason": reason,
            "output_tokens": 0,
        }
        for name in names:
            rows.setdefault(name, []).append(found)
    return rows
