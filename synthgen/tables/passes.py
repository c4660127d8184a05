"""Names in `3-scored`, the stage of scoring passes.

Each pass has partitions of its own, `PARTITION.PASS` beside the `PARTITION` whose pairs it scores, so that passes are
committed without regard to each other. Its scores are called `PASS.SCORE`, and the counts of its commits say of each
how many pairs have a value, and how many have none for which reason.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from synthgen.tables.counts import score_failure
from synthgen.tables.reasons import NOT_APPLICABLE
from synthgen.tables.stages import GENERATE, SCORE, StageSpec

VALUE = "value"  # the count of pairs with a value that the pass itself measured
TAKEN = "taken"  # that of pairs with a value that it took over from the score it waits for
UNSURE = "unsure"  # that of pairs without one, as a small judge cannot tell; begins its reason too
DECIDED = "decided"  # that of pairs without one, as the score that it waits for decides them
NO_VALUE = "no_value"  # that of pairs without one for a reason that no retry can change
_DECIDED_BY = f"{NOT_APPLICABLE} to pairs that "
_TAKEN_FROM = "taken_from"  # the key of a detail
RETIRED = "retired"  # that of pairs whose question an edit of the plan withdrew, which are not scored


class ScorePlace(NamedTuple):
    """The place of the values of a score: their stage, their partition in it and their table."""

    spec: StageSpec
    partition: str
    table: str


def score_name(pass_name: str, score: str) -> str:
    """Return the name of a score of a pass."""
    return f"{pass_name}.{score}"


def pass_of_score(name: str) -> str | None:
    """Return the pass that a score is of; None if it is one of `generate`."""
    return name.partition(".")[0] if "." in name else None


def score_column(name: str) -> str:
    """Return the column of a score in the shards; a dot in it would be read as a field of a column."""
    return f"score_{name.replace('.', '_')}"


def pass_partition(partition: str, pass_name: str) -> str:
    """Return the partition in which a pass scores the pairs of a partition of `generate`."""
    return f"{partition}.{pass_name}"


def pass_partitions(partitions: Iterable[str], scores: Iterable[str]) -> list[str]:
    """Return the partitions in which the passes among these scores score the pairs of some partitions."""
    passes = sorted({name for score in scores if (name := pass_of_score(score))})
    return [pass_partition(partition, name) for partition in partitions for name in passes]


def split_partition(partition: str) -> tuple[str, str]:
    """Return the partition of `generate` that a partition of a pass belongs to, and the pass."""
    of_pairs, _, pass_name = partition.partition(".")
    return of_pairs, pass_name


def score_place(partition: str, name: str) -> ScorePlace:
    """Return where the values of a score are, for the pairs of a partition of `generate`."""
    pass_name = pass_of_score(name)
    if pass_name is None:
        return ScorePlace(GENERATE, partition, f"scores/{name}")
    return ScorePlace(SCORE, pass_partition(partition, pass_name), f"scores/{name}")


def count_scored(name: str, reasons: Iterable[str | None]) -> Counter[str]:
    """Count pairs by whether they have a value of the score PASS.SCORE, and by the reason why not.

    Args:
        name: Of the score.
        reasons: Of the rows; None stands for a value.
    """
    return Counter(f"{name}.{_outcome(reason)}" for reason in reasons)


def _outcome(reason: str | None) -> str:
    if reason is None:
        return VALUE
    if is_decided(reason):
        return DECIDED
    return UNSURE if reason.startswith(f"{UNSURE}: ") else score_failure(reason) or NO_VALUE


def decided_by(score: str) -> str:
    """Return the reason why a pass says nothing of a pair that another score decides."""
    return f"{_DECIDED_BY}{score} decides"


def is_decided(reason: str) -> bool:
    """Return whether a reason is one of `decided_by`."""
    return reason.startswith(_DECIDED_BY)


def count_rows(name: str, rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count rows of SCORES as `count_scored` does, those with a value of another score as taken."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({f"{name}.{TAKEN}": 1} if taken_from(row["detail"]) else count_scored(name, [row["reason"]]))
    return counts


def taken_detail(score: str) -> dict[str, str]:
    """Return the detail of a value that was taken over from another score."""
    return {_TAKEN_FROM: score}


def taken_from(detail: str | None) -> str | None:
    """Return the score that a value was taken over from, by the detail in its row; None if it was measured."""
    if detail is None or not detail.startswith(f'{{"{_TAKEN_FROM}": '):
        return None
    return str(json.loads(detail)[_TAKEN_FROM])


def split_count(count: str) -> tuple[str, str]:
    """Return the score and the outcome that a count of `count_scored` is of; of RETIRED the pass and the outcome."""
    name, _, outcome = count.rpartition(".")
    return name, outcome
