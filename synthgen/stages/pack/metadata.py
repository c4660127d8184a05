"""The image file that goes into a sample: what the models saw, without what its camera wrote about the place and time.

Comes in: the bytes of a source image and the policy. Goes out: `Embedded`, or `Unfit`. A JPEG, PNG or WebP that any reader
decodes to what the models saw keeps its pixels bit by bit: only its metadata is cut out, by copying the parts that are
known to matter and nothing else (EXIF can hold coordinates, a comment a name). Of the metadata the orientation stays, as
an EXIF block of its own. Everything else (several frames, transparency, more than 8 bits, rarer formats and builds) becomes a PNG of
what the models saw, at full size. With `resized`, images larger than what the models see are scaled like theirs.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from synthgen.config.pipeline import ImagesConfig, PackConfig
from synthgen.ingest.images import Header, decode
from synthgen.ingest.images.decode import ORIENTATION, orientation
from synthgen.ingest.images.headers import open_checked

PLAIN_MODES = ("1", "L", "P", "RGB", "CMYK")  # that every reader turns into the same RGB
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
PNG_CHUNKS = b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT pHYs cICP".split()
WEBP_CHUNKS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP")
# In the coded pixels of a JPEG 0xFF is followed by 0 or a restart marker; anything else ends them.
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)


@dataclass(frozen=True)
class Embedded:
    """An image file, the suffix of its name, and its upright size."""

    data: bytes
    suffix: str
    width: int
    height: int


def embedded(data: bytes, limits: ImagesConfig, pack: PackConfig) -> Embedded:
    """The file to put into a sample; Unfit if it cannot be decoded within the limits."""
    image, header = open_checked(data, limits)
    turn = orientation(image)
    plain = image.mode in PLAIN_MODES and not image.has_transparency_data
    width, height = (header.height, header.width) if turn >= 5 else (header.width, header.height)
    if pack.images == "resized" and width * height > limits.model_pixels:
        return _encoded(decode(data, limits).image, lossy=header.format in ("JPEG", "MPO"))
    if plain and header.format in SUFFIXES and (header.frames == 1 or header.format == "MPO"):
        with suppress(
            ValueError, IndexError, struct.error
        ):  # of parts that are not known here, though it can be decoded
            kept = data if pack.metadata == "kept" else _stripped(data, header, turn)
            return Embedded(kept, SUFFIXES[header.format], width, height)
    whole = limits.model_copy(update={"model_pixels": header.width * header.height})
    return _encoded(decode(data, whole).image, lossy=False)


def _encoded(image: Image.Image, *, lossy: bool) -> Embedded:
    sink = io.BytesIO()
    if lossy:
        image.save(sink, "JPEG", quality=95)
    else:
        image.save(sink, "PNG")
    return Embedded(sink.getvalue(), ".jpg" if lossy else ".png", image.width, image.height)


def _stripped(data: bytes, header: Header, turn: int) -> bytes:
    if header.format in ("JPEG", "MPO"):
        return b"".join(_jpeg_parts(data, turn))
    if header.format == "PNG":
        return b"".join(_png_parts(data, turn))
    return _webp(data, turn)


def _exif(turn: int) -> bytes:
    """A TIFF block that holds the orientation and nothing else."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, ORIENTATION, 3, 1, turn, 0, 0)


def _jpeg_parts(data: bytes, turn: int) -> Iterator[bytes]:
    """The segments that matter for the pixels and their colours, up to the end of the first image."""
    yield data[:2]
    exif = b"Exif\0\0" + _exif(turn)
    waiting = b"" if turn == 1 else struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif
    at = 2
    while data[at : at + 2] != b"\xff\xd9":
        if data[at : at + 2] == b"\xff\xff":  # a marker may have any number of these before it
            at += 1
            continue
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if data[at] != 0xFF or length < 2 or marker in (0x00, 0x01, 0xFF, *range(0xD0, 0xD9)):
            raise ValueError(f"a JPEG segment was expected at byte {at}")
        end = at + 2 + length
        if marker == 0xDA:  # a scan: its pixels follow the segment
            found = NEXT_MARKER.search(data, end)
            end = found.end() - 2 if found else len(data)
        if waiting and marker != 0xE0:
            yield waiting
            waiting = b""
        if _matters(marker, data[at + 4 : at + 16]):
            yield data[at:end]
        if end >= len(data):  # Pillow forgives a missing end, and so was it when the image was tagged
            break
        at = end
    yield b"\xff\xd9"


def _matters(marker: int, start: bytes) -> bool:
    """Whether a segment says something about pixels or colours: of the application's own, JFIF, ICC profile and Adobe."""
    if 0xE0 <= marker <= 0xEF:
        known = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
        return marker in known and start.startswith(known[marker])
    return marker != 0xFE  # a comment


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
            raise ValueError("an animation, if only of one frame, has its pixels elsewhere")
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
