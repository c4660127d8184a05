"""What is planned next, and with which numbers: the records `2-planned/epochs/<n>.json`.

Comes in: the plan so far and what is tagged. Goes out: a Task. An epoch's record is written before any of its rows are drawn,
once, and says which commits it covers and the numbers it draws with; so an epoch that was cut short continues to the same
rows, seeing of the other stages just what it saw when it began.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import pyarrow as pa

from synthgen.errors import Damaged
from synthgen.plan.drawing import Drawer, Terms, subjects_of
from synthgen.plan.inputs import Inputs, Reads
from synthgen.plan.survey import KEPT, Survey, look_over
from synthgen.store import Log, Stage

SAMPLED = 20_000  # images that balancing looks at, or a few more


@dataclass(frozen=True)
class Epoch:
    """The record of a plan epoch: partitions to plan, and the numbers to draw with."""

    number: int
    fingerprint: str
    balance: Mapping[str, float]  # the settings that the factors were worked out for
    factors: Mapping[str, float]  # instruction type → what its weight is multiplied by
    reads: Mapping[str, Reads]  # partition → the commits that it is planned from


@dataclass(frozen=True)
class Task:
    """An epoch to plan, or to finish."""

    epoch: Epoch
    inputs: Inputs
    survey: Survey
    left: tuple[str, ...]  # partitions without a commit of this epoch
    log: Log  # the plan now


def next_task(stage: Stage, terms: Terms, replan: bool) -> Task | None:
    """The epoch that was cut short, or a new one over what is new; None if there is nothing to plan."""
    log, inputs, epochs = stage.log(), Inputs.of(stage.out, terms.taggers), _names(stage)
    last = _read(stage, epochs[-1]) if epochs else None
    # On other terms its rows cannot be drawn any more: what is left of it then belongs to the next epoch.
    if last and last.fingerprint == terms.fingerprint and (left := _left(log, last)):
        before = _until(log, last.number)
        then = inputs.at({**{name: _reads(before, name) for name in before.partitions}, **last.reads})
        return Task(last, then, look_over(then, before, terms.settings.near_duplicates), left, log)
    return _begun(stage, log, inputs, terms, last, replan)


def _begun(stage: Stage, log: Log, inputs: Inputs, terms: Terms, last: Epoch | None, replan: bool) -> Task | None:
    """Records a new epoch over what is tagged anew, or planned on other terms if `replan`, and what that touches."""
    reads = {name: inputs.reads(name) for name in inputs.partitions}
    wanted = {name for name in reads if _reads(log, name) != reads[name]}
    if replan:
        wanted |= {name for name in reads if log.fingerprint(name, "assignments") != terms.fingerprint}
    if not wanted:
        return None
    survey = look_over(inputs, log, terms.settings.near_duplicates)
    covered = [name for name in reads if name in wanted | survey.overtaken]
    number = last.number + 1 if last else 1
    settings = terms.settings.balance.model_dump()
    # Numbers once drawn with stay until they are edited, or every growth would move the draws of images planned long ago.
    factors = last.factors if last and last.balance == settings else _factors(inputs, terms, survey, covered)
    epoch = Epoch(number, terms.fingerprint, settings, factors, {name: reads[name] for name in covered})
    stage.folder.child("epochs").create(f"{number:06d}.json", json.dumps(asdict(epoch), indent=1).encode())
    if _read(stage, f"{number:06d}.json") != epoch:
        return next_task(stage, terms, replan)  # the last word of a driver that has lost its lease; it counts
    return Task(epoch, inputs, survey, tuple(covered), log)


def _factors(inputs: Inputs, terms: Terms, survey: Survey, covered: Sequence[str]) -> dict[str, float]:
    """What balancing multiplies each type's weight by, from kept images of evenly chosen partitions; objects are spread over
    partitions by hash, so these are a fair sample."""
    strength = terms.settings.balance.types
    if strength == 0:
        return {}
    some = covered[:: max(1, int((survey.outcome == KEPT).sum()) // SAMPLED)]
    kept = (
        subjects_of(rows.filter(pa.array(survey.outcome[survey.places[name]] == KEPT))) for name in some for rows in [inputs.objects(name)]
    )
    return Drawer(terms, {}).balanced(chain.from_iterable(kept), strength)


def _names(stage: Stage) -> list[str]:
    return stage.folder.child("epochs").names(".json")


def _read(stage: Stage, name: str) -> Epoch:
    folder = stage.folder.child("epochs")
    try:
        return Epoch(**json.loads(folder.read(name)))
    except (ValueError, TypeError) as error:
        raise Damaged(f"{folder.full(name)}: is not the record of a plan epoch ({error}); no plan can go on without it") from error


def _left(log: Log, epoch: Epoch) -> tuple[str, ...]:
    """The partitions of an epoch that it has not committed."""
    return tuple(name for name in epoch.reads if (latest := log.latest(name)) is None or latest.epoch < epoch.number)


def _until(log: Log, number: int) -> Log:
    """The plan as it was before an epoch."""
    found = {name: tuple(commit for commit in commits if commit.epoch < number) for name, commits in log.partitions.items()}
    return Log({name: commits for name, commits in found.items() if commits})


def _reads(log: Log, partition: str) -> Reads:
    """What a partition was planned from; nothing if it never was."""
    latest = log.latest(partition)
    return latest.receipt.reads if latest else {}
