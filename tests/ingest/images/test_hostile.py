"""A corpus of malformed and hostile images: none ends a worker, each is decoded or has a documented reason.

A family is a function that yields (name, bytes).
"""

import io
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool, Unfit, decode
from synthgen.tables import QUARANTINE_REASONS
from tests.fixtures.noise import grey_noise

Member = tuple[str, bytes]
LIMITS = ImagesConfig(max_bytes=4 * 2**20, max_pixels=4_000_000, max_frames=100, decode_seconds=1.5)  # on a core


def encoded(image: Image.Image, image_format: str, *further: Image.Image, **options: Any) -> bytes:
    """Return the file of an image or of several frames, saved from copies: saving leaves traces for the next save."""
    buffer = io.BytesIO()
    if further:
        options.update(save_all=True, append_images=[frame.copy() for frame in further])
    image.copy().save(buffer, image_format, **options)
    return buffer.getvalue()


@cache
def samples() -> dict[str, bytes]:
    """Return one small, healthy file of each kind."""
    noise = np.random.default_rng(3).integers(0, 256, (36, 44, 3), np.uint8)
    image = Image.blend(Image.fromarray(noise), Image.linear_gradient("L").resize((44, 36)).convert("RGB"), 0.6)
    frames = [image.rotate(90 * at) for at in range(1, 4)]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description " * 8
    return {
        "jpeg": encoded(image, "JPEG", exif=exif),
        "jpeg_progressive": encoded(image, "JPEG", progressive=True),
        "jpeg_cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg_grey": encoded(image.convert("L"), "JPEG"),
        "mpo": encoded(image, "MPO", frames[0]),
        "png": encoded(image, "PNG"),
        "png_palette": encoded(image.quantize(16), "PNG", transparency=3),
        "png_16": encoded(Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257), "PNG"),
        "apng": encoded(image, "PNG", *frames),
        "gif": encoded(image, "GIF", *frames),
        "webp": encoded(image, "WEBP", exif=exif),
        "webp_lossless": encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "webp_animated": encoded(image, "WEBP", *frames),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "tiff_lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff_deflate": encoded(image, "TIFF", frames[0], compression="tiff_adobe_deflate"),
        "tiff_jpeg": encoded(image, "TIFF", compression="jpeg"),
        "tiff_float": encoded(Image.fromarray(np.asarray(image.convert("L"), np.float32)), "TIFF"),
    }


# --- damage -----------------------------------------------------------------------------------------------------------


def cut() -> Iterator[Member]:
    """Cut every kind of file at each of its first 24 bytes, before its end, and at 40 places between."""
    for name, data in samples().items():
        places = {*range(24), *range(24, len(data), max(1, len(data) // 40)), len(data) - 2, len(data) - 1}
        yield from ((f"{name}/{at}", data[:at]) for at in sorted(places) if at < len(data))


def flipped() -> Iterator[Member]:
    """Flip 1 to 8 bits of every kind of file, half of the times in its header."""
    draw = random.Random(11)
    for name, data in samples().items():
        for number in range(40):
            broken = bytearray(data)
            for _ in range(draw.randint(1, 8)):
                broken[draw.randrange(min(len(data), 200) if number % 2 else len(data))] ^= 1 << draw.randrange(8)
            yield f"{name}/{number}", bytes(broken)


def spliced() -> Iterator[Member]:
    """Drop, double or zero a piece, and join the front of one kind with the back of another."""
    draw = random.Random(13)
    kinds = list(samples().items())
    for name, data in kinds:
        for number in range(4):
            at, size = draw.randrange(8, len(data)), draw.randint(1, 200)
            yield f"{name}/missing{number}", data[:at] + data[at + size :]
            yield f"{name}/doubled{number}", data[: at + size] + data[at:]
            yield f"{name}/zeroed{number}", data[:at] + bytes(size) + data[at + size :]
        other, rest = draw.choice(kinds)
        yield f"{name}/{other}", data[: len(data) // 2] + rest[len(rest) // 2 :]


def magic_and_noise() -> Iterator[Member]:
    """Follow the first bytes of every format with noise."""
    draw = random.Random(17)
    starts = [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\xff\xff\0\0WEBPVP8 ",
        b"RIFF\xff\xff\0\0WEBPVP8X",
    ]
    starts += [
        b"BM\xff\xff\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    ]
    for start in starts:
        for number in range(20):
            yield f"{start[:4]!r}/{number}", start + draw.randbytes(draw.choice((0, 3, 30, 300, 3000)))


# --- bombs ------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG with these chunks after its header."""
    header = (b"IHDR", struct.pack(">2I5B", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, colour, 0, 0, 0))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def gif(width: int, height: int, *frames: bytes, ending: bytes = b";") -> bytes:
    """Return a GIF of two colours."""
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + b"".join(frames) + ending
    )


def gif_frame(width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"


def bmp(width: int, height: int, bits: int = 24, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + header + bytes(64)


def tiff(*tags: tuple[int, int, int, int], following: int = 0, behind: bytes = b"") -> bytes:
    """Return a TIFF with one directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + behind


def tiff_of(width: int, height: int, following: int = 0, behind: bytes = bytes(4096), **changed: int) -> bytes:
    """Return a grey TIFF in one strip, its pixels right behind its directory; `t259=5` sets the tag 259."""
    tags = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 122,
        277: 1,
        278: height,
        279: width * height & 0xFFFFFFFF,
    }
    tags.update({int(tag[1:]): value for tag, value in changed.items()})
    return tiff(*((tag, 4, 1, value) for tag, value in sorted(tags.items())), following=following, behind=behind)


def webp(kind: bytes, chunk: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(chunk)) + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(width: int, height: int, flags: int = 2) -> bytes:
    return webp(
        b"VP8X", bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


def jpeg_of(width: int, height: int) -> bytes:
    """Return the sample JPEG with another size in its frame header."""
    data = samples()["jpeg_grey"]
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def header_bombs() -> Iterator[Member]:
    """Announce more pixels than the limit in a few bytes."""
    for width, height in ((65000, 65000), (65535, 4000), (4000, 65535), (2001, 2000), (16000, 16000)):
        yield f"jpeg/{width}x{height}", jpeg_of(width, height)
        yield f"png/{width}x{height}", png(width, height, (b"IDAT", zlib.compress(bytes(100))))
        yield f"gif/{width}x{height}", gif(width, height, gif_frame(width, height))
        yield f"bmp/{width}x{height}", bmp(width, height)
        yield f"tiff/{width}x{height}", tiff_of(width, height)
        yield f"webp/{width}x{height}", webp_canvas(width, height)
    for side in (2**20, 2**24, 2**31 - 1):
        yield f"png/{side}", png(side, side, (b"IDAT", b"x"))
        yield f"bmp/{side}", bmp(side, side)
        yield f"tiff/{side}", tiff_of(side, side)
    yield "webp/largest", webp_canvas(2**24, 2**24)
    yield "webp_lossless/largest", webp(b"VP8L", b"\x2f" + (2**28 - 1).to_bytes(4, "little") + bytes(40))
    yield "webp_lossy/largest", webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(40))


def absurd_sizes() -> Iterator[Member]:
    """Announce no width, no height, negative sizes, a line, more than the format allows."""
    for width, height in ((0, 0), (0, 40), (40, 0), (1, 1), (3_999_999, 1), (1, 3_999_999), (15, 2000)):
        yield f"png/{width}x{height}", png(width, height, (b"IDAT", zlib.compress(bytes(100))))
        yield f"bmp/{width}x{height}", bmp(width, height)
        yield f"tiff/{width}x{height}", tiff_of(width, height)
        if max(width, height) < 65536:
            yield f"jpeg/{width}x{height}", jpeg_of(width, height)
            yield f"gif/{width}x{height}", gif(width, height, gif_frame(width, height))
    for width, height in ((-40, 40), (40, -40), (-(2**31), -(2**31)), (40, -(2**31))):
        yield f"bmp/{width}x{height}", bmp(width, height)
        yield f"png/{width}x{height}", png(width, height, (b"IDAT", b"x"))


def inflating() -> Iterator[Member]:
    """Unpack small files to a lot: pixels, texts, profiles, strips."""
    zeros = zlib.compress(bytes(2**26), 9)
    yield "png/pixels", png(2000, 2000, (b"IDAT", zeros))
    yield "png/too_many_rows", png(20, 20, (b"IDAT", zeros))
    yield "png/no_end", png(2000, 2000, *((b"IDAT", zeros[at : at + 1000]) for at in range(0, len(zeros), 1000)))
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        data = (b"IDAT", zlib.compress(bytes(21 * 20)))
        yield f"png/{kind!r}", png(20, 20, (kind, head + zeros), data)
        yield f"png/{kind!r}x40", png(20, 20, *[(kind, head + zeros)] * 40, data)
        yield f"png/{kind!r}_behind", png(20, 20, data, *[(kind, head + zeros)] * 40)
    for compression in (5, 8, 32773, 32946):
        yield f"tiff/{compression}", tiff_of(2000, 2000, t259=compression) + zeros
    yield "tiff/strips", tiff_of(2000, 2000, t278=1)
    yield "tiff/one_row_of_all", tiff_of(1999, 2000, t278=2**32 - 1, t279=2**32 - 1)
    yield "tiff/tiles", tiff_of(2000, 2000, t322=2**30, t323=2**30, t324=8, t325=8)
    yield "tiff/samples", tiff_of(2000, 2000, t277=65535)
    yield "tiff/bits", tiff_of(2000, 2000, t258=65535)


def metadata() -> Iterator[Member]:
    """Add metadata without end, in circles, of every size."""
    healthy, data = samples()["jpeg"], (b"IDAT", zlib.compress(bytes(21 * 20)))
    for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xFE):
        for head in (
            b"",
            b"Exif\0\0",
            b"http://ns.adobe.com/xap/1.0/\0",
            b"ICC_PROFILE\0\1\1",
            b"MPF\0",
            b"Photoshop 3.0\x008BIM",
        ):
            segment = bytes((0xFF, marker)) + struct.pack(">H", 65533) + head.ljust(65531, b"A")
            yield f"jpeg/{marker:x}/{head[:4]!r}", healthy[:2] + segment * 40 + healthy[2:]
    for name, directory in exif_directories():
        yield (
            f"jpeg/exif/{name}",
            healthy[:2] + b"\xff\xe1" + struct.pack(">H", len(directory) + 8) + b"Exif\0\0" + directory + healthy[2:],
        )
        yield f"png/exif/{name}", png(20, 20, (b"eXIf", directory), data)
        yield f"tiff/{name}", directory
    yield "png/texts", png(20, 20, *[(b"tEXt", b"a\0b")] * 30_000, data)
    yield "png/chunks", png(20, 20, *[(b"quRk", b"")] * 30_000, data)
    yield "png/pixels_in_crumbs", png(20, 20, *[(b"IDAT", b"")] * 30_000, data)
    yield "webp/chunks", webp(b"VP8X", bytes((0, 0, 0, 0, 19, 0, 0, 19, 0, 0)) + b"JUNK\0\0\0\0" * 30_000)
    yield "gif/comments", gif(20, 20, b"!\xfe\x03abc\0" * 30_000, gif_frame(20, 20))
    yield "gif/one_comment", gif(20, 20, b"!\xfe" + b"\xff".ljust(256, b"a") * 8000 + b"\0", gif_frame(20, 20))


def exif_directories() -> Iterator[Member]:
    """Point directories at themselves, at each other, nowhere, or fill them with far too much."""
    itself = (0x8769, 4, 1, 8)
    yield "itself", tiff(itself, (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), following=8)
    yield "circle", tiff(itself, following=26, behind=tiff((0x8769, 4, 1, 8), following=8)[8:])
    yield "nowhere", tiff((0x8769, 4, 1, 2**32 - 1), (0x010E, 2, 2**32 - 1, 2**32 - 9), following=2**32 - 1)
    yield "crowd", tiff(*[(0x0112, 3, 1, 6)] * 2000)
    yield "wrong_kinds", tiff(*[(0x0112, kind, 2**30, 8) for kind in range(16)])
    yield "orientation", tiff((0x0112, 3, 1, 4242))
    yield "orientation_text", tiff((0x0112, 2, 4, 0x41414141))
    yield "sub", tiff((0x014A, 4, 2**20, 8))


# --- frames -----------------------------------------------------------------------------------------------------------


def frames() -> Iterator[Member]:
    """Announce no frames, a hundred thousand, or as many as a number can hold."""
    yield "gif/none", gif(20, 20)
    yield "gif/none_open", gif(20, 20, ending=b"")
    yield "gif/endless", gif(20, 20, gif_frame(20, 20) * 100_000)
    yield "gif/endless_open", gif(20, 20, gif_frame(20, 20) * 100_000, ending=b"")
    yield "gif/outside", gif(20, 20, b"," + struct.pack("<HHHHB", 60000, 60000, 5000, 5000, 0) + b"\x02\x02\x4c\x01\0")
    yield "gif/growing", gif(20, 20, gif_frame(65535, 65535))
    yield "webp/none", webp_canvas(20, 20)
    animation = b"ANMF" + struct.pack("<I", 16) + bytes(16)
    yield (
        "webp/endless",
        webp(b"VP8X", bytes((2, 0, 0, 0, 19, 0, 0, 19, 0, 0)) + b"ANIM\x06\0\0\0" + bytes(6) + animation * 50_000),
    )
    control = struct.pack(">2I", 2**31 - 1, 0)
    yield "apng/endless", png(20, 20, (b"acTL", control), (b"IDAT", zlib.compress(bytes(21 * 20))))
    yield "apng/none", png(20, 20, (b"acTL", bytes(8)), (b"IDAT", zlib.compress(bytes(21 * 20))))
    yield "png/no_pixels", png(20, 20)
    yield "tiff/none", b"II*\0\0\0\0\0"
    yield "tiff/itself", tiff_of(20, 20, following=8)
    chain = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 20, 522 + 18 * (at + 1)) for at in range(50_000))
    yield "tiff/endless", tiff_of(20, 20, following=522, behind=bytes(400) + chain)
    yield (
        "mpo/endless",
        samples()["mpo"].replace(b"\xb0\x01\0\x04\0\0\0\x01\0\0\0\x02", b"\xb0\x01\0\x04\0\0\0\x01\x7f\xff\xff\xff"),
    )


# --- other things -----------------------------------------------------------------------------------------------------


def strangers() -> Iterator[Member]:
    """Pass files of other kinds, whose names would end in .jpg."""
    texts = [
        "",
        " ",
        "hello",
        "<html><script>alert(1)</script>",
        "#!/bin/sh\nrm -rf /",
        "{}",
        "BMW drives",
        "II* is Roman",
        "GIF",
        "RIFF",
    ]
    yield from ((f"text/{at}", text.encode()) for at, text in enumerate(texts))
    starts = [
        b"PK\3\4",
        b"\x7fELF\2\1\1",
        b"MZ\x90",
        b"\x1f\x8b\x08",
        b"\x80\x05\x95pickle",
        b"PAR1",
        b"\0\0\0\x18ftypmp42",
        b"ID3\3",
        b"OggS",
    ]
    starts += [
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"8BPS\0\1",
        b"\0\0\1\0\1\0",
        b"icns",
    ]
    starts += [
        b"P6\n9999999 9999999\n255\n",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"qoif",
        b"DDS ",
        b"gimp xcf ",
        b"\x76\x2f\x31\x01",
        b"SIMPLE  =",
    ]
    starts += [
        b"\0\0\0\x20ftypavif",
        b"\0\0\0\x20ftypheic",
        b"\xff\x0a",
        b"\x0a\x05\x01\x08",
        b"\xd7\xcd\xc6\x9a",
        b"RIFF\0\0\1\0AVI LIST",
    ]
    draw = random.Random(19)
    yield from ((f"{start[:8]!r}", start + draw.randbytes(500)) for start in starts)
    yield from ((f"noise/{at}", b"\1" + draw.randbytes(at * 37)) for at in range(30))
    yield "zeros", bytes(2**20)
    yield "too_long", samples()["png"] + bytes(LIMITS.max_bytes)


def polyglots() -> Iterator[Member]:
    """Join two kinds of files: the first one decides."""
    script, archive = (
        b"<?php system($_GET['c']); ?><script>alert(1)</script>",
        b"PK\3\4" + bytes(26) + b"a.txt" + b"PK\5\6" + bytes(18),
    )
    for name, data in samples().items():
        yield f"{name}/script_behind", data + script
        yield f"{name}/archive_behind", data + archive
        yield f"{name}/script_before", script + data
        yield f"{name}/in_a_pdf", b"%PDF-1.4\n1 0 obj\nstream\n" + data + b"\nendstream"


def slow() -> Iterator[Member]:
    """Make the decoder walk all coefficients twenty thousand times, by empty scans of a progressive JPEG."""
    data = encoded(grey_noise((1500, 1500), 60).convert("RGB"), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    scan = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    yield "jpeg/scans", data[:-2] + scan * 20_000 + b"\xff\xd9"


FAMILIES: tuple[Callable[[], Iterator[Member]], ...] = (
    cut,
    flipped,
    spliced,
    magic_and_noise,
    header_bombs,
    absurd_sizes,
    inflating,
    metadata,
    frames,
    strangers,
    polyglots,
    slow,
)
Results = dict[str, Decoded | Failure]


@pytest.fixture(scope="module")
def corpus() -> dict[str, bytes]:
    return {f"{family.__name__}/{name}": data for family in FAMILIES for name, data in family()}


@pytest.fixture(scope="module")
def memory() -> dict[str, float]:
    return {}


@pytest.fixture(scope="module")
def results(corpus: dict[str, bytes], memory: dict[str, float]) -> Results:
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before, start = peak_megabytes(), time.monotonic()
    results: Results = {}
    with DecoderPool[str](LIMITS, 2) as decoder:
        for name, result in decoder.decode_many(corpus.items()):
            assert name not in results
            results[name] = result
        memory["child"] = max(peak_megabytes(pid) for pid in decoder.pids)
    memory.update(before=before, peak=peak_megabytes(), seconds=time.monotonic() - start)
    return results


def peak_megabytes(pid: int | str = "self") -> float:
    """Return the most memory that a process has had, or this one since clear_refs."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def reasons(results: Results, prefix: str) -> Counter[str]:
    return Counter(kind(result) for name, result in results.items() if name.startswith(prefix))


def kind(result: Decoded | Failure) -> str:
    return "decoded" if isinstance(result, Decoded) else result.reason


def test_the_samples_themselves_are_healthy() -> None:
    assert {name: decode(data, LIMITS).image.mode for name, data in samples().items()} == dict.fromkeys(
        samples(), "RGB"
    )


def test_the_corpus_is_large(corpus: dict[str, bytes]) -> None:
    assert len(corpus) >= 1500
    assert len(set(corpus.values())) >= 1500


def test_each_is_decoded_or_has_a_documented_reason(corpus: dict[str, bytes], results: Results) -> None:
    assert results.keys() == corpus.keys()
    for name, result in results.items():
        if isinstance(result, Failure):
            assert result.reason in QUARANTINE_REASONS, name
            assert result.detail.isprintable() and 0 < len(result.detail) <= 200, name
        else:
            assert result.image.mode == "RGB", name
            assert result.image.width * result.image.height <= LIMITS.model_pixels, name
            assert min(result.width, result.height) >= LIMITS.min_side, name
            assert result.width * result.height <= LIMITS.max_pixels, name


def test_memory_stays_small(results: Results, memory: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        outcomes = ", ".join(f"{count} {name}" for name, count in reasons(results, "").most_common())
        print(f"\n{len(results)} hostile images in {memory['seconds']:.0f} s: {outcomes}")
        parent = f"parent {memory['before']:.0f} MB before, {memory['peak']:.0f} MB at most"
        print(f"{parent}; the largest child {memory['child']:.0f} MB")
    assert memory["peak"] - memory["before"] < 100
    assert memory["child"] < 200


def test_no_decoder_died_of_the_corpus(results: Results) -> None:
    """No promise about Pillow, but worth knowing; the guards against death are tested with a child that does die."""
    assert [name for name, result in results.items() if kind(result) == "decoder_died"] == []


def test_families_of_one_kind_have_one_reason(results: Results) -> None:
    assert set(reasons(results, "header_bombs/")) == {"too_many_pixels"}
    assert set(reasons(results, "slow/")) == {"decode_timeout"}
    assert set(reasons(results, "strangers/text/")) == {"not_an_image"}
    assert set(reasons(results, "strangers/noise/")) == {"not_an_image"}
    assert reasons(results, "strangers/too_long") == {"too_many_bytes": 1}
    assert "decoded" not in reasons(results, "strangers/")
    assert kind(results["frames/gif/endless"]) == kind(results["frames/gif/endless_open"]) == "too_many_frames"
    assert kind(results["frames/apng/endless"]) == kind(results["frames/tiff/endless"]) == "too_many_frames"
    assert kind(results["frames/tiff/itself"]) == "decoded"
    for name in samples():
        assert kind(results[f"polyglots/{name}/script_behind"]) == "decoded"
        assert kind(results[f"polyglots/{name}/script_before"]) == "not_an_image"
        assert kind(results[f"polyglots/{name}/in_a_pdf"]) == "format_not_allowed"


def test_the_first_quarter_of_a_file_is_never_decoded(results: Results) -> None:
    for name, data in samples().items():
        cut = {member: result for member, result in results.items() if member.startswith(f"cut/{name}/")}
        quarters = [member for member in cut if int(member.rpartition("/")[2]) < len(data) // 4]
        assert len(quarters) > 3, name
        for member in quarters:
            result = cut[member]
            assert isinstance(result, Failure), member
            assert result.reason in ("truncated", "corrupt", "not_an_image"), member


@pytest.mark.filterwarnings("ignore")
def test_the_children_decide_as_this_process_does(corpus: dict[str, bytes], results: Results) -> None:
    names = [name for name in corpus if name.startswith(("cut/", "flipped/", "strangers/"))][::7]
    assert len(names) > 100
    for name in names:
        try:
            here: Decoded | Failure = decode(corpus[name], LIMITS)
        except Unfit as error:
            here = error.failure
        assert kind(here) == kind(results[name]), name
