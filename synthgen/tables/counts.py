"""Counts of outcomes: the numbers that rows of each table add to the `counts` of their commit.

A counter takes rows as mappings and returns how many there are of each outcome. Some count things beside outcomes too
(`left_out`, `assigned`, `unscored.…`); `tables.stages` says which.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from synthgen.tables.reasons import FAILURE_REASONS, LEFT_OUT

Rows = Iterable[Mapping[str, Any]]
CountRows = Callable[[Rows], Counter[str]]

_LEFT_OUT = re.compile(rf"(?:^|: |; )({'|'.join(LEFT_OUT)})(?=[:;]|$)".replace("_", " "))


def count_listed(rows: Rows) -> Counter[str]:
    """Count objects as `listed`."""
    return Counter(listed=sum(1 for _ in rows))


def count_outcomes(rows: Rows) -> Counter[str]:
    """Count `outcome`, or `outcome.reason` where a row has a reason."""
    return Counter(row["outcome"] if row.get("reason") is None else f"{row['outcome']}.{row['reason']}" for row in rows)


def count_pairs(rows: Rows) -> Counter[str]:
    """Count the outcomes of assignments, and beside them the pairs that were asked again, as `reasked`."""
    listed = list(rows)
    counts = count_outcomes(listed)
    if asked_again := sum(row.get("reasked_for") is not None for row in listed):
        counts["reasked"] = asked_again
    return counts


def count_questions(rows: Rows) -> Counter[str]:
    """Count questions as `asked`, with those that are asked later, or by their failure."""
    return count_outcomes({**row, "outcome": "asked"} if row["outcome"] == "follow_up" else row for row in rows)


def count_tagged(rows: Rows) -> Counter[str]:
    """Count the outcomes of images, and beside them tags that were left out.

    `left_out` counts tagged images of which tags were left out, `left_out.REASON` those with that reason in `detail`.
    """
    images = list(rows)
    counts = count_outcomes(images)
    for row in images:
        if row["outcome"] == "tagged" and row["detail"]:
            counts["left_out"] += 1
            counts.update({f"left_out.{words.replace(' ', '_')}" for words in _LEFT_OUT.findall(row["detail"])})
    return counts


def count_assignments(rows: Rows) -> Counter[str]:
    """Count assignments as `assigned`, or as `retired` where an edit withdrew them."""
    return Counter("retired" if row["retired"] else "assigned" for row in rows)


def count_unscored(rows: Rows) -> Counter[str]:
    """Count scores that a failure kept from being measured, as `unscored.REASON`."""
    return Counter(f"unscored.{failure}" for row in rows if (failure := score_failure(row["reason"])))


def count_decisions(rows: Rows) -> Counter[str]:
    """Count decisions by their reason; `kept` is one."""
    return Counter(row["reason"] for row in rows)


def count_samples(rows: Rows) -> Counter[str]:
    """Count training samples, and their turns."""
    counts = Counter(samples=0, turns=0)
    for row in rows:
        counts.update(samples=1, turns=len(row["types"]))
    return counts


def count_unpacked(rows: Rows) -> Counter[str]:
    """Count the turns of samples that could not be packed, by reason."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["reason"]] += row["turns"]
    return counts


def changed_counts(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return by how much each count changes, as a receipt has it: sorted by name, without those that stay."""
    changes = {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}
    return {name: change for name, change in changes.items() if change}


def score_failure(reason: str | None) -> str | None:
    """Return which of FAILURE_REASONS kept a score from being measured, or None if none did."""
    kind = (reason or "").partition(":")[0]
    return kind if kind in FAILURE_REASONS else None
