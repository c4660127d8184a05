"""The plan that a run would commit, without writing it: by the same code, each partition next to its committed plan."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.families import is_unanswerable
from synthgen.config.mapping import Match
from synthgen.stages.plan.assign import Assigner, PlanContext
from synthgen.stages.plan.draft import Draft
from synthgen.stages.plan.epochs import latest_epoch, propose
from synthgen.stages.plan.images import images_of
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.plan import plan_partition
from synthgen.store import RunFolder
from synthgen.tables import ASSIGNMENTS, PLAN, PLAN_OUTCOMES

NO_RULE = ""  # stands for the rule of a question that no current rule asks
OF_NEGATIVES = "plan.negatives"  # in place of a rule


@dataclass(frozen=True)
class PartitionDiff:
    """The change of a partition of the plan.

    Attributes:
        kept: Assignments, with the columns of ASSIGNMENTS; so are `added` and `gone`.
        outcomes: PLAN_OUTCOMES → objects, after the change.
    """

    name: str
    kept: pa.Table
    added: pa.Table
    gone: pa.Table
    outcomes: Mapping[str, int]


def partition_diffs(folder: RunFolder, context: PlanContext) -> Iterator[PartitionDiff]:
    """Yield every partition that is planned or would be; an edit is applied as `run --update` would."""
    log, task = folder.log(PLAN), propose(folder, context, "edit", latest_epoch(folder))
    affected = task.pending if task else ()
    assigner = task.assigner(context) if task else None
    for name in Inputs.from_folder(folder, context.taggers).partitions:
        if task and assigner and name in affected:
            planned = plan_partition(task, assigner, name)
            counts: Mapping[str, int] = Counter(planned.outcomes.tolist())
            kept, added, gone = _compare(planned.draft, planned.assignments)
        else:
            before = folder.table(PLAN, name, "assignments")
            kept = before.filter(pc.invert(before.column("retired")))
            added = gone = ASSIGNMENTS.empty_table()
            counts = log.counts([name])
        outcomes = Counter[str]()
        for key, count in counts.items():
            if (outcome := key.partition(".")[0]) in PLAN_OUTCOMES:  # without the name of an earlier run
                outcomes[outcome] += count
        yield PartitionDiff(name, kept, added, gone, outcomes)


def _compare(draft: Draft, wanted: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return the assignments that are kept, added and gone."""
    live = draft.before.filter(pc.invert(draft.before.column("retired")))
    wanted_ids, live_ids = (rows.column("assignment_id").combine_chunks() for rows in (wanted, live))
    is_kept = pc.is_in(wanted_ids, live_ids)
    is_gone = pc.invert(pc.is_in(live_ids, wanted_ids))
    return wanted.filter(is_kept), wanted.filter(pc.invert(is_kept)), live.filter(is_gone)


class RuleCounter:
    """Counts questions by the rule that asks them.

    Of the current rules that fire for the image, it is the one that gives the type the most weight.
    """

    def __init__(self, inputs: Inputs, context: PlanContext, partition: str) -> None:
        images = images_of(inputs.objects(partition))
        self._assigner, self._images = Assigner(context, {}), {image.object_id: image for image in images}
        self._matches: dict[str, Match] = {}

    def count(self, assignments: pa.Table) -> Counter[tuple[str, str]]:
        """Return (type, `file:line` of the rule) → questions."""
        pairs = zip(*(assignments.column(name).to_pylist() for name in ("object_id", "type")), strict=True)
        return Counter(
            (path, OF_NEGATIVES if is_unanswerable(path) else self._rule(object_id, path)) for object_id, path in pairs
        )

    def _rule(self, object_id: str, path: str) -> str:
        if object_id not in self._matches:
            self._matches[object_id] = self._assigner.see(self._images[object_id])[1]
        rules, factor = self._assigner.context.rules.rules, self._assigner.weights.factor
        weights = {
            number: rules[number].ask.get(path, 0.0) * float(factor(np.array(share)))
            for number, share in self._matches[object_id].items()
        }
        best = max(weights, key=lambda number: weights[number], default=None)
        return NO_RULE if best is None or weights[best] == 0 else rules[best].where
