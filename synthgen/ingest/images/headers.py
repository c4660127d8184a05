"""What an image's header says, checked against the limits before any pixel is decoded.

Comes in: bytes that claim to be an image. Goes out: format, size and number of frames, or `Unfit` with a reason from
tables.QUARANTINE_REASONS. The format is told from the first bytes alone, so a name or a wrong suffix means nothing, and no
decoder outside the allow-list is ever called. Frames are counted here and not by Pillow, because the count stops at the
limit: a file of a million frames costs no more than one of a thousand.
"""

import contextlib
import io
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, UnidentifiedImageError

if TYPE_CHECKING:
    from synthgen.config.pipeline import ImagesConfig


class Unfit(Exception):
    """An image that cannot be used: one of tables.QUARANTINE_REASONS, and one line of detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = one_line(detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Header:
    """What the header declares; `frames` is counted no further than one past the limit."""

    format: str
    width: int
    height: int
    frames: int


# First bytes -> Pillow's name. Formats that Pillow lacks are here too, so that "not allowed" and "no image" stay apart.
MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL ", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\x01\0", "ICO"),
    (b"icns", "ICNS"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"<svg", "SVG"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "XCF"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"SIMPLE  =", "FITS"),
)
BMP_HEADERS = (
    12,
    16,
    40,
    52,
    56,
    64,
    108,
    124,
)  # sizes of the second header, which tell a BMP from a text that starts with BM


def sniff(data: bytes) -> str | None:
    """The format that the first bytes name, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return "AVIF" if data[8:12] in (b"avif", b"avis") else "HEIF"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PPM"
    return next((name for magic, name in MAGIC if data.startswith(magic)), None)


def inspect(data: bytes, limits: "ImagesConfig") -> Header:
    """The header of an image that is within all limits; no pixel is decoded."""
    with own_pixel_limit():
        return open_checked(data, limits)[1]


def open_checked(data: bytes, limits: "ImagesConfig") -> tuple[ImageFile.ImageFile, Header]:
    """The image, opened but not decoded, and its header; call it inside `own_pixel_limit()`."""
    if len(data) > limits.max_bytes:
        raise Unfit("too_many_bytes", f"{len(data):,} bytes; the limit is {limits.max_bytes:,}")
    name = _allowed_format(data, limits)
    if name == "WEBP":  # Pillow's opening of a WebP allocates its whole canvas, so its size is read here first
        _check_size(*_webp_size(data), limits)
    image = _opened(data, name, limits)
    if image.format not in limits.formats:
        raise Unfit("format_not_allowed", f"{image.format}; allowed: {', '.join(limits.formats)}")
    _check_size(*image.size, limits)
    frames = _frames(data, image, limits.max_frames)
    if frames > limits.max_frames:
        raise Unfit("too_many_frames", f"more than {limits.max_frames:,} frames")
    return image, Header(image.format, image.width, image.height, frames)


def one_line(text: str, length: int = 200) -> str:
    """Text from a decoder or a file as one short printable line."""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * length]).strip()[:length]


def unfit(error: Exception, data: bytes) -> Unfit:
    """The record that a decoder's exception becomes; decoders raise nearly every kind."""
    if isinstance(error, Unfit):
        return error
    if isinstance(error, MemoryError):
        return Unfit("decoder_died", "decoding needs more memory than the limits allow")
    if isinstance(error, Image.DecompressionBombError):
        return Unfit("too_many_pixels", str(error))
    cut = isinstance(error, EOFError) or "truncated" in str(error).lower() or _ends_early(data)
    return Unfit("truncated" if cut else "corrupt", f"{type(error).__name__}: {error}")


def _allowed_format(data: bytes, limits: "ImagesConfig") -> str:
    name = sniff(data)
    if name is None:
        raise Unfit("not_an_image", f"the first bytes are {data[:12]!r}" if data else "the file is empty")
    # An MPO is a JPEG with further JPEGs behind it; which of the two it is, Pillow says after opening.
    if name not in limits.formats and not (name == "JPEG" and "MPO" in limits.formats):
        raise Unfit("format_not_allowed", f"{name}; allowed: {', '.join(limits.formats)}")
    return name


def _opened(data: bytes, name: str, limits: "ImagesConfig") -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=(name,))
    except KeyError:
        raise Unfit("format_not_allowed", f"this Pillow has no decoder for {name}") from None
    except UnidentifiedImageError:
        cut = _ends_early(data)
        raise Unfit("truncated" if cut else "corrupt", f"starts like a {name}, but its header cannot be read") from None
    except Exception as error:
        raise unfit(error, data) from error


def _check_size(width: int, height: int, limits: "ImagesConfig") -> None:
    if width * height > limits.max_pixels:
        pixels = f"{width:,} x {height:,} = {width * height:,} pixels"
        raise Unfit("too_many_pixels", f"{pixels}; the limit is {limits.max_pixels:,}")
    if min(width, height) < limits.min_side:
        raise Unfit("too_small", f"{width:,} x {height:,}; the shorter side must have {limits.min_side} pixels")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Unfit(
            "too_elongated", f"{width:,} x {height:,}; the longer side may be {limits.max_aspect:g} times the shorter"
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """The canvas of a WebP from its first chunk: extended, lossless or lossy."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        raise Unfit("truncated", f"a WebP of {len(data)} bytes")
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise Unfit("corrupt", f"a WebP whose first chunk is {kind!r}")


def _frames(data: bytes, image: ImageFile.ImageFile, limit: int) -> int:
    """The number of frames, counted no further than one past the limit."""
    count: Callable[[bytes], Iterator[None]] | None = {"GIF": _gif_frames, "TIFF": _tiff_frames}.get(image.format or "")
    if count is None:
        return int(getattr(image, "n_frames", 1))  # a field of the header in all other formats
    frames = 0
    for _ in count(data):
        frames += 1
        if frames > limit:
            break
    return max(frames, 1)


def _gif_frames(data: bytes) -> Iterator[None]:
    """One item for each frame, by stepping from block to block."""
    at = 13 + _gif_palette(data, 10)
    while at < len(data) and data[at] in (0x21, 0x2C):
        is_frame = data[at] == 0x2C
        if is_frame:
            yield
        # An extension has a label; a frame has nine bytes of geometry, perhaps a palette, and the code size.
        at += 11 + _gif_palette(data, at + 9) if is_frame else 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _gif_palette(data: bytes, flags_at: int) -> int:
    """The bytes of the colour table that the flags announce."""
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tiff_frames(data: bytes) -> Iterator[None]:
    """One item for each image directory; a chain that bites its own tail ends there."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    pointer, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
        while at and at not in seen:
            seen.add(at)
            yield
            (entries,) = struct.unpack_from(order + count, data, at)
            (at,) = struct.unpack_from(order + pointer, data, at + struct.calcsize(count) + entry * entries)
    except struct.error:  # the chain points past the end: Pillow finds out, if it matters to the first frame
        return


def _ends_early(data: bytes) -> bool:
    """Whether the file lacks the end that its format prescribes."""
    match sniff(data):
        case "JPEG":
            return b"\xff\xd9" not in data[-1024:]
        case "PNG":
            return b"IEND" not in data[-1024:]
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
    return False


_switch = threading.Lock()
_inside = 0
_outer_limit: int | None = None


@contextlib.contextmanager
def own_pixel_limit() -> Iterator[None]:
    """Pillow's own pixel limit off while ours is at work, and back afterwards: it is lower, warns, and is one for the process."""
    global _inside, _outer_limit
    with _switch:
        if not _inside:
            _outer_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _inside += 1
    try:
        yield
    finally:
        with _switch:
            _inside -= 1
            if not _inside:
                Image.MAX_IMAGE_PIXELS = _outer_limit
