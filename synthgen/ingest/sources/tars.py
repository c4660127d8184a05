"""Images in tar archives, such as the shards of WebDataset: the members of each, and later their bytes.

An archive is read once from its beginning, header by header, with one sample in memory. Members that follow one another
and have the same name up to its first dot are a sample: `7.jpg`, `7.json`, `7.txt`, `7.cls`. The object in the JSON is
the image's metadata, the others are its keys `txt` and `cls`.

A member is known by its name, and its version says where its header is, so a read goes there at once. One whose name
came before in the archive has that place as its row too. Where an archive is cut short or damaged, that place is listed
by an empty name, and reading it says what is wrong.

Names of members are data: nothing is ever written or opened by them.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from synthgen.errors import Failure, one_line
from synthgen.ingest.sources.location import open_versioned
from synthgen.ingest.sources.objects import UNREADABLE, LeftOut, meta_json
from synthgen.ingest.sources.suffixes import has_suffix, suffix_of
from synthgen.ingest.sources.walk import HIDDEN_FILE
from synthgen.store.remote import PERMANENT, PermanentError, attempts

BLOCK = 2**20  # bytes of a request to a store; smaller members are read along with their headers
HEADER_BYTES = 2**20  # that a header may have with its extensions
BESIDE_BYTES = 2**20  # that a member beside an image may have
LONGEST_NAME = 1024  # characters
LARGEST_SAMPLE = 1000  # members; a longer one is cut into several
MOST_NAMES = 2_000_000  # of one archive, that are remembered
ZEROS = 2**20  # bytes, after the end of an archive, that are searched for another one
LINK, SPARSE = LeftOut("link or device in a tar"), LeftOut("sparse file in a tar")
LONG_NAME = LeftOut(f"name of more than {LONGEST_NAME:,} characters in a tar")
GZIP = b"\x1f\x8b"
DAMAGE = (tarfile.TarError, PermanentError, ValueError, OverflowError, RecursionError, EOFError)  # of a hostile header

Check = Callable[[int], Failure | None]  # of the size of a member, before it is read


@dataclass(frozen=True)
class Member:
    """An image in an archive, or the place where the archive breaks off.

    Attributes:
        name: As the archive has it, bytes that are no text as in names of files; empty where the archive breaks off.
        offset: Of its header, in bytes.
        size: In bytes; None if it is not known.
        meta: JSON.
        row: The offset again, if the archive had another member of the name before.
    """

    name: str
    offset: int
    size: int | None = None
    meta: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class _Header:
    info: tarfile.TarInfo
    end: int  # where the next header is
    is_whole: bool  # the file has all of the member


class _Headers:
    """A file of which tarfile reads headers alone, so that no header can claim more memory than HEADER_BYTES."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.seek, self.tell = raw.seek, raw.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise PermanentError(f"a header of {size:,} bytes")
        return bytes(self._raw.read(size))


def list_members(uri: str, fs: Any, suffixes: Sequence[str]) -> Iterator[Member | LeftOut]:
    """Yield the images of an archive, and what else is in it; a read that fails goes on after some attempts.

    Args:
        uri: The archive.
        fs: Its filesystem; None for a local file.
        suffixes: Of the members that are images.
    """
    start, names = 0, set[int]()
    for is_last in attempts():
        try:
            with open_versioned(uri, fs, BLOCK) as (raw, _):
                for sample in _samples(raw, start, suffixes):
                    start = sample.end
                    yield from (_with_row(item, names) for item in sample.items)
            return
        except PERMANENT:
            raise
        except Exception:
            if is_last:
                raise


def _with_row(item: Member | LeftOut, names: set[int]) -> Member | LeftOut:
    """Return an image with a row if its name came before; where there are too many names to know, with one too."""
    if isinstance(item, LeftOut) or not item.name:
        return item
    name = int.from_bytes(hashlib.blake2b(os.fsencode(item.name), digest_size=8).digest())
    if name in names or len(names) >= MOST_NAMES:
        return replace(item, row=item.offset)
    names.add(name)
    return item


def read_member(raw: Any, name: str, offset: int, check: Check) -> bytes | Failure:
    """Return the bytes of a member, or why there are none.

    Args:
        raw: The open archive.
        name: Of the member, quoted as in its uri.
        offset: Of its header.
        check: Returns why a member of this size is not to be read, or None.
    """
    header = next(_headers(raw, offset), None)
    if not isinstance(header, _Header):
        return _break_off(raw, offset)
    info = header.info
    if header.is_whole and (info.offset != offset or quote(os.fsencode(info.name)) != name or not info.isreg()):
        return Failure("changed", f"the tar no longer has this member at byte {offset:,}")
    if not header.is_whole:
        return Failure("truncated", f"the tar ends at byte {raw.seek(0, os.SEEK_END):,}, inside this member")
    if failure := check(info.size):
        return failure
    return _content(raw, info)


def what_is_wrong(uri: str, fs: Any, offset: int) -> str:
    """Return in words why an archive breaks off at a place."""
    with open_versioned(uri, fs, BLOCK) as (raw, _):
        start = raw.read(2)
        if start == GZIP:
            return "it is compressed, and nothing in it can be read without all that is before it; unpack it"
        header = next(_headers(raw, offset), None)
        if isinstance(header, _Header):
            return f"it ends at byte {raw.seek(0, os.SEEK_END):,}, inside {one_line(header.info.name, 80)}"
        return _break_off(raw, offset).detail


# --- headers ----------------------------------------------------------------------------------------------------------


def _headers(raw: Any, at: int) -> Iterator[_Header | int]:
    """Yield the headers from a place on; where the archive breaks off, its last item is that place, or a part header.

    An archive that follows another one in the same file is read too.
    """
    end = raw.seek(0, os.SEEK_END)
    following: int | None = at
    while following is not None:
        at = following
        try:
            for info, at in _archive(raw, at):  # noqa: B020 - a place in the file, which each header moves on
                has_data = info.isreg() and not info.issparse()
                is_whole = (info.offset_data + info.size if has_data else at - tarfile.BLOCKSIZE + 1) <= end
                yield _Header(info, at, is_whole)
                if not is_whole:
                    return
        except DAMAGE:
            yield at
            return
        following = _next_archive(raw, at, end)
        if following == at:
            yield at
            return


def _archive(raw: Any, at: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each header of one archive and where the next one is; `tarfile` stops at a damaged one as at the end."""
    raw.seek(at)
    with tarfile.open(fileobj=_Headers(raw), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            archive.members.clear()  # it would keep every header in memory
            if info.size < 0 or archive.offset <= info.offset:
                raise tarfile.ReadError("a size below 0")
            yield info, archive.offset


def _next_archive(raw: Any, at: int, end: int) -> int | None:
    """Return where the blocks of zeros that end an archive give way to something else; None if they do not."""
    raw.seek(at)
    if at + tarfile.BLOCKSIZE > end:  # without a block of zeros, an archive was cut short
        return at
    for start in range(at, min(end, at + ZEROS), HEADER_BYTES // 16):
        piece = raw.read(HEADER_BYTES // 16)
        if rest := piece.lstrip(b"\0"):
            found = start + len(piece) - len(rest)
            return found - (found - at) % tarfile.BLOCKSIZE
    return None


def _break_off(raw: Any, offset: int) -> Failure:
    """Return why no header begins at a place."""
    end = raw.seek(0, os.SEEK_END)
    if offset + tarfile.BLOCKSIZE <= end:
        return Failure("corrupt", f"no header of a tar at byte {offset:,}; what follows in it cannot be read")
    return Failure("truncated", f"the tar ends at byte {end:,} without its end mark; it was cut short")


def _content(raw: Any, info: tarfile.TarInfo) -> bytes:
    raw.seek(info.offset_data)
    data = bytes(raw.read(info.size))
    if len(data) != info.size:
        raise OSError(f"{len(data):,} of {info.size:,} bytes were read")
    return data


# --- samples ----------------------------------------------------------------------------------------------------------


@dataclass
class _Sample:
    """Members of one name, as far as they are read."""

    key: object
    end: int = 0  # where the next member begins
    images: list[tarfile.TarInfo] = field(default_factory=list)
    beside: dict[str, tuple[tarfile.TarInfo, bytes]] = field(default_factory=dict)  # by the suffix
    others: list[Member | LeftOut] = field(default_factory=list)
    members: int = 0

    @property
    def items(self) -> list[Member | LeftOut]:
        """What it gives to the listing."""
        meta = _meta(self.beside) if self.images else None
        unread = () if self.images else (LeftOut(f".{kind}") for kind in self.beside)
        return [*(Member(info.name, info.offset, info.size, meta) for info in self.images), *unread, *self.others]


def _samples(raw: Any, start: int, suffixes: Sequence[str]) -> Iterator[_Sample]:
    sample = _Sample(None, start)
    for header in _headers(raw, start):
        if isinstance(header, int):
            sample.others.append(Member("", header))
            break
        key = _key(header.info)
        if key != sample.key or sample.members == LARGEST_SAMPLE:
            yield sample
            sample = _Sample(key, header.end)
        _add(sample, raw, header, suffixes)
    yield sample


def _key(info: tarfile.TarInfo) -> object:
    """Return what the members of a sample share."""
    folder, _, name = info.name.rpartition("/")
    return folder, name.partition(".")[0]


def _add(sample: _Sample, raw: Any, header: _Header, suffixes: Sequence[str]) -> None:
    info, kind = header.info, header.info.name.rpartition("/")[2].partition(".")[2].lower()
    sample.end, sample.members = header.end, sample.members + 1
    left_out = _left_out(info)
    if not left_out and kind not in BESIDE and has_suffix(info.name, suffixes):
        sample.images.append(info)
    elif not header.is_whole:
        sample.others.append(Member("", info.offset))
    elif left_out:
        sample.others.append(left_out)
    elif kind in BESIDE and kind not in sample.beside:
        sample.beside[kind] = info, _content(raw, info) if info.size <= BESIDE_BYTES else b""
    elif not info.isdir():
        sample.others.append(LeftOut(suffix_of(info.name)))


def _left_out(info: tarfile.TarInfo) -> LeftOut | None:
    """Return what a member counts as, if not even its suffix matters."""
    if info.isdir():
        return None
    if info.issparse():
        return SPARSE
    if not info.isreg():
        return LINK
    if len(info.name) > LONGEST_NAME:
        return LONG_NAME
    is_hidden = any(part.startswith(".") and part.strip(".") for part in info.name.split("/"))
    return HIDDEN_FILE if is_hidden else None


def _meta(beside: Mapping[str, tuple[tarfile.TarInfo, bytes]]) -> str | None:
    """Return what is beside an image as one JSON object; None without any."""
    meta: dict[str, Any] = {}
    for kind, (info, content) in beside.items():
        try:
            if info.size > BESIDE_BYTES:
                raise ValueError(f"more than {BESIDE_BYTES:,} bytes")
            value = BESIDE[kind](content.decode("utf-8-sig"))
            if kind == "json" and not isinstance(value, dict):
                raise ValueError("is no JSON object")
            own = value if kind == "json" else {kind: value}
            meta_json(own)
            meta |= own
        except (ValueError, RecursionError) as error:
            meta[UNREADABLE] = f"{one_line(info.name, 80)}: {one_line(error)}"
    return meta_json(meta) if meta else None


def _number_or_text(text: str) -> int | str:
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text


BESIDE: Mapping[str, Callable[[str], Any]] = {"json": json.loads, "txt": str, "cls": _number_or_text}  # by the suffix
