"""What is planned next, and with which numbers: the records `2-planned/epochs/<n>.json`.

Comes in: the plan so far and what is tagged. Goes out: a Task. An epoch's record is written before any of its rows are drawn,
once, and says which commits it covers and the numbers it draws with; so an epoch that was cut short continues to the same
rows, seeing of the other stages just what it saw when it began.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa

from synthgen.errors import Damaged
from synthgen.stages.contract import Change
from synthgen.stages.plan import quotas
from synthgen.stages.plan.assign import Assigner, PlanContext, PlannedImage, rarity_of, subjects_of
from synthgen.stages.plan.draft import PlanState, draft, planned_before
from synthgen.stages.plan.duplicates import KEPT
from synthgen.stages.plan.inputs import Inputs, Reads
from synthgen.stages.plan.survey_process import survey_in_subprocess
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.tables import PLAN

SAMPLED = 20_000  # images that balancing looks at, or a few more


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
    state: PlanState
    pending: tuple[str, ...]  # partitions without a commit of this epoch

    def assigner(self, context: PlanContext) -> Assigner:
        """What draws by the epoch's numbers."""
        return Assigner(context, self.epoch.factors, self.epoch.rarity)


def next_task(folder: RunFolder, context: PlanContext, change: Change) -> EpochTask | None:
    """The epoch that was cut short, or a new one over what is new, recorded; None if there is nothing to plan."""
    stage = folder.stage(PLAN)
    last = _last(stage)
    # with other settings, or from what is no longer there, its rows cannot be drawn: what is left of it then belongs to the next epoch.
    if last and last.fingerprint == context.fingerprint and (task := _cut_short(folder, context, last)):
        return task
    task = proposed(folder, context, change)
    if task is None:
        return None
    name = f"{task.epoch.number:06d}.json"
    stage.folder.child("epochs").create(name, json.dumps(asdict(task.epoch), indent=1).encode())
    if _read(stage, name) != task.epoch:
        return next_task(folder, context, change)  # the last word of a driver that has lost its lease; it counts
    return task


def _cut_short(folder: RunFolder, context: PlanContext, epoch: Epoch) -> EpochTask | None:
    """What is left of an epoch, over what it saw when it began; None if nothing is, or if what it saw is no longer there."""
    log, inputs = folder.log(PLAN), Inputs.of(folder, context.taggers)
    if not (left := _left(log, epoch)):
        return None
    before = _until(log, epoch.number)
    reads = {**{name: _reads(before, name) for name in before.partitions}, **epoch.reads}
    if inputs.outdates(reads):
        return None
    then = inputs.at(reads)
    try:
        survey = survey_in_subprocess(then, before, context.settings.near_duplicates)
    except (
        Damaged
    ):  # of the plan before this epoch, most likely, which the epoch has replaced; a new one looks at what counts now
        return None
    return EpochTask(epoch, PlanState(then, survey, log, epoch.redraws), left)


def proposed(folder: RunFolder, context: PlanContext, change: Change) -> EpochTask | None:
    """A new epoch over what is tagged anew, over what `change` says beside it, and over what that touches; not recorded."""
    log, inputs, last = folder.log(PLAN), Inputs.of(folder, context.taggers), _last(folder.stage(PLAN))
    reads = {name: inputs.reads(name) for name in inputs.partitions}
    wanted = {name for name in reads if change == "redraw" or _reads(log, name) != reads[name]}
    if change == "edit":
        wanted |= {name for name in reads if log.fingerprint(name, "assignments") != context.fingerprint}
    if not wanted:
        return None
    survey = survey_in_subprocess(inputs, log, context.settings.near_duplicates)
    covered = tuple(name for name in reads if name in wanted | survey.overtaken)
    state = PlanState(inputs, survey, log, change == "redraw")
    balance = context.settings.balance.model_dump()
    number = last.number + 1 if last else 1
    epoch = Epoch(
        number, context.fingerprint, balance, {}, {name: reads[name] for name in covered}, redraws=state.redraws
    )
    # Numbers once drawn with stay until they are edited, or every growth would move the draws of images planned long ago.
    is_new = last is None or last.balance != balance or state.redraws
    factors, rarity = _balanced(state, context, covered) if is_new or last is None else (last.factors, last.rarity)
    task = EpochTask(replace(epoch, factors=factors, rarity=rarity), state, covered)
    return replace(task, epoch=replace(task.epoch, limits=_limits(task, context)))


def _balanced(
    state: PlanState, context: PlanContext, covered: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """What balancing multiplies each type's weight by, and how rare each tag is, from kept images of evenly chosen partitions;
    files are spread over partitions by hash, and a large Parquet file over many, so these are a fair sample."""
    strength = context.settings.balance
    if strength.types == 0 and strength.tags == 0:
        return {}, {}
    some = covered[:: max(1, int((state.survey.outcome == KEPT).sum()) // SAMPLED)]
    kept: list[PlannedImage] = []
    for name in some:
        is_kept = state.survey.outcome[state.survey.places[name]] == KEPT
        kept += subjects_of(state.inputs.objects(name).filter(pa.array(is_kept)))
    rarity = rarity_of(kept, strength.tags) if strength.tags else {}
    return Assigner(context, {}, rarity).balanced(kept, strength.types) if strength.types else {}, rarity


def _limits(task: EpochTask, context: PlanContext) -> dict[str, list[float]]:
    """What share and caps come to: everything is drawn once to be counted."""
    if not quotas.are_set(context.settings):
        return {}
    types, assigner, parts, stays = tuple(context.types), task.assigner(context), [], Counter[str]()
    place_of = {path: place for place, path in enumerate(types)}
    for name in task.pending:
        found = draft(task.state, assigner, name)
        is_open = ~(found.is_planned & found.stands)
        stays.update(found.assignments.filter(pa.array(~is_open)).column("type").to_pylist())
        rows = found.assignments.filter(pa.array(is_open))
        places = np.array([place_of[path] for path in rows.column("type").to_pylist()], dtype=np.int16)
        parts.append(quotas.Drawn(places, quotas.keys_of(context.settings.seed, rows), found.is_planned[is_open]))
    for name in set(task.state.log.partitions) - set(task.pending):
        rows = planned_before(task.state, name)
        stays.update(
            path
            for path, gone in zip(*(rows.column(one).to_pylist() for one in ("type", "retired")), strict=True)
            if not gone
        )
    return quotas.limits_of(context.settings, quotas.Candidates(types, quotas.together(parts), stays))


def _last(stage: StageFolder) -> Epoch | None:
    names = stage.folder.child("epochs").names(".json")
    return _read(stage, names[-1]) if names else None


def _read(stage: StageFolder, name: str) -> Epoch:
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
