"""What changed between the questions of two runs: outcomes, texts, types, tags and scores.

A question is the same in both where its assignment is: the image, type, form, language and ordinal. Its text is the
same where the pair is, as the id of a pair stands for everything that shaped it. A question is also recognised by its
image and its words, in either case, whatever it was planned as.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.commands.diff.columns import Columns
from synthgen.commands.report.outcomes import KEPT, OUTCOMES

ABSENT = "absent"  # the outcome of a question in the run that does not have it
STATES = (*OUTCOMES, ABSENT)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
LEAST_MOVE = 1e-6  # of a score that counts as another value

Numbers = npt.NDArray[np.int64]
Pairing = tuple[Numbers, Numbers]  # rows before and after, one by one


@dataclass(frozen=True)
class Change:
    """How often a name is before and after: questions and kept pairs of a type, or images and kept pairs of a tag."""

    name: str
    asked: tuple[int, int]
    kept: tuple[int, int]

    @property
    def change(self) -> int:
        """By how many kept pairs it changes."""
        return self.kept[1] - self.kept[0]


@dataclass(frozen=True)
class ScoreChange:
    """A score before and after.

    Attributes:
        counts: Of pairs with a value.
        means: Of all pairs; None without any.
        kept_means: Of the kept ones.
        both: Pairs with the same words that have a value in both.
        moved: Those of them with another value.
        shift: The mean change of those that have moved.
    """

    name: str
    counts: tuple[int, int]
    means: tuple[float | None, float | None]
    kept_means: tuple[float | None, float | None]
    both: int
    moved: int
    shift: float | None


@dataclass(frozen=True)
class Compared:
    """What changed.

    Attributes:
        flow: (outcome before, outcome after) → questions.
        lost, won: (reason before, reason after) → questions that were kept and are not, and the other way round.
        same: Pairs that are the same in both.
        rewritten: Pairs of the same assignment that were made again and came out word for word the same.
        answered: Rows with the same image and words, and another answer.
        asked: Rows of the same assignment with another question.
    """

    flow: Counter[tuple[str, str]]
    lost: Counter[tuple[str, str]]
    won: Counter[tuple[str, str]]
    same: int
    rewritten: int
    answered: Pairing
    asked: Pairing
    types: Sequence[Change]
    tags: Sequence[Change]
    scores: Sequence[ScoreChange]

    @property
    def is_equal(self) -> bool:
        """Whether nothing changed: no outcome, no text and no score."""
        has_moved = any(before != after for (before, after), count in self.flow.items() if count)
        has_texts = len(self.answered[0]) or len(self.asked[0]) or self.rewritten
        return not (has_moved or has_texts or self.lost or self.won or any(score.moved for score in self.scores))


def compare(before: Columns, after: Columns) -> Compared:
    """Return what changed between two runs."""
    old, new = shared(before, after)
    is_pair = before.is_pair[old] & after.is_pair[new]
    is_other = is_pair & (before.pair[old] != after.pair[new])
    has_words = before.question[old] == after.question[new]
    is_again = is_other & has_words & (before.answer[old] == after.answer[new])
    is_asked = is_other & ~has_words
    return Compared(
        _flow(before, after, (old, new)),
        _reasons(before, after, (old, new), is_lost=True),
        _reasons(before, after, (old, new), is_lost=False),
        int((is_pair & ~is_other).sum()),
        int(is_again.sum()),
        answered_otherwise(before, after),
        (old[is_asked], new[is_asked]),
        _types(before, after),
        _tags(before, after),
        [_score(name, before, after, (old, new)) for name in sorted({*before.scores, *after.scores})],
    )


def shared(before: Columns, after: Columns) -> Pairing:
    """Return the rows of the assignments that both runs have."""
    _, old, new = np.intersect1d(before.assignment, after.assignment, assume_unique=True, return_indices=True)
    return old, new


def answered_otherwise(before: Columns, after: Columns) -> Pairing:
    """Return the rows with the same question about the same image, in words, and another answer; each question once.

    Where the run after has the question several times, an answer that any of them has is no other one.
    """
    old, new = (np.flatnonzero(side.is_pair) for side in (before, after))
    is_shared = np.isin(before.question[old], after.question[new])
    old = old[is_shared & ~np.isin(_said(before, old), _said(after, new))]
    _, first = np.unique(before.question[old], return_index=True)
    questions, places = np.unique(after.question[new], return_index=True)
    old = old[first]
    return old, new[places[np.searchsorted(questions, before.question[old])]]


def _said(side: Columns, rows: Numbers) -> npt.NDArray[np.uint64]:
    """Return a hash of the question and the answer of some rows."""
    said: npt.NDArray[np.uint64] = side.question[rows] * GOLDEN + side.answer[rows]
    return said


def _flow(before: Columns, after: Columns, rows: Pairing) -> Counter[tuple[str, str]]:
    old, new = rows
    counts = np.bincount(before.outcome[old] * len(STATES) + after.outcome[new], minlength=len(STATES) ** 2)
    flow = Counter({(STATES[i // len(STATES)], STATES[i % len(STATES)]): int(n) for i, n in enumerate(counts) if n})
    for side, rows_of, place in ((before, old, 0), (after, new, 1)):
        alone = np.delete(side.outcome, rows_of)
        for code, count in enumerate(np.bincount(alone, minlength=len(OUTCOMES)).tolist()):
            if count:
                flow[(STATES[code], ABSENT) if place == 0 else (ABSENT, STATES[code])] += count
    return flow


def _reasons(before: Columns, after: Columns, rows: Pairing, *, is_lost: bool) -> Counter[tuple[str, str]]:
    """Return how often kept pairs were lost or won, by the reasons before and after."""
    old, new = rows
    was, is_now = before.is_kept[old], after.is_kept[new]
    chosen = was & ~is_now if is_lost else ~was & is_now
    found: Counter[tuple[str, str]] = Counter()
    width = max(1, len(after.whys))
    codes = before.why[old[chosen]].astype(np.int64) * width + after.why[new[chosen]]
    for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
        found[before.whys[int(code) // width], after.whys[int(code) % width]] = int(count)
    side, of_both = (before, old) if is_lost else (after, new)
    if alone := int(np.delete(side.is_kept, of_both).sum()):
        found[(KEPT, ABSENT) if is_lost else (ABSENT, KEPT)] = alone
    return found


def _types(before: Columns, after: Columns) -> list[Change]:
    asked = [_per_name(side.type, side.types) for side in (before, after)]
    kept = [_per_name(side.type[side.is_kept], side.types) for side in (before, after)]
    names = sorted({*asked[0], *asked[1]})
    changes = [Change(name, (asked[0][name], asked[1][name]), (kept[0][name], kept[1][name])) for name in names]
    return _largest_first(changes)


def _per_name(codes: npt.NDArray[np.int32], names: Sequence[str]) -> Counter[str]:
    return Counter(dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True)))


def _tags(before: Columns, after: Columns) -> list[Change]:
    names = {*before.branches.tags, *after.branches.tags}
    found = [[side.branches.tags.get(name) for side in (before, after)] for name in sorted(names)]
    images = [tuple(branch.images if branch else 0 for branch in each) for each in found]
    kept = [tuple(branch.kept if branch else 0 for branch in each) for each in found]
    rows = zip(sorted(names), images, kept, strict=True)
    return _largest_first([Change(name, (of[0], of[1]), (pairs[0], pairs[1])) for name, of, pairs in rows])


def _largest_first(changes: Sequence[Change]) -> list[Change]:
    return sorted(changes, key=lambda each: (-abs(each.change), -abs(each.asked[1] - each.asked[0]), each.name))


def _score(name: str, before: Columns, after: Columns, rows: Pairing) -> ScoreChange:
    old, new = same_pairs(before, after, rows)
    change = moves(name, before, after, (old, new))
    is_moved = np.abs(change) > LEAST_MOVE
    values = [side.scores.get(name, np.full(len(side.row), np.nan, np.float32)) for side in (before, after)]
    kept = [each[side.is_kept] for each, side in zip(values, (before, after), strict=True)]
    return ScoreChange(
        name,
        (int(np.isfinite(values[0]).sum()), int(np.isfinite(values[1]).sum())),
        (_mean(values[0]), _mean(values[1])),
        (_mean(kept[0]), _mean(kept[1])),
        int(np.isfinite(change).sum()),
        int(is_moved.sum()),
        float(change[is_moved].mean()) if is_moved.any() else None,
    )


def same_pairs(before: Columns, after: Columns, rows: Pairing) -> Pairing:
    """Return the rows of pairs that are the same in both, or were made again word for word."""
    old, new = rows
    has_words = (before.question[old] == after.question[new]) & (before.answer[old] == after.answer[new])
    is_same = before.is_pair[old] & ((before.pair[old] == after.pair[new]) | has_words)
    return old[is_same], new[is_same]


def moves(name: str, before: Columns, after: Columns, rows: Pairing) -> npt.NDArray[np.float64]:
    """Return by how much a score changed from row to row, NaN where one of them has none."""
    old, new = rows
    if name not in before.scores or name not in after.scores:
        return np.full(len(old), np.nan)
    change: npt.NDArray[np.float64] = after.scores[name][new].astype(np.float64) - before.scores[name][old]
    return change


def _mean(values: npt.NDArray[np.float32]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None
