"""How many pairs other settings would keep: nothing is written, and the pairs are read once for all of them.

Settings that differ in `keep` alone share everything but their thresholds, ranks and the comparison of what is left, so
a further one costs seconds even for a million pairs. Each tally is what a run with these settings would keep.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.replies import LETTERS
from synthgen.stages.select.duplicates import KEPT as NOT_REPEATED
from synthgen.stages.select.earlier_runs import start_comparison
from synthgen.stages.select.judging import for_comparison, judge_scores, judge_texts, read_pairs
from synthgen.stages.select.selection import Selection, pending_notes
from synthgen.stages.select.standings import KEPT, Standings, needed
from synthgen.stages.select.thinning import Mask, Numbers
from synthgen.stages.select.whole_set import WholeSet
from synthgen.tables import GENERATE

NONE, GONE = -1, -2  # in place of the number of a pair

Show = Callable[[], None]  # called for each partition that is read
Types = Mapping[str, int]  # instruction type → pairs


@dataclass(frozen=True)
class Tally:
    """What a selection would do.

    Attributes:
        pairs: Of each type.
        kept: Of each type.
        letters: Letter → kept pairs of multiple choice that answer with it.
        notes: What it could not do as asked.
    """

    pairs: Types
    kept: Types
    letters: Mapping[str, int]
    notes: tuple[str, ...]


def tallies(selections: Sequence[Selection], show: Show = lambda: None) -> list[Tally]:
    """Return a tally for each selection; all are of one folder."""
    found: dict[int, Tally] = {}
    for places in _alike(selections):
        with tempfile.TemporaryDirectory(prefix="synth-trial-") as folder:
            trial = _Trial([selections[place] for place in places], Path(folder))
            for partition in selections[0].folder.log(GENERATE).partitions:
                trial.add(partition)
                show()
            found |= dict(zip(places, trial.tallies(), strict=True))
    return [found[place] for place in range(len(selections))]


def _alike(selections: Sequence[Selection]) -> list[list[int]]:
    """Return the places of the selections that differ in `keep` alone, together."""
    groups: dict[str, list[int]] = {}
    for place, selection in enumerate(selections):
        settings = selection.settings.model_dump(mode="json", exclude={"keep"})
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(place)
    return list(groups.values())


class _Trial:
    """The pairs of a folder, gathered for selections that differ in `keep` alone."""

    def __init__(self, selections: Sequence[Selection], folder: Path) -> None:
        self._selections = selections
        self._columns = list(
            dict.fromkeys(["key", "kind", "letter", *(name for each in selections for name in needed(each.settings))])
        )
        self._comparison, self._start = start_comparison(selections[0], folder)
        self._contamination = selections[0].contamination()
        self._standings = Standings(self._columns)
        self._previous = [np.zeros(0, np.int64)]
        self._open = [[np.zeros(0, bool)] for _ in selections]

    def add(self, partition: str) -> None:
        """Read a partition; what looks at texts alone does so once."""
        first = self._selections[0]
        rows = read_pairs(first, partition)
        matches = self._contamination.matches(rows) if self._contamination else {}
        texts = judge_texts(first, partition, rows, matches)
        is_open = np.asarray(pc.equal(texts, KEPT), bool)
        for selection, parts in zip(self._selections, self._open, strict=True):
            parts.append(is_open & np.asarray(pc.equal(judge_scores(selection, partition, rows), KEPT), bool))
        self._previous.append(_previous(rows, self._standings.pairs))
        judged = for_comparison(first, partition, rows, texts, self._columns)
        self._comparison.add(judged)
        self._standings.add(judged)

    def tallies(self) -> Iterator[Tally]:
        """Yield the tally of each selection."""
        pairs = self._standings.types(np.ones(self._standings.pairs, bool))
        for selection, parts in zip(self._selections, self._open, strict=True):
            is_open = np.concatenate(parts)
            whole = WholeSet(selection.settings, self._standings, self._start)
            is_dropped = whole.rank(is_open)
            is_dropped[self._start :] |= ~is_open
            verdicts = self._comparison.verdicts(is_dropped)
            is_left = verdicts.codes == NOT_REPEATED
            whole.limit(is_left)
            is_kept = self._with_previous(is_open & is_left[self._start :] & whole.is_kept)
            notes = (*whole.notes, *verdicts.notes, *pending_notes(selection.folder, selection.settings))
            yield Tally(pairs, self._standings.types(is_kept), self._letters(is_kept), notes)

    def _letters(self, is_kept: Mask) -> dict[str, int]:
        counts = np.bincount(self._standings.column("letter")[is_kept], minlength=len(LETTERS))[: len(LETTERS)]
        return dict(zip(LETTERS, counts.tolist(), strict=True)) if counts.any() else {}

    def _with_previous(self, is_kept: Mask) -> Mask:
        """Return which pairs are kept, without those that go on from one that is not."""
        previous = np.concatenate(self._previous)
        goes_on = np.flatnonzero(previous != NONE)
        kept = is_kept.copy()
        kept[goes_on] &= (previous[goes_on] != GONE) & is_kept[previous[goes_on]]
        return kept


def _previous(rows: pa.Table, first: int) -> Numbers:
    """Return the number of the pair that each pair goes on from, NONE, or GONE where there is none of that id.

    Args:
        rows: The pairs of a partition.
        first: The number of the first of them.
    """
    place = pc.index_in(rows.column("follows"), rows.column("pair_id").combine_chunks())
    found = np.asarray(pc.fill_null(pc.add(place.cast(pa.int64()), first), GONE))
    return np.where(np.asarray(pc.is_valid(rows.column("follows"))), found, NONE)
