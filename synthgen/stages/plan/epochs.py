"""What is planned next, and with which numbers: the records `2-planned/epochs/<n>.json`.

Comes in: the plan so far and what is tagged. Goes out: a Task. An epoch's record is written before any of its rows are drawn,
once, and says which commits it covers and the numbers it draws with; so an epoch that was cut short continues to the same
rows, seeing of the other stages just what it saw when it began.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from synthgen.errors import Damaged
from synthgen.stages.plan import quotas
from synthgen.stages.plan.assign import Assigner, PlanContext, PlannedImage, rarity_of, subjects_of
from synthgen.stages.plan.draft import PlanState, draft, planned_before
from synthgen.stages.plan.duplicates import KEPT
from synthgen.stages.plan.inputs import Inputs, Reads
from synthgen.stages.plan.survey_process import survey_in_subprocess
from synthgen.store import CommitLog, Stage

SAMPLED = 20_000  # images that balancing looks at, or a few more
Change = Literal[
    "growth", "edit", "redraw"
]  # what is planned beside what is new: nothing, what was planned on other terms, all


@dataclass(frozen=True)
class Epoch:
    """The record of a plan epoch: partitions to plan, and the numbers to draw with."""

    number: int
    fingerprint: str
    balance: Mapping[str, float]  # the settings that the factors were worked out for
    factors: Mapping[str, float]  # instruction type → what its weight is multiplied by
    reads: Mapping[str, Reads]  # partition → the commits that it is planned from
    rarity: Mapping[str, float] = field(
        default_factory=dict
    )  # tag → how many times as many questions as usual it is worth
    limits: quotas.Limits = field(default_factory=dict)  # what share and caps came to
    redraws: bool = False


@dataclass(frozen=True)
class EpochTask:
    """An epoch to plan, or to finish."""

    epoch: Epoch
    ground: PlanState
    left: tuple[str, ...]  # partitions without a commit of this epoch

    def drawer(self, terms: PlanContext) -> Assigner:
        """What draws by the epoch's numbers."""
        return Assigner(terms, self.epoch.factors, self.epoch.rarity)


def next_task(stage: Stage, terms: PlanContext, change: Change) -> EpochTask | None:
    """The epoch that was cut short, or a new one over what is new, recorded; None if there is nothing to plan."""
    last = _last(stage)
    # On other terms, or from what is no longer there, its rows cannot be drawn: what is left of it then belongs to the next epoch.
    if last and last.fingerprint == terms.fingerprint and (task := _cut_short(stage, terms, last)):
        return task
    task = proposed(stage, terms, change)
    if task is None:
        return None
    name = f"{task.epoch.number:06d}.json"
    stage.folder.child("epochs").create(name, json.dumps(asdict(task.epoch), indent=1).encode())
    if _read(stage, name) != task.epoch:
        return next_task(stage, terms, change)  # the last word of a driver that has lost its lease; it counts
    return task


def _cut_short(stage: Stage, terms: PlanContext, epoch: Epoch) -> EpochTask | None:
    """What is left of an epoch, over what it saw when it began; None if nothing is, or if what it saw is no longer there."""
    log, inputs = stage.log(), Inputs.of(stage.out, terms.taggers)
    if not (left := _left(log, epoch)):
        return None
    before = _until(log, epoch.number)
    reads = {**{name: _reads(before, name) for name in before.partitions}, **epoch.reads}
    if inputs.outdates(reads):
        return None
    then = inputs.at(reads)
    try:
        survey = survey_in_subprocess(then, before, terms.settings.near_duplicates)
    except (
        Damaged
    ):  # of the plan before this epoch, most likely, which the epoch has replaced; a new one looks at what counts now
        return None
    return EpochTask(epoch, PlanState(then, survey, log, epoch.redraws), left)


def proposed(stage: Stage, terms: PlanContext, change: Change) -> EpochTask | None:
    """A new epoch over what is tagged anew, over what `change` says beside it, and over what that touches; not recorded."""
    log, inputs, last = stage.log(), Inputs.of(stage.out, terms.taggers), _last(stage)
    reads = {name: inputs.reads(name) for name in inputs.partitions}
    wanted = {name for name in reads if change == "redraw" or _reads(log, name) != reads[name]}
    if change == "edit":
        wanted |= {name for name in reads if log.fingerprint(name, "assignments") != terms.fingerprint}
    if not wanted:
        return None
    survey = survey_in_subprocess(inputs, log, terms.settings.near_duplicates)
    covered = tuple(name for name in reads if name in wanted | survey.overtaken)
    ground = PlanState(inputs, survey, log, change == "redraw")
    balance = terms.settings.balance.model_dump()
    number = last.number + 1 if last else 1
    epoch = Epoch(
        number, terms.fingerprint, balance, {}, {name: reads[name] for name in covered}, redraws=ground.redraws
    )
    # Numbers once drawn with stay until they are edited, or every growth would move the draws of images planned long ago.
    is_new = last is None or last.balance != balance or ground.redraws
    factors, rarity = _balanced(ground, terms, covered) if is_new or last is None else (last.factors, last.rarity)
    task = EpochTask(replace(epoch, factors=factors, rarity=rarity), ground, covered)
    return replace(task, epoch=replace(task.epoch, limits=_limits(task, terms)))


def _balanced(
    ground: PlanState, terms: PlanContext, covered: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """What balancing multiplies each type's weight by, and how rare each tag is, from kept images of evenly chosen partitions;
    files are spread over partitions by hash, and a large Parquet file over many, so these are a fair sample."""
    strength = terms.settings.balance
    if strength.types == 0 and strength.tags == 0:
        return {}, {}
    some = covered[:: max(1, int((ground.survey.outcome == KEPT).sum()) // SAMPLED)]
    kept: list[PlannedImage] = []
    for name in some:
        is_kept = ground.survey.outcome[ground.survey.places[name]] == KEPT
        kept += subjects_of(ground.inputs.objects(name).filter(pa.array(is_kept)))
    rarity = rarity_of(kept, strength.tags) if strength.tags else {}
    return Assigner(terms, {}, rarity).balanced(kept, strength.types) if strength.types else {}, rarity


def _limits(task: EpochTask, terms: PlanContext) -> dict[str, list[float]]:
    """What share and caps come to: everything is drawn once to be counted."""
    if not quotas.are_set(terms.settings):
        return {}
    types, drawer, parts, stays = tuple(terms.types), task.drawer(terms), [], Counter[str]()
    place_of = {path: place for place, path in enumerate(types)}
    for name in task.left:
        found = draft(task.ground, drawer, name)
        is_open = ~(found.is_planned & found.stands)
        stays.update(found.assignments.filter(pa.array(~is_open)).column("type").to_pylist())
        rows = found.assignments.filter(pa.array(is_open))
        places = np.array([place_of[path] for path in rows.column("type").to_pylist()], dtype=np.int16)
        parts.append(quotas.Drawn(places, quotas.keys_of(terms.settings.seed, rows), found.is_planned[is_open]))
    for name in set(task.ground.log.partitions) - set(task.left):
        rows = planned_before(task.ground, name)
        stays.update(
            path
            for path, gone in zip(*(rows.column(one).to_pylist() for one in ("type", "retired")), strict=True)
            if not gone
        )
    return quotas.limits_of(terms.settings, quotas.Candidates(types, quotas.together(parts), stays))


def _last(stage: Stage) -> Epoch | None:
    names = stage.folder.child("epochs").names(".json")
    return _read(stage, names[-1]) if names else None


def _read(stage: Stage, name: str) -> Epoch:
    folder = stage.folder.child("epochs")
    try:
        return Epoch(**json.loads(folder.read(name)))
    except (ValueError, TypeError) as error:
        raise Damaged(
            f"{folder.url}/{name}: is not the record of a plan epoch ({error}); no plan can go on without it"
        ) from error


def _left(log: CommitLog, epoch: Epoch) -> tuple[str, ...]:
    """The partitions of an epoch that it has not committed."""
    return tuple(name for name in epoch.reads if (latest := log.latest(name)) is None or latest.epoch < epoch.number)


def _until(log: CommitLog, number: int) -> CommitLog:
    """The plan as it was before an epoch."""
    found = {
        name: tuple(commit for commit in commits if commit.epoch < number) for name, commits in log.partitions.items()
    }
    return CommitLog({name: commits for name, commits in found.items() if commits})


def _reads(log: CommitLog, partition: str) -> Reads:
    """What a partition was planned from; nothing if it never was."""
    latest = log.latest(partition)
    return latest.receipt.reads if latest else {}
