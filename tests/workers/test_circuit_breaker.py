"""When a job stops because nothing works, and when it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.errors import JobFailing
from synthgen.ingest.sources import GONE
from synthgen.store import Folder, Receipt, StageFolder, TablePart
from synthgen.tables import (
    FAILURE_REASONS,
    GENERATE,
    PAIRS,
    QUARANTINE_REASONS,
    RETRIED_REASONS,
    SCORE,
    SCORES,
    count_rows,
    count_scored,
    table,
)
from synthgen.tables.passes import decided_by
from synthgen.workers.circuit_breaker import OUTSIDE, ROWS_IN_A_ROW, CircuitBreaker


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    """Return an empty folder of the generate stage."""
    return StageFolder(Folder(str(tmp_path)), GENERATE)


def receipt(
    stage: StageFolder,
    reasons: Sequence[str | None],
    detail: str = "HTTP 500",
    counts: Mapping[str, int] | None = None,
) -> Receipt:
    """Return a receipt for rows of `pairs` with these reasons; None is a pair."""
    rows = [
        {"assignment_id": str(number), "reason": reason, "detail": reason and detail}
        for number, reason in enumerate(reasons)
    ]
    outcomes = {"pair" if reason is None else f"failed.{reason}": list(reasons).count(reason) for reason in reasons}
    file = stage.write("pairs", "e001-00000", 1, table(rows, PAIRS))
    return Receipt("e001-00000", 1, {"pairs": TablePart((file,), "")}, outcomes if counts is None else counts)


def test_only_failures_that_another_try_can_fix_count() -> None:
    assert set(OUTSIDE) <= set(RETRIED_REASONS) and set(OUTSIDE) <= {*FAILURE_REASONS, *QUARANTINE_REASONS}
    assert OUTSIDE


@pytest.mark.parametrize("reason", OUTSIDE)
def test_a_hundred_such_failures_in_a_row_stop_the_job_with_the_cause(stage: StageFolder, reason: str) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    breaker.see(receipt(stage, [reason] * (ROWS_IN_A_ROW - 1)))
    with pytest.raises(
        JobFailing, match=f"the last 100 rows failed .*, the last one as {reason}: HTTP 500; .*synth retry"
    ) as caught:
        breaker.see(receipt(stage, [reason]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", [None, "declined", "unparsable", "poison", "no_bytes"])
def test_one_row_that_did_not_fail_so_starts_the_count_again(stage: StageFolder, other: str | None) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for _ in range(5):
        breaker.see(receipt(stage, ["call_failed"] * 60 + [other]))


def test_objects_that_are_gone_do_not_count_against_the_source(stage: StageFolder) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for _ in range(5):
        breaker.see(receipt(stage, ["image_unreadable"] * 60, GONE))


def test_rows_that_fail_once_more_count_though_no_number_changes(stage: StageFolder) -> None:
    """In a retry as many rows may fail as failed before."""
    with pytest.raises(JobFailing):
        CircuitBreaker(stage, "pairs").see(receipt(stage, ["call_timeout"] * 120, counts={"failed.call_timeout": 0}))


def test_an_update_that_makes_pairs_again_starts_the_count_again(stage: StageFolder) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for _ in range(3):
        breaker.see(receipt(stage, [None] * 60, counts={"pair": 0}))
        breaker.see(receipt(stage, ["call_failed"] * 60))


def test_a_receipt_without_rows_leaves_the_count(stage: StageFolder) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    breaker.see(receipt(stage, ["call_failed"] * 60))
    breaker.see(receipt(stage, []))
    with pytest.raises(JobFailing):
        breaker.see(receipt(stage, ["call_failed"] * 60))


def with_scores(stage: StageFolder, reasons: Sequence[str | None]) -> Receipt:
    """Return a receipt of pairs with one score each; None is a value."""
    rows = [{"pair_id": str(number), "reason": reason} for number, reason in enumerate(reasons)]
    scores = stage.write("scores/mine", "e001-00000", 1, table(rows, SCORES))
    whole = receipt(stage, [None] * len(reasons))
    counts = {**whole.counts, "unscored.score_failed": len(reasons) - list(reasons).count(None)}
    return replace(whole, tables={**whole.tables, "scores/mine": TablePart((scores,), "")}, counts=counts)


def test_a_score_that_fails_for_every_pair_stops_the_job_with_its_cause(stage: StageFolder) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    breaker.see(with_scores(stage, ["score_failed: KeyError: 'x' (mine.py:3)"] * 60))
    with pytest.raises(JobFailing, match=r"the last 120 values of scores/mine failed .* KeyError: 'x' \(mine"):
        breaker.see(with_scores(stage, ["score_failed: KeyError: 'x' (mine.py:3)"] * 60))


def test_a_score_that_has_one_value_or_lacks_it_for_another_reason_does_not(stage: StageFolder) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for other in (None, "the engine gave no log-probabilities"):
        for _ in range(3):
            breaker.see(with_scores(stage, ["score_failed: KeyError"] * 60 + [other]))


@pytest.mark.parametrize("reason", ["code_failed", "tagger_failed"])
def test_the_first_failure_of_code_is_reported_once_with_its_place(
    stage: StageFolder, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for number in range(3):
        breaker.see(receipt(stage, [None, reason], f"KeyError: {number} (mine.py:3)"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"3-generated: the first row of pairs that failed as {reason}: KeyError: 0 (mine.py:3); ")


def test_the_first_failed_score_is_reported_once(stage: StageFolder, caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker(stage, "pairs")
    for _ in range(2):
        breaker.see(with_scores(stage, [None, "score_failed: KeyError: 'x' (mine.py:3)"]))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "the first row of scores/mine that failed as score_failed: KeyError: 'x' (mine.py:3); " in message


def of_a_pass(stage: StageFolder, reasons: Sequence[str | None], detail: str = "HTTP 500") -> Receipt:
    """Return a receipt of a scoring pass with one score; None is a value."""
    texts = [None if reason is None else f"{reason}: {detail}" for reason in reasons]
    rows = [{"pair_id": str(number), "reason": text} for number, text in enumerate(texts)]
    file = stage.write("scores/second.mine", "e001-00000.second", 1, table(rows, SCORES))
    parts = {"scores/second.mine": TablePart((file,), "")}
    return Receipt("e001-00000.second", 1, parts, dict(count_scored("second.mine", texts)))


@pytest.fixture
def scored(tmp_path: Path) -> StageFolder:
    """Return an empty folder of scoring passes."""
    return StageFolder(Folder(str(tmp_path)), SCORE)


@pytest.mark.parametrize("reason", ["call_failed", "call_timeout", "score_failed", "code_failed", "image_unreadable"])
def test_a_pass_whose_every_call_fails_stops_the_job_with_the_cause(scored: StageFolder, reason: str) -> None:
    breaker = CircuitBreaker(scored, "scores")
    breaker.see(of_a_pass(scored, [reason] * (ROWS_IN_A_ROW - 1)))
    with pytest.raises(JobFailing, match=f"the last 100 values of scores/second.mine failed .* {reason}: HTTP 500;"):
        breaker.see(of_a_pass(scored, [reason]))


def test_a_value_of_a_pass_or_an_image_that_is_gone_starts_the_count_again(scored: StageFolder) -> None:
    breaker = CircuitBreaker(scored, "scores")
    for other in (None, "refused", None):
        breaker.see(of_a_pass(scored, ["call_failed"] * 60 + [other]))
        breaker.see(of_a_pass(scored, ["image_unreadable"] * 60, GONE))


def test_pairs_that_another_score_decides_say_nothing_of_the_engine(scored: StageFolder) -> None:
    """A dead judge that is asked about few pairs stops the job all the same."""
    decided = [{"pair_id": str(number), "value": 0.9, "detail": '{"taken_from": "small.mine"}'} for number in range(90)]
    left = [{"pair_id": f"n{number}", "reason": decided_by("small.mine")} for number in range(5)]
    failed = [{"pair_id": f"f{number}", "reason": "call_failed: HTTP 500"} for number in range(50)]

    def made(*rows: Mapping[str, object]) -> Receipt:
        file = scored.write("scores/second.mine", "e001-00000.second", 1, table(rows, SCORES))
        parts = {"scores/second.mine": TablePart((file,), "")}
        whole = [{"value": None, "reason": None, "detail": None, **row} for row in rows]
        return Receipt("e001-00000.second", 1, parts, dict(count_rows("second.mine", whole)))

    breaker = CircuitBreaker(scored, "scores")
    breaker.see(made(*decided, *failed, *left))
    breaker.see(made(*decided, *left))
    with pytest.raises(JobFailing, match=r"the last 100 values of scores/second\.mine failed"):
        breaker.see(made(*decided, *failed))
