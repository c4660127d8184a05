"""The checks of an image's header against the limits, before any pixel is decoded.

The first bytes alone decide the format, so a wrong suffix is harmless and no decoder outside `images.formats` is ever
called. Frames are counted here rather than by Pillow, because this count stops at the limit: a file of a million frames
costs no more than one of a thousand.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, ImagePalette, UnidentifiedImageError

from synthgen.ingest.images import arrays, documents, plugins, tiff
from synthgen.ingest.images.clean import clean, lacks_end, png_profile
from synthgen.ingest.images.unfit import Unfit

if TYPE_CHECKING:
    from synthgen.config.source import ImagesConfig

# Off for the whole process: `images.max_pixels` replaces it, and it is lower, so it would warn about images that the
# user allows. It is a global of Pillow, so it cannot be off for one image or one thread.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Header:
    """The declarations of a header; `frames` is counted no further than one past the limit."""

    format: str  # Pillow's name, or that of DRAWN
    width: int  # pixels
    height: int
    frames: int


RAW = ("CR3", "RAF", "RW2", "ORF", "CRW", "X3F")  # camera raw, beside the kinds that are TIFFs
# First bytes -> Pillow's name. Formats that Pillow lacks are included, to tell "not allowed" from "not an image".
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
    (b"%synthgen page ", "PDF"),
    (b"%!PS", "EPS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "XCF"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\2\0", "CUR"),
    (b"FUJIFILMCCD-RAW ", "RAF"),
    (b"IIU\0", "RW2"),
    (b"IIRO", "ORF"),
    (b"IIRS", "ORF"),
    (b"MMOR", "ORF"),
    (b"HEAPCCDR", "CRW"),
    (b"FOVb", "X3F"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"AT&TFORM", "DJVU"),
    (b"#?RADIANCE", "HDR"),
    (b"II\xbc\1", "JPEGXR"),
)
SVG_START = 4096  # bytes that the declarations before the picture may have
SVG = re.compile(rb"(?><\?xml[^>]*>|<!--.*?-->|<!DOCTYPE svg[^>\[]*(?:\[.*?\]\s*)?>|\s)*+<svg[\s>]", re.DOTALL)
# Brands of the container that HEIF, AVIF and Canon's raw files share with video; any other one is no image.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIF"),
    b"crx ": "CR3",
}
# Sizes of the second header, which tell a BMP from a text that starts with BM.
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def sniff(data: bytes) -> str | None:
    """Return the format that the first bytes name, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12])
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PPM"
    if SVG.match(data[:SVG_START].removeprefix(b"\xef\xbb\xbf")):
        return "SVG"
    return next((name for magic, name in MAGIC if data.startswith(magic)), None)


def sniff_whole(data: bytes) -> str | None:
    """Return the format of a file as `images.formats` names it; of camera raw the first bytes do not always tell."""
    name = sniff(data)
    is_raw = name in RAW or (name == "TIFF" and tiff.is_raw(data))
    return "RAW" if is_raw else name


def open_checked(data: bytes, limits: "ImagesConfig") -> tuple[Image.Image, Header]:
    """Open an image without decoding it; what has no pixels is drawn.

    Returns:
        The open image, and its header, which is within all limits.

    Raises:
        Unfit: The file is no image, or outside the limits.
    """
    if len(data) > limits.max_bytes:
        raise Unfit("too_many_bytes", f"{len(data):,} bytes; the limit is {limits.max_bytes:,}")
    name = _allowed_format(data, limits)
    if name == "WEBP":  # Pillow allocates the whole canvas of a WebP when it opens it, so check its size first
        _check_size(*_webp_size(data), limits)
    if name in DRAWN:
        return _draw_checked(data, name, limits)
    image = _open(data, name)
    if image.format not in limits.formats:
        raise Unfit("format_not_allowed", f"{image.format}; allowed: {', '.join(limits.formats)}")
    if name == "TIFF":
        _turn_to_picture(image, data)
    if name == "PNG" and (profile := png_profile(data)):
        image.info["icc_profile"] = profile
    _check_size(*image.size, limits)
    frames = _count_frames(data, image, limits.max_frames)
    if frames > limits.max_frames:
        raise Unfit("too_many_frames", f"more than {limits.max_frames:,} frames")
    return image, Header(image.format, image.width, image.height, frames)


UNSUPPORTED = ("unsupported", "not supported", "unknown raw mode")  # in Pillow's errors


def unfit_from(error: Exception, data: bytes) -> Unfit:
    """Return the Unfit for a decoder's exception; decoders raise nearly every kind."""
    if isinstance(error, Unfit):
        return error
    if isinstance(error, MemoryError):
        return Unfit("decoder_died", "decoding needs more memory than the limits allow")
    if isinstance(error, Image.DecompressionBombError):  # if another library has set Pillow's limit
        return Unfit("too_many_pixels", str(error))
    text = str(error).lower()
    if any(words in text for words in UNSUPPORTED):
        return Unfit("unsupported", f"{type(error).__name__}: {error}")
    is_cut = isinstance(error, EOFError) or "truncated" in text or _ends_early(data)
    return Unfit("truncated" if is_cut else "corrupt", f"{type(error).__name__}: {error}")


DRAWN = ("SVG", "PDF", "JXL", "RAW")  # opening one of these makes its pixels


def _draw_checked(data: bytes, name: str, limits: "ImagesConfig") -> tuple[Image.Image, Header]:
    check_size = partial(_check_size, limits=limits)
    image: Image.Image
    size: tuple[int, int] | None = None  # that of the image, if not said
    if name == "JXL":
        image = arrays.open_jxl(data, check_size)
    elif name == "RAW":
        image, size = arrays.open_raw(data, check_size, limits.model_pixels)
    elif name == "PDF":
        image = documents.draw_page(data, check_size)
    else:
        image = plugins.draw_svg(data, plugins.svg_size(data, check_size))
        check_size(*image.size)
    image.format = name
    width, height = size or image.size
    return image, Header(name, width, height, 1)


ADDED = ("AVIF", "JPEG2000", *plugins.PACKAGES)  # that a user may want, and that are not allowed by default


def _allowed_format(data: bytes, limits: "ImagesConfig") -> str:
    name = sniff_whole(data)
    if name is None:
        raise Unfit("not_an_image", f"the first bytes are {data[:12]!r}" if data else "the file is empty")
    # An MPO is a JPEG followed by further JPEGs; Pillow tells the two apart when it opens the file.
    if name not in limits.formats and not (name == "JPEG" and "MPO" in limits.formats):
        hint = "; images.formats may name it" if name in ADDED else ""
        raise Unfit("format_not_allowed", f"{name}{hint}; allowed: {', '.join(limits.formats)}")
    return name


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    if name == "HEIF":
        plugins.register_heif()
    try:
        return Image.open(io.BytesIO(clean(data, name)), formats=(name,))
    except KeyError:
        raise Unfit("format_not_allowed", f"this Pillow has no decoder for {name}") from None
    except UnidentifiedImageError:
        if _ends_early(data):
            raise Unfit("truncated", f"starts like a {name}, and its header is cut") from None
        if name == "TIFF":
            raise Unfit("unsupported", f"a TIFF that Pillow cannot read: {next(tiff.directories(data)).kind}") from None
        raise Unfit("corrupt", f"starts like a {name}, but its header cannot be read") from None
    except Exception as error:
        raise unfit_from(error, data) from error


def _turn_to_picture(image: ImageFile.ImageFile, data: bytes) -> None:
    """Go to the first image of a TIFF that is not a smaller copy of another one.

    Raises:
        Unfit: There is none, Pillow would garble it, or it is cut.
    """
    if next(tiff.directories(data), None) is None:
        raise Unfit("truncated", "the directory of the TIFF lies outside the file")
    for number, directory in enumerate(tiff.directories(data)):
        if directory.is_reduced:
            continue
        if directory.is_misread:
            raise Unfit("unsupported", f"a TIFF that Pillow reads wrongly: {directory.kind}")
        if directory.is_cut:
            raise Unfit("truncated", "pixels of the TIFF, or tags that say how they look, lie outside the file")
        if number:
            image.seek(number)
        if palette := tiff.palette_of_bytes(directory):
            image.palette = ImagePalette.raw("RGB;L", palette)
        return
    raise Unfit("unsupported", "a TIFF whose images are all smaller copies of one that is not there")


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
    """Return width and height of the canvas of a WebP, from its first chunk: extended, lossless or lossy."""
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


def _count_frames(data: bytes, image: ImageFile.ImageFile, limit: int) -> int:
    """Return the number of frames, counted no further than one past the limit."""
    walk = FRAME_WALKS.get(image.format or "")
    if walk is None:
        return int(getattr(image, "n_frames", 1))  # a field of the header in all other formats
    frames = 0
    for _ in walk(data):
        frames += 1
        if frames > limit:
            break
    return max(frames, 1)


def _gif_frames(data: bytes) -> Iterator[None]:
    """Yield once for each frame, stepping from block to block."""
    at = 13 + _gif_palette_size(data, 10)
    while at < len(data) and data[at] in (0x21, 0x2C):
        is_frame = data[at] == 0x2C
        if is_frame:
            yield
        # An extension has a label; a frame has nine bytes of geometry, perhaps a palette, and the code size.
        at += (11 + _gif_palette_size(data, at + 9)) if is_frame else 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _gif_palette_size(data: bytes, flags_at: int) -> int:
    """Return the size in bytes of the colour table that the flags announce."""
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


FRAME_WALKS: dict[str, Callable[[bytes], Iterator[object]]] = {"GIF": _gif_frames, "TIFF": tiff.directories}


def _ends_early(data: bytes) -> bool:
    """Return whether the file lacks the end that its format prescribes."""
    match sniff(data):
        case "JPEG":
            return lacks_end(data)
        case "TIFF":
            first = next(tiff.directories(data), None)
            return first is None or not first.is_whole or first.is_cut
        case "PNG":
            return b"IEND" not in data[-1024:]
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case "HEIF" | "AVIF":
            return _is_box_cut(data)
    return False


def _is_box_cut(data: bytes) -> bool:
    """Return whether a box of a HEIF or AVIF reaches past the end of the file."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size < 8:  # 0: up to the end of the file; else damaged
            return False
        at += size
    return at > len(data)
