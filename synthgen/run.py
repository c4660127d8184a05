"""The stages in order: read this first.

    list      the source, as a stream             → 0-listed     new objects only
    tag       objects → images with tags          → 1-tagged     Ray actors: decode, embed, open_clip
    plan      images + mapping → assignments      → 2-planned    this process; duplicates dropped, nothing asked yet
    ask       assignments → questions             → 3-asked      Ray actors; only where one model asks, another answers
    generate  assignments → pairs and scores      → 3-generated  Ray actors: a vLLM engine, a conversation an image
    score     pairs → further scores              → 3-scored     Ray actors; only where other models score the pairs
    select    pairs + scores → decisions          → 4-selected   this process, no model; rerun as often as you like
    pack      kept pairs + images → shards        → 5-shards     Ray actors; then `synth train` reads them

Each stage knows the tables before it and its own; `synthgen.tables.STAGES` describes them all, and `stages.contract`
the two functions of each. Every stage does what its commits lack, so a first run, a run that was killed, a run over a
source that grew and a run with nothing to do are all this one loop.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Literal, cast

from synthgen import __version__
from synthgen.config.engine import EngineConfig
from synthgen.config.source import SourceConfig
from synthgen.console import note, tell
from synthgen.console.events import Committed, RunEnded, RunStarted, StageEnded, StageStarted
from synthgen.engines import ModelName, check_engine
from synthgen.engines.kinds import ENGINE_KINDS, kind_of
from synthgen.errors import Stopped, SynthError, UserMistake, describe_error, nearest
from synthgen.ingest.sources import Item, Listed, display_uri, is_inside_source, open_listing
from synthgen.job import run_record
from synthgen.job.changes import check_folder, write_settings
from synthgen.job.context_room import context_faults
from synthgen.job.job import WITH_MODELS
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Change, Job, StageModule, StageRun
from synthgen.stages.select.contamination import open_sets
from synthgen.stages.select.functions import load_functions
from synthgen.stages.select.selection import open_text_model
from synthgen.store import RunFolder
from synthgen.store.earlier_runs import open_earlier_runs
from synthgen.tables import (
    ASK,
    GENERATE,
    LIST,
    PLAN,
    SCORE,
    SELECT,
    STAGES,
    TAG,
    StageSpec,
    stage_names,
    stages_between,
)
from synthgen.taggers import check_downloads, check_source_tags, may_download
from synthgen.workers import (
    CircuitBreaker,
    StopSignals,
    check_command_line,
    check_room,
    leave_ray,
    listening,
    recording,
    run_in_actor,
)

# The modules that fill the tables of these stages where the source brings the pairs.
GIVEN = {PLAN: "synthgen.stages.given.plan", GENERATE: "synthgen.stages.given.generate"}
# The resources of an actor that only looks, a CPU and no GPU: those of the kind of engine that has no model.
CHECKING = EngineConfig(kind=next(kind.name for kind in ENGINE_KINDS.values() if not (kind.is_model or kind.uses_gpu)))


@dataclass(frozen=True)
class StageRange:
    """Which part of the work a run does.

    Attributes:
        first: The first stage.
        last: The last stage.
        change: What is done again beside what is new.
        retry: Reasons of failures that are tried again.
        grows: Whether new objects of the source are listed.
        is_purge: Whether the run finishes a purge.
    """

    first: str = field(default_factory=lambda: stage_names()[0])
    last: str = field(default_factory=lambda: stage_names()[-1])
    change: Change = "growth"
    retry: frozenset[str] = frozenset()
    grows: bool = True
    is_purge: bool = False

    def __post_init__(self) -> None:
        names = stage_names()
        for option, stage in (("--from", self.first), ("--until", self.last)):
            if stage not in names:
                raise UserMistake(f"{option} '{stage}' is unknown: {nearest(stage, names)}")
        if self.change == "redraw" and not self.has(PLAN.typed):
            raise UserMistake("--replan draws the plan again, but --from and --until leave it out; leave them out")
        if not stages_between(self.first, self.last):
            raise UserMistake(f"--from {self.first} comes after --until {self.last}; the stages are {', '.join(names)}")

    def has(self, stage: str) -> bool:
        """Return whether a stage, as users type it, is in the range."""
        return stage in stages_between(self.first, self.last)

    @property
    def is_whole(self) -> bool:
        """Whether it has every stage."""
        return [self.first, self.last] == [stage_names()[0], stage_names()[-1]]

    @property
    def with_models(self) -> tuple[str, ...]:
        """The stages that need the models of the pipeline."""
        return tuple(stage for stage in WITH_MODELS if self.has(stage))

    @property
    def lists(self) -> bool:
        """Whether the source is listed."""
        return self.grows and self.has(LIST.typed)


def run(
    folder: RunFolder,
    job: Job,
    request: RunRequest,
    stages: StageRange,
    objects: Iterable[Item] | None = None,
) -> int:
    """Run the stages of a range until their tables are complete.

    Args:
        folder: The output folder of the job.
        job: What is to be made.
        request: What the user asked for; it is stored in the run record.
        stages: The stages, and what they do again.
        objects: A listing of the source that was started already.

    Returns:
        The number of partitions done.
    """
    with listening() as signals, recording():
        try:
            return _run(folder, job, request, stages, signals, objects)
        finally:
            leave_ray()


@contextmanager
def _telling(job: Job, stages: StageRange) -> Iterator[None]:
    """Tell that the stages of a run begin, and how they end."""
    began = time.monotonic()
    names = tuple(spec.name for spec in STAGES if stages.has(spec.typed) and _is_wanted(spec, job))
    tell(RunStarted(display_uri(job.out.url), names, __version__))
    try:
        yield
    except BaseException as error:
        outcome: Literal["failed", "stopped"] = "stopped" if isinstance(error, Stopped) else "failed"
        why = str(error) if isinstance(error, SynthError) else describe_error(error)
        tell(RunEnded(outcome, time.monotonic() - began, why))
        raise
    tell(RunEnded("done", time.monotonic() - began))


def _is_wanted(spec: StageSpec, job: Job) -> bool:
    """Return whether a job has anything for a stage to do."""
    return (spec is not ASK or job.asking is not None) and (spec is not SCORE or bool(job.passes))


def _run(
    folder: RunFolder,
    job: Job,
    request: RunRequest,
    stages: StageRange,
    signals: StopSignals,
    objects: Iterable[Item] | None,
) -> int:
    # Mistakes that the user can fix are found before anything is written.
    check_command_line()
    if stages.lists:
        _check_out_is_not_in_source(job)
        objects = objects or open_listing(job.pipeline.source)
    ends = (stages.first, stages.last)
    is_new = check_folder(folder, job, request, ends, stages.change)
    _check_input(folder, stages.first)
    check_compared(job, stages)
    if is_new and stages.has(TAG.typed):
        check_source_tags(job.definitions.taggers, job.pipeline.source)
        _check_weights(job)
    if is_new:
        # Nobody should tag for hours to learn that a model does not load.
        for model, engine in job.engines_of(stages.with_models):
            _check_model(model, engine, job)
    if stages.with_models:
        for fault in context_faults(job, stages.with_models, may_download=is_new):
            note(fault)
    known = folder.log(LIST).counts().get(LIST.passes, 0)
    if stages.lists and request.limit and known > request.limit:
        note(f"{known:,} objects are listed already: --limit {request.limit:,} adds none, and leaves none of them out")
    with folder.lease() as lease:
        if not stages.is_purge:
            _check_no_unfinished_purge(folder)
        unfinished = write_settings(folder, job, request, ends, stages.change == "redraw")
        _note_unfinished(stages, unfinished)
        retry = _start_retry(folder, stages)
        done = 0
        with _telling(job, stages):
            for spec in (_filled(spec, job) for spec in STAGES if stages.has(spec.typed)):
                change = cast(Change, unfinished.get(spec.typed, stages.change))
                listed = _first(objects, request.limit) if objects and spec is LIST else None
                done += run_stage(StageRun(spec, job, folder, lease, signals, change, retry, listed))
                if spec.typed in unfinished and spec is _last_part(spec):
                    lease.check()  # a driver that was replaced knows nothing of an update by its successor
                    run_record.finish_change(folder, spec.typed)
        if retry and stages.is_whole:
            lease.check()
            run_record.finish_change(folder, "retry")
        return done


def _check_model(model: ModelName, engine: EngineConfig, job: Job) -> None:
    """Raise SynthError if the engine finds no machine, would not start, or does not reach its model."""
    if kind_of(engine).is_checked_here:
        check_room(engine, job.home)
        asyncio.run(check_engine((model, engine)))
    else:
        run_in_actor(check_engine, (model, engine), engine, job.home, f"checking model {model.model}")


def _check_weights(job: Job) -> None:
    """Raise UserMistake if the weights of a tagger cannot be had; in an actor, as libraries that know are heavy."""
    if specs := [spec for spec in job.definitions.taggers if may_download(spec)]:
        run_in_actor(check_downloads, specs, CHECKING, job.home, "looking for the weights of the taggers")


def _first(items: Iterable[Item], limit: int | None) -> Iterator[Item]:
    """Yield the items up to the object that reaches the limit."""
    count = 0
    for item in items:
        yield item
        count += isinstance(item, Listed)
        if count == limit:
            return


def run_stage(run: StageRun) -> int:
    """Do what is pending in a stage, commit each result as it comes, and return their number."""
    module = cast(StageModule, import_module(run.spec.module))
    breaker = CircuitBreaker(run.folder.stage(run.spec), run.spec.watched) if run.spec.watched else None
    began, done = time.monotonic(), 0
    tell(StageStarted(run.spec.name))
    receipts = module.results(run, module.pending(run))
    with closing(receipts):
        for receipt in receipts:
            run.folder.commit(run.spec, receipt, run.lease)
            tell(Committed(run.spec.name, receipt.partition, receipt.revision, receipt.counts))
            done += 1
            if breaker:
                breaker.see(receipt)
    passed = run.folder.log(run.spec).counts().get(run.spec.passes) if run.spec.passes else None
    tell(StageEnded(run.spec.name, time.monotonic() - began, done, passed, run.spec.passes))
    return done


def _filled(spec: StageSpec, job: Job) -> StageSpec:
    """Return a stage with the module that fills its tables in this job: another one where the source has the pairs."""
    return replace(spec, module=GIVEN[spec]) if job.has_pairs and spec in GIVEN else spec


def _last_part(spec: StageSpec) -> StageSpec:
    """Return the last of the stages that are one for users."""
    return [other for other in STAGES if other.typed == spec.typed][-1]


def _check_input(folder: RunFolder, first: str) -> None:
    """Raise UserMistake if a run starts in the middle and the stage before has no results."""
    if first == stage_names()[0]:
        return
    source = next(spec for spec in STAGES if spec.typed == first).inputs[0]
    if not folder.log(source).partitions:
        raise UserMistake(
            f"--from {first}: there is nothing from '{source.typed}' in {folder.out.url} yet; "
            "leave --from out, or name an earlier stage"
        )


def check_compared(job: Job, stages: StageRange) -> None:
    """Raise UserMistake if an earlier run, a benchmark set, or a function or text model that decides cannot be used."""
    for spec, named in ((PLAN, job.pipeline.plan.against), (SELECT, job.pipeline.selection.against)):
        if stages.has(spec.typed):
            open_earlier_runs(f"{spec.name}.against", named, job.home, job.out, spec)
    if stages.has(SELECT.typed):
        load_functions(job.pipeline.selection.functions, job.home)
        if wanted := job.pipeline.selection.decontaminate:
            open_sets(wanted, job.home)
        open_text_model(job.pipeline.selection, job.home)


def _check_no_unfinished_purge(folder: RunFolder) -> None:
    """Raise UserMistake after a purge that was cut short, as an image is then gone from some tables only."""
    if message := run_record.unfinished_purge(folder):
        raise UserMistake(f"{folder.out.url}: {message}")


def _check_out_is_not_in_source(job: Job) -> None:
    """Raise UserMistake if the next run would list what this one writes."""
    if is_inside_source(job.out.url, job.pipeline.source):
        raise UserMistake(
            f"--out {job.out.url}: lies inside the source {_shown_places(job.pipeline.source)}, "
            "so a later run would list what this one writes; give an --out outside of it, or a narrower source"
        )


def _shown_places(source: SourceConfig) -> str:
    return ", ".join(display_uri(place.uri or "") for place in source.places.values())


def _start_retry(folder: RunFolder, stages: StageRange) -> frozenset[str]:
    """Return the reasons of failures that are tried again: those of this run, and of a retry that was cut short.

    They are on record until a run of every stage is through. Rows that failed again before the retry was cut short are
    tried once more.
    """
    left = run_record.unfinished_names(folder, "retry")
    if not stages.is_whole:
        if left:
            note(f"a retry of {_listed(left)} was cut short; a run without --from and --until finishes it")
        return stages.retry
    if left - stages.retry:
        note(f"a retry of {_listed(left)} was cut short; this run finishes it")
    wanted = left | stages.retry
    run_record.start_names(folder, "retry", wanted)
    return wanted


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _note_unfinished(stages: StageRange, unfinished: Mapping[str, str]) -> None:
    """Report an update that was cut short: the next run finishes it, whatever it was started for."""
    cut_short = [stage for stage in stage_names() if stage in unfinished]
    if cut_short and stages.change == "growth":
        is_here = all(stages.has(stage) for stage in cut_short)
        how = "this run finishes it" if is_here else "a run without --from and --until finishes it"
        note(f"an update of {', '.join(cut_short)} was cut short; {how}")
