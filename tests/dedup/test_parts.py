"""A part of a known image is found wherever it was cut, and another image of the same layout is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from synthgen.dedup import Crops, known_parts
from synthgen.dedup.images import near_hashes
from synthgen.ingest.benchmark_prints import prints_of_image
from synthgen.ingest.images import Decoded
from tests.dedup.test_thumbnails import decoded, page, scene

Seen = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], npt.NDArray[np.float32]]
Make = Callable[[int], Image.Image]


def crops_of(images: Sequence[Image.Image]) -> Crops:
    """Return known images as a benchmark's prints have them."""
    rows = [list(prints_of_image(decoded(image))) for image in images]
    flat = [row for group in rows for row in group]
    numbers = np.repeat(np.arange(len(rows)), [len(group) for group in rows])
    edges = np.array([row["edges"] for row in flat], np.float32).reshape(-1, 2, 2)
    return Crops(*seen(flat), edges, numbers, [group[0]["miniature"] for group in rows])


def seen(rows: Sequence[dict[str, Any]]) -> Seen:
    cells = np.array([np.frombuffer(row["thumbnail"], np.uint8) for row in rows])
    return (
        np.array([row["phash"] for row in rows], np.uint64),
        cells,
        np.array([row["flat_share"] for row in rows], np.float32),
    )


def found(images: Sequence[Decoded], known: Crops, bits: int = 10) -> list[int]:
    """Return the known image that each image is found to be a part of, or -1."""
    part = known_parts(*seen([vars(image) for image in images]), known, bits)
    return [int(known.images[crop]) if crop >= 0 else -1 for crop in part]


def cut(image: Image.Image, left: float, top: float, side: float) -> Image.Image:
    width, height = image.size
    box = left * width, top * height, (left + side) * width, (top + side) * height
    return image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [page, scene])
@pytest.mark.parametrize("place", [(0.02, 0.03, 0.96), (0.03, 0.06, 0.91), (0.11, 0.02, 0.87)])
def test_a_part_is_found_wherever_it_was_cut(make: Make, place: tuple[float, float, float]) -> None:
    known = crops_of([make(number) for number in range(6)])
    parts = [decoded(cut(make(number), *place), format="JPEG", quality=80) for number in range(6)]
    assert found(parts, known, bits=16) == list(range(6))


@pytest.mark.parametrize("make", [page, scene])
@pytest.mark.parametrize("light", [0.8, 1.2])
def test_a_part_in_another_light_is_found(make: Make, light: float) -> None:
    copy = ImageEnhance.Brightness(cut(make(1), 0.02, 0.03, 0.95)).enhance(light)
    assert found([decoded(copy)], crops_of([make(0), make(1)]), bits=16) == [1]


@pytest.mark.parametrize("make", [page, scene])
def test_another_image_of_the_same_layout_is_not_found(make: Make) -> None:
    known = crops_of([make(number) for number in range(6)])
    others = [decoded(cut(make(number), *place)) for number in range(6, 26) for place in ((0, 0, 1), (0.04, 0.02, 0.9))]
    assert found(others, known, bits=16) == [-1] * len(others)


def test_an_image_without_a_thumbnail_is_not_found() -> None:
    image = vars(decoded(page(0))) | {"flat_share": np.nan}
    assert known_parts(*seen([image]), crops_of([page(0)]), 8).tolist() == [-1]


HASHES = st.lists(
    st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 0b111, 2**63, 2**64 - 1]), max_size=20, unique=True
)


@given(hashes=HASHES, known=HASHES, bits=st.integers(0, 16))
def test_all_pairs_of_near_hashes_are_found(hashes: list[int], known: list[int], bits: int) -> None:
    left, right = near_hashes(np.array(hashes, np.uint64), np.array(known, np.uint64), bits)
    expected = {
        (one, other) for one, a in enumerate(hashes) for other, b in enumerate(known) if (a ^ b).bit_count() <= bits
    }
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected and len(left) == len(expected)
