"""Colours are those that a viewer shows, in sRGB: profiles, gamma, deep greys and transparency."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from synthgen.config.packing import PackConfig
from synthgen.ingest.images import decode
from synthgen.ingest.images.colours import conversion, to_rgb
from synthgen.ingest.images.tiff import COLOUR_MAP, directories
from synthgen.stages.pack.metadata import make_image_file
from tests.fixtures.images import LIMITS, drawn, encoded, reason_of
from tests.fixtures.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, Point, grey_profile, rgb_profile

WIDE_SPACES = {"Adobe RGB": (ADOBE_RGB, 563 / 256), "Display P3": (DISPLAY_P3, 2.2)}
WIDE = {name: rgb_profile(*space) for name, space in WIDE_SPACES.items()}
LINEAR = rgb_profile(SRGB, 1.0)
Levels = NDArray[np.int16]


def in_srgb(colour: Sequence[int], primaries: Sequence[Point], gamma: float) -> NDArray[np.float64]:
    """Return a colour of another space in sRGB as the specifications state it: linear light, XYZ, linear light."""
    linear = np.linalg.solve(np.array(SRGB).T, np.array(primaries).T @ (np.array(colour) / 255) ** gamma).clip(0, 1)
    levels = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(levels, np.float64)


def seen(data: bytes) -> Levels:
    """Return what the models see, (height, width, 3)."""
    return np.asarray(decode(data, LIMITS).image, np.int16)


def packed(data: bytes) -> Levels:
    """Return what a reader without colour management sees in the shard."""
    file = make_image_file(data, LIMITS, PackConfig())
    return np.asarray(Image.open(io.BytesIO(file.data)).convert("RGB"), np.int16)


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (32, 32), colour)


def tiff(values: NDArray[np.generic], **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, **options)
    return sink.getvalue()


def png_with(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with chunks added after its header."""
    data = encoded(image, "PNG")
    added = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + added + data[33:]


# --- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_wide_profile_is_applied_and_the_shard_has_the_same_colours(name: str, image_format: str) -> None:
    options = {"quality": 95} if image_format in ("JPEG", "WEBP") else {}
    data = encoded(flat((120, 180, 90)), image_format, icc_profile=WIDE[name], **options)
    assert np.abs(seen(data).mean((0, 1)) - in_srgb((120, 180, 90), *WIDE_SPACES[name])).max() < 3
    assert np.abs(packed(data) - seen(data)).max() <= 3


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_profile_that_is_srgb_changes_nothing_and_the_file_is_packed_as_it_is(image_format: str) -> None:
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile at all"):
        data = encoded(drawn(), image_format, icc_profile=profile)
        assert conversion(Image.open(io.BytesIO(data))) is None
        assert np.array_equal(seen(data), seen(encoded(drawn(), image_format)))
        assert np.array_equal(packed(data), seen(data))


def test_linear_light_is_brightened() -> None:
    assert seen(encoded(flat((55, 55, 55)), "PNG", icc_profile=LINEAR)).mean() == pytest.approx(128, abs=2)


def test_a_grey_profile_is_applied_to_greys_and_one_of_another_space_is_not() -> None:
    grey = flat((55,), "L")
    assert seen(encoded(grey, "PNG", icc_profile=grey_profile(1.0))).mean() == pytest.approx(128, abs=2)
    assert seen(encoded(flat((55, 55, 55)), "PNG", icc_profile=grey_profile(1.0))).mean() == 55


def test_a_profile_is_applied_to_palettes_and_under_transparency() -> None:
    palette = flat((55, 55, 55)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert seen(encoded(palette, "PNG", icc_profile=LINEAR)).mean() == pytest.approx(128, abs=2)
    layered = flat((55, 55, 55, 255), "RGBA")
    assert seen(encoded(layered, "PNG", icc_profile=LINEAR)).mean() == pytest.approx(128, abs=2)


# --- the gamma and chromaticities of a PNG ----------------------------------------------------------------------------


def test_a_png_is_shown_by_its_gamma() -> None:
    linear = (b"gAMA", struct.pack(">I", 100_000))
    assert seen(png_with(flat((55, 55, 55)), linear)).mean() == pytest.approx(128, abs=2)
    usual = (b"gAMA", struct.pack(">I", 45_455))
    assert seen(png_with(flat((55, 55, 55)), usual)).mean() == 55
    assert seen(png_with(flat((55, 55, 55)), linear, (b"sRGB", b"\0"))).mean() == 55, "sRGB is said to be meant"
    assert np.array_equal(packed(png_with(drawn(), linear)), seen(png_with(drawn(), linear)))


def test_a_png_is_shown_by_its_chromaticities() -> None:
    swapped = (31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000)  # sRGB with red and green exchanged
    data = png_with(flat((200, 60, 90)), (b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", struct.pack(">8I", *swapped)))
    assert np.abs(seen(data).mean((0, 1)) - (60, 200, 90)).max() <= 1
    impossible = (b"cHRM", struct.pack(">8I", *[0] * 8))
    assert np.array_equal(seen(png_with(drawn(), impossible)), seen(encoded(drawn(), "PNG")))


# --- greys of many bits -----------------------------------------------------------------------------------------------

RAMP = np.arange(256, dtype=np.uint16).repeat(16).reshape(64, 64)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_grey_sensor_image_in_16_bits_is_as_bright_as_in_8(bits: int) -> None:
    values = (RAMP.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    for data in (encoded(Image.fromarray(values), "PNG"), tiff(values)):
        assert np.abs(seen(data)[..., 0] - RAMP.astype(np.int16)).max() <= 1


def test_white_is_zero_in_any_number_of_bits() -> None:
    for values in (RAMP.astype(np.uint8), RAMP * 257):
        assert np.abs(seen(tiff(values, photometric="miniswhite"))[..., 0] - (255 - RAMP.astype(np.int16))).max() <= 1


def test_the_transparent_value_of_a_16_bit_grey_png_is_white() -> None:
    data = png_with(Image.fromarray(RAMP * 257), (b"tRNS", struct.pack(">H", 0)))
    assert (seen(data)[RAMP == 0] == 255).all() and seen(data)[RAMP == 10].max() == 10


def test_unsigned_values_of_32_bits_are_not_negative() -> None:
    levels = seen(tiff(RAMP.astype(np.uint32) * 2**24))[..., 0]
    assert (np.diff(levels.ravel()) >= 0).all() and levels.min() == 0 and levels.max() == 255


def test_planes_that_pillow_garbles_are_unsupported_and_those_it_reads_are_right() -> None:
    planes = np.stack([RAMP, RAMP[::-1], RAMP.T]).astype(np.uint8)
    assert np.array_equal(seen(tiff(planes, photometric="rgb", planarconfig="separate")), np.moveaxis(planes, 0, -1))
    deep = tiff(planes.astype(np.uint16) * 257, photometric="rgb", planarconfig="separate")
    assert reason_of(deep) == "unsupported"


# --- transparency -----------------------------------------------------------------------------------------------------


def logo() -> Image.Image:
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (16, 16, 48, 48))
    return image


def test_white_on_transparent_is_shown_on_black() -> None:
    data = encoded(logo(), "PNG")
    assert seen(data)[32, 32].tolist() == [255, 255, 255] and seen(data)[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(packed(data), seen(data))


def test_a_dark_logo_is_shown_on_white() -> None:
    dark = logo()
    dark.paste((0, 0, 90, 255), (16, 16, 48, 48))
    assert seen(encoded(dark, "PNG"))[0, 0].tolist() == [255, 255, 255]


def test_a_bmp_whose_fourth_byte_is_zero_has_no_transparency() -> None:
    rows = np.zeros((32, 32, 4), np.uint8)
    rows[..., :3] = (90, 180, 120)
    head = struct.pack("<IiiHHIIiiII", 108, 32, 32, 1, 32, 3, rows.size, 2835, 2835, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 14 + len(head + masks) + rows.size, 0, 0, 14 + len(head + masks))
    assert seen(data + head + masks + rows.tobytes())[5, 5].tolist() == [120, 180, 90]


def test_a_picture_without_a_visible_pixel_is_refused_by_name() -> None:
    assert reason_of(encoded(flat((90, 20, 30, 0), "RGBA"), "PNG")) == "transparent"


def test_premultiplied_grey_is_shown() -> None:
    levels = seen(tiff(np.stack([RAMP, np.full_like(RAMP, 255)], -1).astype(np.uint8), extrasamples=["assocalpha"]))
    assert np.abs(levels[..., 0] - RAMP.astype(np.int16)).max() <= 1


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_a_deep_grey_is_scaled_in_the_memory_that_a_decoder_has(mode: str) -> None:
    """A decoder has 16 bytes a pixel, four of them for the image itself."""
    grey = Image.linear_gradient("L").resize((1500, 1500))
    image = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)
    tracemalloc.start()  # counts Python's bytes and numpy's arrays, not Pillow's images
    to_rgb(image, lambda it: it)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 11 * 1500**2


def test_a_tiff_whose_palette_has_bytes_in_place_of_16_bits_is_not_black() -> None:
    picture = Image.new("P", (40, 30))
    picture.putpalette([*(255, 255, 255), *(200, 30, 90)])
    picture.paste(1, (10, 10, 30, 20))
    sink = io.BytesIO()
    picture.save(sink, "TIFF")
    data = sink.getvalue()
    [directory] = directories(data)
    values = directory.values(COLOUR_MAP)
    order = directory.order
    wide, narrow = (struct.pack(f"{order}{len(values)}H", *each) for each in (values, [it >> 8 for it in values]))
    assert data.count(wide) == 1
    for file in (data, data.replace(wide, narrow)):
        seen = decode(file, LIMITS).image
        assert seen.getpixel((0, 0)) == (255, 255, 255) and seen.getpixel((15, 15)) == (200, 30, 90)


def test_a_tiff_with_planes_of_ycbcr_is_unsupported_and_not_corrupt() -> None:
    values = np.zeros((3, 32, 32), np.uint8)
    assert reason_of(tiff(values, photometric="ycbcr", planarconfig="separate")) == "unsupported"
    assert decode(tiff(values, photometric="rgb", planarconfig="separate"), LIMITS).image.size == (32, 32)
