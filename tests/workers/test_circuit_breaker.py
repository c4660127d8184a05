"""When a job stops because nothing works, and when it does not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from synthgen.errors import JobFailing
from synthgen.ingest.sources import GONE
from synthgen.store import Folder, Receipt, StageFolder, TablePart
from synthgen.tables import FAILURE_REASONS, GENERATE, PAIRS, QUARANTINE_REASONS, RETRIED_REASONS, table
from synthgen.workers.circuit_breaker import OUTSIDE, ROWS_IN_A_ROW, CircuitBreaker


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return StageFolder(Folder(str(tmp_path)), GENERATE)


def receipt(
    stage: Stage, reasons: Sequence[str | None], detail: str = "HTTP 500", counts: dict[str, int] | None = None
) -> Receipt:
    """A receipt for pairs rows with these reasons; None is a pair."""
    rows = [
        {"assignment_id": str(number), "reason": one, "detail": one and detail} for number, one in enumerate(reasons)
    ]
    told = {("pair" if one is None else f"failed.{one}"): list(reasons).count(one) for one in reasons}
    file = stage.write("pairs", "e001-00000", 1, table(rows, PAIRS))
    return Receipt("e001-00000", 1, {"pairs": TablePart((file,), "")}, told if counts is None else counts)


def test_only_failures_that_another_try_can_mend_count() -> None:
    assert set(OUTSIDE) <= set(RETRIED_REASONS) and set(OUTSIDE) <= {*FAILURE_REASONS, *QUARANTINE_REASONS}


@pytest.mark.parametrize("reason", OUTSIDE)
def test_a_hundred_such_failures_in_a_row_stop_the_job_with_the_cause(stage: Stage, reason: str) -> None:
    streak = CircuitBreaker(stage, "pairs")
    streak.see(receipt(stage, [reason] * (ROWS_IN_A_ROW - 1)))
    with pytest.raises(JobFailing, match=f"the last 100 rows failed .* as {reason}: HTTP 500; .*synth retry") as error:
        streak.see(receipt(stage, [reason]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", [None, "declined", "unparsable", "poison", "no_bytes"])
def test_one_row_that_did_not_fail_so_begins_the_count_anew(stage: Stage, other: str | None) -> None:
    streak = CircuitBreaker(stage, "pairs")
    for _ in range(5):
        streak.see(receipt(stage, ["call_failed"] * 60 + [other]))


def test_objects_that_are_gone_say_nothing_of_the_source(stage: Stage) -> None:
    streak = CircuitBreaker(stage, "pairs")
    for _ in range(5):
        streak.see(receipt(stage, ["image_unreadable"] * 60, GONE))


def test_rows_that_fail_once_more_count_though_no_number_changes(stage: Stage) -> None:
    """As in a retry: as many fail as failed before."""
    with pytest.raises(JobFailing):
        CircuitBreaker(stage, "pairs").see(receipt(stage, ["call_timeout"] * 120, counts={"failed.call_timeout": 0}))


def test_an_update_that_makes_pairs_anew_is_no_failure_and_neither_is_a_receipt_without_rows(stage: Stage) -> None:
    streak = CircuitBreaker(stage, "pairs")
    for _ in range(3):
        streak.see(receipt(stage, [None] * 60, counts={"pair": 0}))
        streak.see(receipt(stage, ["call_failed"] * 60))
    streak = CircuitBreaker(stage, "pairs")
    streak.see(receipt(stage, ["call_failed"] * 60))
    streak.see(receipt(stage, []))
    with pytest.raises(JobFailing):
        streak.see(receipt(stage, ["call_failed"] * 60))
