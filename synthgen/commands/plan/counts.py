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

from synthgen.tables import GENERATE
from synthgen.commands.plan.pricing import Kind
from synthgen.job.job import Job
from synthgen.stages.generate import GENERATED, is_to_ask, lacking, scored_pairs
from synthgen.stages.plan import Inputs, dry_run
from synthgen.store import StageFolder
from synthgen.tables import PAIRS

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


def count(job: Job, with_rules: bool = False) -> QuestionCounts:
    """The plan in numbers."""
    found, terms = QuestionCounts(), job.plan_terms
    inputs, generated = Inputs.of(job.out, terms.taggers), StageFolder(job.out, GENERATE).log()
    for seen in parts(job):
        part = seen.part
        found.outcomes.update(part.outcomes)
        found.planned.update(kinds_of(seen.wanted))
        found.asked.update(kinds_of(seen.wanted.filter(pa.array(seen.is_asked))))
        found.again += sum(row is not None for row in seen.outcomes) - len(seen.asked)
        scored = scored_pairs(job.generate_terms, generated, part.name)
        found.unscored.update(name for row in seen.asked for name in lacking(row, scored))
        if with_rules:
            askers = dry_run.Askers(inputs, terms.rules, part.name)
            for name, rows in (("added", part.added), ("gone", part.gone), ("kept", part.kept)):
                found.rules.setdefault(name, Counter()).update(askers.of(rows))
    return found


def parts(job: Job) -> Iterator[PartitionCounts]:
    """Each partition as it would be planned."""
    stage, terms = StageFolder(job.out, GENERATE), job.generate_terms
    log, recipes = stage.log(), terms.recipes()
    for part in dry_run.parts(job.out, job.plan_terms):
        wanted = pa.concat_tables([part.kept, part.added])
        rows = stage.current(log, part.name, "pairs", OUTCOMES.names).to_pylist()
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
