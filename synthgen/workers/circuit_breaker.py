"""The circuit breaker: stops a job in which nothing works any more, before it writes a million failures.

It counts rows that failed one after the other for a cause outside of them: the engine, the tagger, the source, an error
in code. One row that did not starts the count again; each score is counted by itself. The failures stay on record, and
`synth retry` redoes them once the cause is fixed. The first failure of code is reported when it is met: a job may live
with it, but a bug must not hide among the counts.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from synthgen.errors import JobFailing
from synthgen.ingest.sources import GONE
from synthgen.store import Receipt, StageFolder
from synthgen.tables import NOT_APPLICABLE, score_failure
from synthgen.tables.passes import DECIDED, TAKEN, taken_from

OUTSIDE = ("call_failed", "call_timeout", "image_unreadable", "unreadable", "tagger_failed", "code_failed")
OF_CODE = ("code_failed", "score_failed", "tagger_failed")  # reasons whose first row is reported
ROWS_IN_A_ROW = 100
log = logging.getLogger(__name__)


class CircuitBreaker:
    """Counts the failed rows since the last row that did not fail."""

    def __init__(self, stage: StageFolder, table: str) -> None:
        self._stage, self._table = stage, table
        self._rows = 0
        self._score_rows: Counter[str] = Counter()  # by table
        self._reported: set[str] = set()

    def see(self, receipt: Receipt) -> None:
        """Count a receipt's rows. Raises JobFailing after too many failures with nothing else between them."""
        self._report(receipt)
        self._see_scores(receipt)
        if self._table not in receipt.tables:  # in passes there are scores alone
            return
        failed = self._failed(receipt)
        if failed is None:
            self._rows = 0
            return
        self._rows += len(failed)
        if self._rows >= ROWS_IN_A_ROW:
            reason, detail = failed[-1]
            raise self._failing(f"the last {self._rows} rows", f"{reason}: {detail}")

    def _failed(self, receipt: Receipt) -> list[tuple[str, str]] | None:
        """Return (reason, detail) of every row; None if one did not fail, or not for a cause outside of it."""
        if any(count > 0 and _kind(outcome) not in OUTSIDE for outcome, count in receipt.counts.items()):
            return None  # the counts say so, without reading anything
        rows = [row for file in self._files(receipt, self._table) for row in file.to_pylist()]
        is_outside = all(row["reason"] in OUTSIDE and row["detail"] != GONE for row in rows)
        return [(row["reason"], row["detail"]) for row in rows] if is_outside else None

    def _see_scores(self, receipt: Receipt) -> None:
        """Count the rows of each score whose measure raised an exception; in a pass, those that failed outside too.

        Where pairs are generated, a call that fails costs a row of theirs as well, which is counted there.
        """
        causes = {"score_failed", *(OUTSIDE if self._table not in receipt.tables else ())}
        tables = [name for name in receipt.tables if name.startswith("scores/")]
        if not any(count > 0 and _kind(name) in causes for name, count in receipt.counts.items()):
            if receipt.counts and all(
                _kind(name) in (TAKEN, DECIDED) for name, count in receipt.counts.items() if count > 0
            ):
                return  # no call was made
            for table in tables:
                self._score_rows[table] = 0
            return
        for table in tables:
            reasons = [
                row["reason"] for file in self._files(receipt, table) for row in file.to_pylist() if _is_made(row)
            ]
            if not reasons:
                continue
            has_failed = all(score_failure(reason) in causes and not reason.endswith(GONE) for reason in reasons)
            self._score_rows[table] = self._score_rows[table] + len(reasons) if has_failed else 0
            if self._score_rows[table] >= ROWS_IN_A_ROW:
                raise self._failing(f"the last {self._score_rows[table]} values of {table}", reasons[-1])

    def _report(self, receipt: Receipt) -> None:
        """Warn of the first row of each of OF_CODE."""
        new = {
            reason
            for outcome, count in receipt.counts.items()
            if count > 0 and (reason := _kind(outcome)) in OF_CODE and reason not in self._reported
        }
        for name in receipt.tables if new else ():
            if name != self._table and not name.startswith("scores/"):
                continue
            for row in (row for file in self._files(receipt, name) for row in file.to_pylist()):
                reason, _, rest = (row["reason"] or "").partition(": ")  # a score's has its detail with it
                if reason in new:
                    new.discard(reason)
                    self._reported.add(reason)
                    self._warn(name, reason, rest or row["detail"] or "")

    def _warn(self, table: str, reason: str, detail: str) -> None:
        log.warning(
            "%s: the first row of %s that failed as %s: %s; `synth status %s --reason %s` lists them all",
            self._stage.spec.folder, table, reason, detail, self._stage.out.url, reason,
        )  # fmt: skip

    def _files(self, receipt: Receipt, table: str) -> "list[pa.Table]":
        return list(self._stage.files(receipt, table, ["reason", "detail"]))

    def _failing(self, what: str, last: str) -> JobFailing:
        return JobFailing(
            f"{self._stage.spec.folder}: {what} failed one after the other, the last one as {last}; "
            f"fix the cause, then redo them with `synth retry {self._stage.out.url}`"
        )


def _is_made(score: Mapping[str, Any]) -> bool:
    """Return whether a row took a call: one that does not apply or was taken over says nothing of engines."""
    return taken_from(score["detail"]) is None and not (score["reason"] or "").startswith(NOT_APPLICABLE)


def _kind(count: str) -> str:
    """Return the reason that a count is of; what is no reason is returned as it is."""
    return count.rpartition(".")[2]
