"""What a plan takes, from its numbers and a profile; and the share of a plan that a budget pays for.

Comes in: a job whose output folder holds tagged images, and what is to be found out. Goes out: a Forecast.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from synthgen.commands.plan import pricing, profiles
from synthgen.commands.plan.budget import STEPS, share_within, whole, with_plan
from synthgen.commands.plan.counts import QuestionCounts, count
from synthgen.commands.plan.pricing import Kind, Use
from synthgen.console import counted
from synthgen.engines.kinds import gpus_of
from synthgen.errors import UserMistake
from synthgen.job.changes import changed
from synthgen.job.job import Job
from synthgen.stages.generate import Profile
from synthgen.stages.plan import Inputs
from synthgen.store import Folder

OLD_TAGS = (
    "the tags are of another tagger or taxonomy; `synth run --out {} --until tag --update`, with what this line sets, "
    "finds them anew; then they count here"
)


@dataclass(frozen=True)
class TypeEstimate:
    """One instruction type of a forecast; `use` is None where nothing was measured."""

    type: str
    planned: int
    to_ask: int
    measured: int
    use: Use | None


@dataclass(frozen=True)
class Forecast:
    """What a run would do and take."""

    job: Job
    counts: QuestionCounts
    lines: tuple[TypeEstimate, ...]
    profile: Profile | None
    notes: tuple[str, ...] = ()

    @property
    def to_ask(self) -> int:
        """Questions without an outcome by today's recipe."""
        return sum(line.to_ask for line in self.lines)

    @property
    def total(self) -> Use:
        """All types together."""
        return Use.total(line.use for line in self.lines if line.use)


@dataclass(frozen=True)
class EstimateRequest:
    """What is to be found out."""

    profile: int | None = None  # images to measure the engine on
    budget: str | None = None
    diff: bool = False


def forecast(job: Job, wanted: EstimateRequest) -> Forecast:
    """Counts the plan, measures the engine if that is wanted, and reckons; with a budget, the plan is the share that it pays for."""
    if not Inputs.of(job.out, job.plan_terms.taggers).partitions:
        raise UserMistake(f"{job.out.url}: holds no tagged images; name the images too, and they are tagged first")
    notes = []
    if changed(job, "tags"):
        notes.append(OLD_TAGS.format(job.out.url))
    # A budget looks for a share of the whole plan, of which the job's may be a part.
    before = (
        count(with_plan(job, share=1.0) if wanted.budget else job)
        if wanted.profile or wanted.budget
        else QuestionCounts()
    )
    if before.is_asked:
        is_free = wanted.budget and not before.unscored
        notes.append("nothing is left to ask, so nothing is measured" + (" and no budget is needed" if is_free else ""))
    elif wanted.profile:
        profiles.store(job, profiles.measured(job, wanted.profile))
    profile = profiles.stored(job)
    if wanted.budget is not None and not before.is_asked:
        job, note = _within(job, wanted.budget, profile)
        notes.append(note)
    counts = count(job, wanted.diff)
    return Forecast(job, counts, _lines(counts, profile), profile, (*notes, *_notes(job.out, counts, profile)))


def _notes(out: Folder, counts: QuestionCounts, profile: Profile | None) -> Iterator[str]:
    """What is in the numbers against expectation, and what is not in them."""
    if counts.again:
        asked = counted(counts.again, "question")
        yield (
            f"{asked} had another model, other prompts or other settings; "
            f"`synth run --out {out.url} --update`, with what this line sets, asks anew, so they count as to ask"
        )
    if counts.unscored:
        scores = ", ".join(f"{name} (of {counted(pairs, 'pair')})" for name, pairs in sorted(counts.unscored.items()))
        yield f"scores are to be made of pairs that are there: {scores}; what these calls take is not in the numbers and in no budget"
    if profile and (profile.failed_calls or profile.left_out) and not counts.is_asked:
        failed = f"{profile.failed_calls:,} of {counted(profile.calls, 'call')} of the profile failed"
        left_out = f"{counted(profile.left_out, 'question')} that came to nothing for such a failure left out of it"
        yield f"{failed}, with {left_out}: the forecast may be too low; mend the cause and profile again"


def _lines(counts: QuestionCounts, profile: Profile | None) -> tuple[TypeEstimate, ...]:
    """A line for each type that is planned, the dearest first."""
    rates = _rates(profile)
    kinds: dict[str, list[Kind]] = {}
    for kind in counts.planned:
        kinds.setdefault(kind[0], []).append(kind)
    lines = []
    for path, own in kinds.items():
        left = {kind: counts.planned[kind] - counts.asked[kind] for kind in own}
        use = Use.total(rates.of(kind).times(number) for kind, number in left.items()) if rates else None
        planned, measured = (
            sum(counts.planned[kind] for kind in own),
            sum(rates.measured(kind) for kind in own) if rates else 0,
        )
        lines.append(TypeEstimate(path, planned, sum(left.values()), measured, use))
    return tuple(sorted(lines, key=lambda line: (-(line.use.seconds if line.use else line.planned), line.type)))


def _rates(profile: Profile | None) -> pricing.Rates | None:
    if profile is None:
        return None
    uses = [
        (one, Use(one.prompt_tokens, one.cached_tokens, one.output_tokens, one.seconds)) for one in profile.questions
    ]
    return pricing.rates(((one.type, one.form), use) for one, use in uses)


def _within(job: Job, text: str, profile: Profile | None) -> tuple[Job, str]:
    """The job with the share of the plan that a budget pays for."""
    generation = job.pipeline.generate
    budget, rates = pricing.read_budget(text, generation.price), _rates(profile)
    if rates is None:
        raise UserMistake(
            f"--budget {text}: no profile of this engine is stored in {job.out.url}; add --profile 32 to measure one"
        )
    gpus, settings = gpus_of(generation.engine), job.pipeline.plan
    found = whole(job, lambda kind: budget.spent(rates.of(kind), generation.price, gpus))
    share = share_within(found, settings, budget.amount)
    if share is None:
        least = budget.told(found.cost(settings, 1 / STEPS), generation.price)
        raise UserMistake(
            f"--budget {text}: the smallest share still has a question of each type and takes {least}; "
            "give as much, or use a mapping with fewer types"
        )
    if share == 1:
        return with_plan(job, share=1.0), f"the whole plan is within {text}"
    told = f"{share:.2%} of each type's questions, and one of each at least, is within {text}"
    return with_plan(job, share=share), f"{told}: write `share: {share:.6f}` under `plan:`"
