"""The parts of a file that decide its pixels, in a form that Pillow reads.

Pillow refuses sound pictures for what surrounds them: a PNG with long texts or profiles, or with a damaged chunk that
no viewer reads, and a JPEG that lacks only its end marker. So such parts are left out, or added, before it sees the
file. Pillow reads what stands behind the pixels of a PNG only after it has decoded them; so chunks that it uses are put
before them, and orientation, transparency and gamma are known when the file is open.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

Chunk = tuple[bytes, int, int]  # the kind, the start and the end of a part of a PNG

PNG_START = b"\x89PNG\r\n\x1a\n"
# The chunks that a viewer needs: of those in lower case, transparency, colours, orientation and the frames of an APNG.
PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT cICP eXIf acTL fcTL fdAT".split())
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
EXIF_TEXTS = (
    b"Raw profile type exif\0",
    b"XML:com.adobe.xmp\0\0",
)  # texts, unpacked ones, that may say the orientation
MOVED_CHUNKS = (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf", *TEXT_CHUNKS)  # of a PNG, if they follow the pixels
TEXT_BYTES = 2**16
PROFILE_BYTES = 16 * 2**20  # an ICC profile may have when it is unpacked
JPEG_END = b"\xff\xd9"
ROWS_AT_ONCE = 64
NOISE = b"\xaa\x55\x33" * 40
# Two ways to go on with coded pixels that were cut off: they give other pixels, unless all pixels were there. A file
# may be cut where the decoder waits for one of the eight restart markers, so the second way has them all.
JPEG_TAILS = (JPEG_END, NOISE + b"".join(bytes((0xFF, 0xD0 + number)) + NOISE for number in range(8)) * 2 + JPEG_END)
FRAME_STARTS = (0xC0, 0xC1, 0xC2)  # of the JPEGs that Pillow decodes
SCAN_START = 0xDA
BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))  # without a length
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # after coded pixels


def clean(data: bytes, name: str) -> bytes:
    """Return a file of the format `name` as Pillow should read it; the same object if nothing is to be changed."""
    if name == "PNG":
        chunks = list(png_chunks(data))
        kept = _in_order([chunk for chunk in chunks if _is_kept(data, *chunk)])
        return data if kept == chunks else PNG_START + b"".join(data[at:end] for _, at, end in kept)
    if name == "JPEG" and lacks_end(data):
        return data + JPEG_END
    return data


def lacks_end(data: bytes) -> bool:
    """Return whether a JPEG has no end marker."""
    return JPEG_END not in data[-1024:]


def is_cut(data: bytes) -> bool:
    """Return whether a JPEG without an end marker lacks pixels too.

    What follows it then changes how it looks, unless it was cut between two scans, of which each adds detail or a
    colour. It is decoded twice, at full size: what is missing may be too small to be seen in a smaller one.
    """
    if _lacks_scans(data):
        return True
    first, second = (_open_jpeg(data + tail) for tail in JPEG_TAILS)
    width, height = first.size
    # Rows at a time, to spare memory; from the end, where pixels of most files are missing.
    for bottom in range(height, 0, -ROWS_AT_ONCE):
        strip = (0, max(0, bottom - ROWS_AT_ONCE), width, bottom)
        if first.crop(strip).tobytes() != second.crop(strip).tobytes():
            return True
    return False


def _lacks_scans(data: bytes) -> bool:
    """Return whether a coefficient of any component is in no scan, or is not coded to its last bit."""
    wanted, coded = set[tuple[int, int]](), set[tuple[int, int]]()
    for marker, at in _jpeg_segments(data):
        if marker in FRAME_STARTS:
            components = data[at + 6 : at + 6 + 3 * data[at + 5] : 3] if at + 5 < len(data) else b""
            wanted = {(component, number) for component in components for number in range(64)}
        elif marker == SCAN_START:
            count = data[at]
            first, last, bits = data[at + 1 + 2 * count : at + 4 + 2 * count]
            if not bits & 15:  # of the coefficients, the lowest that is still to come
                components = data[at + 1 : at + 1 + 2 * count : 2]
                coded |= {(component, number) for component in components for number in range(first, last + 1)}
    return bool(wanted - coded)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment that is there whole, and where its content starts."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data):
            return
        yield marker, at + 4
        at = end
        if marker == SCAN_START:
            following = NEXT_MARKER.search(data, end)
            at = following.start() if following else len(data)


def _open_jpeg(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def png_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a PNG, or None if it has none that can be read."""
    for kind, at, end in png_chunks(data):
        if kind == b"iCCP":
            packed = data[at + 8 : end - 4].partition(b"\0")[2][1:]
            try:
                return zlib.decompressobj().decompress(packed, PROFILE_BYTES)
            except zlib.error:
                return None
        if kind == b"IDAT":
            return None
    return None


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the kind, the start and the end of each chunk; of a file that is cut, the last one ends with the file."""
    at = len(PNG_START)
    while at < len(data):
        end = min(at + 12 + int.from_bytes(data[at : at + 4]), len(data))
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _in_order(chunks: list[Chunk]) -> list[Chunk]:
    """Return the chunks with those before the pixels that Pillow would read after them."""
    first = next((index for index, chunk in enumerate(chunks) if chunk[0] == b"IDAT"), len(chunks))
    before, behind = chunks[:first], chunks[first:]
    moved = [chunk for chunk in behind if chunk[0] in MOVED_CHUNKS]
    return [*before, *moved, *(chunk for chunk in behind if chunk[0] not in MOVED_CHUNKS)] if moved else chunks


def _is_kept(data: bytes, kind: bytes, at: int, end: int) -> bool:
    if kind in TEXT_CHUNKS:
        return data.startswith(EXIF_TEXTS, at + 8) and end - at <= TEXT_BYTES and _is_readable(data, kind, at, end)
    return kind in PNG_CHUNKS and _is_readable(data, kind, at, end)


def _is_readable(data: bytes, kind: bytes, at: int, end: int) -> bool:
    """Return whether the checksum of a chunk fits; of a chunk that pixels need, Pillow judges that."""
    is_needed = kind[:1].isupper()
    return is_needed or struct.pack(">I", zlib.crc32(data[at + 4 : end - 4])) == data[end - 4 : end]
