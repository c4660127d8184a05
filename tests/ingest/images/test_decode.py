"""Images of every ordinary and odd kind become the upright RGB image that a person sees, or a reason why not."""

import struct

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from synthgen.ingest.images import Unfit, decode, fit, perceptual_hash
from synthgen.ingest.images.decode import HASH_GAP, size_to_fit
from synthgen.ingest.images.headers import open_checked
from tests.fixtures.images import LIMITS, PHOTOS, drawn, encoded, reason_of
from tests.fixtures.noise import grey_noise

# --- the header -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_header_of_each_format(image_format: str) -> None:
    header = open_checked(encoded(drawn(), image_format), LIMITS)[1]
    assert (header.format, header.width, header.height, header.frames) == (image_format, 60, 40, 1)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_size_of_each_kind_of_webp_is_read_before_pillow_allocates_its_canvas(lossless: bool, mode: str) -> None:
    data = encoded(drawn(mode, (333, 222)), "WEBP", lossless=lossless)
    assert open_checked(data, LIMITS)[1].width == 333
    with pytest.raises(Unfit, match="too_many_pixels: 333 x 222"):
        open_checked(data, LIMITS.model_copy(update={"max_pixels": 333 * 222 - 1}))


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_frames_are_counted_and_limited(image_format: str) -> None:
    frames = [Image.new("RGB", (32, 32), (40 * at, 0, 255 - 40 * at)) for at in range(5)]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    assert open_checked(data, LIMITS)[1].frames == 5
    assert decode(data, LIMITS).image.getpixel((3, 3)) == pytest.approx((0, 0, 255), abs=12)
    assert reason_of(data, LIMITS.model_copy(update={"max_frames": 4})) == "too_many_frames"


def test_limits_of_bytes_pixels_and_sides() -> None:
    data = encoded(drawn(), "PNG")
    assert reason_of(data, LIMITS.model_copy(update={"max_bytes": len(data) - 1})) == "too_many_bytes"
    assert reason_of(data, LIMITS.model_copy(update={"max_pixels": 2399})) == "too_many_pixels"
    assert reason_of(data, LIMITS.model_copy(update={"min_side": 41})) == "too_small"


def test_a_format_that_is_not_allowed_is_named_without_its_decoder_being_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was asked"))
    for start in (
        b"8BPS\0\1",
        b"%PDF-1.7",
        b"%!PS-Adobe",
        b"\0\0\1\0\1\0",
        b"\0\0\0\x1cftypheic",
        b"P6\n1 1 255\n",
        b"<svg xmlns=",
    ):
        assert reason_of(start + bytes(64)) == "format_not_allowed"
    for data in (b"", b"hello", b"PK\3\4" + bytes(64), b"\x80\4\x95", b"BM is how this letter begins", b"<html><svg>"):
        assert reason_of(data) == "not_an_image"


def test_an_allowed_format_beyond_the_usual_ones_is_decoded() -> None:
    wider = LIMITS.model_copy(update={"formats": (*LIMITS.formats, "AVIF", "JPEG2000", "PPM")})
    for image_format in ("AVIF", "JPEG2000", "PPM"):
        assert decode(encoded(drawn(), image_format), wider).format == image_format


def test_a_cut_file_is_truncated_and_a_broken_one_is_corrupt() -> None:
    noise = grey_noise((64, 64), 80).convert("RGB")
    for image_format in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        data = encoded(noise, image_format)
        assert reason_of(data[: len(data) // 2]) == "truncated", image_format
    png = bytearray(encoded(noise, "PNG"))
    png[len(png) // 2] ^= 0xFF
    assert reason_of(bytes(png)) == "corrupt"


def test_pillows_own_limit_of_pixels_never_warns(recwarn: pytest.WarningsRecorder) -> None:
    data = encoded(Image.new("1", (12000, 8000)), "PNG")  # 96 megapixels: Pillow would warn, our limit allows it
    assert open_checked(data, LIMITS)[1].width == 12000
    assert not recwarn.list


# --- the pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(orientation: int, image_format: str) -> None:
    """The file is as a camera held this way stores it: turned upright, it is the drawing again."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that makes such a file
    upright = drawn()
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode(encoded(stored, image_format, exif=exif), LIMITS)
    assert (result.width, result.height) == result.image.size == (60, 40)
    assert result.image.getpixel((3, 3)) == pytest.approx((255, 255, 255), abs=40)
    assert result.image.getpixel((12, 30)) == pytest.approx((255, 0, 0), abs=40)
    assert result.image.getpixel((50, 30)) == pytest.approx((0, 0, 255), abs=40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_costs_nothing() -> None:
    data = encoded(drawn(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40))
    assert decode(data, LIMITS).image.size == (60, 40)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    expected = np.rint(ramp / 257).astype(int)
    for image_format in ("PNG", "TIFF"):
        pixels = np.asarray(decode(encoded(Image.fromarray(ramp), image_format), LIMITS).image).astype(int)
        assert np.abs(pixels - expected[..., None]).max() <= 1, image_format


def test_sixteen_bits_a_channel_keep_their_colours() -> None:
    """Pillow cannot write such a PNG, so it is written by hand."""
    import zlib

    row = b"\0" + struct.pack(">3H", 65535, 32896, 0) * 32
    chunks = (b"IHDR", struct.pack(">2I5B", 32, 32, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row * 32)), (b"IEND", b"")
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    assert decode(b"\x89PNG\r\n\x1a\n" + body, LIMITS).image.getpixel((5, 5)) == (255, 128, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 127.0, 255.0], [0, 127, 255]),
        ([-4.0, 0.0, 4.0], [0, 128, 255]),
        ([0, np.nan, 1.0], [0, 0, 255]),
    ],
)
def test_floats_are_scaled(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.tile(np.repeat(np.array(values, np.float32), 8), (24, 1)))
    pixels = np.asarray(decode(encoded(image, "TIFF"), LIMITS).image)
    assert [int(pixels[3, x, 0]) for x in (2, 10, 20)] == pytest.approx(expected, abs=1)


def test_cmyk_looks_as_it_did_before() -> None:
    for image_format in ("JPEG", "TIFF"):
        result = decode(encoded(drawn("CMYK"), image_format), LIMITS).image
        assert result.getpixel((12, 30)) == pytest.approx((255, 0, 0), abs=40), image_format


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image_format = "TIFF" if mode == "PA" else "PNG"
    result = decode(encoded(drawn(mode) if mode != "PA" else drawn("P").convert("PA"), image_format), LIMITS).image
    assert (result.mode, result.size) == ("RGB", (60, 40))


def test_transparent_pixels_become_white() -> None:
    clear = drawn("RGBA")
    clear.paste((0, 0, 0, 0), (30, 0, 60, 40))
    assert decode(encoded(clear, "PNG"), LIMITS).image.getpixel((50, 30)) == (255, 255, 255)
    palette = drawn("P")
    assert decode(encoded(palette, "PNG", transparency=palette.getpixel((50, 30))), LIMITS).image.getpixel(
        (50, 30)
    ) == (255, 255, 255)
    assert decode(encoded(drawn(), "PNG", transparency=(0, 0, 255)), LIMITS).image.getpixel((50, 30)) == (255, 255, 255)


def test_no_metadata_stays() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = decode(encoded(drawn(), "JPEG", exif=exif, icc_profile=profile, comment=b"hello"), LIMITS).image
    assert image.info == {}
    assert not dict(image.getexif())
    assert b"secret" not in encoded(image, "PNG")


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    photo = Image.open(PHOTOS / "astronaut.png").convert("RGB").resize((3000, 2000), Image.Resampling.LANCZOS)
    result = decode(encoded(photo, "JPEG", quality=92), LIMITS)
    assert (result.width, result.height) == (3000, 2000)
    assert result.image.width * result.image.height <= LIMITS.model_pixels
    fair = photo.resize(result.image.size, Image.Resampling.LANCZOS)
    error = np.mean((np.asarray(fair, float) - np.asarray(result.image, float)) ** 2)
    assert 10 * np.log10(255**2 / error) > 40  # dB


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 3_000_000))
def test_fit_never_exceeds_never_enlarges_and_keeps_the_aspect(width: int, height: int, most: int) -> None:
    small, tall = size_to_fit((width, height), most)
    assert small * tall <= max(most, 1)
    assert 1 <= small <= width
    assert 1 <= tall <= height
    if width * height <= most:
        assert (small, tall) == (width, height)
    if min(small, tall) > 50:
        assert small / tall == pytest.approx(width / height, rel=0.03)


def test_fit_returns_a_small_image_as_it_is() -> None:
    image = drawn()
    assert fit(image, 2400) is image
    assert fit(image, 600).size == (30, 20)


# --- the perceptual hash ----------------------------------------------------------------------------------------------


def as_number(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


@pytest.mark.parametrize(
    "path", sorted(path.name for path in PHOTOS.iterdir() if path.suffix in (".png", ".jpg", ".gif"))
)
def test_hash_equals_imagehash_on_pictures(path: str) -> None:
    with Image.open(PHOTOS / path) as picture:
        image = picture.convert("RGB")
    assert perceptual_hash(image) == as_number(image)
    assert (perceptual_hash(image) ^ perceptual_hash(image, HASH_GAP)).bit_count() <= 2


@given(st.integers(0, 2**32), st.integers(8, 200), st.integers(8, 200), st.sampled_from(["RGB", "L", "RGBA"]))
def test_hash_equals_imagehash_on_noise(seed: int, width: int, height: int, mode: str) -> None:
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    image = Image.fromarray(noise.squeeze(), mode if channels > 1 else "L")
    assert perceptual_hash(image) == as_number(image)


def test_hash_of_a_symmetric_image_has_no_rounding_noise() -> None:
    assert perceptual_hash(Image.new("RGB", (50, 70), "orange")) == 1 << 63  # only the mean is above the median
    ring = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(ring).ellipse((100, 100, 299, 299), outline="black", width=20)
    assert perceptual_hash(ring) == perceptual_hash(ring.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
