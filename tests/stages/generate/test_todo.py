"""What a run says that it will ask: counted from commits alone, exactly where these tell, and else as a bound."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.config import pipeline
from synthgen.job import job
from synthgen.stages.generate import GENERATED, PLANNED, GenerateContext, size
from synthgen.store import CommitLog, Receipt, TablePart
from synthgen.store.commits import EMPTIED, Commit
from synthgen.store.folder import open_folder
from synthgen.workers import Task

AT = "2030-01-01T00:00:00"


@pytest.fixture
def terms(workspace: Path) -> GenerateContext:
    (workspace / "photos").mkdir()
    return job.open_job(open_folder("out"), pipeline.load("small", ["source.uri=photos"])).generate_terms


def log(*commits: tuple[Mapping[str, int], Mapping[str, str], Mapping[str, str]]) -> CommitLog:
    """The commits of a partition: what each counts, what its tables are marked with, what it read."""
    parts = [
        Commit(
            Receipt("e001-00000", number, {name: TablePart((), made) for name, made in prints.items()}, counts, reads),
            1,
            1,
            AT,
            "d",
        )
        for number, (counts, prints, reads) in enumerate(commits, start=1)
    ]
    return CommitLog({"e001-00000": tuple(parts)} if parts else {})


def left(terms: GenerateContext, planned: CommitLog, generated: CommitLog) -> tuple[int, bool]:
    return size(terms, [Task("e001-00000", 2, {PLANNED: planned, GENERATED: generated})])


READ = {"2-planned/e001-00000.r1": "d"}


def test_a_partition_that_was_never_asked_has_what_is_planned_less_what_was_taken_back(terms: GenerateContext) -> None:
    planned = log(({"assigned": 132}, {}, {}), ({"assigned": -12, "retired": 12}, {}, {}))
    assert left(terms, planned, log()) == (120, False)


def test_a_partition_that_was_planned_again_has_what_that_added(terms: GenerateContext) -> None:
    """Eight new questions are eight, however many were asked before."""
    asked = log(({"pair": 120, "failed.empty": 4}, terms.fingerprints(), READ))
    assert left(terms, log(({"assigned": 124}, {}, {}), ({"assigned": 8}, {}, {})), asked) == (8, False)
    swapped = log(({"assigned": 124}, {}, {}), ({"assigned": 8 - 20, "retired": 20}, {}, {}))
    assert left(terms, swapped, asked) == (8, True), "of those taken back some may never have been asked"
    assert left(terms, log(({"assigned": 124}, {}, {}), ({"assigned": -20, "retired": 20}, {}, {})), asked) == (
        0,
        False,
    )


def test_failures_that_are_asked_again_are_a_bound(terms: GenerateContext) -> None:
    asked = log(({"pair": 120, "failed.empty": 4, "failed.gone": 1}, terms.fingerprints(), READ))
    assert left(replace(terms, retry=frozenset({"empty"})), log(({"assigned": 125}, {}, {})), asked) == (4, True)


def test_scores_that_are_made_again_are_no_questions(terms: GenerateContext) -> None:
    asked = log(({"pair": 117, "failed.empty": 5, "unscored.call_timeout": 9}, terms.fingerprints(), READ))
    planned = log(({"assigned": 125}, {}, {}))
    assert left(replace(terms, retry=frozenset({"call_timeout"})), planned, asked) == (3, False)


def test_where_the_rows_alone_tell_everything_is_the_bound(terms: GenerateContext) -> None:
    """Other recipes, a table that was emptied, scores that were not finished."""
    planned, counts, prints = log(({"assigned": 125}, {}, {})), {"pair": 120, "failed.empty": 5}, terms.fingerprints()
    for generated in (
        log((counts, prints | {"pairs": "others"}, READ)),
        log((counts, prints, READ), ({}, {"scores/likelihood": EMPTIED}, {})),
        log((counts, prints, {})),
    ):
        assert left(terms, planned, generated) == (125, True)
    assert left(terms, planned, log((counts | {"pair": 100}, prints, {}))) == (20, False), "given back half done"
