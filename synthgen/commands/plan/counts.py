"""A plan in numbers: what would be planned, what of it was asked already, and which rules ask it.

Comes in: a job. Goes out: Counts. Partitions are drawn one after the other and only numbers are kept of them. What was asked by
another recipe than the job's is to be asked again, by the same words as a run that updates has for it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.commands.plan.pricing import Kind
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import is_to_ask, missing_scores, scored_pairs
from synthgen.stages.plan import Inputs, dry_run
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, PAIRS

OUTCOMES = pa.schema([PAIRS.field(name) for name in ("assignment_id", "pair_id", "outcome", "reason", "recipe")])


@dataclass
class QuestionCounts:
    """A plan in numbers."""

    outcomes: Counter[str] = field(default_factory=Counter)  # PLAN_OUTCOMES -> objects
    planned: Counter[Kind] = field(default_factory=Counter)
    asked: Counter[Kind] = field(default_factory=Counter)  # of those planned, with an outcome by today's recipe
    again: int = 0  # of those planned, with an outcome by another
    unscored: Counter[str] = field(default_factory=Counter)  # score -> pairs asked by today's recipe that lack it
    rules: dict[str, Counter[tuple[str, str]]] = field(
        default_factory=dict
    )  # "added", "gone", "kept" -> (type, rule) -> questions

    @property
    def is_asked(self) -> bool:
        """Whether questions are planned and all of them have an outcome by today's recipe."""
        return self.planned.total() == self.asked.total() > 0


@dataclass(frozen=True)
class PartitionCounts:
    """A partition as it would be planned, beside what became of its assignments."""

    part: dry_run.PartitionDiff
    wanted: pa.Table  # its assignments, first those that are kept
    outcomes: Sequence[Mapping[str, Any] | None]  # of each assignment
    is_asked: NDArray[np.bool_]  # whether that outcome is by today's recipe

    @property
    def asked(self) -> list[Mapping[str, Any]]:
        """The outcomes by today's recipe."""
        return [row for row, is_asked in zip(self.outcomes, self.is_asked, strict=True) if row and is_asked]


def count(folder: RunFolder, job: Job, with_rules: bool = False) -> QuestionCounts:
    """The plan in numbers."""
    found, terms = QuestionCounts(), plan.context_of(job)
    inputs, generated = Inputs.of(folder, terms.taggers), folder.log(GENERATE)
    for seen in parts(folder, job):
        part = seen.part
        found.outcomes.update(part.outcomes)
        found.planned.update(kinds_of(seen.wanted))
        found.asked.update(kinds_of(seen.wanted.filter(pa.array(seen.is_asked))))
        found.again += sum(row is not None for row in seen.outcomes) - len(seen.asked)
        scored = scored_pairs(generate.context_of(job), generated, part.name)
        found.unscored.update(name for row in seen.asked for name in missing_scores(row, scored))
        if with_rules:
            askers = dry_run.Askers(inputs, terms.rules, part.name)
            for name, rows in (("added", part.added), ("gone", part.gone), ("kept", part.kept)):
                found.rules.setdefault(name, Counter()).update(askers.of(rows))
    return found


def parts(folder: RunFolder, job: Job) -> Iterator[PartitionCounts]:
    """Each partition as it would be planned."""
    terms = generate.context_of(job)
    recipes = terms.recipes()
    for part in dry_run.parts(folder, plan.context_of(job)):
        wanted = pa.concat_tables([part.kept, part.added])
        rows = folder.table(GENERATE, part.name, "pairs", OUTCOMES.names).to_pylist()
        known = {row["assignment_id"]: row for row in rows}
        outcomes = [known.get(one) for one in wanted.column("assignment_id").to_pylist()]
        asked = [
            row is not None and not is_to_ask(terms, row, recipes[kind])
            for row, kind in zip(outcomes, kinds_of(wanted), strict=True)
        ]
        yield PartitionCounts(part, wanted, outcomes, np.array(asked, dtype=bool))


def kinds_of(rows: pa.Table) -> Iterator[Kind]:
    """The kind of each assignment."""
    return zip(rows.column("type").to_pylist(), rows.column("form").to_pylist(), strict=True)
