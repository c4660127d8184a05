"""The plan as it would be, without writing it.

Comes in: an output folder with tagged images, and the context of a plan. Goes out: for each partition what is kept, added and
taken back beside the committed plan, and what becomes of its objects: just what `run` would commit, by the same code.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.mapping import ImageSize, RuleSet
from synthgen.stages.plan.assign import PlanContext
from synthgen.stages.plan.draft import Draft
from synthgen.stages.plan.epochs import proposed
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.plan import plan_partition
from synthgen.store import RunFolder
from synthgen.tables import ASSIGNMENTS, PLAN, PLAN_OUTCOMES

NO_RULE = ""  # what asked for a question that no rule of today asks


@dataclass(frozen=True)
class PartitionDiff:
    """A partition of the plan, as it would be beside what it is; the three tables have the columns of ASSIGNMENTS."""

    name: str
    kept: pa.Table
    added: pa.Table
    gone: pa.Table
    outcomes: Mapping[str, int]  # PLAN_OUTCOMES -> objects


def parts(folder: RunFolder, context: PlanContext) -> Iterator[PartitionDiff]:
    """Every partition that is planned or would be; what an edit touches counts as `run --update` would have it."""
    log, task = folder.log(PLAN), proposed(folder, context, "edit")
    touched = task.pending if task else ()
    assigner = task.assigner(context) if task else None
    for name in Inputs.of(folder, context.taggers).partitions:
        if task and assigner and name in touched:
            planned = plan_partition(task, assigner, name)
            outcomes = Counter(one for one in planned.names.tolist() if one in PLAN_OUTCOMES)
            yield PartitionDiff(name, *_compared(planned.draft, planned.assignments), outcomes)
        else:
            before = folder.table(PLAN, name, "assignments")
            live, nothing = before.filter(pc.invert(before.column("retired"))), ASSIGNMENTS.empty_table()
            counts = log.counts([name])
            yield PartitionDiff(
                name, live, nothing, nothing, {one: counts[one] for one in PLAN_OUTCOMES if one in counts}
            )


def _compared(draft: Draft, wanted: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    live = draft.before.filter(pc.invert(draft.before.column("retired")))
    ids, then = (rows.column("assignment_id").combine_chunks() for rows in (wanted, live))
    is_kept = pc.is_in(wanted.column("assignment_id"), then)
    return (
        wanted.filter(is_kept),
        wanted.filter(pc.invert(is_kept)),
        live.filter(pc.invert(pc.is_in(live.column("assignment_id"), ids))),
    )


class Askers:
    """Which rule asks a question: of today's rules that fire for the image, the one that gives the type the most weight."""

    def __init__(self, inputs: Inputs, rules: RuleSet, partition: str) -> None:
        rows = inputs.objects(partition).select(["object_id", "tags", "width", "height"]).to_pylist()
        self._rules, self._objects = rules, {row["object_id"]: row for row in rows}
        self._fired: dict[str, tuple[int, ...]] = {}

    def of(self, assignments: pa.Table) -> Counter[tuple[str, str]]:
        """(type, `file:line` of the rule) -> questions."""
        pairs = zip(*(assignments.column(name).to_pylist() for name in ("object_id", "type")), strict=True)
        return Counter((path, self._rule(one, path)) for one, path in pairs)

    def _rule(self, object_id: str, path: str) -> str:
        if object_id not in self._fired:
            row = self._objects[object_id]
            facts = ImageSize(row["width"] or 0, row["height"] or 0)
            self._fired[object_id] = self._rules.match([tag["path"] for tag in row["tags"]], facts)
        weights = {number: self._rules.rules[number].ask.get(path, 0.0) for number in self._fired[object_id]}
        best = max(weights, key=lambda number: weights[number], default=None)
        return NO_RULE if best is None or weights[best] == 0 else self._rules.rules[best].where
