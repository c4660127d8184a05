"""The epochs of the plan: which partitions are planned next, and the numbers that they are drawn with.

The record of an epoch, `2-planned/epochs/<n>.json`, is written once, before any of its rows are drawn. It names the
commits that the epoch covers and the numbers that it draws with. So an epoch that was cut short continues to the same
rows, from the same commits of the other stages.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil

import numpy as np
import pyarrow as pa

from synthgen.config.families import with_unanswerable
from synthgen.config.where import Where
from synthgen.console import note
from synthgen.errors import Damaged, one_line
from synthgen.stages.contract import Change
from synthgen.stages.plan import quotas
from synthgen.stages.plan.assign import Assigner, PlanContext
from synthgen.stages.plan.companions import grow_companions
from synthgen.stages.plan.draft import PlanSnapshot, draft, planned_before
from synthgen.stages.plan.facts import KEPT, embedding_model
from synthgen.stages.plan.images import PlannedImage, images_of, rarity_of
from synthgen.stages.plan.inputs import Inputs, Reads
from synthgen.stages.plan.survey_process import survey_in_subprocess
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.stages.plan.things import Companions
from synthgen.store import CommitLog, Folder, RunFolder
from synthgen.store.earlier_runs import EarlierRun
from synthgen.store.folder import number_of
from synthgen.store.remote import display_uri
from synthgen.tables import PLAN, TAG

REPAIR = "no plan goes on without it: restore it from a copy, or run with --replan to draw the whole plan again"
BALANCE_IMAGES = 10_000  # about as many images are read to balance a plan, at most


@dataclass(frozen=True)
class Epoch:
    """The record of an epoch, with the names that it is stored by.

    Attributes:
        balance: The settings that the factors were computed for.
        factors: Type → the factor on its weight.
        reads: Partition → the commits that it is planned from.
        rarity: Tag → how many times as many questions as usual an image of it is asked.
        limits: Type → the largest keys that `plan.share` and `plan.caps` allow.
        redraws: The plan so far is ignored.
        companions: Leaf tag → the leaf tags that are often with it, for types that ask about absent things.
        against: Earlier run of `plan.against` → the digest of its tagged and planned images.
    """

    number: int
    fingerprint: str
    balance: Mapping[str, float]
    factors: Mapping[str, float]
    reads: Mapping[str, Reads]
    rarity: Mapping[str, float] = field(default_factory=dict)
    limits: quotas.Limits = field(default_factory=dict)
    redraws: bool = False
    companions: Companions = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochTask:
    """An epoch to plan or to finish.

    Attributes:
        pending: The partitions without a commit of this epoch.
        against: The names and urls of the earlier runs, in the order of the survey's numbers.
    """

    epoch: Epoch
    snapshot: PlanSnapshot
    pending: tuple[str, ...]
    against: tuple[tuple[str, str], ...] = ()

    def assigner(self, context: PlanContext) -> Assigner:
        """Return the assigner that draws by the epoch's numbers."""
        return Assigner(context, self.epoch.factors, self.epoch.rarity, self.epoch.companions)


def next_task(folder: RunFolder, context: PlanContext, change: Change) -> EpochTask | None:
    """Return the epoch that was cut short, or record a new one; None if there is nothing to plan."""
    latest = _latest_unless_redrawn(folder, change)
    # With other settings, the rows of the latest epoch cannot be drawn; a new epoch then covers the rest of it.
    if latest and latest.fingerprint == context.fingerprint and (task := _resume(folder, context, latest)):
        return task
    task = propose(folder, context, change, latest)
    if task is None:
        return None
    name = f"{task.epoch.number:06d}.json"
    if not _epochs(folder).create(name, json.dumps(asdict(task.epoch), indent=1).encode()):
        return next_task(folder, context, change)  # a driver that lost its lease recorded this epoch late; it counts
    return task


def _resume(folder: RunFolder, context: PlanContext, epoch: Epoch) -> EpochTask | None:
    """Return the rest of an epoch, with the snapshot that it started from.

    Returns:
        None if nothing remains, or if a part of the snapshot no longer exists.
    """
    log, inputs = folder.log(PLAN), Inputs.from_folder(folder, context.taggers)
    pending = pending_partitions(log, epoch)
    if not pending:
        return None
    before = _log_before(log, epoch.number)
    reads = {**{name: _reads(before, name) for name in before.partitions}, **epoch.reads}
    runs = context.earlier_runs(folder.out)
    if inputs.has_replaced(reads) or dict(epoch.against) != _digests(runs):
        return None
    inputs, settings = inputs.as_of(reads), _survey_settings(folder, context, runs)
    try:
        survey = survey_in_subprocess(inputs, before, settings)
    except Damaged:
        # Most likely a file of the plan before, which this epoch has replaced; a new epoch does not read it.
        return None
    return EpochTask(epoch, PlanSnapshot(inputs, survey, log), pending, settings.against)


def propose(folder: RunFolder, context: PlanContext, change: Change, latest: Epoch | None) -> EpochTask | None:
    """Return a new epoch after the latest one, without recording it.

    It covers the partitions that were tagged since they were planned, those that `change` selects, and those that
    either of them affects.
    """
    log, inputs, redraws = folder.log(PLAN), Inputs.from_folder(folder, context.taggers), change == "redraw"
    reads = {name: inputs.reads(name) for name in inputs.partitions}
    wanted = {name for name in reads if redraws or _reads(log, name) != reads[name]}
    if change == "edit":
        wanted |= {name for name in reads if log.fingerprint(name, "assignments") != context.fingerprint}
    if not wanted:
        return None
    runs = context.earlier_runs(folder.out)
    settings = _survey_settings(folder, context, runs)
    survey = survey_in_subprocess(inputs, log, settings)
    covered = tuple(name for name in reads if name in wanted | survey.outdated)
    snapshot = PlanSnapshot(inputs, survey, log)
    companions = _companions(snapshot, context, covered, latest.companions if latest and not redraws else {})
    balance = context.settings.balance.model_dump()
    # Factors stay until their settings are edited: otherwise each growth would change the draws of all planned images.
    if latest is None or latest.balance != balance or redraws:
        factors, rarity = _balance(snapshot, context, covered, companions)
    else:
        factors, rarity = dict(latest.factors), dict(latest.rarity)
    number, covered_reads = _next_number(folder), {name: reads[name] for name in covered}
    epoch = Epoch(
        number, context.fingerprint, balance, factors, covered_reads, rarity, {}, redraws, companions, _digests(runs)
    )
    task = EpochTask(epoch, snapshot, covered, settings.against)
    return replace(task, epoch=replace(epoch, limits=_limits(task, context)))


def _survey_settings(folder: RunFolder, context: PlanContext, runs: Sequence[EarlierRun]) -> SurveySettings:
    """Return what counts as a duplicate, and report what cannot be compared."""
    settings = context.settings
    for run in runs:
        if settings.semantic_duplicates is not None and embedding_model(run.folder) != embedding_model(folder):
            note(f"plan.against: {run.name} has embeddings of another model; only its hashes are compared")
    against = tuple((run.name, run.folder.out.url) for run in runs)
    wanted = settings.where or Where()
    shared = settings.near_duplicates, settings.semantic_duplicates, context.fingerprint, against
    return SurveySettings(*shared, wanted.license, wanted.source)


def _digests(runs: Sequence[EarlierRun]) -> dict[str, str]:
    return {run.name: run.digest(TAG, PLAN) for run in runs}


def _companions(snapshot: PlanSnapshot, context: PlanContext, covered: Sequence[str], known: Companions) -> Companions:
    """Return the table of companions with the leaf tags of an epoch, if a type asks about absent things."""
    if not any(context.types[path].thing == "absent" for path in context.drawn_types):
        return known
    return grow_companions(known, snapshot.inputs, snapshot.survey, covered, sorted(context.leaves))


def _balance(
    snapshot: PlanSnapshot, context: PlanContext, covered: Sequence[str], companions: Companions
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the factor on each type's weight, and the rarity of each tag.

    They come from the kept images of evenly spaced partitions. Files are spread over partitions by hash, and a large
    Parquet file over many, so these are a fair sample.
    """
    strength, survey = context.settings.balance, snapshot.survey
    if strength.types == 0 and strength.tags == 0:
        return {}, {}
    step = ceil(int((survey.outcome == KEPT).sum()) / BALANCE_IMAGES) or 1
    kept: list[PlannedImage] = []
    for name in covered[::step]:
        is_kept = survey.outcome[survey.spans[name]] == KEPT
        kept += images_of(snapshot.inputs.objects(name).filter(pa.array(is_kept)))
    rarity = rarity_of(kept, strength.tags) if strength.tags else {}
    if not strength.types:
        return {}, rarity
    return Assigner(context, {}, rarity, companions).balance_factors(kept, strength.types), rarity


def _limits(task: EpochTask, context: PlanContext) -> dict[str, list[float]]:
    """Return, by type, the largest keys that `plan.share` and `plan.caps` allow; every question is drawn once."""
    if not quotas.has_quotas(context.settings):
        return {}
    types, assigner = tuple(with_unanswerable(context.types)), task.assigner(context)
    number_of = {path: number for number, path in enumerate(types)}
    drawn, fixed = list[quotas.DrawnQuestions](), Counter[str]()
    for name in task.pending:
        part = draft(task.snapshot, assigner, name, redraws=task.epoch.redraws)
        is_fixed = part.is_planned & part.is_current
        fixed.update(part.assignments.filter(pa.array(is_fixed)).column("type").to_pylist())
        rows = part.assignments.filter(pa.array(~is_fixed))
        numbers = np.array([number_of[path] for path in rows.column("type").to_pylist()], dtype=np.int16)
        keys = quotas.keys_of(context.settings.seed, rows)
        drawn.append(quotas.DrawnQuestions(numbers, keys, part.is_planned[~is_fixed]))
    for name in set(task.snapshot.log.partitions) - set(task.pending):
        rows = planned_before(task.snapshot, name)
        pairs = zip(rows.column("type").to_pylist(), rows.column("retired").to_pylist(), strict=True)
        fixed.update(path for path, is_retired in pairs if not is_retired)
    return quotas.limits_of(context.settings, quotas.Candidates(types, quotas.concatenate(drawn), fixed))


def latest_epoch(folder: RunFolder) -> Epoch | None:
    """Return the last epoch that was recorded, or None.

    Raises:
        Damaged: Its record cannot be read, or is missing.
    """
    epochs, last = _epochs(folder), folder.log(PLAN).next_epoch - 1
    names = epochs.numbered()
    if not names and not last:
        return None
    if not names or number_of(names[-1]) < last:
        raise Damaged(f"{display_uri(epochs.url)}/{last:06d}.json: is missing; {REPAIR}")
    try:
        return Epoch(**json.loads(epochs.read(names[-1])))
    except (ValueError, TypeError, RecursionError) as error:
        where = f"{display_uri(epochs.url)}/{names[-1]}"
        raise Damaged(f"{where}: is not the record of a plan epoch ({one_line(str(error))}); {REPAIR}") from error


def _latest_unless_redrawn(folder: RunFolder, change: Change) -> Epoch | None:
    """Return the last epoch, which a plan that is drawn again does without where its record is damaged."""
    try:
        return latest_epoch(folder)
    except Damaged:
        if change != "redraw":
            raise
        return None


def _epochs(folder: RunFolder) -> Folder:
    """Return the folder of the records of epochs."""
    return folder.stage(PLAN).folder.child("epochs")


def _next_number(folder: RunFolder) -> int:
    """Return the number of the next epoch, which neither a record nor a commit has."""
    names = _epochs(folder).numbered()
    return max(folder.log(PLAN).next_epoch, number_of(names[-1]) + 1 if names else 1)


def pending_partitions(log: CommitLog, epoch: Epoch) -> tuple[str, ...]:
    """Return the partitions of an epoch that it has not committed."""
    latest = {name: log.latest(name) for name in epoch.reads}
    return tuple(name for name, commit in latest.items() if commit is None or commit.epoch < epoch.number)


def _log_before(log: CommitLog, number: int) -> CommitLog:
    """Return the plan as it was before an epoch."""
    earlier = {
        name: tuple(commit for commit in commits if commit.epoch < number) for name, commits in log.partitions.items()
    }
    return CommitLog({name: commits for name, commits in earlier.items() if commits})


def _reads(log: CommitLog, partition: str) -> Reads:
    """Return the commits that a partition was planned from; none if it is not planned."""
    latest = log.latest(partition)
    return latest.receipt.reads if latest else {}
