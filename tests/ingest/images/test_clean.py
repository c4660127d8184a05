"""Sound pictures are read whatever surrounds their pixels, and what cannot be read is refused for the right reason."""

import io
import json
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.ingest.images import Unfit, decode
from synthgen.ingest.images.clean import clean, is_cut
from synthgen.ingest.images.colours import is_transparent
from synthgen.ingest.images.decode import orientation
from synthgen.ingest.images.headers import open_checked
from tests.fixtures.images import LIMITS, PHOTOS, drawn, encoded, reason_of
from tests.fixtures.noise import grey_noise
from tests.fixtures.profiles import SRGB, rgb_profile

PHOTO = Image.open(PHOTOS / "astronaut.png").convert("RGB").resize((160, 120))
NOISE = grey_noise((64, 64), 80).convert("RGB")


def pixels(data: bytes) -> list[int]:
    return list(decode(data, LIMITS).image.tobytes())


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def with_chunk(image: Image.Image, *parts: bytes) -> bytes:
    data = encoded(image, "PNG")
    return data[:33] + b"".join(parts) + data[33:]


def tiff(values: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, **options)
    return sink.getvalue()


# --- PNG --------------------------------------------------------------------------------------------------------------

LONG = zlib.compress(json.dumps([{"node": number, "weight": number * 0.37} for number in range(60_000)]).encode())


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"workflow\0\0" + LONG),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
        chunk(b"iCCP", b"printer\0\0" + zlib.compress(bytes(range(256)) * 6000)),
        chunk(b"tEXt", b"comment\0hello", checksum=1),
        chunk(b"gAMA", struct.pack(">I", 100_000), checksum=1),
        chunk(b"quUx", b"whatever this is"),
    ],
    ids=["long text", "long XMP", "long profile", "bad sum of a text", "bad sum of a gamma", "unknown"],
)
def test_a_png_is_read_whatever_its_other_chunks_are(part: bytes) -> None:
    assert pixels(with_chunk(NOISE, part)) == pixels(encoded(NOISE, "PNG"))


def test_the_orientation_that_a_text_of_a_png_states_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    for part in (
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="6"/>'),
    ):
        assert decode(with_chunk(PHOTO, part), LIMITS).image.size == (120, 160)


def test_a_png_with_damaged_pixels_is_still_corrupt() -> None:
    data = bytearray(encoded(NOISE, "PNG"))
    data[data.index(b"IDAT") + 200] ^= 0xFF
    assert reason_of(bytes(data)) == "corrupt"


def test_frames_of_an_animated_png_are_counted_beside_long_texts() -> None:
    frames = [Image.new("RGB", (32, 32), (40 * at, 0, 0)) for at in range(5)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert open_checked(data[:33] + chunk(b"zTXt", b"w\0\0" + LONG) + data[33:], LIMITS)[1].frames == 5


def test_a_file_that_needs_no_cleaning_is_not_copied() -> None:
    for image_format in ("PNG", "JPEG", "GIF"):
        data = encoded(drawn(), image_format)
        assert clean(data, image_format) is data


@given(st.binary(max_size=200))
def test_any_bytes_after_the_start_of_a_png_can_be_cleaned(rest: bytes) -> None:
    assert clean(b"\x89PNG\r\n\x1a\n" + rest, "PNG").startswith(b"\x89PNG\r\n\x1a\n")


# --- JPEG -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(progressive: bool) -> None:
    data = encoded(PHOTO, "JPEG", quality=90, progressive=progressive)
    assert data.endswith(b"\xff\xd9") and pixels(data[:-2]) == pixels(data)
    assert pixels(data[:-2] + bytes(5000)) == pixels(data), "disks pad files with zeros"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [40, 400, 2000])
def test_a_jpeg_that_lacks_pixels_is_truncated(progressive: bool, lost: int) -> None:
    data = encoded(PHOTO, "JPEG", quality=90, progressive=progressive)
    assert reason_of(data[:-lost]) == "truncated"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_shows_all_pixels_or_is_truncated(progressive: bool) -> None:
    """Also where a restart marker is due, and between two scans: what is missing there looks like nothing at all."""
    picture = PHOTO.resize((48, 40))
    data = encoded(picture, "JPEG", quality=80, progressive=progressive, restart_marker_blocks=2)
    whole, at_all = pixels(data), 0
    for length in range(data.index(b"\xff\xda"), len(data)):
        try:
            assert pixels(data[:length]) == whole, length
            at_all += 1
        except Unfit as unfit:
            assert unfit.failure.reason == "truncated"
    assert 1 <= at_all < 40


# --- TIFF -------------------------------------------------------------------------------------------------------------

GREY = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16


def test_the_picture_of_a_tiff_is_not_the_smaller_copy_before_it() -> None:
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as file:
        file.write(np.asarray(PHOTO.resize((40, 30))), photometric="rgb", subfiletype=1)
        file.write(np.asarray(PHOTO), photometric="rgb")
    assert decode(sink.getvalue(), LIMITS).image.size == PHOTO.size
    assert pixels(sink.getvalue()) == list(PHOTO.tobytes())


def test_a_tiff_of_smaller_copies_alone_is_unsupported() -> None:
    assert reason_of(tiff(np.asarray(PHOTO), photometric="rgb", subfiletype=1)) == "unsupported"


@pytest.mark.parametrize(
    "values",
    [GREY.astype(np.float64), (GREY // 16).astype(np.float16), np.stack([GREY.astype(np.float32)] * 3, -1)],
    ids=["float64", "float16", "float RGB"],
)
def test_a_tiff_of_a_kind_that_pillow_lacks_is_unsupported(values: Any) -> None:
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    assert reason_of(tiff(values, photometric=photometric)) == "unsupported"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_cut_tiff_is_truncated(compression: str | None) -> None:
    noise = np.asarray(NOISE)
    data = tiff(noise, photometric="rgb", compression=compression)
    assert reason_of(data[: len(data) // 2]) == "truncated"
    assert reason_of(encoded(NOISE, "TIFF")[:-2000]) == "truncated", "its directory is at the end"


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # as in the decoding process
@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "raw"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_tiff_cut_anywhere_shows_all_pixels_or_is_truncated(compression: str, mode: str) -> None:
    """Its tags are at its end: a decoder takes those that it finds, and makes up pixels where JPEG lacks them."""
    if (mode, compression) == ("RGBA", "jpeg"):
        pytest.skip("there is no such file")
    data = encoded(PHOTO.resize((48, 40)).convert(mode), "TIFF", compression=compression, dpi=(72, 72))
    whole = pixels(data)
    for length in (*range(8, len(data), 97), *range(len(data) - 250, len(data))):
        try:
            assert pixels(data[:length]) == whole, length
        except Unfit as unfit:
            assert unfit.failure.reason == "truncated", unfit


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_a_tag_that_decides_no_pixel_may_lie_outside_the_file() -> None:
    plain = encoded(PHOTO, "TIFF")
    data = encoded(PHOTO, "TIFF", tiffinfo={65000: "private " * 9})
    assert pixels(data) == pixels(plain)
    at = data.index(struct.pack("<HH", 65000, 2)) + 8
    assert pixels(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :]) == pixels(plain)


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]))
def test_any_bytes_after_the_start_of_a_tiff_have_a_reason(rest: bytes, start: bytes) -> None:
    assert reason_of(start + rest) in ("truncated", "corrupt", "unsupported", "too_small", "too_elongated")


# --- names of formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="x">', "SVG"),
        (b"\xef\xbb\xbf<svg>", "SVG"),
        (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">\n<svg width="3">', "SVG"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"\0\0\2\0\1\0", "CUR"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "RAW"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
    ],
)
def test_a_picture_of_another_format_is_named(start: bytes, name: str) -> None:
    with pytest.raises(Exception, match=f"^format_not_allowed: {name}(; images.formats may name it)?; allowed: "):
        decode(start + bytes(64), LIMITS)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x18ftypisom\0\0\0\0", b"<html><svg></html>", b"<!-- " * 800, b"<?xml?>" * 500]
)
def test_a_video_and_other_documents_are_no_images(data: bytes) -> None:
    assert reason_of(data) == "not_an_image"


def test_a_profile_of_a_png_is_applied_though_it_is_long() -> None:
    profile = rgb_profile(SRGB, 1.0) + bytes(2 * 2**20)
    part = chunk(b"iCCP", b"linear\0\0" + zlib.compress(profile))
    assert min(pixels(with_chunk(Image.new("RGB", (32, 32), (55, 55, 55)), part))) > 120


# --- what stands behind the pixels of a PNG ---------------------------------------------------------------------------

TURNED = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)  # an EXIF block: orientation 6
XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'


def with_late_chunk(image: Image.Image, *parts: bytes) -> bytes:
    """Return a PNG with chunks behind its pixels."""
    data = encoded(image, "PNG")
    return data[:-12] + b"".join(parts) + data[-12:]


@pytest.mark.parametrize("part", [chunk(b"eXIf", TURNED), chunk(b"iTXt", XMP)], ids=["exif", "xmp"])
def test_the_orientation_of_a_png_is_known_without_decoding_it_wherever_it_stands(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    upright = drawn().transpose(Image.Transpose.ROTATE_270)
    for data in (with_chunk(drawn(), part), with_late_chunk(drawn(), part)):
        assert pixels(data) == list(upright.tobytes())
        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("pixels were decoded"))
            assert orientation(open_checked(data, LIMITS)[0]) == 6


def test_of_two_orientations_of_a_png_the_models_and_the_shards_take_the_same() -> None:
    first, second = chunk(b"eXIf", TURNED), chunk(b"eXIf", TURNED.replace(b"\x06", b"\x03"))
    data = with_chunk(drawn(), first)
    data = data[:-12] + second + data[-12:]
    assert pixels(data) == list(drawn().transpose(Image.Transpose.ROTATE_180).tobytes())
    assert orientation(open_checked(data, LIMITS)[0]) == 3


@pytest.mark.parametrize("late", [False, True])
def test_transparency_of_a_png_is_known_when_it_is_open_wherever_it_stands(late: bool) -> None:
    part = chunk(b"tRNS", struct.pack(">HHH", 255, 0, 0))  # red is transparent
    data = with_late_chunk(drawn(), part) if late else with_chunk(drawn(), part)
    assert is_transparent(open_checked(data, LIMITS)[0])
    assert decode(data, LIMITS).image.getpixel((10, 30)) == (255, 255, 255)


# --- a JPEG without an end --------------------------------------------------------------------------------------------


def test_a_jpeg_without_an_end_is_compared_in_little_memory() -> None:
    """Two decoded images and some rows, not whole arrays beside them."""
    data = encoded(grey_noise((2000, 1500), 50).convert("RGB"), "JPEG")[:-2]
    tracemalloc.start()  # counts Python's bytes and numpy's arrays, not Pillow's images
    assert not is_cut(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - 3 * len(data) < 2000 * 1500 * 3
