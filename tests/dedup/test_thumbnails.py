"""Images with one perceptual hash are near duplicates only if their thumbnails show the same."""

import io
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from synthgen.config.source import ImagesConfig
from synthgen.dedup import Thumbnails, crowds, near_images
from synthgen.ingest.images import Decoded, decode

Copy = Callable[[Image.Image], Image.Image]
Hash = np.uint64(1 << 63)


def page(number: int) -> Image.Image:
    """Return a page of one layout, with lines of bars in place of words."""
    draw, image = random.Random(number), Image.new("L", (600, 840), 255)
    pen = ImageDraw.Draw(image)
    pen.rectangle((60, 40, 260, 70), fill=0)
    for y in range(120, 780, 24):
        x = 60
        while x < 500:
            width = draw.randint(12, 80)
            pen.rectangle((x, y, x + width, y + 9), fill=150)
            x += width + 10
    return image


def scene(number: int) -> Image.Image:
    """Return an image with the smooth slopes and the grain of a photograph."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (480, 640))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Return an image without so much of each side."""
    width, height = image.size
    x, y = round(width * share), round(height * share)
    return image.crop((x, y, width - x, height - y))


def decoded(image: Image.Image, **options: object) -> Decoded:
    file = io.BytesIO()
    image.convert("RGB").save(file, **({"format": "PNG"} | options))  # type: ignore[arg-type]
    return decode(file.getvalue(), ImagesConfig())


def thumbnails(images: Sequence[Decoded]) -> Thumbnails:
    cells = np.frombuffer(b"".join(image.thumbnail for image in images), np.uint8).reshape(len(images), -1)
    return Thumbnails(cells, np.array([image.flat_share for image in images], np.float32), np.arange(len(images)))


def are_near(left: Decoded, right: Decoded) -> bool:
    """Return whether the thumbnails of two images agree, whichever comes first."""
    both = thumbnails([left, right])
    near, turned = both.are_near(np.array([0, 1]), np.array([1, 0])).tolist()
    assert near == turned
    return bool(near)


COPIES: dict[str, Copy] = {
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "double": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.06),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.93),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("make", [page, scene])
def test_a_copy_is_near(make: Callable[[int], Image.Image], name: str) -> None:
    for number in range(5):
        original = make(number)
        assert are_near(decoded(original), decoded(COPIES[name](original), format="JPEG", quality=80))


@pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 30}, {"format": "WEBP", "quality": 50}])
def test_a_recompressed_image_is_near(options: dict[str, object]) -> None:
    for number in range(5):
        for original in (page(number), scene(number)):
            assert are_near(decoded(original), decoded(original, **options))


def test_a_photograph_without_a_hundredth_of_each_side_is_near() -> None:
    for number in range(5):
        assert are_near(decoded(scene(number)), decoded(cropped(scene(number), 0.01), format="JPEG"))


def test_pages_of_one_layout_with_other_words_are_kept() -> None:
    pages = [decoded(page(number)) for number in range(40)]
    kept = near_images(np.full(len(pages), Hash), 4, thumbnails=thumbnails(pages))
    assert kept.tolist() == list(range(len(pages)))


def test_plain_images_of_another_brightness_are_kept() -> None:
    assert not are_near(decoded(Image.new("L", (64, 64), 255)), decoded(Image.new("L", (64, 64), 200)))


def test_a_large_part_of_a_page_has_one_grey_and_of_a_scene_little() -> None:
    assert decoded(page(0), format="JPEG", quality=30).flat_share > 0.6 and decoded(scene(0)).flat_share < 0.2


def test_where_an_image_has_no_thumbnail_its_hash_decides() -> None:
    both = thumbnails([decoded(page(0)), decoded(page(1))])
    assert not both.are_near(np.array([0]), np.array([1]))[0]
    without = Thumbnails(both.cells, np.array([np.nan, 0.9], np.float32), both.rows)
    assert near_images(np.full(2, Hash), 4, thumbnails=without).tolist() == [0, 0]


SMALL = [decoded(picture) for number in range(4) for picture in (page(number), cropped(page(number), 0.005))]
SMALL.append(decoded(scene(1)))
IMAGES = st.lists(st.tuples(st.sampled_from([0, 1, 0b111, 2**63]), st.integers(0, len(SMALL) - 1)), max_size=30)


@given(images=IMAGES, cut=st.integers(0, 30), bits=st.integers(0, 4))
def test_images_are_dropped_first_come(images: list[tuple[int, int]], cut: int, bits: int) -> None:
    hashes = np.array([phash for phash, _ in images], np.uint64)
    rows = np.array([row for _, row in images], np.int64)
    shown = thumbnails(SMALL)
    expected: list[int] = []
    for number, (phash, row) in enumerate(images):
        kept = [other for other in range(number) if expected[other] == other]
        near = (
            other
            for other in kept
            if (images[other][0] ^ phash).bit_count() <= bits
            and shown.are_near(np.array([images[other][1]]), np.array([row]))[0]
        )
        expected.append(next(near, number))
    found = near_images(hashes, bits, thumbnails=Thumbnails(shown.cells, shown.flat_shares, rows))
    assert found.tolist() == expected


def test_in_a_crowd_of_one_hash_few_pairs_are_compared_and_copies_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count = np.random.default_rng(0), 3000
    cells = np.clip(200 + rng.normal(0, 6, (count, 256)), 0, 255)
    copies = np.arange(count - 300, count)
    cells[copies] = cells[copies - 2000] + rng.normal(0, 0.3, (300, 256))
    shown = Thumbnails(np.rint(cells).astype(np.uint8), np.full(count, 0.9, np.float32), np.arange(count))
    compared, compare = [0], Thumbnails.are_near

    def counting(self: Thumbnails, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        compared[0] += len(left)
        return compare(self, left, right)

    monkeypatch.setattr(Thumbnails, "are_near", counting)
    found = near_images(np.full(count, Hash), 4, thumbnails=shown)
    assert (found[copies] == copies - 2000).mean() > 0.9
    assert (found[: count - 300] == np.arange(count - 300)).all()
    assert compared[0] < 5 * crowds.CROWD * count < count**2 / 2


def test_a_crowd_of_images_that_look_alike_leaves_hardly_any() -> None:
    cells = np.random.default_rng(0).integers(249, 251, (2000, 256), dtype=np.uint8)
    shown = Thumbnails(cells, np.full(2000, 0.99, np.float32), np.arange(2000))
    found = near_images(np.full(2000, Hash), 4, thumbnails=shown)
    assert (found == np.arange(2000)).sum() < 10
