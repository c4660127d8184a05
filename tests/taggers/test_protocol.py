"""A failure of a batch is confined to the images that cause it."""

import logging
import re
from collections.abc import Iterator, Sequence

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
    good, failed = one_by_one(double, [1, 13])
    assert good == 2 and isinstance(failed, Failure)
    assert re.fullmatch(r"tagger_failed: ValueError: an odd image \(test_protocol\.py:\d+\)", str(failed))
    assert not caplog.records


def test_a_result_of_another_length_counts_as_an_error() -> None:
    assert one_by_one(lambda numbers: [0], [1, 2]) == [0, 0]
    assert one_by_one(lambda numbers: [], [1]) == [Failure("tagger_failed", "ValueError: 0 results for 1 images")]


def test_a_tagger_that_ends_its_process_fails_its_images_instead() -> None:
    def leave(numbers: Sequence[int]) -> list[int]:
        raise SystemExit(3)

    results = one_by_one(leave, [1, 2])
    assert [str(result).partition(" (")[0] for result in results] == ["tagger_failed: SystemExit: 3"] * 2


def test_a_generator_that_raises_midway_costs_only_the_images_that_raise() -> None:
    def tag(numbers: Sequence[int]) -> Iterator[int]:
        for number in numbers:
            if number == 13:
                raise ValueError("an odd image")
            yield number

    first, second, third = one_by_one(tag, [1, 13, 2])
    assert (first, third) == (1, 2) and isinstance(second, Failure)
