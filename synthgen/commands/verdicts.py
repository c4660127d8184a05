"""What `select` has against pairs that are stored nowhere, each by itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.dedup import plain_texts
from synthgen.stages.rules import COLUMNS, mask, rules
from synthgen.tables import GENERATE, NOT_APPLICABLE, PAIRS

RULED = pa.schema([PAIRS.field(name) for name in COLUMNS])

Row = Mapping[str, Any]
Scores = dict[tuple[str, str], Row]  # pair_id and name -> row of SCORES


def verdict_lines(rows: Sequence[Row], scores: Scores, settings: SelectConfig) -> Iterator[str]:
    """Yield what `select` has against each pair by itself."""
    pairs = [row for row in rows if row["outcome"] == GENERATE.passes]
    if not pairs:
        return
    table = pa.table({name: [row[name] for row in pairs] for name in COLUMNS}, schema=RULED)
    table = table.append_column("plain", plain_texts(table.column("question")))
    broken = [(name, mask(applies)) for name, applies in rules(table, settings)]
    yield from ("", "SELECT    by itself; ranks, duplicates, balance and quotas take all pairs to see")
    for place, row in enumerate(pairs):
        against = [f"rule:{name}" for name, applies in broken if applies[place]]
        against += [fault for name, rule in settings.keep.items() if (fault := _fault(name, rule, row, scores))]
        yield f"  {row['type']}, {row['form']}: {'; '.join(against) if against else 'passes'}"


def _fault(name: str, rule: KeepRule, row: Row, scores: Scores) -> str | None:
    """Return the reason that a threshold has against a pair, if any."""
    measured = scores.get((row["pair_id"], name))
    if measured is None or not rule.applies_to(row["type"], row["form"]):
        return None
    if measured["value"] is not None:
        fault = rule.fault(measured["value"])
        return f"score:{name} ({fault})" if fault else None
    return None if is_inapplicable(measured) else f"unscored:{name}"


def is_inapplicable(score: Row) -> bool:
    """Return whether a score says nothing of pairs of this kind."""
    return score["value"] is None and str(score["reason"]).startswith(NOT_APPLICABLE)
