"""The circuit breaker: stops a job in which nothing works any more, before it writes a million failures.

It counts rows that failed one after the other for a cause outside of them: the engine, the tagger, the source. One row
that did not starts the count again. The failures stay on record, and `synth retry` redoes them once the cause is fixed.
"""

from synthgen.errors import JobFailing
from synthgen.ingest.sources import GONE
from synthgen.store import Receipt, StageFolder

OUTSIDE = ("call_failed", "call_timeout", "image_unreadable", "unreadable", "tagger_failed")
ROWS_IN_A_ROW = 100


class CircuitBreaker:
    """Counts the failed rows since the last row that did not fail."""

    def __init__(self, stage: StageFolder, table: str) -> None:
        self._stage, self._table = stage, table
        self._rows = 0

    def see(self, receipt: Receipt) -> None:
        """Count a receipt's rows. Raises JobFailing after too many failures with nothing else between them."""
        failed = self._failed(receipt)
        if failed is None:
            self._rows = 0
            return
        self._rows += len(failed)
        if self._rows >= ROWS_IN_A_ROW:
            reason, detail = failed[-1]
            raise JobFailing(
                f"{self._stage.spec.folder}: the last {self._rows} rows failed one after the other, the last one as "
                f"{reason}: {detail}; fix the cause, then redo them with `synth retry {self._stage.out.url}`"
            )

    def _failed(self, receipt: Receipt) -> list[tuple[str, str]] | None:
        """Return (reason, detail) of every row; None if one did not fail, or not for a cause outside of it."""
        if any(count > 0 and outcome.rpartition(".")[2] not in OUTSIDE for outcome, count in receipt.counts.items()):
            return None  # the counts say so, without reading anything
        files = self._stage.files(receipt, self._table, ["reason", "detail"])
        rows = [row for file in files for row in file.to_pylist()]
        is_outside = all(row["reason"] in OUTSIDE and row["detail"] != GONE for row in rows)
        return [(row["reason"], row["detail"]) for row in rows] if is_outside else None
