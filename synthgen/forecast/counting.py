"""A plan in numbers: what would be planned, what of it was asked already, and which rules ask it.

Comes in: a job. Goes out: Counts. Partitions are drawn one after the other and only numbers are kept of them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.forecast.price import Kind
from synthgen.generate import GENERATED
from synthgen.job import Job
from synthgen.plan import Inputs, dry
from synthgen.rows import PAIRS
from synthgen.store import Stage

IDS = pa.schema([PAIRS.field("assignment_id")])


@dataclass
class Counts:
    """A plan in numbers."""

    outcomes: Counter[str] = field(default_factory=Counter)  # PLAN_OUTCOMES -> objects
    planned: Counter[Kind] = field(default_factory=Counter)
    asked: Counter[Kind] = field(default_factory=Counter)  # of those planned, with an outcome by now
    rules: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)  # "added", "gone", "kept" -> (type, rule) -> questions


def count(job: Job, with_rules: bool = False) -> Counts:
    """The plan in numbers."""
    found, terms = Counts(), job.plan_terms
    generated, inputs = Stage(job.out, GENERATED).log(), Inputs.of(job.out, terms.taggers)
    for part in dry.parts(job.out, terms):
        wanted = pa.concat_tables([part.kept, part.added])
        found.outcomes.update(part.outcomes)
        found.planned.update(_kinds(wanted))
        if part.name in generated.partitions:
            done = Stage(job.out, GENERATED).current(generated, part.name, "pairs", "assignment_id", IDS).column(0)
            found.asked.update(_kinds(wanted.filter(pc.is_in(wanted.column("assignment_id"), done.combine_chunks()))))
        if with_rules:
            askers = dry.Askers(inputs, terms.rules, part.name)
            for name, rows in (("added", part.added), ("gone", part.gone), ("kept", part.kept)):
                found.rules.setdefault(name, Counter()).update(askers.of(rows))
    return found


def _kinds(rows: pa.Table) -> Iterator[Kind]:
    return zip(rows.column("type").to_pylist(), rows.column("form").to_pylist(), strict=True)
