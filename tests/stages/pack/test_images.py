"""Images go into shards without their metadata, upright, and as the models saw them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from synthgen import tables
from synthgen.config.packing import PackConfig
from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Unfit, decode
from synthgen.stages.pack.metadata import make_image_file
from tests.fixtures.packing import LIMITS


def exif_with_place(orientation: int) -> Image.Exif:
    """Return EXIF with an orientation, a camera and a latitude."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera of mine"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)  # GPS latitude
    return exif


def picture(mode: str = "RGB") -> Image.Image:
    """Draw a gradient with a small copy of itself in a corner."""
    image = Image.linear_gradient("L").resize((40, 24)).convert(mode)
    image.paste(image.resize((10, 10)), (2, 3))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_metadata_is_cut_out_and_the_pixels_stay_upright_bit_by_bit(kind: str, orientation: int) -> None:
    sink = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a camera of mine")
    more: dict[str, Any] = {
        "JPEG": {"comment": b"a camera of mine", "progressive": True},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": b"camera"},
    }
    picture().save(sink, kind, exif=exif_with_place(orientation), **more[kind])
    before = ImageOps.exif_transpose(Image.open(sink))
    packed = make_image_file(sink.getvalue(), LIMITS, PackConfig())
    stored = Image.open(io.BytesIO(packed.data))
    assert b"camera" not in packed.data
    assert dict(stored.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
    after = ImageOps.exif_transpose(stored)
    assert after.tobytes() == before.tobytes()
    assert after.size == (packed.width, packed.height) == ((40, 24) if orientation < 5 else (24, 40))
    assert make_image_file(sink.getvalue(), LIMITS, PackConfig(metadata="kept")).data == sink.getvalue()


def test_a_second_picture_behind_a_jpeg_is_cut_off() -> None:
    sink = io.BytesIO()
    second = Image.new("RGB", (40, 24), "red")
    picture().save(sink, "MPO", save_all=True, append_images=[second], exif=exif_with_place(1))
    packed = make_image_file(sink.getvalue(), LIMITS, PackConfig())
    assert packed.suffix == ".jpg"
    assert len(packed.data) < len(sink.getvalue())
    assert b"camera" not in packed.data and b"MPF" not in packed.data
    assert Image.open(io.BytesIO(packed.data)).tobytes() == Image.open(sink).tobytes()


def test_colour_profile_and_inks_of_a_jpeg_stay() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L", "CMYK"):
        sink = io.BytesIO()
        picture(mode).save(sink, "JPEG", icc_profile=profile, restart_marker_blocks=2)
        packed = make_image_file(sink.getvalue(), LIMITS, PackConfig())
        after = Image.open(io.BytesIO(packed.data))
        assert after.info["icc_profile"] == profile
        assert after.convert("RGB").tobytes() == Image.open(sink).convert("RGB").tobytes()


def test_fill_bytes_before_the_markers_of_a_jpeg_are_accepted() -> None:
    sink = io.BytesIO()
    picture().save(sink, "JPEG", exif=exif_with_place(1))
    filled = sink.getvalue()[:2] + b"\xff\xff" + sink.getvalue()[2:-2] + b"\xff" + sink.getvalue()[-2:]
    packed = make_image_file(filled, LIMITS, PackConfig())
    assert packed.suffix == ".jpg" and b"camera" not in packed.data
    assert Image.open(io.BytesIO(packed.data)).tobytes() == Image.open(sink).tobytes()


def test_a_file_that_breaks_the_standard_and_can_be_decoded_becomes_a_png() -> None:
    sink = io.BytesIO()
    picture().save(sink, "JPEG", exif=exif_with_place(1))
    packed = make_image_file(sink.getvalue().replace(b"\xff\xdb", b"\0\0\xff\xdb", 1), LIMITS, PackConfig())
    assert packed.suffix == ".png"
    assert Image.open(io.BytesIO(packed.data)).tobytes() == Image.open(sink).convert("RGB").tobytes()


def test_an_animation_of_one_frame_becomes_a_png() -> None:
    sink = io.BytesIO()
    picture().save(sink, "WEBP", lossless=True)
    still = sink.getvalue()[12:]  # the one chunk of pixels
    size = struct.pack("<I", 40 - 1)[:3] + struct.pack("<I", 24 - 1)[:3]
    frame = bytes(6) + size + bytes(4) + still
    parts = [(b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    chunks = [kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for kind, part in parts]
    body = b"WEBP" + b"".join(chunks)
    packed = make_image_file(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS, PackConfig())
    assert packed.suffix == ".png" and Image.open(io.BytesIO(packed.data)).tobytes() == picture().tobytes()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "16 bits", "transparent", "animated"])
def test_an_image_that_readers_would_show_otherwise_becomes_a_png_as_the_models_saw_it(kind: str) -> None:
    sink = io.BytesIO()
    if kind == "16 bits":
        Image.frombytes("I;16", (40, 24), struct.pack("<960H", *range(0, 65280, 68))).save(sink, "PNG")
    elif kind == "transparent":
        Image.new("RGBA", (40, 24), (255, 0, 0, 100)).save(sink, "PNG")
    elif kind == "animated":
        picture().save(sink, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 24), "red")], lossless=True)
    else:
        picture().save(sink, kind)
    packed = make_image_file(sink.getvalue(), LIMITS, PackConfig())
    after = Image.open(io.BytesIO(packed.data))
    assert (after.format, after.mode, packed.suffix) == ("PNG", "RGB", ".png")
    assert after.tobytes() == decode(sink.getvalue(), LIMITS).image.tobytes()


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG."""
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def deep_png() -> bytes:
    """Return a PNG of three channels of 16 bits, which Pillow cannot write."""
    pixels = np.arange(24 * 40 * 3, dtype=">u2").reshape(24, 120) * 20
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_a_colour_png_of_16_bits_becomes_one_of_8_as_the_models_saw_it() -> None:
    packed = make_image_file(deep_png(), LIMITS, PackConfig())
    assert packed.data[24] == 8
    assert Image.open(io.BytesIO(packed.data)).tobytes() == decode(deep_png(), LIMITS).image.tobytes()


@pytest.mark.parametrize("metadata", ["stripped", "kept"])
@pytest.mark.parametrize(
    "part",
    [
        chunk(b"pHYs", bytes(9), checksum=1),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iCCP", b"printer\0\0" + zlib.compress(bytes(2**21))),
    ],
    ids=["damaged", "long text", "long profile"],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_what_other_readers_refuse_in_a_png_is_not_packed(metadata: Any, part: bytes, is_late: bool) -> None:
    sink = io.BytesIO()
    picture().save(sink, "PNG")
    at = -12 if is_late else 33
    data = sink.getvalue()[:at] + part + sink.getvalue()[at:]
    packed = make_image_file(data, LIMITS, PackConfig(metadata=metadata))
    assert Image.open(io.BytesIO(packed.data)).tobytes() == picture().tobytes()


def test_a_jpeg_that_lacks_its_end_is_packed_with_one_also_where_its_metadata_is_kept() -> None:
    sink = io.BytesIO()
    picture().save(sink, "JPEG", comment=b"a camera of mine")
    packed = make_image_file(sink.getvalue()[:-2], LIMITS, PackConfig(metadata="kept"))
    assert Image.open(io.BytesIO(packed.data)).tobytes() == Image.open(sink).tobytes() and b"camera" in packed.data


def test_a_png_is_packed_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    picture().save(sink, "PNG")
    late = sink.getvalue()[:-12] + chunk(b"eXIf", exif_with_place(6).tobytes()[6:]) + sink.getvalue()[-12:]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("pixels were decoded"))
    assert make_image_file(sink.getvalue(), LIMITS, PackConfig()).data == sink.getvalue()
    packed = make_image_file(late, LIMITS, PackConfig())
    assert (packed.width, packed.height) == (24, 40) and b"camera" not in packed.data
    monkeypatch.undo()
    assert dict(Image.open(io.BytesIO(packed.data)).getexif()) == {0x0112: 6}


def test_resized_images_are_those_that_the_models_saw_and_small_ones_stay() -> None:
    limits, sink = ImagesConfig(model_pixels=500), io.BytesIO()
    picture().save(sink, "PNG")
    packed = make_image_file(sink.getvalue(), limits, PackConfig(images="resized"))
    assert packed.width * packed.height <= 500
    assert Image.open(io.BytesIO(packed.data)).tobytes() == decode(sink.getvalue(), limits).image.tobytes()
    assert make_image_file(sink.getvalue(), LIMITS, PackConfig(images="resized")).data == sink.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken EXIF
@given(cut=st.integers(0, 1200), flip=st.integers(0, 1200), kind=st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_broken_files_are_refused_with_a_reason_or_packed_but_never_crash(cut: int, flip: int, kind: str) -> None:
    sink = io.BytesIO()
    picture().save(sink, kind, exif=exif_with_place(6))
    data = bytearray(sink.getvalue())
    data[flip % len(data)] ^= 0x5A
    try:
        make_image_file(bytes(data[: max(1, len(data) - cut)]), LIMITS, PackConfig())
    except Unfit as unfit:
        assert unfit.failure.reason in tables.QUARANTINE_REASONS
