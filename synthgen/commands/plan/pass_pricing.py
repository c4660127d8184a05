"""Scoring passes in a forecast: how many pairs each would score, and what that would take.

A pass scores the pairs that lack a score of it, and at most one new pair for each question that is still to be asked.
Its engine is measured on pairs: on those that the profile of the questions has just made, else on some of the folder.
"""

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.doctor.machine import gpu_names
from synthgen.commands.plan import pricing, profiles
from synthgen.commands.plan.counts import QuestionCounts
from synthgen.commands.plan.pricing import Usage
from synthgen.config.engine import EngineConfig
from synthgen.stages import score
from synthgen.stages.contract import Job, ScoringPass
from synthgen.stages.generate import Profile
from synthgen.stages.score import contexts_of
from synthgen.stages.score.context import waits_for
from synthgen.stages.score.profiling import PassProfileTask, PassSample, measure_pass
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, PLAN, draw
from synthgen.workers import do_fit, leave_ray, rounds_of, run_in_actor


@dataclass(frozen=True)
class PassEstimate:
    """A scoring pass of a forecast.

    Attributes:
        pairs: To score, at most; about so many where the share of open pairs is known.
        usage: None where its engine was not measured.
        of: Pairs among which it scores those that the score it waits for leaves open.
        open_share: The share of these that is left open, as far as any were seen; None where that is not known.
    """

    judge: ScoringPass
    pairs: int
    usage: Usage | None
    profile: Profile | None
    of: int = 0
    open_share: float | None = None


class DrawnPairs(NamedTuple):
    """An image with pairs, and the random number by which samples are drawn."""

    key: float
    object_id: str
    partition: str


def pass_estimates(job: Job, counts: QuestionCounts) -> Iterator[PassEstimate]:
    """Yield what each pass of a job would take."""
    to_ask = counts.planned - counts.asked
    for judge in job.passes:
        certain, others = counts.to_score[judge.name], to_ask + counts.to_route[judge.name]
        share = open_share(job, judge, counts)
        pairs = {kind: certain[kind] + others[kind] * (1.0 if share is None else share) for kind in certain | others}
        profile = load(job, judge)
        rates = pricing.rates_of(profile)
        usage = Usage.total(rates.of(kind).times(count) for kind, count in pairs.items()) if rates else None
        of = (certain + others).total()
        whole = ceil(round(sum(pairs.values()), 6))  # a sum of shares may miss a whole number by a hair
        yield PassEstimate(judge, whole, usage, profile, of, share)


def open_share(job: Job, judge: ScoringPass, counts: QuestionCounts) -> float | None:
    """Return the share of pairs that a pass scores which waits for another score; None where it is all or not known.

    It is that of the pairs of which the other score is known, or else that of those which its pass was measured on.
    """
    if judge.after is None:
        return None
    if routed := counts.routed[judge.name]:
        return routed[True] / routed.total()
    before = next((each for each in job.passes if each.name == waits_for(judge)), None)
    profile = load(job, before) if before else None
    values = profile.values.get(judge.after.score.rpartition(".")[2], ()) if profile else ()
    is_open = [value is None or not judge.after.decides(value) for value in values]
    return sum(is_open) / len(is_open) if is_open else None


def measure(folder: RunFolder, job: Job, counts: QuestionCounts, images: int, made: Sequence[PassSample]) -> bool:
    """Measure each pass that has something to score on some pairs, in an actor as in a run, and keep the profiles.

    Args:
        folder: The output folder.
        job: The job.
        counts: What is to be asked and scored.
        images: To measure on.
        made: Images with pairs that a profile has just made; without any, pairs of the folder are taken.

    Returns:
        Whether there was any pair to measure on.
    """
    lacking = {name: of_pass + counts.to_route[name] for name, of_pass in counts.to_score.items()}
    passes = [context for context in contexts_of(job) if not counts.is_asked or lacking[context.name]]
    if not passes:
        return True
    samples = made or _samples(folder, job, images + 1)  # the first warms up
    if not samples:
        return False
    try:
        for context in passes:
            task = PassProfileTask(context, samples)
            profile: Profile = run_in_actor(
                measure_pass, task, context.engine, job.home, f"measuring pass {context.name}"
            )
            profiles.write(job, _shape(job, context.judge), profile)
    finally:
        leave_ray()
    return True


def pass_notes(job: Job, has_budget: bool) -> Iterator[str]:
    """Yield notes on passes whose cost a reader would miss in a budget."""
    unmeasured = [judge.name for judge in job.passes if load(job, judge) is None]
    if has_budget and unmeasured:
        yield f"not in the budget, as they are not measured: the passes {', '.join(unmeasured)}; add --profile 32"


def load(job: Job, judge: ScoringPass) -> Profile | None:
    """Return the profile of a pass, if it was measured."""
    return profiles.read(job, _shape(job, judge))


def order_of(job: Job, names: Sequence[str]) -> str:
    """Return a line on which of these passes run side by side, as far as that is known before Ray is joined."""
    waves = [[context for context in wave if context.name in names] for wave in score.waves_of(job)]
    pools = [score.pool_of(context, None, job.home) for wave in waves for context in wave]
    machine = {"GPU": float(len(gpu_names())), "CPU": float(os.cpu_count() or 1)}
    if os.environ.get("RAY_ADDRESS") or not all(do_fit([pool], [machine]) for pool in pools):
        gpus, cpus = sum((pool.gpus or 0) * pool.size for pool in pools), sum(pool.cpus * pool.size for pool in pools)
        needs = _resources({"GPU": gpus, "CPU": cpus} if gpus else {"CPU": cpus}, " and ")
        waiting = "".join(f"; {judge.name} waits for {waits_for(judge)}" for judge in _waiting(job, names))
        return f"passes run side by side where Ray has {needs} for them, else one after the other{waiting}"
    rounds = [
        [wave[number].name for number in each]
        for wave in waves
        for each in rounds_of([score.pool_of(context, None, job.home) for context in wave], [machine])
    ]
    return f"on this machine ({_resources(machine, ', ')}) {score.in_words(rounds)}"


def _waiting(job: Job, names: Sequence[str]) -> list[ScoringPass]:
    """Return the passes among these names that wait for another one of them."""
    return [judge for judge in job.passes if judge.name in names and waits_for(judge) in names]


def _resources(amounts: Mapping[str, float], separator: str) -> str:
    return separator.join(f"{amount:g} {kind}{'' if amount == 1 else 's'}" for kind, amount in amounts.items())


def _shape(job: Job, judge: ScoringPass) -> list[Any]:
    """Return everything that a profile depends on: the pairs, the scores, and the engine."""
    own = {key: shape for key, shape in job.shape["passes"][judge.name].items() if key != "after"}
    return [job.shape["generated"], own, _engine_shape(judge.settings.engine), "pass"]


def _engine_shape(engine: EngineConfig) -> Any:
    return engine.model_dump(mode="json", exclude={"environment", "replicas"})


def _samples(folder: RunFolder, job: Job, most: int) -> list[PassSample]:
    """Return images drawn evenly from all that have pairs, each with its pairs."""
    drawn = list[DrawnPairs]()
    for name in folder.log(GENERATE).partitions:
        rows = folder.table(GENERATE, name, "pairs", ["assignment_id", "object_id", "outcome"])
        ids = pc.unique(rows.filter(pc.equal(rows.column("outcome"), GENERATE.passes)).column("object_id")).to_pylist()
        own = [DrawnPairs(draw(job.pipeline.plan.seed, "profile", each), each, name) for each in ids]
        drawn = heapq.nsmallest(most, [*drawn, *own])
    return [sample for name in dict.fromkeys(each.partition for each in drawn) for sample in _read(folder, name, drawn)]


def _read(folder: RunFolder, partition: str, drawn: Sequence[DrawnPairs]) -> Iterator[PassSample]:
    ids = pa.array([each.object_id for each in drawn if each.partition == partition], pa.string())
    images = folder.table(PLAN, partition, "images")
    pairs: dict[str, list[Mapping[str, Any]]] = {}
    for row in _of_objects(folder.table(GENERATE, partition, "pairs"), ids):
        if row["outcome"] == GENERATE.passes:
            pairs.setdefault(row["object_id"], []).append(row)
    for row in _of_objects(images, ids):
        yield PassSample(row, pairs[row["object_id"]])


def _of_objects(rows: pa.Table, ids: pa.Array) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = rows.filter(pc.is_in(rows.column("object_id"), ids)).to_pylist()
    return listed
