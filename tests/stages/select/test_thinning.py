"""Shares are exact, and as much is kept as they allow, whatever the sizes of the groups."""

from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.stages.select import thinning
from synthgen.stages.select.thinning import Cap, beyond_caps, least_count, share_of

SHARES = st.sampled_from([0.1, 0.25, 0.29, 0.3, 0.5, 0.7, 0.9])


@given(share=SHARES, counts=st.lists(st.integers(0, 10_000), max_size=5))
def test_a_share_is_rounded_down_as_in_decimals(share: float, counts: list[int]) -> None:
    assert share_of(share, np.array(counts, np.int64)).tolist() == [floor(Fraction(str(share)) * n) for n in counts]
    least = least_count(share)
    before, at = share_of(share, np.array([least - 1, least]))
    assert before == 0 < at


def kept_by(sizes: list[int], shares: list[float | None]) -> list[int]:
    """Return how many pairs are kept of disjoint patterns of these sizes; None has no cap."""
    ends = np.cumsum([0, *sizes]).tolist()
    members = [np.arange(start, end) for start, end in pairwise(ends)]
    caps = [Cap(own, None, share) for own, share in zip(members, shares, strict=True) if share is not None]
    beyond = iter(beyond_caps(np.ones(ends[-1], bool), caps))
    return [size if share is None else size - len(next(beyond)) for size, share in zip(sizes, shares, strict=True)]


@pytest.mark.parametrize(
    ("sizes", "shares", "kept"),
    [
        ([600, 400], [0.3, None], [171, 400]),
        ([900, 100], [0.5, 0.5], [100, 100]),
        ([100, 100, 100], [0.3, 0.3, 0.3], [0, 0, 0]),
        ([1000], [0.3], [0]),
        ([10, 90], [0.3, None], [10, 90]),
        ([500, 300, 200], [0.4, 0.4, None], [333, 300, 200]),
    ],
)
def test_shares_are_parts_of_what_is_kept(sizes: list[int], shares: list[float | None], kept: list[int]) -> None:
    assert kept_by(sizes, shares) == kept


@given(sizes=st.lists(st.integers(0, 60), min_size=2, max_size=4), drawn=st.lists(SHARES, min_size=3, max_size=3))
def test_no_share_is_too_large_and_no_pair_is_dropped_that_could_stay(sizes: list[int], drawn: list[float]) -> None:
    shares: list[float | None] = [*drawn[: len(sizes) - 1], None]
    found = kept_by(sizes, shares)
    assert all(share is None or count <= share * sum(found) + 1e-9 for count, share in zip(found, shares, strict=True))

    def left(total: int) -> int:
        rooms = [total if share is None else floor(Fraction(str(share)) * total) for share in shares]
        return sum(map(min, sizes[:-1], rooms[:-1])) + sizes[-1]

    assert sum(found) == max(total for total in range(sum(sizes) + 1) if left(total) >= total)


def test_shares_that_nearly_fill_the_set_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, apply = [], thinning._apply

    def counted(*given: Any) -> Any:
        calls.append(given)
        return apply(*given)

    monkeypatch.setattr(thinning, "_apply", counted)
    found = kept_by([30_000, 30_000, 30_000, 5], [0.333, 0.333, 0.333, None])
    assert len(calls) < 100 and found[3] == 5
    assert all(count <= 0.333 * sum(found) for count in found[:3]) and sum(found) > 1000
