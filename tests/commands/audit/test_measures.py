"""What labels measure, against values that others have computed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from synthgen.commands.audit.measures import LEAST_ABOVE, Share, alpha, is_telling, roc_area, share_of, threshold_for


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (190, 200, 0.9104, 0.9726), (10, 10, 0.7225, 1.0)],
)
def test_the_wilson_interval_is_that_of_the_tables(right: int, count: int, low: float, high: float) -> None:
    share = share_of([True] * right + [False] * (count - right))
    assert share is not None and share.count == pytest.approx(count)
    assert share.interval == pytest.approx((low, high), abs=1e-4)


def test_a_weighted_share_counts_as_fewer_pairs() -> None:
    share = share_of([True, True, False, False], [3.0, 3.0, 1.0, 1.0])
    assert share is not None and share.value == pytest.approx(0.75) and share.count == pytest.approx(64 / 20)
    assert share_of([]) is None


def test_alpha_is_that_of_krippendorff() -> None:
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", the example with two observers, nominal data.
    first, second = "aabbddcceb", "babbbdcccd"
    pairs = [list(pair) for pair in zip("0100000000", "1110010001", strict=True)]
    assert alpha(pairs) == pytest.approx(0.095, abs=5e-4)
    assert alpha([list(pair) for pair in zip(first, first, strict=True)]) == 1
    assert 0 < (alpha([list(pair) for pair in zip(first, second, strict=True)]) or 0) < 1


def test_alpha_ignores_units_of_one_label_and_is_unknown_where_nothing_differs() -> None:
    units = [["a", "a"], ["a", "b"], ["b", "b"]]
    assert alpha([*units, ["b"]]) == alpha(units)
    assert alpha([["a", "a"], ["a"]]) is None and alpha([]) is None


@given(some.lists(some.tuples(some.integers(0, 5), some.booleans()), max_size=30))
def test_the_area_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool]]) -> None:
    right, wrong = ([value for value, is_right in rows if is_right is wanted] for wanted in (True, False))
    wins = [1.0 if high > low else 0.5 if high == low else 0.0 for high in right for low in wrong]
    area = roc_area([value for value, _ in rows], [is_right for _, is_right in rows])
    assert area == (pytest.approx(sum(wins) / len(wins)) if wins else None)


@pytest.mark.parametrize(
    ("area", "right", "wrong", "tells"),
    [(0.74, 193, 7, True), (0.54, 193, 7, False), (0.9, 3, 1, False), (1.0, 5, 5, True), (0.3, 100, 100, False)],
)
def test_a_score_is_trusted_only_where_its_area_is_surely_above_chance(
    area: float, right: int, wrong: int, tells: bool
) -> None:
    assert is_telling(area, right, wrong) == tells


def test_the_threshold_is_the_least_that_reaches_a_precision_from_there_on() -> None:
    values = [float(number) for number in range(100)]
    is_right = [number >= 40 or number % 2 == 0 for number in range(100)]
    reached = threshold_for(values, is_right, 0.95)
    assert reached is not None
    threshold, share = reached
    assert share == Share(sum(is_right[int(threshold) :]) / (100 - int(threshold)), 100 - int(threshold))
    assert share.value >= 0.95 and threshold < 40
    assert threshold_for(values, [False] * 100, 0.5) is None
    assert threshold_for(values[: LEAST_ABOVE - 1], [True] * (LEAST_ABOVE - 1), 0.5) is None


def test_equal_values_are_kept_or_dropped_together() -> None:
    reached = threshold_for([1.0] * 20 + [0.0] * 20, [True] * 20 + [False] * 20, 0.9)
    assert reached == (1.0, Share(1.0, 20))


def test_the_interval_of_a_sample_holds_the_truth_about_as_often_as_it_says() -> None:
    random.seed(7)
    held = 0
    for _ in range(400):
        share = share_of([random.random() < 0.93 for _ in range(200)])
        assert share is not None
        low, high = share.interval
        held += low <= 0.93 <= high
    assert held >= 0.92 * 400
