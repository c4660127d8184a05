"""A failure of a batch is confined to the images that cause it."""

import logging
from collections.abc import Sequence

import pytest

from synthgen.errors import Failure
from synthgen.taggers import one_by_one, protocol


@pytest.fixture(autouse=True)
def nothing_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_warned", set())


def double(numbers: Sequence[int]) -> list[int]:
    """Double numbers; fail on any batch of several, and on 13."""
    if len(numbers) > 1:
        raise RuntimeError(f"out of room for {len(numbers)}")
    if numbers == [13]:
        raise ValueError("an odd image")
    return [2 * number for number in numbers]


def test_an_error_of_a_batch_that_no_image_repeats_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "synthgen"):
        assert one_by_one(double, [1, 2]) == [2, 4]
        assert one_by_one(double, [1, 2, 3]) == [2, 4, 6]
    assert [record.getMessage() for record in caplog.records] == [
        "a batch of 2 images failed and was tagged one by one, more slowly: RuntimeError: out of room for 2"
    ]


def test_an_error_that_an_image_repeats_is_the_failure_of_that_image(caplog: pytest.LogCaptureFixture) -> None:
    assert one_by_one(double, [1, 13]) == [2, Failure("tagger_failed", "ValueError: an odd image")]
    assert not caplog.records


def test_a_result_of_another_length_counts_as_an_error() -> None:
    assert one_by_one(lambda numbers: [0], [1, 2]) == [0, 0]
    assert one_by_one(lambda numbers: [], [1]) == [Failure("tagger_failed", "ValueError: 0 results for 1 images")]
