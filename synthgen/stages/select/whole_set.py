"""The rules that look at all pairs at once: ranks within groups, the balance of answers, and quotas.

Ranks come before pairs are compared with each other, so that no pair that is to go drops another one; balance and
quotas come after, and see what is left. Each rule depends on settings, values and ids alone, so neither on partitions
nor on the order of pairs. Growth can drop a pair that was kept: a better one of its group has come.
"""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.replies import LETTERS
from synthgen.config.selection import AnswerBalance, KeepRule, Quota, SelectConfig, fits
from synthgen.stages.select.standings import KEPT, SIDES, Kind, Standings
from synthgen.stages.select.thinning import Cap, Mask, Numbers, beyond_caps, beyond_rarest, least_count, lowest


class WholeSet:
    """All pairs of a set, and the reasons that the rules over it have against them.

    Attributes:
        notes: What the user should know of groups that a rule could not treat like the others.
    """

    def __init__(self, settings: SelectConfig, standings: Standings, first: int = 0) -> None:
        """Prepare the rules.

        Args:
            settings: Of the selection.
            standings: What the rules read of all pairs.
            first: The number of the first pair; those before it are of earlier runs.
        """
        self._settings, self._standings, self._first = settings, standings, first
        self._reasons = [KEPT]
        self._codes = np.zeros(standings.pairs, np.uint16)  # of each pair, the place of its reason
        self._open = np.ones(standings.pairs, bool)
        self.notes: list[str] = []

    def rank(self, is_open: Mask) -> Mask:
        """Return the pairs that are among the lowest of their group by a score, by their numbers, bool.

        Args:
            is_open: Whether nothing is against each pair by itself, (pairs,) bool.
        """
        self._open = is_open
        for name, rule in sorted(self._settings.keep.items()):
            if rule.drop is not None:
                self._rank(is_open, name, rule, rule.drop)
        return np.concatenate([np.zeros(self._first, bool), self._codes > 0])

    def limit(self, is_open: Mask) -> None:
        """Apply balance and quotas to the pairs that the comparison leaves, by their numbers, bool."""
        is_open = is_open[self._first :] & self._open
        for pattern, rule in sorted(self._settings.balance.items()):
            self._balance(is_open & (self._codes == 0), pattern, rule)
        if self._settings.letters is not None:
            self._balance_letters(is_open & (self._codes == 0), self._settings.letters)
        quotas = self._settings.quotas.all()
        if quotas:
            is_open = is_open & (self._codes == 0)
            beyond = beyond_caps(is_open, [self._cap(is_open, *quota) for quota in quotas])
            for (kind, pattern, _), numbers in zip(quotas, beyond, strict=True):
                self._drop(numbers, f"quota:{kind}:{pattern}")

    @property
    def is_kept(self) -> Mask:
        """Whether no rule of these is against each pair, (pairs,) bool."""
        return np.asarray(self._codes == 0)

    def decided(self, rows: pa.Table, numbers: slice) -> pa.Table:
        """Return the rows of a partition with the reasons of this set in place of "kept"."""
        codes = self._codes[numbers.start - self._first : numbers.stop - self._first]
        reason = pc.if_else(pa.array(codes > 0), pa.array(self._reasons).take(pa.array(codes)), rows.column("reason"))
        return rows.set_column(rows.column_names.index("reason"), "reason", reason)

    def _rank(self, is_open: Mask, name: str, rule: KeepRule, drop: float) -> None:
        """Drop the lowest of each group; which they are does not depend on the ranks by other scores."""
        is_ranked = is_open & ~np.isnan(self._standings.values(name))
        chosen = self._standings.chosen(is_ranked, lambda kind: rule.applies_to(kind.type, kind.form))
        pairs = self._standings.group(chosen, rule.within, name)
        self._drop(chosen[lowest(pairs, drop)], f"rank:{name}")
        few = int((pairs.counts < least_count(drop)).sum())
        if few:
            what = f"{few:,} of {len(pairs.counts):,} groups have fewer than {least_count(drop):,} pairs"
            self.notes.append(f"select.keep.{name}: {what}, and none is dropped of them")

    def _balance(self, is_open: Mask, pattern: str, rule: AnswerBalance) -> None:
        """Thin the commoner of yes and no in each group of a pattern."""
        sides = self._standings.column("side")
        chosen = self._standings.chosen(is_open & (sides < len(SIDES)), lambda kind: fits(pattern, kind.type))
        pairs, own = self._standings.group(chosen, rule.within, rule.by), sides[chosen].astype(np.int64)
        is_dropped = beyond_rarest(pairs, own, len(SIDES), rule.ratio)
        for side, name in enumerate(SIDES):
            self._drop(chosen[is_dropped & (own == side)], f"balance:{name}")
            alone = len(np.setdiff1d(pairs.groups, pairs.groups[own != side]))
            if alone:
                what = (
                    f"{alone:,} of {len(pairs.counts):,} groups have no answer but '{name}', and none is kept of them"
                )
                self.notes.append(f"select.balance.{pattern}: {what}")

    def _balance_letters(self, is_open: Mask, ratio: float) -> None:
        letters = self._standings.column("letter")
        chosen = np.flatnonzero(is_open & (letters < len(LETTERS)))
        pairs, own = self._standings.group(chosen, (), None), letters[chosen].astype(np.int64)
        missing = [letter for place, letter in enumerate(LETTERS) if place not in own]
        if len(chosen) and missing:
            what = f"no answer of {len(chosen):,} is {' or '.join(missing)}"
            self.notes.append(f"select.letters: {what}, so none of multiple choice is kept")
        self._drop(chosen[beyond_rarest(pairs, own, len(LETTERS), ratio)], "balance:letter")

    def _cap(self, is_open: Mask, kind: str, pattern: str, quota: Quota) -> Cap:
        """Return a quota with its pairs, the best first."""
        if kind == "tag":
            bit = np.uint64(1 << sorted(self._settings.quotas.tags).index(pattern))
            chosen = np.flatnonzero(is_open & ((self._standings.column("tags") & bit) > 0))
        else:
            chosen = self._standings.chosen(is_open, partial(_is_of, kind, pattern))
        pairs = self._standings.group(chosen, (), quota.by)
        return Cap(chosen[np.argsort(pairs.places())], quota.most, quota.share)

    def _drop(self, numbers: Numbers, reason: str) -> None:
        """Give pairs a reason, unless they have one."""
        if len(numbers):
            if reason not in self._reasons:
                self._reasons.append(reason)
            self._codes[numbers[self._codes[numbers] == 0]] = self._reasons.index(reason)


def _is_of(part: str, pattern: str, kind: Kind) -> bool:
    """Return whether a kind fits the pattern of a quota of types, forms or languages."""
    return fits(pattern, kind.type) if part == "type" else getattr(kind, part) == pattern
