"""The forecast of a run, from the numbers of its plan and a profile of its engine.

With a budget, the forecast is of the share of the plan that the budget pays for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from synthgen.commands.check import withheld_notes
from synthgen.commands.plan import pass_pricing, pricing, profiles
from synthgen.commands.plan.budget import STEPS, draw_uncapped, share_within
from synthgen.commands.plan.counts import QuestionCounts, count
from synthgen.commands.plan.pass_pricing import PassEstimate, pass_notes
from synthgen.commands.plan.pricing import Budget, Kind, Rates, Usage
from synthgen.commands.plan.tag_pricing import tag_notes
from synthgen.config.generation import GenerateConfig
from synthgen.console import pluralize
from synthgen.engines.kinds import gpus_of
from synthgen.errors import UserMistake
from synthgen.job.changes import is_changed
from synthgen.job.context_room import image_notes
from synthgen.job.funnel import near_duplicates_message
from synthgen.job.given import check_is_asked
from synthgen.job.job import with_plan_settings
from synthgen.stages.contract import Job
from synthgen.stages.generate import Profile
from synthgen.stages.plan import Inputs
from synthgen.stages.score.profiling import PassSample
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE


@dataclass(frozen=True)
class TypeEstimate:
    """One instruction type of a forecast."""

    type: str
    planned: int
    to_ask: int
    measured: int
    usage: Usage | None  # of the questions to ask; None where nothing was measured
    asking: Usage | None = None  # of a model that only asks; then `usage` is of the one that answers


@dataclass(frozen=True)
class Forecast:
    """The questions that a run would ask, and what they would take."""

    job: Job
    counts: QuestionCounts
    types: tuple[TypeEstimate, ...]  # the dearest first
    profile: Profile | None
    notes: tuple[str, ...] = ()
    asking: Profile | None = None  # of a model that only asks; then `profile` is of the one that answers
    passes: tuple[PassEstimate, ...] = ()

    @property
    def to_ask(self) -> int:
        """Questions without an outcome by the current recipe."""
        return sum(estimate.to_ask for estimate in self.types)

    @property
    def total(self) -> Usage:
        """The usage of all types."""
        return Usage.total(estimate.usage for estimate in self.types if estimate.usage)

    @property
    def total_asking(self) -> Usage:
        """The usage of all types by a model that only asks."""
        return Usage.total(estimate.asking for estimate in self.types if estimate.asking)


@dataclass(frozen=True)
class EstimateRequest:
    """The options of a forecast."""

    profile: int | None = None  # images to measure the engine on
    budget: str | None = None
    diff: bool = False


def forecast(folder: RunFolder, job: Job, request: EstimateRequest) -> Forecast:
    """Return the forecast of a job; with a budget, of the share of its plan that the budget pays for.

    Args:
        folder: The output folder; it holds tagged images.
        job: The job.
        request: Whether to measure the engine first, to fit a budget, and to compare with the committed plan.

    Raises:
        UserMistake: No image is tagged, or the budget cannot be read or pays for nothing.
    """
    check_is_asked(job.out.url, job.has_pairs, "plan")
    if request.budget is not None:
        pricing.parse_budget(request.budget, pricing.price_of(job.pipeline.generate))
    if not Inputs.from_folder(folder, job.pipeline.tag.taggers).partitions:
        raise UserMistake(f"{job.out.url}: holds no tagged images; name the images too, and they are tagged first")
    notes = [_old_tags(job.out), *tag_notes(folder, job)] if is_changed(folder, job, "tags") else []
    has_budget = request.budget is not None  # a budget looks for a share of the whole plan, not of the job's
    counts = count(folder, with_plan_settings(job, share=1.0) if has_budget else job, request.diff)
    if counts.is_asked and (request.profile or has_budget):
        needs_no_budget = has_budget and not counts.unscored
        suffix = " and no budget is needed" if needs_no_budget else ""
        what = "only scoring passes are measured" if request.profile and job.passes else "nothing is measured"
        notes.append(f"nothing is left to ask, so {what}{suffix}")
    if request.profile:
        made = [] if counts.is_asked else _measure(folder, job, request.profile)
        if job.passes and not pass_pricing.measure(folder, job, counts, request.profile, made):
            notes.append("there is no pair yet, so scoring passes are not measured")
    measured = profiles.load(job)
    if request.budget is not None and not counts.is_asked:
        job, note = _fit_budget(folder, job, request.budget, measured, counts)
        notes.append(note)
    if has_budget and job.pipeline.plan.share < 1:
        counts = count(folder, job, request.diff)
    notes += [
        *withheld_notes(job.definitions.prompts.types, job.pipeline.plan.allow),
        *_notes(job.out, counts),
        *image_notes(job),
        *pass_notes(job, has_budget),
    ]
    profile, asking = measured or (None, None)
    notes += [note for each in (asking, profile) if each and not counts.is_asked for note in _profile_notes(each)]
    estimates = _type_estimates(counts, profile, asking)
    passes = tuple(pass_pricing.pass_estimates(job, counts))
    return Forecast(job, counts, estimates, profile, tuple(notes), asking, passes)


def _measure(folder: RunFolder, job: Job, images: int) -> list[PassSample]:
    """Measure the engines that ask and answer; return the images that have got pairs on the way, with these."""
    measured = profiles.measure_profiles(folder, job, images)
    profiles.store(job, measured.profiles)
    pairs: dict[str, list[Mapping[str, Any]]] = {}
    for row in measured.pairs:
        if row["outcome"] == GENERATE.passes:
            pairs.setdefault(row["object_id"], []).append(row)
    rows = (sample.image for sample in measured.images)
    return [PassSample(row, pairs[row["object_id"]]) for row in rows if row["object_id"] in pairs]


def _old_tags(out: Folder) -> str:
    return (
        "the images were tagged with another tagger or taxonomy; tag them again with "
        f"`synth run --out {out.url} --until tag --update` and the same settings"
    )


def _notes(out: Folder, counts: QuestionCounts) -> Iterator[str]:
    """Yield notes on questions that a reader would not expect in the numbers, or would miss in them."""
    if message := near_duplicates_message(counts.outcomes):
        yield message
    if counts.outdated:
        asked, count_as = ("was asked", "counts") if counts.outdated == 1 else ("were asked", "count")
        yield (
            f"{pluralize(counts.outdated, 'question')} {asked} with another model, prompts or settings and {count_as} "
            f"as still to ask; `synth run --out {out.url} --update` with the same settings asks them again"
        )
    if counts.unscored:
        scores = ", ".join(f"{name} (of {pluralize(pairs, 'pair')})" for name, pairs in sorted(counts.unscored.items()))
        yield (f"existing pairs lack these scores: {scores}; their cost is not included in the estimate or the budget")


def _profile_notes(profile: Profile) -> Iterator[str]:
    """Yield notes on calls of a profile that failed or were not counted."""
    if profile.failed_calls or profile.left_out:
        yield (
            f"{profile.failed_calls:,} of {pluralize(profile.calls, 'call')} of the profile failed, "
            f"and {pluralize(profile.left_out, 'question')} that they left without a result are not in it: "
            "the forecast may be too low; fix the cause and profile again"
        )
    if profile.uncounted:
        names = ", ".join(f"{name} of {calls:,}" for name, calls in profile.uncounted.items())
        yield (
            f"the engine did not count all tokens of {pluralize(profile.calls, 'call')} of the profile ({names}); "
            "such tokens are 0 in the forecast"
        )


def _type_estimates(
    counts: QuestionCounts, profile: Profile | None, asking: Profile | None
) -> tuple[TypeEstimate, ...]:
    rates, asking_rates = pricing.rates_of(profile), pricing.rates_of(asking)
    kinds_of_type: dict[str, list[Kind]] = {}
    for kind in counts.planned:
        kinds_of_type.setdefault(kind[0], []).append(kind)
    estimates = [
        replace(_type_estimate(path, kinds, counts, rates), asking=_asking(kinds, counts, asking_rates))
        for path, kinds in kinds_of_type.items()
    ]
    return tuple(sorted(estimates, key=_dearest_first))


def _asking(kinds: list[Kind], counts: QuestionCounts, rates: Rates | None) -> Usage | None:
    """Return the usage of the model that only asks, for the kinds of a type; None where there is none."""
    if rates is None:
        return None
    return Usage.total(rates.of(kind).times(counts.planned[kind] - counts.written[kind]) for kind in kinds)


def _type_estimate(path: str, kinds: list[Kind], counts: QuestionCounts, rates: Rates | None) -> TypeEstimate:
    planned = sum(counts.planned[kind] for kind in kinds)
    to_ask = {kind: counts.planned[kind] - counts.asked[kind] for kind in kinds}
    if rates is None:
        return TypeEstimate(path, planned, sum(to_ask.values()), 0, None)
    usage = Usage.total(rates.of(kind).times(number) for kind, number in to_ask.items())
    return TypeEstimate(path, planned, sum(to_ask.values()), sum(map(rates.measured, kinds)), usage)


def _dearest_first(estimate: TypeEstimate) -> tuple[float, str]:
    seconds = sum(usage.seconds for usage in (estimate.usage, estimate.asking) if usage)
    return -(seconds if estimate.usage else estimate.planned), estimate.type


def _fit_budget(
    folder: RunFolder, job: Job, text: str, measured: profiles.Profiles | None, counts: QuestionCounts
) -> tuple[Job, str]:
    """Return the job with the share of its plan that a budget pays for, and a note that names the share."""
    generation, settings = job.pipeline.generate, job.pipeline.plan
    price = pricing.price_of(generation)
    budget = pricing.parse_budget(text, price)
    if measured is None:
        raise UserMistake(
            f"--budget {text}: no profile of this engine is stored in {job.out.url}; add --profile 32 to measure one"
        )
    costs = [(1.0, _cost_of(budget, generation.answerer, measured.answering))]
    for judge in job.passes:
        share = pass_pricing.open_share(job, judge, counts)
        cost = _cost_of(budget, judge.settings, pass_pricing.load(job, judge))
        costs.append((1.0 if share is None else share, cost))

    def answering(kind: Kind) -> float:
        return sum(share * cost(kind) for share, cost in costs)

    plan = draw_uncapped(folder, job, answering, _cost_of(budget, generation.asker, measured.asking))
    share = share_within(plan, settings, budget.amount)
    if share is None:
        least = budget.spell(plan.cost(settings, 1 / STEPS), price)
        raise UserMistake(
            f"--budget {text}: the smallest share still has a question of each type and takes {least}; "
            "give as much, or use a mapping with fewer types"
        )
    if share == 1:
        return with_plan_settings(job, share=1.0), f"the whole plan is within {text}"
    note = (
        f"{share:.2%} of each type's questions, and one of each at least, is within {text}: "
        f"write `share: {share:.6f}` under `plan:`"
    )
    return with_plan_settings(job, share=share), note


def _cost_of(budget: Budget, part: GenerateConfig, profile: Profile | None) -> Callable[[Kind], float]:
    """Return the function that returns what a question of a kind takes of a budget; nothing without a profile."""
    rates, gpus = pricing.rates_of(profile), gpus_of(part.engine)
    return lambda kind: budget.spent(rates.of(kind), part.price, gpus) if rates else 0.0
