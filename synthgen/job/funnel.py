"""The funnel of an output folder: what came into each stage, what went on, what was dropped and why.

Everything is counted from commits alone, for a running, dead or finished job; no data file is read. The outcomes of
each stage add up to what the stage before passed on, less what is pending and plus what is still to be taken out; a
difference is shown, not hidden.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from synthgen.console import pluralize
from synthgen.job import run_record
from synthgen.store import RunFolder
from synthgen.tables import (
    GENERATE,
    PACK,
    PLAN,
    PLAN_OUTCOMES,
    SCORE,
    STAGES,
    StageSpec,
    pass_of_score,
    split_count,
)
from synthgen.tables.passes import TAKEN, VALUE

LARGE_LOSS = 0.5  # of what came into a stage: from here on it is why nothing was kept, whatever dropped the rest
LARGE_SHARE = 0.1  # of near duplicates among the images of a plan: from here on it is reported


@dataclass(frozen=True)
class StageFunnel:
    """The counts of one stage.

    Attributes:
        received: What came in.
        passed: What went on.
        dropped: Reason → what was dropped for it.
    """

    stage: str
    unit: str
    received: int
    passed: int
    dropped: Mapping[str, int]

    @property
    def pending(self) -> int:
        """What has no outcome yet."""
        return max(0, self.received - self.passed - sum(self.dropped.values()))

    @property
    def superseded(self) -> int:
        """What has an outcome and was retired or purged since; the end of an update or of a purge takes it out."""
        return max(0, self.passed + sum(self.dropped.values()) - self.received)

    @property
    def is_settled(self) -> bool:
        """Whether the outcomes add up to what came in: nothing is to be done and nothing to be taken out."""
        return not self.pending and not self.superseded


@dataclass(frozen=True)
class ScoreCounts:
    """How many pairs a scoring pass has scored by one of its scores; it drops none of them.

    Attributes:
        name: Of the score, PASS.SCORE.
        received: Pairs that came in.
        values: Pairs with a value.
        taken: Those of them whose value is that of the score that the pass waits for.
        without: Reason → pairs without one; `no_value` is any that no retry can change.
        retired: Pairs whose question an edit of the plan withdrew, which are not scored.
        is_removed: Whether the last run did not have it any more.
    """

    name: str
    received: int
    values: int
    taken: int
    without: Mapping[str, int]
    retired: int
    is_removed: bool

    @property
    def pending(self) -> int:
        """Pairs that are still to be scored."""
        return max(0, self.received - self.values - sum(self.without.values()) - self.retired)


def funnels(folder: RunFolder) -> list[StageFunnel]:
    """Return the counts of each stage that has an input. Raises UserMistake if the folder holds no synth run."""
    run_record.check_is_run(folder)
    return [
        _funnel(folder, spec)
        for spec in STAGES
        if spec.inputs and spec.passes and not (spec.is_optional and not folder.log(spec).partitions)
    ]


def _funnel(folder: RunFolder, spec: StageSpec) -> StageFunnel:
    received, counts = folder.log(spec.inputs[0]).counts(), folder.log(spec).counts()
    others = {spec.passes, *spec.other_counts}
    return StageFunnel(
        spec.name,
        spec.unit,
        sum(received.get(name, 0) for name in spec.receives),
        counts.get(spec.passes, 0),
        {name: count for name, count in counts.items() if name not in others},
    )


def score_counts(folder: RunFolder) -> list[ScoreCounts]:
    """Return the counts of the scores of all passes: those of the last run, then those that it did not have."""
    wanted = run_record.scores_of_passes(folder.record or {})
    pairs, counts = folder.log(GENERATE).counts().get(GENERATE.passes, 0), folder.log(SCORE).counts()
    outcomes: dict[str, dict[str, int]] = {name: {} for name in wanted}
    retired: dict[str, int] = {}
    for count_name, count in counts.items():
        name, outcome = split_count(count_name)
        if pass_of_score(name) is None:
            retired[name] = count
        else:
            outcomes.setdefault(name, {})[outcome] = count
    return [
        ScoreCounts(
            name,
            pairs,
            found.pop(VALUE, 0) + found.get(TAKEN, 0),
            found.pop(TAKEN, 0),
            found,
            retired.get(pass_of_score(name) or "", 0),
            name not in wanted,
        )
        for name, found in outcomes.items()
    ]


def nothing_kept(folder: RunFolder, last: str = PACK.name) -> str | None:
    """Return a line that says why nothing came out of the stages up to `last`, or None if anything did."""
    shown = funnels(folder)
    ends = [spec.name for spec in STAGES[: [spec.name for spec in STAGES].index(last) + 1]]
    shown = [funnel for funnel in shown if funnel.stage in ends]
    if shown[-1].passed:
        return None
    empty = next(funnel for funnel in shown if not funnel.passed)
    what = "0 pairs were kept: " if last == PACK.name else ""
    if not any(empty.dropped.values()):
        return f"{what}{empty.stage} {'is not done' if empty.received else 'had nothing to work on'}"
    reason, loss = _main_loss(empty)
    message = f"{what}nothing came out of {empty.stage}, mostly for {loss}"
    before = max(shown[: shown.index(empty)], key=_lost_share, default=None)
    if before and _lost_share(before) > LARGE_LOSS:
        reason, loss = _main_loss(before)
        message += f", after most was lost in {before.stage}, mostly for {loss}"
    return f"{message}; `synth status {folder.out.url} --reason {reason}` lists them"


def _main_loss(funnel: StageFunnel) -> tuple[str, str]:
    """Return the reason for which a stage dropped most, alone and with its share."""
    reason, count = max(funnel.dropped.items(), key=lambda entry: entry[1])
    return reason, f"{reason} ({count:,} of {funnel.received:,} {funnel.unit})"


def _lost_share(funnel: StageFunnel) -> float:
    return sum(funnel.dropped.values()) / max(1, funnel.received)


def near_duplicates_message(outcomes: Mapping[str, int]) -> str | None:
    """Return a line on the near duplicates of a plan, or None if they are few.

    Args:
        outcomes: PLAN_OUTCOMES → images; other counts are ignored.
    """
    images, near = sum(outcomes.get(name, 0) for name in PLAN_OUTCOMES), outcomes.get("near_duplicate", 0)
    if not near or near < LARGE_SHARE * images:
        return None
    share = f"{near:,} of {pluralize(images, 'image')} ({near / images:.0%})"
    return f"{share} are near duplicates of others and are not asked about; `plan.near_duplicates: -1` keeps them"


def products(folder: RunFolder) -> dict[str, int]:
    """Return how many questions, pairs and samples there are, by their name in the singular."""
    places = {"question": (PLAN, "assigned"), "pair": (GENERATE, "pair"), "sample": (PACK, "samples")}
    return {name: folder.log(spec).counts().get(outcome, 0) for name, (spec, outcome) in places.items()}
