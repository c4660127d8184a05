"""The bootstrap over images: its intervals, and what pairing takes away."""

import numpy as np
import pytest

from synthgen.commands.evaluate.bootstrap import resample


def test_the_interval_of_independent_questions_is_that_of_a_share() -> None:
    right = (np.arange(400) < 300).astype(float)
    found = resample(range(400), right[:, None], 2000, 0).interval(0)
    assert found is not None
    width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found == pytest.approx((0.75 - width, 0.75 + width), abs=0.006)


def test_questions_about_one_image_count_as_one_draw() -> None:
    """Ten questions each about forty images, right or wrong together, say no more than forty questions."""
    right = np.repeat((np.arange(40) < 30).astype(float), 10)
    by_image = resample([number // 10 for number in range(400)], right[:, None], 1000, 0).interval(0)
    by_question = resample(range(400), right[:, None], 1000, 0).interval(0)
    assert by_image is not None and by_question is not None
    widths = [high - low for low, high in (by_image, by_question)]
    assert 2.5 < widths[0] / widths[1] < 3.8  # √10


def test_what_is_hard_for_both_models_does_not_count_in_their_difference() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(200) < 0.5
    first = np.where(hard, 0.0, 1.0)
    second = np.where(hard | (np.arange(200) < 10), 0.0, 1.0)
    paired = resample(range(200), (first - second)[:, None], 1000, 0)
    alone = resample(range(200), np.stack([first, second], 1), 1000, 0)
    width = np.subtract(*paired.interval(0)[::-1])  # type: ignore[index]
    apart = np.subtract(*alone.interval(0)[::-1])  # type: ignore[index]
    assert width < apart / 2
    assert paired.above_zero(0) > 0.95


def test_equal_models_are_better_in_half_of_the_resamples() -> None:
    assert resample(range(20), np.zeros((20, 1)), 100, 0).above_zero(0) == 0.5


def test_a_group_that_few_resamples_have_has_no_interval() -> None:
    values = np.full((20, 2), np.nan)
    values[:, 0] = 1.0
    values[0, 1] = 1.0
    found = resample(range(20), values, 500, 0)
    assert found.interval(0) == (1.0, 1.0) and found.interval(1) is None


def test_the_same_seed_draws_the_same_images() -> None:
    values = np.arange(10, dtype=np.float64)[:, None]
    first, second = (resample(range(10), values, 120, 3).values for _ in range(2))
    assert (first == second).all() and first.shape == (120, 1)
