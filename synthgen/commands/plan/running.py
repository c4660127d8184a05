"""The plan's price beside a run at work: what the stages that call models cost by the profiles of their engines."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from synthgen.commands.plan import pass_pricing, pricing, profiles
from synthgen.commands.plan.pricing import Kind, Usage
from synthgen.config.generation import GenerateConfig
from synthgen.console import Event, note, tell
from synthgen.console.events import Planned, Progress
from synthgen.errors import Damaged
from synthgen.stages.contract import Job
from synthgen.stages.generate import Profile
from synthgen.stages.spending import cost_of
from synthgen.store import RunFolder
from synthgen.tables import ASK, GENERATE, PLAN, SCORE

PARTITIONS = 32  # whose questions stand for all: which question is in which is a matter of hashes


class PlanPrice:
    """Tells what a stage costs by the plan when it begins, if `synth plan --profile` has measured its engine."""

    def __init__(self, folder: RunFolder, job: Job) -> None:
        self._folder, self._job = folder, job

    def see(self, event: Event) -> None:
        """Tell the price of the stage that begins."""
        if not isinstance(event, Progress) or event.phase != "start":
            return
        try:
            for part, profile in self._parts(event.stage):
                cost = cost_of(part, *self._usage(profile, event.total))
                if cost:
                    tell(Planned(event.stage, cost))
        except Damaged as error:  # a run does not need its price
            note(str(error))

    def _parts(self, stage: str) -> Iterator[tuple[GenerateConfig, Profile]]:
        """Yield the settings of the model of a stage with its profile, if there is one."""
        job, generate = self._job, self._job.pipeline.generate
        if stage in (ASK.name, GENERATE.name) and (measured := profiles.load(job)):
            part, profile = (
                (generate.asker, measured.asking)
                if stage == ASK.name
                else (
                    generate.answerer,
                    measured.answering,
                )
            )
            if profile:
                yield part, profile
        for judge in job.passes:
            if stage == f"{SCORE.name} {judge.name}" and (profile := pass_pricing.load(job, judge)):
                yield judge.settings, profile

    def _usage(self, profile: Profile, total: int) -> tuple[dict[str, float], float]:
        """Return the tokens and seconds of so many rows, if they are of the same kinds as the plan's questions."""
        rates, kinds = pricing.rates_of(profile), self._kinds()
        assert rates is not None
        usage = Usage.total(rates.of(kind).times(count) for kind, count in kinds.items())
        usage = usage.times(total / max(1, kinds.total()))
        return asdict(usage), usage.seconds

    def _kinds(self) -> Counter[Kind]:
        """Return how many of the plan's questions there are of each kind, in some partitions."""
        names = list(self._folder.log(PLAN).partitions)
        kinds = Counter[Kind]()
        for name in names[:: max(1, len(names) // PARTITIONS)]:
            rows = self._folder.table(PLAN, name, "assignments", ["type", "form"])
            kinds.update(zip(rows.column("type").to_pylist(), rows.column("form").to_pylist(), strict=True))
        return kinds
