"""The number of assignments that a run announces: exact where commits tell it, an upper bound elsewhere."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.config import pipeline
from synthgen.job import job
from synthgen.stages.generate import GenerateContext, context_of, count_pending
from synthgen.store import CommitLog, Receipt, TablePart
from synthgen.store.commits import EMPTIED, Commit
from synthgen.store.opening import open_folder
from synthgen.tables import GENERATE, PLAN
from synthgen.workers import Task

PARTITION = "e001-00000"
READ = {f"2-planned/{PARTITION}.r1": "d"}
Described = tuple[Mapping[str, int], Mapping[str, str], Mapping[str, str]]  # counts, fingerprint of each table, reads


@pytest.fixture
def context(workspace: Path) -> GenerateContext:
    """Return the context of a small job."""
    (workspace / "photos").mkdir()
    return context_of(job.open_job(open_folder("out"), pipeline.load("small", ["source.uri=photos"])))


def log(*described: Described) -> CommitLog:
    """Return the log of a partition with these commits."""
    commits = []
    for number, (counts, fingerprints, reads) in enumerate(described, start=1):
        tables = {name: TablePart((), fingerprint) for name, fingerprint in fingerprints.items()}
        receipt = Receipt(PARTITION, number, tables, counts, reads)
        commits.append(Commit(receipt, 1, "2030-01-01T00:00:00", "d"))
    return CommitLog({PARTITION: tuple(commits)} if commits else {})


def pending(context: GenerateContext, planned: CommitLog, generated: CommitLog) -> tuple[int, bool]:
    """Return how many assignments are pending, and whether that is a bound."""
    return count_pending(context, [Task(PARTITION, 2, {PLAN.folder: planned, GENERATE.folder: generated})])


def test_a_partition_that_was_never_asked_has_its_assignments_less_the_retired_ones(context: GenerateContext) -> None:
    planned = log(({"assigned": 132}, {}, {}), ({"assigned": -12, "retired": 12}, {}, {}))
    assert pending(context, planned, log()) == (120, False)


def test_a_partition_that_was_planned_again_has_the_assignments_that_were_added(context: GenerateContext) -> None:
    """Eight new questions are eight, however many were asked before."""
    asked = log(({"pair": 120, "failed.empty": 4}, context.fingerprints(), READ))
    grown = log(({"assigned": 124}, {}, {}), ({"assigned": 8}, {}, {}))
    assert pending(context, grown, asked) == (8, False)
    swapped = log(({"assigned": 124}, {}, {}), ({"assigned": 8 - 20, "retired": 20}, {}, {}))
    assert pending(context, swapped, asked) == (8, True), "some of the retired ones may never have been asked"
    retired = log(({"assigned": 124}, {}, {}), ({"assigned": -20, "retired": 20}, {}, {}))
    assert pending(context, retired, asked) == (0, False)


def test_failures_that_are_asked_again_are_a_bound(context: GenerateContext) -> None:
    asked = log(({"pair": 120, "failed.empty": 4, "failed.gone": 1}, context.fingerprints(), READ))
    retrying = replace(context, retry=frozenset({"empty"}))
    assert pending(retrying, log(({"assigned": 125}, {}, {})), asked) == (4, True)


def test_scores_that_are_measured_again_are_no_assignments(context: GenerateContext) -> None:
    asked = log(({"pair": 117, "failed.empty": 5, "unscored.call_timeout": 9}, context.fingerprints(), READ))
    retrying = replace(context, retry=frozenset({"call_timeout"}))
    assert pending(retrying, log(({"assigned": 125}, {}, {})), asked) == (3, False)


def test_all_assignments_are_the_bound_where_only_the_rows_tell(context: GenerateContext) -> None:
    """That is so with other recipes, after a table was emptied, and where scores were not finished."""
    planned, made = log(({"assigned": 125}, {}, {})), context.fingerprints()
    counts = {"pair": 120, "failed.empty": 5}
    for generated in (
        log((counts, made | {"pairs": "others"}, READ)),
        log((counts, made, READ), ({}, {"scores/likelihood": EMPTIED}, {})),
        log((counts, made, {})),
    ):
        assert pending(context, planned, generated) == (125, True)
    assert pending(context, planned, log((counts | {"pair": 100}, made, {}))) == (20, False), "given back half done"
