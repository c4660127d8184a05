"""JPEG XL and camera raw: right pixels at the right size, and the same guards as for every other format."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from synthgen.config.packing import PackConfig
from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Decoded, DecoderPool, decode, plugins, tiff
from synthgen.ingest.images.headers import sniff_whole
from synthgen.stages.pack.metadata import make_image_file
from tests.fixtures.images import drawn, encoded, reason_of

LIMITS = ImagesConfig(formats=("JXL", "RAW", "TIFF"), max_pixels=1_000_000, decode_seconds=5)
# `drawn()` by two encoders that are not installed: imagecodecs, lossless, and Pillow's plugin.
LOSSLESS = base64.b64decode("/woJQSQIBAEAkABLKCTGRUFBANQZJ8agvEAMAIJUAQA6RP5/of39VUz+Sn8giQA=")
LOSSY = base64.b64decode(
    "/woJBwAliAIAuAS1nyAAABUqo4wbvJzr+fJDh8W0jesMbbVtYQljs70wSJgAMEPboXGCUQeVYvNh3QHAWo+SCZC0dItRSlpoAmQAEG5voOsMPpQu"
    "Apwn5EBKPab/0l1uQc52wIM1StqEeb1/ZfogpNybp9mMePyB4OSrdnvvZ0cnRK0AjgF+5/QOgA5AofmN3WcaHP5W3/7yQwOPOS824LDK5Kh6Re7U"
    "fF0HCNQ1IHLdCwAJxY5mpgemB6YHQgqk4mwpNirGGBkpKcYoNcZaRwKVlFuk5t0gwXnoOPIlubNRSlRlffMG3WnS2Nq3E4/dPCw49W345xugu7+Q"
    "77tIDugvn6DBQVeN+OrJ8M83gHF/wU1scfVk+OcbgLu/oO6xuHoy/PMNcN1fWHt4TH0b/vkGIO0vwEktAA=="
)
needs_jxl = pytest.mark.skipif(not plugins.has_package("JXL"), reason="pylibjxl is not installed")
needs_raw = pytest.mark.skipif(not plugins.has_package("RAW"), reason="rawpy is not installed")


def dng(size: tuple[int, int] = (64, 48), turn: int = 1) -> bytes:
    """Return the raw file of a reddish area, as a digital negative."""
    values = np.full((size[1], size[0]), 500, np.uint16)
    values[0::2, 0::2], values[1::2, 1::2] = 3000, 200  # red, green, green, blue
    to_camera = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)
    matrix = tuple(part for value in to_camera for part in (round(value * 10_000), 10_000))
    tags: list[tuple[int, str, int, Any, bool]] = [
        (50706, "B", 4, (1, 4, 0, 0), True),  # DNGVersion
        (50708, "s", 0, "Drawn", True),  # UniqueCameraModel
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, (0, 1, 1, 2), True),  # CFAPattern
        (50721, "2i", 9, matrix, True),  # ColorMatrix1
        (50728, "2I", 3, (1, 1) * 3, True),  # AsShotNeutral
        (50717, "I", 1, 4095, True),  # WhiteLevel
        (274, "H", 1, turn, True),
    ]
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, photometric="CFA", extratags=tags, metadata=None)
    return sink.getvalue()


def difference(image: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(image, np.int16) - np.asarray(other, np.int16)).mean())


@needs_jxl
def test_a_jpeg_xl_of_either_kind_is_decoded_in_its_colours() -> None:
    for data, most in ((LOSSLESS, 0.0), (LOSSY, 4.0)):
        decoded = decode(data, LIMITS)
        assert (decoded.format, decoded.width, decoded.height) == ("JXL", 60, 40)
        assert difference(decoded.image, drawn()) <= most


@needs_jxl
def test_transparency_and_grey_of_a_jpeg_xl_are_heeded() -> None:
    import pylibjxl

    half = np.zeros((40, 60, 4), np.uint8)
    half[:, 30:] = (255, 0, 0, 255)
    decoded = decode(pylibjxl.encode(half, lossless=True), LIMITS).image
    assert decoded.getpixel((45, 20)) == (255, 0, 0) and decoded.getpixel((5, 20)) == (255, 255, 255)
    grey = np.full((40, 60, 1), 90, np.uint8)
    assert decode(pylibjxl.encode(grey, lossless=True), LIMITS).image.getpixel((5, 5)) == (90, 90, 90)


@needs_jxl
def test_a_jpeg_xl_outside_the_limits_or_damaged_is_refused_by_name() -> None:
    assert reason_of(LOSSLESS, LIMITS.model_copy(update={"max_pixels": 2000})) == "too_many_pixels"
    assert reason_of(LOSSLESS, LIMITS.model_copy(update={"min_side": 50})) == "too_small"
    for data in (LOSSY[:2], LOSSY[:9], LOSSY[:200], LOSSY[:60] + bytes(40) + LOSSY[100:]):
        assert reason_of(data, LIMITS) in ("corrupt", "not_an_image")


@needs_raw
def test_a_raw_file_is_developed_upright_in_its_colours() -> None:
    decoded = decode(dng(), LIMITS)
    assert (decoded.format, decoded.width, decoded.height, decoded.image.size) == ("RAW", 64, 48, (64, 48))
    red, green, blue = decoded.image.getpixel((32, 24))  # type: ignore[misc]
    assert red > 200 and red > green + 80 > blue + 80
    turned = decode(dng(turn=6), LIMITS)
    assert (turned.width, turned.height, turned.image.size) == (48, 64, (48, 64))


@needs_raw
def test_a_raw_file_of_many_pixels_is_developed_at_half_the_size_and_packed_whole() -> None:
    small = LIMITS.model_copy(update={"model_pixels": 400})
    decoded = decode(dng(), small)
    assert (decoded.width, decoded.height) == (64, 48) and decoded.image.size == (23, 17)
    file = make_image_file(dng(), small, PackConfig())
    assert (file.suffix, file.width, file.height) == (".png", 64, 48)


@needs_raw
def test_a_raw_file_outside_the_limits_or_cut_is_refused_by_name() -> None:
    assert reason_of(dng((1200, 900)), LIMITS) == "too_many_pixels"
    assert reason_of(dng()[:3000], LIMITS) == "corrupt"
    assert reason_of(b"IIRO" + bytes(2000), LIMITS) in ("unsupported", "corrupt")


def test_a_raw_file_is_told_from_an_ordinary_tiff() -> None:
    assert tiff.is_raw(dng()) and sniff_whole(dng()) == "RAW"
    assert sniff_whole(b"II*\0\x10\0\0\0CR\2\0" + bytes(40)) == "RAW", "a CR2"
    assert sniff_whole(b"FUJIFILMCCD-RAW 0201") == "RAW"
    for mode in ("RGB", "L", "1", "CMYK"):
        assert sniff_whole(encoded(drawn(mode), "TIFF")) == "TIFF"
    assert reason_of(dng(), ImagesConfig()) == "format_not_allowed"


def test_a_mosaic_in_a_directory_below_the_first_one_is_found() -> None:
    preview, mosaic = np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32), np.uint16)
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as writer:
        writer.write(preview, photometric="rgb", subifds=1, subfiletype=1, metadata=None)
        writer.write(mosaic, photometric="CFA", metadata=None)
    assert tiff.is_raw(sink.getvalue())


def test_directories_that_lead_in_circles_or_nowhere_are_no_raw_file() -> None:
    data = bytearray(encoded(drawn(), "TIFF"))
    for at in range(8, len(data)):
        broken = bytes(data[:at]) + b"\xff" + bytes(data[at + 1 :])
        if at < 200 or at > len(data) - 200:
            assert tiff.is_raw(broken) in (True, False)


@needs_jxl
@needs_raw
def test_children_decode_them() -> None:
    with DecoderPool[str](LIMITS, processes=1) as pool:
        results = dict(pool.decode_many({"jxl": LOSSY, "raw": dng(), "cut": dng()[:3000]}.items()))
    assert isinstance(results["jxl"], Decoded) and isinstance(results["raw"], Decoded)
    assert not isinstance(results["cut"], Decoded)
