"""The forecast of a run, from the numbers of its plan and a profile of its engine.

With a budget, the forecast is of the share of the plan that the budget pays for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from synthgen.commands.check import withheld_notes
from synthgen.commands.plan import pricing, profiles
from synthgen.commands.plan.budget import STEPS, draw_uncapped, share_within, with_plan
from synthgen.commands.plan.counts import QuestionCounts, count
from synthgen.commands.plan.pricing import Kind, Rates, Usage
from synthgen.commands.plan.tag_pricing import tag_notes
from synthgen.console import pluralize
from synthgen.engines.kinds import gpus_of
from synthgen.errors import UserMistake
from synthgen.job.changes import is_changed
from synthgen.job.funnel import near_duplicates_message
from synthgen.stages.contract import Job
from synthgen.stages.generate import Profile
from synthgen.stages.plan import Inputs
from synthgen.store import Folder, RunFolder


@dataclass(frozen=True)
class TypeEstimate:
    """One instruction type of a forecast."""

    type: str
    planned: int
    to_ask: int
    measured: int
    usage: Usage | None  # of the questions to ask; None where nothing was measured


@dataclass(frozen=True)
class Forecast:
    """The questions that a run would ask, and what they would take."""

    job: Job
    counts: QuestionCounts
    types: tuple[TypeEstimate, ...]  # the dearest first
    profile: Profile | None
    notes: tuple[str, ...] = ()

    @property
    def to_ask(self) -> int:
        """Questions without an outcome by the current recipe."""
        return sum(estimate.to_ask for estimate in self.types)

    @property
    def total(self) -> Usage:
        """The usage of all types."""
        return Usage.total(estimate.usage for estimate in self.types if estimate.usage)


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
    if request.budget is not None:
        pricing.parse_budget(request.budget, job.pipeline.generate.price)
    if not Inputs.from_folder(folder, job.pipeline.tag.taggers).partitions:
        raise UserMistake(f"{job.out.url}: holds no tagged images; name the images too, and they are tagged first")
    notes = [_old_tags(job.out), *tag_notes(folder, job)] if is_changed(folder, job, "tags") else []
    has_budget = request.budget is not None  # a budget looks for a share of the whole plan, not of the job's
    counts = count(folder, with_plan(folder, job, share=1.0) if has_budget else job, request.diff)
    if counts.is_asked and (request.profile or has_budget):
        needs_no_budget = has_budget and not counts.unscored
        suffix = " and no budget is needed" if needs_no_budget else ""
        notes.append(f"nothing is left to ask, so nothing is measured{suffix}")
    elif request.profile:
        profiles.store(job, profiles.measure_profile(folder, job, request.profile))
    profile = profiles.load(job)
    if request.budget is not None and not counts.is_asked:
        job, note = _fit_budget(folder, job, request.budget, profile)
        notes.append(note)
    if has_budget and job.pipeline.plan.share < 1:
        counts = count(folder, job, request.diff)
    notes += [
        *withheld_notes(job.definitions.prompts.types, job.pipeline.plan.allow),
        *_notes(job.out, counts, profile),
    ]
    return Forecast(job, counts, _type_estimates(counts, profile), profile, tuple(notes))


def _old_tags(out: Folder) -> str:
    return (
        "the images were tagged with another tagger or taxonomy; tag them again with "
        f"`synth run --out {out.url} --until tag --update` and the same settings"
    )


def _notes(out: Folder, counts: QuestionCounts, profile: Profile | None) -> Iterator[str]:
    """Yield notes on questions and calls that a reader would not expect in the numbers, or would miss in them."""
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
    if profile and (profile.failed_calls or profile.left_out) and not counts.is_asked:
        yield (
            f"{profile.failed_calls:,} of {pluralize(profile.calls, 'call')} of the profile failed, "
            f"and {pluralize(profile.left_out, 'question')} that they left without a result are not in it: "
            "the forecast may be too low; fix the cause and profile again"
        )
    if profile and profile.uncounted and not counts.is_asked:
        names = ", ".join(f"{name} of {calls:,}" for name, calls in profile.uncounted.items())
        yield (
            f"the engine did not count all tokens of {pluralize(profile.calls, 'call')} of the profile ({names}); "
            "such tokens are 0 in the forecast"
        )


def _type_estimates(counts: QuestionCounts, profile: Profile | None) -> tuple[TypeEstimate, ...]:
    rates = _rates(profile)
    kinds_of_type: dict[str, list[Kind]] = {}
    for kind in counts.planned:
        kinds_of_type.setdefault(kind[0], []).append(kind)
    estimates = [_type_estimate(path, kinds, counts, rates) for path, kinds in kinds_of_type.items()]
    return tuple(sorted(estimates, key=_dearest_first))


def _type_estimate(path: str, kinds: list[Kind], counts: QuestionCounts, rates: Rates | None) -> TypeEstimate:
    planned = sum(counts.planned[kind] for kind in kinds)
    to_ask = {kind: counts.planned[kind] - counts.asked[kind] for kind in kinds}
    if rates is None:
        return TypeEstimate(path, planned, sum(to_ask.values()), 0, None)
    usage = Usage.total(rates.of(kind).times(number) for kind, number in to_ask.items())
    return TypeEstimate(path, planned, sum(to_ask.values()), sum(map(rates.measured, kinds)), usage)


def _dearest_first(estimate: TypeEstimate) -> tuple[float, str]:
    return -(estimate.usage.seconds if estimate.usage else estimate.planned), estimate.type


def _rates(profile: Profile | None) -> Rates | None:
    if profile is None:
        return None
    return pricing.mean_rates(
        (
            (cost.type, cost.form),
            Usage(cost.prompt_tokens, cost.cached_tokens, cost.output_tokens, cost.seconds),
        )
        for cost in profile.questions
    )


def _fit_budget(folder: RunFolder, job: Job, text: str, profile: Profile | None) -> tuple[Job, str]:
    """Return the job with the share of its plan that a budget pays for, and a note that names the share."""
    generation, settings = job.pipeline.generate, job.pipeline.plan
    price, gpus = generation.price, gpus_of(generation.engine)
    budget, rates = pricing.parse_budget(text, price), _rates(profile)
    if rates is None:
        raise UserMistake(
            f"--budget {text}: no profile of this engine is stored in {job.out.url}; add --profile 32 to measure one"
        )
    plan = draw_uncapped(folder, job, lambda kind: budget.spent(rates.of(kind), price, gpus))
    share = share_within(plan, settings, budget.amount)
    if share is None:
        least = budget.spell(plan.cost(settings, 1 / STEPS), price)
        raise UserMistake(
            f"--budget {text}: the smallest share still has a question of each type and takes {least}; "
            "give as much, or use a mapping with fewer types"
        )
    if share == 1:
        return with_plan(folder, job, share=1.0), f"the whole plan is within {text}"
    note = (
        f"{share:.2%} of each type's questions, and one of each at least, is within {text}: "
        f"write `share: {share:.6f}` under `plan:`"
    )
    return with_plan(folder, job, share=share), note
