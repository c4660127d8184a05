"""A plan in numbers: the questions that would be planned, those that were asked already, and the rules that ask them.

Partitions are drawn one after the other, and only numbers are kept of them. A question that was asked by another recipe
than the job's counts as to ask, as a run that updates asks it again.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.commands.plan.pricing import Kind
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import GenerateContext, missing_scores, needs_asking, scored_pairs
from synthgen.stages.generate.context import FOLLOW_UP
from synthgen.stages.plan import Inputs, dry_run
from synthgen.stages.score import PassContext, contexts_of
from synthgen.stages.score.routing import Routes, routes_of
from synthgen.stages.score.todo import score_reasons_of
from synthgen.store import RunFolder
from synthgen.tables import ASK, GENERATE

OUTCOMES = ("assignment_id", "pair_id", "outcome", "reason", "recipe")


@dataclass
class QuestionCounts:
    """A plan in numbers."""

    outcomes: Counter[str] = field(default_factory=Counter)  # PLAN_OUTCOMES -> objects
    planned: Counter[Kind] = field(default_factory=Counter)
    asked: Counter[Kind] = field(default_factory=Counter)  # of those planned, with an outcome by the current recipe
    written: Counter[Kind] = field(default_factory=Counter)  # of those planned, with nothing for another model to ask
    outdated: int = 0  # of those planned, with an outcome by another recipe
    unscored: Counter[str] = field(default_factory=Counter)  # score -> asked pairs that lack it
    to_score: dict[str, Counter[Kind]] = field(default_factory=dict)  # pass -> asked pairs that lack one of its scores
    to_route: dict[str, Counter[Kind]] = field(default_factory=dict)  # those that another score is still to decide
    routed: dict[str, Counter[bool]] = field(default_factory=dict)  # pass -> whether that leaves a pair open -> pairs
    # "added", "retired" or "kept" -> (type, rule) -> questions
    rules: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    @property
    def is_asked(self) -> bool:
        """Whether questions are planned and all of them have an outcome by the current recipe."""
        return self.planned.total() == self.asked.total() > 0


@dataclass(frozen=True)
class PartitionCounts:
    """A partition as it would be planned, and the outcomes of its assignments."""

    diff: dry_run.PartitionDiff
    assignments: pa.Table  # first those that are kept
    outcomes: Sequence[Mapping[str, Any] | None]  # of each assignment
    is_asked: NDArray[np.bool_]  # (assignments,) bool: whether the outcome is by the current recipe
    is_written: NDArray[np.bool_]  # (assignments,) bool: whether another model has nothing to ask for it

    @property
    def asked(self) -> list[Mapping[str, Any]]:
        """The outcomes by the current recipe."""
        return [row for row, is_asked in zip(self.outcomes, self.is_asked, strict=True) if row and is_asked]


def count(folder: RunFolder, job: Job, with_rules: bool = False) -> QuestionCounts:
    """Count the questions of a job's plan, and by rule if that is wanted."""
    counts, context, passes = QuestionCounts(), plan.context_of(job), contexts_of(job)
    inputs, log = Inputs.from_folder(folder, context.taggers), folder.log(GENERATE)
    for partition in count_partitions(folder, job):
        diff, assignments = partition.diff, partition.assignments
        counts.outcomes.update(diff.outcomes)
        counts.planned.update(kinds_of(assignments))
        counts.asked.update(kinds_of(assignments.filter(pa.array(partition.is_asked))))
        counts.written.update(kinds_of(assignments.filter(pa.array(partition.is_written))))
        counts.outdated += sum(row is not None for row in partition.outcomes) - len(partition.asked)
        scored = scored_pairs(generate.context_of(job), log, diff.name)
        counts.unscored.update(name for row in partition.asked for name in missing_scores(row, scored))
        for judge in passes:
            _count_pass(counts, judge, folder, partition)
        if with_rules:
            askers = dry_run.RuleCounter(inputs, context, diff.name)
            for change, rows in (("added", diff.added), ("retired", diff.gone), ("kept", diff.kept)):
                counts.rules.setdefault(change, Counter()).update(askers.count(rows))
    return counts


def _count_pass(counts: QuestionCounts, judge: PassContext, folder: RunFolder, partition: PartitionCounts) -> None:
    """Count the asked pairs that lack a score of a pass, and what another score says of them, if it waits for one."""
    name = partition.diff.name
    routes = routes_of(judge, folder, name)
    reasons, known = score_reasons_of(judge, folder, name, routes), _routed_pairs(judge, folder, name, routes)
    to_score = counts.to_score.setdefault(judge.name, Counter())
    to_route, routed = (
        counts.to_route.setdefault(judge.name, Counter()),
        counts.routed.setdefault(judge.name, Counter()),
    )
    scores = judge.judge.settings.scores
    for row, is_asked, kind in zip(
        partition.outcomes, partition.is_asked, kinds_of(partition.assignments), strict=True
    ):
        if row is None or not is_asked or row["outcome"] != GENERATE.passes:
            continue
        is_open, is_known = routes.decided(row["pair_id"], scores[0]) is None, row["pair_id"] in known
        if routes.after and is_known:
            routed[is_open] += 1
        if all(row["pair_id"] in of_pairs for of_pairs in reasons.values()):
            continue
        if routes.after and not is_known:
            to_route[kind] += 1
        elif is_open:
            to_score[kind] += 1


def _routed_pairs(judge: PassContext, folder: RunFolder, partition: str, routes: Routes) -> Collection[str]:
    """Return the pairs of which the score that a pass waits for says what it will say in a run."""
    if routes.after is None or judge.before is None:
        return routes.rows.keys()
    alone = routes.after.score.rpartition(".")[2]
    return score_reasons_of(judge.before, folder, partition, routes_of(judge.before, folder, partition))[alone].keys()


def count_partitions(folder: RunFolder, job: Job) -> Iterator[PartitionCounts]:
    """Yield each partition as it would be planned."""
    context = generate.context_of(job)
    recipes = context.recipes()
    for diff in dry_run.partition_diffs(folder, plan.context_of(job)):
        assignments = pa.concat_tables([diff.kept, diff.added])
        rows = folder.table(GENERATE, diff.name, "pairs", OUTCOMES).to_pylist()
        outcome_of = {row["assignment_id"]: row for row in rows}
        outcomes = [outcome_of.get(key) for key in assignments.column("assignment_id").to_pylist()]
        is_asked = [
            row is not None and not needs_asking(context, row, context.recipe_of(recipes, planned) or "")
            for row, planned in zip(outcomes, _recipe_keys(assignments), strict=True)
        ]
        is_written = _written(context, folder, diff.name, assignments)
        flags = np.array(is_asked, dtype=bool), np.array(is_written, dtype=bool)
        yield PartitionCounts(diff, assignments, outcomes, *flags)


def _written(context: GenerateContext, folder: RunFolder, partition: str, assignments: pa.Table) -> list[bool]:
    """Return for each assignment whether the first of two passes has nothing to do for it; True where there is none."""
    if not context.asker:
        return [True] * assignments.num_rows
    first, columns = context.first_pass(), ("assignment_id", "reason", "recipe")
    recipes = first.recipes()
    rows = {row["assignment_id"]: row for row in folder.table(ASK, partition, "questions", columns).to_pylist()}
    found = [rows.get(key) for key in assignments.column("assignment_id").to_pylist()]
    return [
        recipes[planned["type"], planned["form"]] == FOLLOW_UP
        or (row is not None and not needs_asking(first, row, first.recipe_of(recipes, planned) or ""))
        for row, planned in zip(found, _recipe_keys(assignments), strict=True)
    ]


def _recipe_keys(assignments: pa.Table) -> list[dict[str, Any]]:
    """Return of each assignment what its recipe depends on."""
    rows: list[dict[str, Any]] = assignments.select(["type", "form", "thing"]).to_pylist()
    return rows


def kinds_of(assignments: pa.Table) -> Iterator[Kind]:
    """Return the kind of each assignment."""
    return zip(assignments.column("type").to_pylist(), assignments.column("form").to_pylist(), strict=True)
