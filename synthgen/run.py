"""The five stages, in order: begin reading here.

Comes in: a Job (a checked pipeline and an output folder). Goes out: the output folder, one stage further or all the way.
Each stage asks its log what is left to do and does that; so a first run, a run that was killed, a run over a bucket that
grew and a run that has nothing to do are all this one function.

    list      the source, as a stream             → 0-listed     new objects only
    tag       objects → images with tags          → 1-tagged     Ray actors: decode, embed, open_clip
    plan      images + mapping → assignments      → 2-planned    this process; duplicates dropped, nothing asked yet
    generate  assignments → pairs and scores      → 3-generated  Ray actors: a vLLM engine, a conversation an image
    select    pairs + scores → decisions          → 4-selected   this process, no model; rerun as often as you like
    pack      kept pairs + images → shards        → 5-shards     Ray actors; then `synth train` reads them

A stage knows the tables before and after it and no other stage; only this file knows the order.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from synthgen.console import StageProgress, generation_note, tagging_note
from synthgen.engines import check_engine
from synthgen.errors import UserMistake
from synthgen.ingest.sources import Listed, is_inside_source, open_listing, shown
from synthgen.job import funnel, run_record
from synthgen.job.changes import STAGES, check_folder, settle
from synthgen.job.job import Job
from synthgen.stages import generate, listing, memory, pack, plan, select, tag
from synthgen.store import Folder, Lease, Receipt, Stage
from synthgen.workers import PoolSpec, Show, Task, leave_ray, listening, once, run_pool
from synthgen.workers.circuit_breaker import CircuitBreaker

INPUTS = {
    "plan": "1-tagged",
    "generate": "2-planned",
    "select": "3-generated",
    "pack": "4-selected",
}  # stage -> table that it reads


@dataclass(frozen=True)
class StageRange:
    """Which part of the work to do."""

    first: str = "tag"
    last: str = "pack"
    update: bool = False
    replan: bool = False  # an update that draws everything anew
    retry: frozenset[str] = frozenset()  # reasons for which failed rows are done again
    grows: bool = True  # what is new in the source is listed
    purges: bool = False  # this finishes a purge

    def __post_init__(self) -> None:
        if STAGES.index(self.first) > STAGES.index(self.last):
            raise UserMistake(
                f"--from {self.first} comes after --until {self.last}; the stages are {', '.join(STAGES)}"
            )

    def has(self, stage: str) -> bool:
        return STAGES.index(self.first) <= STAGES.index(stage) <= STAGES.index(self.last)

    def with_change(self, change: str | None) -> "StageRange":
        """The same, with an update that is to be finished."""
        return replace(self, update=self.update or change is not None, replan=self.replan or change == "redraw")

    @property
    def lists(self) -> bool:
        """Whether the source is looked through."""
        return self.grows and self.has("tag")


def run(job: Job, which: StageRange, objects: Iterator[Listed] | None = None) -> int:
    """Runs the stages of the range until their tables are complete; returns how many partitions were done.

    `objects` is a listing of the source that was begun already.
    """
    with listening():
        return _run(job, which, objects)


def _run(job: Job, which: StageRange, objects: Iterator[Listed] | None) -> int:
    # What the user can mend is found before anything is written.
    if which.lists:
        _is_apart(job)
        objects = objects or open_listing(job.pipeline.source)
    is_new = check_folder(job, which.first, which.last, which.update, which.replan)
    _has_input(job, which.first)
    steps = {"tag": _tag, "plan": _plan, "generate": _generate, "select": _select, "pack": _pack}
    done = 0
    try:
        if is_new and which.has("generate"):
            # Nobody should tag for hours to learn that the model does not load.
            once(check_engine, (job.model, job.pipeline.generate.engine), job.pipeline.generate.engine)
        with Lease.take(job.out) as lease:
            if not which.purges:
                _is_whole(job.out)
            unfinished = settle(job, which.first, which.last, which.replan)
            _note_unfinished(which, unfinished)
            if objects:
                listing.run(job.out, islice(objects, job.line.limit), lease, job.fingerprint("listed"))
            for stage in STAGES:
                if which.has(stage):
                    change = unfinished.get(stage)
                    done += steps[stage](job, which.with_change(change), lease)
                    if change:
                        lease.check()  # a driver that was replaced knows nothing of the update of the other
                        run_record.finished(job.out, stage)
    finally:
        leave_ray()
    return done


def _has_input(job: Job, first: str) -> None:
    """A run that begins in the middle needs what comes before."""
    if first != "tag" and not Stage(job.out, INPUTS[first]).log().partitions:
        before = STAGES[STAGES.index(first) - 1]
        raise UserMistake(
            f"--from {first}: there is nothing from '{before}' in {job.out.url} yet; leave --from out, or name an earlier stage"
        )


def _is_whole(out: Folder) -> None:
    """A purge that was killed has taken an image out of some tables and files and not of others."""
    if told := run_record.purge_cut_short(out):
        raise UserMistake(f"{out.url}: {told}")


def _is_apart(job: Job) -> None:
    """What a run writes must not be what the next one lists."""
    if is_inside_source(job.out.url, job.pipeline.source):
        raise UserMistake(
            f"--out {job.out.url}: lies inside the source {shown(job.pipeline.source.uri or '')}, "
            "so a later run would list what this one writes; give an --out outside of it, or a narrower source"
        )


def _tag(job: Job, which: StageRange, lease: Lease) -> int:
    terms, stage, listed = (
        replace(job.tag_terms, retry=which.retry),
        Stage(job.out, "1-tagged"),
        Stage(job.out, "0-listed").log(),
    )
    works = tag.todo(listed, stage.log(), terms, which.update)
    settings = job.pipeline.tag
    cpus, gpus = tag.resources(terms, settings.gpus)
    crew = PoolSpec(
        tag.build, terms, lambda work: tag.object_ids(terms, work), min(settings.workers, len(works)), cpus, gpus
    )
    crew = replace(crew, notes=stage.folder.child("strikes"))
    total = sum(listed.counts([work.partition]).get("listed", 0) for work in works)
    _note_memory("tag", crew.size, memory.tag_bytes(job.pipeline))
    with StageProgress("tag", total, "image") as bar:
        done = _do(
            crew,
            works,
            lambda counters: bar.show(counters.get("images", 0.0), tagging_note(counters)),
            _committing(stage, lease, "images"),
        )
    if done and (told := funnel.left_out(job.out)):
        print(f"tag: {told}", file=sys.stderr, flush=True)
    return done


def _plan(job: Job, which: StageRange, lease: Lease) -> int:
    return plan.run(job.out, job.plan_terms, lease, "redraw" if which.replan else "edit" if which.update else "growth")


def _generate(job: Job, which: StageRange, lease: Lease) -> int:
    terms, stage, planned = (
        replace(job.generate_terms, retry=which.retry),
        Stage(job.out, "3-generated"),
        Stage(job.out, "2-planned").log(),
    )
    works = generate.todo(planned, stage.log(), terms, which.update)
    engine = job.pipeline.generate.engine
    gpus = engine.gpus if engine.kind == "vllm" else 0
    crew = PoolSpec(
        generate.build,
        terms,
        lambda work: generate.object_ids(terms, work),
        min(engine.replicas, len(works)),
        engine.cpus,
        gpus,
    )
    crew = replace(crew, notes=stage.folder.child("strikes"))
    started = time.monotonic()
    total, is_bound = generate.size(terms, works)
    _note_memory("generate", crew.size, memory.generate_bytes(job.pipeline))
    with StageProgress("generate", total, "assignment", is_bound=is_bound) as bar:
        keep = _committing(stage, lease, "pairs")

        def commit(receipt: Receipt) -> None:
            keep(receipt)
            bar.did(sum(file.rows for file in receipt.tables["pairs"].files))

        def show(counters: Mapping[str, float]) -> None:
            done = counters.get("pairs", 0.0) + counters.get("failed", 0.0)
            bar.show(done, generation_note(counters, time.monotonic() - started))

        return _do(crew, works, show, commit)


def _select(job: Job, which: StageRange, lease: Lease) -> int:
    selection = select.prepare(job.out, job.pipeline.select)
    stage, todo = Stage(job.out, "4-selected"), selection.todo
    with StageProgress("select", len(todo), "partition") as bar:
        for receipt in select.run(selection, lambda done, total: bar.show(done)):
            stage.commit(receipt, lease, selection.selected.last_epoch + 1)
    return len(todo)


def _pack(job: Job, which: StageRange, lease: Lease) -> int:
    terms, stage = job.pack_terms, Stage(job.out, "5-shards")
    shards = pack.todo(terms, which.retry)
    crew = PoolSpec(
        pack.build,
        terms,
        pack.image_ids,
        min(job.pipeline.pack.workers, len(shards)),
        notes=stage.folder.child("strikes"),
    )
    _note_memory("pack", crew.size, memory.pack_bytes(job.pipeline))
    with StageProgress("pack", sum(len(shard.samples) for shard in shards), "sample") as bar:
        done = _do(crew, shards, lambda counters: bar.show(counters.get("samples", 0.0)), _committing(stage, lease))
    pack.publish(terms, job.pipeline.select, {**job.facts, "Engine": job.pipeline.generate.engine.kind}, lease)
    return done


def _note_unfinished(which: StageRange, unfinished: Mapping[str, str]) -> None:
    """An update that was cut short is finished by whatever run comes next."""
    left = [stage for stage in STAGES if stage in unfinished]
    if left and not (which.update or which.replan):
        here = all(which.has(stage) for stage in left)
        words = "this run finishes it" if here else "a run without --from and --until finishes it"
        print(f"an update of {', '.join(left)} was cut short; {words}", file=sys.stderr, flush=True)


def _note_memory(stage: str, workers: int, size: int) -> None:
    if workers:
        print(memory.note(stage, workers, size), file=sys.stderr, flush=True)


def _committing(stage: Stage, lease: Lease, watched: str | None = None) -> Callable[[Receipt], None]:
    """What commits a stage's receipts as they come; a table may be watched for failures that do not end."""
    epoch, streak = stage.log().last_epoch + 1, CircuitBreaker(stage, watched) if watched else None

    def commit(receipt: Receipt) -> None:
        stage.commit(receipt, lease, epoch)
        if streak:
            streak.see(receipt)

    return commit


def _do(crew: PoolSpec, works: Sequence[Task], show: Show, commit: Callable[[Receipt], None]) -> int:
    """Has a crew do the work of a stage; each receipt is committed as it comes."""
    if works:
        run_pool(crew, works, commit, show)
    return len(works)
