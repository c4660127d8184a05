"""The values of each score: of all pairs, of those that are kept, and of those that its threshold alone decides on.

For each pair the thresholds that it fails are counted, so that a pair which one of them dropped, and no other would, is
known: only those can be won by moving it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.report.costs import Cost
from synthgen.commands.report.histogram import Histogram, Values
from synthgen.commands.report.outcomes import FAILED, KEPT, TOKENS
from synthgen.config.selection import KeepRule, SelectConfig, fits
from synthgen.store import RunFolder
from synthgen.tables import NOT_APPLICABLE

COLUMNS = ["pair_id", "value", "reason", "calls", *TOKENS]
NO_RULE = KeepRule()

Mask = npt.NDArray[np.bool_]


@dataclass
class ScoreSurvey:
    """What is known of a score.

    Attributes:
        rule: Its threshold; NO_RULE where `select.keep` does not name it.
        all: The values of all pairs.
        kept: Those of kept pairs.
        decided: Those of the pairs that its threshold applies to and that pass all others, before whatever comes after
            the thresholds.
        untouched: Kept pairs that its threshold says nothing about.
        without: Pairs without a value.
    """

    name: str
    rule: KeepRule
    all: Histogram = field(default_factory=Histogram)
    kept: Histogram = field(default_factory=Histogram)
    decided: Histogram = field(default_factory=Histogram)
    untouched: int = 0
    without: int = 0
    cost: Cost = field(default_factory=lambda: Cost(calls=0))

    def kept_at(self, threshold: float) -> int:
        """Return how many pairs a threshold would keep: the least value, or the greatest where only that is set."""
        is_upper = self.rule.min is None and self.rule.max is not None
        return self.untouched + (self.decided.most(threshold) if is_upper else self.decided.least(threshold))


def open_scores(names: list[str], settings: SelectConfig) -> dict[str, ScoreSurvey]:
    """Return a survey of each score, with nothing in it."""
    return {name: ScoreSurvey(name, settings.keep.get(name, NO_RULE)) for name in names}


def add_scores(scores: Mapping[str, ScoreSurvey], folder: RunFolder, partition: str, rows: pa.Table) -> None:
    """Add the values of a partition to the survey of each score.

    Args:
        scores: By name.
        folder: The run.
        partition: Its name.
        rows: Its questions, as of `read_rows`.
    """
    is_kept, is_pair = _is(rows, KEPT), ~_is(rows, FAILED)
    found = {name: _read(survey, folder, partition, rows) for name, survey in scores.items()}
    lost = np.zeros(rows.num_rows, np.int16)
    for name, survey in scores.items():
        values, applies = found[name]
        lost += applies & ~_passes(survey.rule, values)
    for name, survey in scores.items():
        values, applies = found[name]
        is_dropped_here = np.asarray(pc.equal(rows.column("reason"), f"score:{name}")) & (lost == 1)
        survey.all.add(values[is_pair])
        survey.kept.add(values[is_kept])
        survey.decided.add(values[applies & (is_kept | is_dropped_here)])
        survey.untouched += int((is_kept & ~applies).sum())
        survey.without += int((is_pair & np.isnan(values)).sum())


def _read(survey: ScoreSurvey, folder: RunFolder, partition: str, rows: pa.Table) -> tuple[Values, Mask]:
    """Return the values of a score, NaN where there is none, and whether its threshold is for each question."""
    table = folder.scores(partition, survey.name, COLUMNS)
    survey.cost = survey.cost.with_rows(table.select(["calls", *TOKENS]))
    place = pc.index_in(rows.column("pair_id"), table.column("pair_id").combine_chunks())
    values = np.asarray(pc.fill_null(table.column("value").take(place), float("nan")), dtype=np.float32)
    reasons = pc.fill_null(table.column("reason").take(place), "")
    return values, _applies(survey.rule, rows) & ~np.asarray(pc.starts_with(reasons, NOT_APPLICABLE))


def _applies(rule: KeepRule, rows: pa.Table) -> Mask:
    """Return whether a threshold is for the form and the type of each question."""
    types = pc.fill_null(rows.column("type"), "")
    known = [path for path in pc.unique(types).to_pylist() if any(fits(pattern, path) for pattern in rule.types)]
    is_of_form = pc.is_in(rows.column("form"), pa.array(rule.forms, pa.string()))
    return np.asarray(pc.and_(is_of_form, pc.is_in(types, pa.array(known, pa.string()))), dtype=np.bool_)


def _passes(rule: KeepRule, values: Values) -> Mask:
    """Return which values are in the range of a threshold, compared as `select` does; every one where it has none."""
    if rule.min is None and rule.max is None and rule.drop is None:
        return np.ones(len(values), np.bool_)
    low = np.float32(-np.inf if rule.min is None else rule.min)
    high = np.float32(np.inf if rule.max is None else rule.max)
    is_inside: Mask = (values >= low) & (values <= high)
    return is_inside


def _is(rows: pa.Table, outcome: str) -> Mask:
    return np.asarray(pc.equal(rows.column("outcome"), outcome), dtype=np.bool_)


def costs_of(scores: Mapping[str, ScoreSurvey]) -> dict[str, Cost]:
    """Return the costs of scores by name; those that are computed without a call have none."""
    return {f"score {name}": replace(survey.cost, seconds=None) for name, survey in scores.items()}
