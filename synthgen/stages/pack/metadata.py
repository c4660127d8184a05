"""The image file of a sample: the pixels that the models saw, without the metadata that its camera wrote.

A JPEG, PNG or WebP that every reader decodes to the pixels that the models saw keeps them bit by bit. Only its metadata
is cut out: EXIF can hold coordinates, and a comment a name. So the parts that matter for pixels are copied, and nothing
else; the orientation stays as the one entry of a new EXIF block. Every other image (several frames, transparency, more
than 8 bits, rarer formats and variants) becomes a PNG of the pixels that the models saw, at full size. So does an image
whose colours are not sRGB, as most readers ignore a profile; from a JPEG it becomes a JPEG of high quality. With
`pack.images: resized`, images larger than the models see are scaled down as for the models.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from synthgen.config.packing import PackConfig
from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Header, decode
from synthgen.ingest.images.clean import PNG_START, clean, png_chunks
from synthgen.ingest.images.colours import conversion, is_transparent
from synthgen.ingest.images.decode import ORIENTATION, orientation
from synthgen.ingest.images.headers import DRAWN, open_checked, sniff_whole

PLAIN_MODES = ("1", "L", "P", "RGB", "CMYK")  # every reader converts them to the same RGB
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
PNG_DEPTH = 24  # where the first chunk of a PNG has the bits of a sample
PNG_CHUNKS = b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT pHYs cICP".split()
WEBP_CHUNKS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP")
# In the coded pixels of a JPEG, 0xFF is followed by 0 or a restart marker; any other marker ends them.
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        suffix: Of its name.
        width: In pixels, upright; so is `height`.
    """

    data: bytes
    suffix: str
    width: int
    height: int


def make_image_file(data: bytes, limits: ImagesConfig, pack: PackConfig) -> ImageFile:
    """Return the file to put into a sample.

    Args:
        data: The bytes of the source image.
        limits: The limits for decoding.
        pack: The policy on size and metadata.

    Raises:
        Unfit: The image cannot be decoded within the limits.
    """
    if sniff_whole(data) in DRAWN:  # opening it would draw it a second time
        most = limits.model_pixels if pack.images == "resized" else limits.max_pixels
        return _encode(decode(data, limits.model_copy(update={"model_pixels": most})).image, False)
    image, header = open_checked(data, limits)
    turn = orientation(image)
    is_srgb = conversion(image) is None
    is_deep = header.format == "PNG" and data[PNG_DEPTH] > 8  # Pillow has a mode for deep greys only
    is_plain = image.mode in PLAIN_MODES and not is_deep and not is_transparent(image) and is_srgb
    is_lossy = header.format in ("JPEG", "MPO")
    is_single = header.frames == 1 or header.format == "MPO"
    width, height = (header.height, header.width) if turn >= 5 else (header.width, header.height)
    if pack.images == "resized" and width * height > limits.model_pixels:
        return _encode(decode(data, limits).image, is_lossy)
    if is_plain and is_single and header.format in SUFFIXES:
        # An image that can be decoded may have parts that are not known here; then it becomes a PNG.
        with suppress(ValueError, IndexError):
            kept = _keep(data, header, turn) if pack.metadata == "kept" else _strip(data, header, turn)
            return ImageFile(kept, SUFFIXES[header.format], width, height)
    whole = limits.model_copy(update={"model_pixels": header.width * header.height})
    return _encode(decode(data, whole).image, is_lossy and not is_srgb)


def _encode(image: Image.Image, is_lossy: bool) -> ImageFile:
    sink = io.BytesIO()
    if is_lossy:
        image.save(sink, "JPEG", quality=95, subsampling=0)  # 4:4:4, so that thin coloured lines stay
    else:
        image.save(sink, "PNG")
    return ImageFile(sink.getvalue(), ".jpg" if is_lossy else ".png", image.width, image.height)


def _keep(data: bytes, header: Header, turn: int) -> bytes:
    """Return an image file with its metadata, if other readers can read it so; or else without."""
    if header.format == "PNG":
        return data if _is_readable_png(data) else _strip(data, header, turn)
    return clean(data, "JPEG") if header.format in ("JPEG", "MPO") else data


def _strip(data: bytes, header: Header, turn: int) -> bytes:
    """Return an image file without its metadata; `turn` is its orientation as in EXIF, 1 to 8."""
    if header.format in ("JPEG", "MPO"):
        return b"".join(_jpeg_parts(data, turn))
    if header.format == "PNG":
        file = b"".join(_png_parts(data, turn))
        if not _is_readable_png(file):
            raise ValueError("a chunk that matters is damaged or too long for other readers")
        return file
    return _webp(data, turn)


def _exif(turn: int) -> bytes:
    """Return a TIFF block with one entry, the orientation."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, ORIENTATION, 3, 1, turn, 0, 0)


def _jpeg_parts(data: bytes, turn: int) -> Iterator[bytes]:
    """Yield the segments that matter for pixels and colours, up to the end of the first image."""
    yield data[:2]
    exif = b"Exif\0\0" + _exif(turn)
    waiting = b"" if turn == 1 else struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif
    at = 2
    while data[at : at + 2] != b"\xff\xd9":
        if data[at : at + 2] == b"\xff\xff":  # fill bytes may precede a marker
            at += 1
            continue
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if data[at] != 0xFF or length < 2 or marker in (0x00, 0x01, 0xFF, *range(0xD0, 0xD9)):
            raise ValueError(f"a JPEG segment was expected at byte {at}")
        end = at + 2 + length
        if marker == 0xDA:  # a scan, whose coded pixels follow the segment
            match = NEXT_MARKER.search(data, end)
            end = match.end() - 2 if match else len(data)
        if waiting and marker != 0xE0:
            yield waiting
            waiting = b""
        if _matters(marker, data[at + 4 : at + 16]):
            yield data[at:end]
        if end >= len(data):  # Pillow accepts a missing end, also when the image was tagged
            break
        at = end
    yield b"\xff\xd9"


def _matters(marker: int, start: bytes) -> bool:
    """Return whether a segment matters for pixels or colours; of the application segments, JFIF, ICC and Adobe do."""
    if 0xE0 <= marker <= 0xEF:
        known = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
        return marker in known and start.startswith(known[marker])
    return marker != 0xFE  # a comment


def _is_readable_png(data: bytes) -> bool:
    """Return whether Pillow reads a PNG as it is: it refuses damaged chunks and long texts and profiles."""
    pixels = (b"IDAT", b"fdAT", b"fcTL", b"acTL", b"IEND")
    others = [data[at:end] for kind, at, end in png_chunks(data) if kind not in pixels]
    first = next((data[at:end] for kind, at, end in png_chunks(data) if kind == b"IDAT"), b"")
    try:
        Image.open(io.BytesIO(PNG_START + b"".join([*others, first])), formats=("PNG",)).close()
    except Exception:  # Pillow raises nearly every kind
        return False
    return True


def _png_parts(data: bytes, turn: int) -> Iterator[bytes]:
    yield data[:8]
    at = 8
    while at < len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind in PNG_CHUNKS:
            yield data[at:end]
        if kind == b"IHDR" and turn != 1:
            chunk = b"eXIf" + _exif(turn)
            yield struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        if kind == b"IEND":
            return
        at = end


def _webp(data: bytes, turn: int) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if kind == b"ANMF":
            raise ValueError("the pixels of an animation are in other chunks, even with one frame")
        if kind == b"VP8X":  # its flags announce the metadata: 8 is EXIF, 4 is XMP
            body = bytes([body[0] & ~0x0C | (0x08 if turn != 1 else 0)]) + body[1:]
        if kind in WEBP_CHUNKS:
            parts.append(_riff_chunk(kind, body))
        at += 8 + size + size % 2
    if turn != 1:
        parts.append(_riff_chunk(b"EXIF", _exif(turn)))
    return _riff_chunk(b"RIFF", b"WEBP" + b"".join(parts))


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
