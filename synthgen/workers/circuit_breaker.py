"""Notices that nothing works any more, so that a broken job stops early and does not write a million failures.

Comes in: the receipts of a stage, as they come. Goes out: nothing, or JobFailing. Counted are rows in a row that failed for what
lies outside of them: the engine, the tagger, the source. A single row that did not fail so begins the count anew. What was
written stays on record, and `synth retry` does those rows again once the cause is mended.
"""

from synthgen.errors import JobFailing
from synthgen.ingest.sources import GONE
from synthgen.store import Receipt, Stage

OUTSIDE = ("call_failed", "call_timeout", "image_unreadable", "unreadable", "tagger_failed")
ROWS_IN_A_ROW = 100


class CircuitBreaker:
    """Failed rows since the last that was not."""

    def __init__(self, stage: Stage, table: str) -> None:
        self._stage, self._table = stage, table
        self._rows = 0

    def see(self, receipt: Receipt) -> None:
        """Counts a receipt's rows; JobFailing if there were too many failures without anything else between them."""
        failed = self._failed(receipt)
        if failed is None:
            self._rows = 0
            return
        self._rows += len(failed)
        if self._rows >= ROWS_IN_A_ROW:
            reason, detail = failed[-1]
            raise JobFailing(
                f"{self._stage.name}: the last {self._rows} rows failed one after the other, this one as {reason}: {detail}; "
                f"mend the cause, then `synth retry {self._stage.out.url}` does them again"
            )

    def _failed(self, receipt: Receipt) -> list[tuple[str, str]] | None:
        """Reason and detail of every row; None if one of them did not fail, or not for what lies outside."""
        if any(count > 0 and outcome.rpartition(".")[2] not in OUTSIDE for outcome, count in receipt.counts.items()):
            return None  # told by the counts, without reading anything
        rows = [
            row for table in self._stage.files(receipt, self._table, ["reason", "detail"]) for row in table.to_pylist()
        ]
        is_outside = all(row["reason"] in OUTSIDE and row["detail"] != GONE for row in rows)
        return [(row["reason"], row["detail"]) for row in rows] if is_outside else None
