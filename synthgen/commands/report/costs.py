"""What calls of models took: their number, tokens and seconds, and how long each stage was at work."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.store import RunFolder
from synthgen.tables import STAGES

PAIRS = "questions and answers"  # the name of the cost of what is no score


@dataclass(frozen=True)
class Cost:
    """What some calls took.

    Attributes:
        calls: None where the tables do not count them.
        seconds: From request to reply, of all calls together; calls overlap. None where the tables do not have them.
    """

    rows: int = 0
    calls: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None

    @property
    def tokens(self) -> int:
        """All tokens, those of the cache too."""
        return self.prompt_tokens + self.output_tokens

    @property
    def cached_share(self) -> float | None:
        """The share of the prompts' tokens that came from the cache; None without a token."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None

    def less(self, part: "Cost") -> "Cost":
        """Return the cost without the tokens of a part of it."""
        return replace(
            self,
            prompt_tokens=max(0, self.prompt_tokens - part.prompt_tokens),
            cached_tokens=max(0, self.cached_tokens - part.cached_tokens),
            output_tokens=max(0, self.output_tokens - part.output_tokens),
        )

    def with_rows(self, rows: pa.Table) -> "Cost":
        """Return the cost with that of some rows added."""
        has = rows.column_names
        return Cost(
            self.rows + rows.num_rows,
            (self.calls or 0) + int(_sum(rows, "calls")) if "calls" in has else self.calls,
            self.prompt_tokens + int(_sum(rows, "prompt_tokens")),
            self.cached_tokens + int(_sum(rows, "cached_tokens")),
            self.output_tokens + int(_sum(rows, "output_tokens")),
            (self.seconds or 0.0) + _sum(rows, "seconds") if "seconds" in has else self.seconds,
        )


def _sum(rows: pa.Table, column: str) -> float:
    total: float = pc.sum(rows.column(column), min_count=0).as_py()
    return total


def total_of(costs: Mapping[str, Cost]) -> Cost:
    """Return the sum of some costs; its seconds are those that are known."""
    every = list(costs.values())
    return Cost(
        calls=sum(cost.calls or 0 for cost in every),
        prompt_tokens=sum(cost.prompt_tokens for cost in every),
        cached_tokens=sum(cost.cached_tokens for cost in every),
        output_tokens=sum(cost.output_tokens for cost in every),
        seconds=sum(cost.seconds or 0.0 for cost in every),
    )


def seconds_at_work(folder: RunFolder) -> dict[str, float]:
    """Return the seconds between commits, by the stage of the later one; a pause between two runs is no part of it.

    What a run does before its first commit is not known, and stages that overlap share the time.
    """
    ordered = sorted(_commits(folder))
    seconds = {spec.name: 0.0 for spec in STAGES if folder.log(spec).partitions}
    for (term, before, _), (next_term, at, stage) in pairwise(ordered):
        if term == next_term:
            seconds[stage] += (at - before).total_seconds()
    return seconds


def _commits(folder: RunFolder) -> Iterator[tuple[int, datetime, str]]:
    for spec in STAGES:
        for commits in folder.log(spec).partitions.values():
            for commit in commits:
                yield commit.term, datetime.fromisoformat(commit.at), spec.name
