"""Images of every ordinary and odd kind become the upright RGB image that a person sees, or one reason why not."""

import io
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from synthgen.config import Images
from synthgen.errors import SynthError
from synthgen.images import Decoded, Decoder, Unfit, decode, fit, inspect, perceptual_hash
from synthgen.images.decode import HASH_GAP
from synthgen.images.process import SLOTS
from synthgen.rows import QUARANTINE_REASONS

LIMITS = Images()
PHOTOS = Path(skimage.data.__file__).parent


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def drawn(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right, a white square in the upper left corner."""
    image = Image.new("RGB", size, "blue")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, size[0] // 2 - 1, size[1]), fill="red")
    pen.rectangle((0, 0, 7, 7), fill="white")
    return image.convert(mode)


def reason_of(data: bytes, limits: Images = LIMITS) -> str:
    with pytest.raises(Unfit) as caught:
        decode(data, limits)
    assert caught.value.reason in QUARANTINE_REASONS
    assert "\n" not in caught.value.detail
    return caught.value.reason


# --- the header -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_header_of_each_format(image_format: str) -> None:
    header = inspect(encoded(drawn(), image_format), LIMITS)
    assert (header.format, header.width, header.height, header.frames) == (image_format, 60, 40, 1)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_size_of_each_kind_of_webp_is_read_before_pillow_allocates_its_canvas(lossless: bool, mode: str) -> None:
    data = encoded(drawn(mode, (333, 222)), "WEBP", lossless=lossless)
    assert inspect(data, LIMITS).width == 333
    with pytest.raises(Unfit, match="too_many_pixels: 333 x 222"):
        inspect(data, LIMITS.model_copy(update={"max_pixels": 333 * 222 - 1}))


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_frames_are_counted_and_limited(image_format: str) -> None:
    frames = [Image.new("RGB", (32, 32), (40 * at, 0, 255 - 40 * at)) for at in range(5)]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    assert inspect(data, LIMITS).frames == 5
    assert decode(data, LIMITS).image.getpixel((3, 3)) == pytest.approx((0, 0, 255), abs=12)
    assert reason_of(data, LIMITS.model_copy(update={"max_frames": 4})) == "too_many_frames"


def test_limits_of_bytes_pixels_and_sides() -> None:
    data = encoded(drawn(), "PNG")
    assert reason_of(data, LIMITS.model_copy(update={"max_bytes": len(data) - 1})) == "too_many_bytes"
    assert reason_of(data, LIMITS.model_copy(update={"max_pixels": 2399})) == "too_many_pixels"
    assert reason_of(data, LIMITS.model_copy(update={"min_side": 41})) == "too_small"


def test_a_format_that_is_not_allowed_is_named_without_its_decoder_being_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was asked"))
    for start in (b"8BPS\0\1", b"%PDF-1.7", b"%!PS-Adobe", b"\0\0\1\0\1\0", b"\0\0\0\x1cftypheic", b"P6\n1 1 255\n", b"<svg xmlns="):
        assert reason_of(start + bytes(64)) == "format_not_allowed"
    for data in (b"", b"hello", b"PK\3\4" + bytes(64), b"\x80\4\x95", b"BM is how this letter begins", b"<html><svg>"):
        assert reason_of(data) == "not_an_image"


def test_an_allowed_format_beyond_the_usual_ones_is_decoded() -> None:
    wider = LIMITS.model_copy(update={"formats": (*LIMITS.formats, "AVIF", "JPEG2000", "PPM", "HEIF")})
    for image_format in ("AVIF", "JPEG2000", "PPM"):
        assert decode(encoded(drawn(), image_format), wider).format == image_format
    assert reason_of(b"\0\0\0\x1cftypheic" + bytes(64), wider) == "format_not_allowed"  # Pillow cannot


def test_a_cut_file_is_truncated_and_a_broken_one_is_corrupt() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    for image_format in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        data = encoded(noise, image_format)
        assert reason_of(data[: len(data) // 2]) == "truncated", image_format
    png = bytearray(encoded(noise, "PNG"))
    png[len(png) // 2] ^= 0xFF
    assert reason_of(bytes(png)) == "corrupt"


def test_pillows_own_limit_is_back_afterwards_and_never_warns(recwarn: pytest.WarningsRecorder) -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.new("1", (12000, 8000)), "PNG")  # 96 megapixels: Pillow would warn, our limit allows it
    assert inspect(data, LIMITS).width == 12000
    threads = [threading.Thread(target=inspect, args=(data, LIMITS)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


# --- the pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(orientation: int, image_format: str) -> None:
    """The file holds what a camera held this way would: turned upright, it is the drawing again."""
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
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
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
    result = decode(encoded(image, "TIFF"), LIMITS).image
    assert [result.getpixel((x, 3))[0] for x in (2, 10, 20)] == pytest.approx(expected, abs=1)


def test_cmyk_looks_as_it_did_before() -> None:
    for image_format in ("JPEG", "TIFF"):
        result = decode(encoded(drawn("CMYK"), image_format), LIMITS).image
        assert result.getpixel((12, 30)) == pytest.approx((255, 0, 0), abs=40), image_format


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image_format = "TIFF" if mode == "PA" else "PNG"
    result = decode(encoded(drawn(mode) if mode != "PA" else drawn("P").convert("PA"), image_format), LIMITS).image
    assert (result.mode, result.size) == ("RGB", (60, 40))


def test_transparency_lies_on_white() -> None:
    clear = drawn("RGBA")
    clear.putalpha(0)
    assert decode(encoded(clear, "PNG"), LIMITS).image.getcolors() == [(2400, (255, 255, 255))]
    palette = drawn("P")
    assert decode(encoded(palette, "PNG", transparency=palette.getpixel((50, 30))), LIMITS).image.getpixel((50, 30)) == (255, 255, 255)
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
    from synthgen.images.decode import fitted

    small, tall = fitted((width, height), most)
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


@pytest.mark.parametrize("path", sorted(path.name for path in PHOTOS.iterdir() if path.suffix in (".png", ".jpg", ".gif")))
def test_hash_equals_imagehash_on_pictures(path: str) -> None:
    with Image.open(PHOTOS / path) as picture:
        image = picture.convert("RGB")
    assert perceptual_hash(image) == as_number(image)
    assert (perceptual_hash(image) ^ perceptual_hash(image, HASH_GAP)).bit_count() <= 2


@settings(deadline=None, max_examples=60)
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


# --- the pool ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoder[int]]:
    with Decoder[int](LIMITS, 2) as decoder:
        yield decoder


def test_the_pool_gives_what_decode_gives(pool: Decoder[int]) -> None:
    images = [drawn(), drawn("L"), Image.open(PHOTOS / "chelsea.png"), Image.open(PHOTOS / "retina.jpg").resize((2100, 1900))]
    datas = [encoded(image.convert("RGB"), image_format) for image in images for image_format in ("JPEG", "PNG", "WEBP")]
    results = dict(pool.decode_many(enumerate(datas)))
    assert sorted(results) == list(range(12))
    for at, data in enumerate(datas):
        expected, result = decode(data, LIMITS), results[at]
        assert isinstance(result, Decoded)
        assert result.image.tobytes() == expected.image.tobytes()
        assert (result.format, result.width, result.height, result.phash) == (
            expected.format,
            expected.width,
            expected.height,
            expected.phash,
        )


def test_results_are_the_callers_to_keep_and_to_change(pool: Decoder[int]) -> None:
    datas = [encoded(Image.new("RGB", (20, 20), (at, 0, 0)), "PNG") for at in range(30)]
    results = dict(pool.decode_many(enumerate(datas)))
    for at, result in results.items():
        assert isinstance(result, Decoded)
        assert result.image.getpixel((3, 3)) == (at, 0, 0)
        result.image.putpixel((3, 3), (0, 255, 0))
        assert result.image.getpixel((3, 3)) == (0, 255, 0)


def test_no_more_is_taken_than_the_slots_hold(pool: Decoder[int]) -> None:
    taken: list[int] = []

    def items() -> Iterator[tuple[int, bytes]]:
        for at in range(100):
            taken.append(at)
            yield at, encoded(drawn(), "PNG")

    given_back = 0
    for _ in pool.decode_many(items()):
        given_back += 1
        assert len(taken) - given_back <= 2 * SLOTS
    assert given_back == 100


def test_an_oversized_file_is_refused_before_it_is_copied() -> None:
    with Decoder[str](LIMITS.model_copy(update={"max_bytes": 1000}), 1) as decoder:
        results = dict(decoder.decode_many([("large", bytes(1001)), ("fine", encoded(drawn(), "PNG"))]))
    assert isinstance(results["large"], Unfit) and results["large"].reason == "too_many_bytes"
    assert isinstance(results["fine"], Decoded)


def test_a_caller_that_stops_half_way_leaves_a_working_pool(pool: Decoder[int]) -> None:
    data = encoded(drawn(), "PNG")
    for _ in range(3):
        next(pool.decode_many((at, data) for at in range(20)))
    assert len(list(pool.decode_many((at, data) for at in range(20)))) == 20


def test_an_error_of_the_source_reaches_the_caller_and_leaves_a_working_pool(pool: Decoder[int]) -> None:
    def failing() -> Iterator[tuple[int, bytes]]:
        yield 1, encoded(drawn(), "PNG")
        raise ConnectionError("the bucket is gone")

    with pytest.raises(ConnectionError):
        list(pool.decode_many(failing()))
    assert len(list(pool.decode_many([(1, encoded(drawn(), "PNG"))]))) == 1


def test_killed_children_cost_nothing(pool: Decoder[int]) -> None:
    """SIGKILL is no fault of an image: whatever the children held is decoded by their successors."""
    photo = encoded(Image.open(PHOTOS / "retina.jpg"), "PNG")
    results: dict[int, Decoded | Unfit] = {}
    kills = 0
    for key, result in pool.decode_many((at, photo) for at in range(16)):
        results[key] = result
        if key % 5 == 0:
            os.kill(pool.pids[key % 2], signal.SIGKILL)
            kills += 1
    assert kills == 4
    assert sorted(results) == list(range(16))
    assert all(isinstance(result, Decoded) for result in results.values())


@pytest.fixture
def odd_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hook: a module that the children run instead, and that fails where the bytes tell it to."""
    (tmp_path / "odd_child.py").write_text(
        textwrap.dedent(
            """
            import ctypes, os, signal, time
            from synthgen.images import child
            honest = child.answer
            def answer(memory, at, length, limits):
                match memory[at : at + min(length, 6)]:
                    case b"crash!": ctypes.string_at(0)
                    case b"leave!": os._exit(3)
                    case b"hang!!":
                        while True: pass
                    case b"stop!!": os.kill(os.getpid(), signal.SIGSTOP)
                    case b"hoard!": hoard = [b"x" * 2**26 for _ in range(1000)]
                    case b"write!": os.write(os.open("forbidden", os.O_CREAT | os.O_WRONLY), b"x")
                return honest(memory, at, length, limits)
            child.answer = answer
            child.main()
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "odd_child"


def test_crash_and_exit_cost_one_record_each(odd_child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fine = encoded(drawn(), "PNG")
    items = [("crash", b"crash!"), ("a", fine), ("leave", b"leave!"), ("b", fine), ("c", fine), ("write", b"write!"), ("d", fine)]
    with Decoder[str](LIMITS, 2, odd_child) as decoder:
        results = dict(decoder.decode_many(items))
    assert {key for key, result in results.items() if isinstance(result, Decoded)} == {"a", "b", "c", "d"}
    told = {key: str(result) for key, result in results.items() if isinstance(result, Unfit)}
    assert told["crash"] == "decoder_died: 2 decoders died of it, the last by SIGSEGV"
    assert told["leave"] == "decoder_died: 2 decoders died of it, the last by exit status 3"
    assert told["write"].startswith("decoder_died")
    assert (tmp_path / "forbidden").stat().st_size == 0


def test_a_memory_bomb_costs_one_record_and_no_more_memory_than_predicted(odd_child: str) -> None:
    small = LIMITS.model_copy(update={"max_pixels": 1_000_000, "max_bytes": 2**20})
    with Decoder[str](small, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("hoard", b"hoard!"), ("a", encoded(drawn(), "PNG"))]))
        assert decoder.peak_bytes < 2**28
    assert isinstance(results["a"], Decoded)
    assert isinstance(results["hoard"], Unfit) and results["hoard"].reason == "decoder_died"


def test_memory_that_is_refused_is_no_fault_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(drawn("P"), "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: bytearray(1 << 60))
    assert reason_of(data) == "decoder_died"


def test_a_hang_costs_one_record_and_its_seconds(odd_child: str) -> None:
    fine = encoded(drawn(), "PNG")
    quick = LIMITS.model_copy(update={"decode_seconds": 0.5})
    start = time.monotonic()
    with Decoder[str](quick, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("a", fine), ("hang", b"hang!!"), ("b", fine)]))
    assert isinstance(results["hang"], Unfit) and results["hang"].reason == "decode_timeout"
    assert isinstance(results["a"], Decoded) and isinstance(results["b"], Decoded)
    assert time.monotonic() - start < 15


def test_a_child_whose_own_timer_does_not_run_is_ended(odd_child: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = LIMITS.model_copy(update={"decode_seconds": 0.2})
    with Decoder[str](quick, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("stopped", b"stop!!"), ("b", encoded(drawn(), "PNG"))]))
    assert isinstance(results["stopped"], Unfit) and results["stopped"].reason == "decode_timeout"
    assert isinstance(results["b"], Decoded)


def test_children_that_cannot_start_stop_the_job_with_their_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_child.py").write_text("raise RuntimeError('no Pillow here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SynthError, match="do not start: RuntimeError: no Pillow here"), Decoder[int](LIMITS, 1, "no_child") as decoder:
        list(decoder.decode_many([(1, b"x")]))


def test_children_end_with_their_parent() -> None:
    """Also when it is killed; a child at work has its alarm, an idle one sees its input end."""
    script = """
        import sys, time
        from synthgen.config import Images
        from synthgen.images import Decoder
        decoder = Decoder(Images(), 2).__enter__()
        list(decoder.decode_many([(1, b"x"), (2, b"y")]))
        print(*decoder.pids, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_know_no_secrets(pool: Decoder[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    with Decoder[int](LIMITS, 1) as decoder:
        assert b"planted" not in Path(f"/proc/{decoder.pids[0]}/environ").read_bytes()


def test_the_predicted_peak_follows_the_limits() -> None:
    small = LIMITS.model_copy(update={"max_pixels": 1_000_000, "max_bytes": 2**20})
    with Decoder[int](small, 1) as one, Decoder[int](small, 4) as four:
        assert 4 * one.peak_bytes == four.peak_bytes < Decoder[int](LIMITS, 4).peak_bytes


def test_the_pool_works_from_threads_and_beside_held_locks() -> None:
    """As inside an actor: other threads hold locks while children start."""
    lock, done = threading.Lock(), threading.Event()
    with lock:
        results: list[object] = []

        def work() -> None:
            with Decoder[int](LIMITS, 1) as decoder:
                results.extend(decoder.decode_many([(1, encoded(drawn(), "PNG"))]))
            done.set()

        threading.Thread(target=work, daemon=True).start()
        assert done.wait(60)
    assert len(results) == 1
