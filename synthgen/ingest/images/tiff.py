"""The directories of a TIFF: how many images it has, which of them is the picture, and whether it is whole.

A TIFF is a chain of directories of tags, one for each image. What Pillow makes of a file does not say whether it is cut
or of a kind that Pillow lacks, so the tags are read here.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

NEW_SUBFILE, SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, FORMAT = 254, 255, 258, 259, 262, 277, 284, 339
COLOUR_MAP = 320
YCBCR = 6  # a value of PhotometricInterpretation
MOSAICS = (32803, 34892)  # further ones: a colour a pixel, and all of them before they are developed
SUB_DIRECTORIES, DNG_VERSION = 330, 50706
MOST_DIRECTORIES = 8  # that are looked at for a mosaic
STARTS_AND_SIZES = ((273, 279), (324, 325))  # of strips, and of tiles
PIXEL_TAGS = frozenset(  # that decide how the picture looks
    (
        BITS, COMPRESSION, PHOTOMETRIC, 273, 274, SAMPLES, 278, 279, PLANAR, 317, 320, 322, 323, 324, 325, 338, FORMAT,
        347, *range(512, 534), 34675,
    )
)  # fmt: skip
JPEG_KINDS = (6, 7)  # values of Compression; their decoder makes up the pixels that a cut file lacks
SIZES: Mapping[int, int] = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # bytes of a value, by its type  # fmt: skip
REDUCED = 1  # a bit of NewSubfileType
REDUCED_OLD = 2  # a value of SubfileType
SEPARATE, UNCOMPRESSED = 2, 1  # values of PlanarConfiguration and Compression
TYPES: Mapping[int, str] = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # of whole numbers, as struct spells them
MOST_VALUES = 100_000  # of a tag: a file may announce more than it can hold


@dataclass(frozen=True)
class Directory:
    """One image of a file. Tags are read when they are asked for, since a file can announce any number of them.

    Attributes:
        data: The file.
        order: Of its bytes, as struct spells it.
        pointer: The size of its offsets, as struct spells it.
        entries: The places of its tags.
    """

    data: bytes
    order: str
    pointer: str
    entries: range

    def values(self, tag: int) -> tuple[int, ...]:
        """Return the whole numbers of a tag; () without the tag, or if they lie outside the file."""
        for at in self.entries:
            found, kind, count = struct.unpack_from(f"{self.order}HH{self.pointer}", self.data, at)
            if found == tag:
                return self._values(at, kind, count)
        return ()

    def first(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.values(tag)), default)

    def _values(self, at: int, kind: int, count: int) -> tuple[int, ...]:
        code = TYPES.get(kind)
        if code is None or count > MOST_VALUES:
            return ()
        place = self._place(at, count * struct.calcsize(code))
        return () if place is None else struct.unpack_from(f"{self.order}{count}{code}", self.data, place)

    def _place(self, at: int, size: int) -> int | None:
        """Return where the values of a tag are, in it or elsewhere; None if not all of them lie within the file."""
        room = struct.calcsize(self.pointer)
        place = at + 4 + room
        if size > room:
            (place,) = struct.unpack_from(self.order + self.pointer, self.data, place)
        return place if place + size <= len(self.data) else None

    def has(self, tag: int) -> bool:
        """Return whether there is a tag, of whatever type."""
        return any(struct.unpack_from(f"{self.order}H", self.data, at)[0] == tag for at in self.entries)

    @property
    def is_reduced(self) -> bool:
        """Whether the image is a smaller copy of another one in the file."""
        return bool(self.first(NEW_SUBFILE, 0) & REDUCED) or self.first(SUBFILE, 0) == REDUCED_OLD

    @property
    def is_whole(self) -> bool:
        """Whether all pixels lie within the file."""
        ends = (
            start + length
            for starts, lengths in STARTS_AND_SIZES
            for start, length in zip(self.values(starts), self.values(lengths), strict=False)
        )
        return all(end <= len(self.data) for end in ends)

    @property
    def is_cut(self) -> bool:
        """Whether a decoder makes up for pixels or tags that lie outside the file, without an error.

        Pillow reads no tag from the first one on whose values do.
        """
        if not self.is_whole and self.first(COMPRESSION, 1) in JPEG_KINDS:
            return True
        is_lost = False
        for at in self.entries:
            tag, kind, count = struct.unpack_from(f"{self.order}HH{self.pointer}", self.data, at)
            is_lost = is_lost or self._place(at, count * SIZES.get(kind, 0)) is None
            if is_lost and tag in PIXEL_TAGS:
                return True
        return False

    @property
    def kind(self) -> str:
        """The properties that decide whether a decoder can read the image."""
        bits = "/".join(map(str, self.values(BITS) or (1,)))
        return (
            f"photometric {self.first(PHOTOMETRIC, 0)}, {bits} bits, sample format {self.first(FORMAT, 1)}, "
            f"compression {self.first(COMPRESSION, 1)}, planar {self.first(PLANAR, 1)}"
        )

    @property
    def is_misread(self) -> bool:
        """Whether Pillow reads the image wrongly, or calls it corrupt: planes of YCbCr, or deep and uncompressed."""
        is_deep = max(self.values(BITS), default=1) > 8
        is_plain = self.first(COMPRESSION, 1) == UNCOMPRESSED
        is_ycbcr = self.first(PHOTOMETRIC, 0) == YCBCR
        return self.first(PLANAR, 1) == SEPARATE and self.first(SAMPLES, 1) > 1 and (is_ycbcr or (is_deep and is_plain))


def directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories in order; a chain that returns to an earlier one, or leaves the file, ends there."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    pointer, count, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + pointer, data, 8 if is_big else 4)
        while 0 < at < len(data) and at not in seen:
            seen.add(at)
            (entries,) = struct.unpack_from(order + count, data, at)
            first = at + struct.calcsize(count)
            end = first + entry * entries
            if end > len(data):  # also of a number that no offset can have
                return
            (following,) = struct.unpack_from(order + pointer, data, end)
            yield Directory(data, order, pointer, range(first, end, entry))
            at = following
    except struct.error:  # the chain points past the end; Pillow notices if that concerns the first image
        return


def is_raw(data: bytes) -> bool:
    """Return whether a TIFF is the raw file of a camera: a mosaic, a DNG, or a CR2, whose directories do not say so."""
    if data[8:10] == b"CR":
        return True
    for directory in islice(directories(data), MOST_DIRECTORIES):
        inside = [_directory(data, directory, at) for at in directory.values(SUB_DIRECTORIES)[:MOST_DIRECTORIES]]
        some = [directory, *(each for each in inside if each)]
        if directory.has(DNG_VERSION) or any(each.first(PHOTOMETRIC, 0) in MOSAICS for each in some):
            return True
    return False


def _directory(data: bytes, above: Directory, at: int) -> Directory | None:
    """Return the directory at a place, of the kind of the one that names it; None if it leaves the file."""
    count, entry = ("H", 12) if above.pointer == "I" else ("Q", 20)
    try:
        (entries,) = struct.unpack_from(above.order + count, data, at)
    except struct.error:
        return None
    first = at + struct.calcsize(count)
    end = first + entry * entries
    return Directory(data, above.order, above.pointer, range(first, end, entry)) if end <= len(data) else None


def palette_of_bytes(directory: Directory) -> bytes | None:
    """Return the palette of an image, the reds first, if it has bytes in place of 16 bits; else None.

    Some programs write bytes there. libtiff tells them by their size, so viewers show such files in full brightness.
    """
    values = directory.values(COLOUR_MAP)
    return bytes(values) if any(values) and max(values) < 256 else None
