"""The numbers behind the charts: bins, steps of thresholds, and the areas of treemaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from synthgen.commands.report.histogram import MOST_BINS, Histogram
from synthgen.commands.report.page import compact, number, percent, share, span
from synthgen.commands.report.treemap import ASPECT, squarify, treemap
from synthgen.commands.report.view import nice_step


def histogram(*values: float) -> Histogram:
    made = Histogram()
    made.add(np.array(values, np.float32))
    return made


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.85, 0.999, 3.5, 4.2])
def test_a_value_at_a_threshold_reaches_it_although_it_is_a_float32(threshold: float) -> None:
    one = histogram(threshold)
    assert (one.least(threshold), one.most(threshold)) == (1, 1)
    assert (one.least(threshold + 0.001), one.most(threshold - 0.001)) == (0, 0)


@given(some.lists(some.floats(-1e6, 1e6, width=32), max_size=50), some.integers(1, 8))
def test_every_value_is_in_one_bin_whatever_the_edges(values: list[float], bins: int) -> None:
    made = histogram(*values, float("nan"), float("inf"))
    assert made.count == len(values)
    low, high = made.ends
    edges = [low + (high - low) * number / bins for number in range(bins + 1)]
    assert sum(made.between(edges)) == len(values)
    assert made.least(low) == made.most(high) == len(values)


def test_many_different_values_take_bounded_memory_and_wider_bins() -> None:
    made = Histogram()
    for start in range(5):
        made.add(np.arange(start, start + 5, 0.0007, np.float32))
    assert len(made.bins) <= MOST_BINS and made.width == pytest.approx(0.01)
    assert made.count == 5 * len(np.arange(0, 5, 0.0007, np.float32))


@given(some.lists(some.integers(1, 10_000), min_size=1, max_size=40))
def test_areas_are_in_proportion_and_cover_the_map(counts: list[int]) -> None:
    ordered = {str(number): count for number, count in enumerate(sorted(counts, reverse=True))}
    placed = squarify(ordered, (0.0, 0.0, 100 * ASPECT, 100.0))
    assert list(placed) == list(ordered)
    for name, (x, y, width, height) in placed.items():
        assert width * height == pytest.approx(ordered[name] / sum(counts) * 10_000 * ASPECT, rel=1e-6)
        assert x >= -1e-6 and y >= -1e-6 and x + width <= 100 * ASPECT + 1e-6 and y + height <= 100 + 1e-6


def test_a_map_has_roots_and_what_is_directly_below_them_in_one_colour() -> None:
    counts = {"animal": 30, "animal/cat": 20, "animal/cat/siamese": 3, "animal/dog": 10, "sky": 5, "none": 0}
    cells = treemap(counts)
    assert [(cell.name, cell.count, cell.is_root) for cell in cells] == [
        ("animal", 30, True),
        ("animal/cat", 20, False),
        ("animal/dog", 10, False),
        ("sky", 5, True),
    ]
    assert len({cell.hue for cell in cells[:3]}) == 1 and cells[3].hue != cells[0].hue
    turned = treemap({"sky": 9, "animal": 1}, {cell.name: cell.hue for cell in cells})
    assert {cell.name: cell.hue for cell in turned} == {"sky": cells[3].hue, "animal": cells[0].hue}


def test_tags_too_small_to_be_seen_are_one_cell() -> None:
    cells = treemap({"large": 10_000, **{f"small{number}": 2 for number in range(20)}})
    assert [cell.name for cell in cells] == ["large", "others"]


@pytest.mark.parametrize(("least", "step"), [(0.025, 0.025), (0.0251, 0.05), (0.07, 0.1), (1.1, 2), (30, 50)])
def test_steps_are_round(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)


def test_numbers_are_short_and_never_rounded_to_all_or_nothing() -> None:
    assert [share(part) for part in (0.0, 0.0004, 0.5, 0.9996, 1.0)] == ["0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%"]
    assert [compact(count) for count in (0, 9_999, 12_345, 1_560_000, 2e9)] == ["0", "9,999", "12.3k", "1.56M", "2G"]
    assert [span(each) for each in (4.4, 75, 7_500, 400_000)] == ["4 s", "1 min 15 s", "2 h 05 min", "111 h"]
    assert (number(1234), number(0.12345), percent(0.5), percent(1 / 3)) == ("1,234", "0.123", "50%", "33.333%")
