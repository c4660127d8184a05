"""A plan in numbers: what would be planned, what of it was asked already, and which rules ask it.

Comes in: a job. Goes out: Counts. Partitions are drawn one after the other and only numbers are kept of them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
    inputs = Inputs.of(job.out, terms.taggers)
    for part, wanted, is_asked in parts(job):
        found.outcomes.update(part.outcomes)
        found.planned.update(kinds_of(wanted))
        found.asked.update(kinds_of(wanted.filter(pa.array(is_asked))))
        if with_rules:
            askers = dry.Askers(inputs, terms.rules, part.name)
            for name, rows in (("added", part.added), ("gone", part.gone), ("kept", part.kept)):
                found.rules.setdefault(name, Counter()).update(askers.of(rows))
    return found


def parts(job: Job) -> Iterator[tuple[dry.Part, pa.Table, NDArray[np.bool_]]]:
    """Each partition as it would be planned, all its assignments (first those that are kept), and which of them have an outcome."""
    stage = Stage(job.out, GENERATED)
    log = stage.log()
    for part in dry.parts(job.out, job.plan_terms):
        wanted = pa.concat_tables([part.kept, part.added])
        done = stage.current(log, part.name, "pairs", "assignment_id", IDS).column(0).combine_chunks()
        yield part, wanted, np.asarray(pc.is_in(wanted.column("assignment_id"), done))


def kinds_of(rows: pa.Table) -> Iterator[Kind]:
    """The kind of each assignment."""
    return zip(rows.column("type").to_pylist(), rows.column("form").to_pylist(), strict=True)
