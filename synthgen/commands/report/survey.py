"""Everything that a report counts, from one pass over the tables of a run, a partition at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from synthgen.commands.report import outcomes
from synthgen.commands.report.branches import Branches
from synthgen.commands.report.costs import PAIRS, Cost
from synthgen.commands.report.draw import Draw
from synthgen.commands.report.scores import ScoreSurvey, add_scores, costs_of, open_scores
from synthgen.config.selection import SelectConfig
from synthgen.job import run_record
from synthgen.stages.select.selection import scores_in
from synthgen.store import RunFolder
from synthgen.tables import ASK, GENERATE, PLAN, pass_of_score

OF_PAIRS = [*outcomes.TOKENS, "seconds"]


@dataclass
class Survey:
    """What a run holds.

    Attributes:
        counts: Of questions by type, form and language.
        pairs: What questions and answers cost.
        asked: What of it asking cost, where another model answers.
        scores: By name; those of passes that the last run no longer had are left out.
    """

    scores: dict[str, ScoreSurvey]
    counts: outcomes.Counts = field(default_factory=lambda: {kind: {} for kind in outcomes.KINDS})
    branches: Branches = field(default_factory=Branches)
    draw: Draw = field(default_factory=Draw)
    pairs: Cost = field(default_factory=Cost)
    asked: Cost = field(default_factory=Cost)

    @property
    def costs(self) -> dict[str, Cost]:
        """What calls cost, by what they were for."""
        return {PAIRS: self.pairs, **costs_of(self.scores)}


def survey(
    folder: RunFolder, settings: SelectConfig, progress: Callable[[int], None] = lambda partitions: None
) -> Survey:
    """Return the survey of a run.

    Args:
        folder: The run.
        settings: The thresholds of its scores.
        progress: Called after each partition.
    """
    wanted = run_record.scores_of_passes(folder.record or {})
    names = [name for name in scores_in(folder) if pass_of_score(name) is None or name in wanted]
    found = Survey(open_scores(names, settings))
    for partition in partitions_of(folder):
        rows = outcomes.read_rows(folder, partition)
        outcomes.count_rows(rows, found.counts)
        found.pairs = found.pairs.with_rows(rows.select(OF_PAIRS))
        found.asked = found.asked.with_rows(folder.table(ASK, partition, "questions", OF_PAIRS))
        add_scores(found.scores, folder, partition, rows)
        found.branches.add(folder, partition, rows)
        found.draw.add(partition, rows)
        progress(1)
    return found


def partitions_of(folder: RunFolder) -> list[str]:
    """Return the partitions that hold planned images or questions."""
    return list(dict.fromkeys([*folder.log(PLAN).partitions, *folder.log(GENERATE).partitions]))
