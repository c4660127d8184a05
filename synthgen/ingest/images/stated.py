"""What an image file says of its rights: in EXIF, IPTC and XMP.

It is read where the image is decoded, in the child process, because anybody may have written it. A part that cannot be
read is named beside what the others say. What the statements mean is decided elsewhere (`ingest.rights`).
"""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.parsers import expat

from PIL import Image, IptcImagePlugin

LONGEST = 500  # characters of a statement
XMP_BYTES = 2**20
EXIF_TAGS = {315: "author", 33432: "copyright", 40093: "author"}  # Artist, Copyright, and XPAuthor in UTF-16
XP_AUTHOR = 40093
IPTC_TAGS = {(2, 80): "author", (2, 116): "copyright"}  # By-line, CopyrightNotice
XMP_TIFF_TAG = 700
DC, XMP_RIGHTS = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/xap/1.0/rights/"
CC, PLUS = "http://creativecommons.org/ns#", "http://ns.useplus.org/ldf/xmp/1.0/"
RDF_RESOURCE = "http://www.w3.org/1999/02/22-rdf-syntax-ns# resource"
XMP_NAMES = {  # expat puts a blank between the namespace and the name
    f"{DC} creator": "author",
    f"{DC} rights": "copyright",
    f"{CC} license": "license",
    f"{CC} attributionName": "author",
    f"{CC} attributionURL": "source_url",
    f"{XMP_RIGHTS} UsageTerms": "usage_terms",
    f"{XMP_RIGHTS} WebStatement": "web_statement",
    f"{PLUS} DataMining": "data_mining",
}
UNREAD = "unread"  # the key of the names of parts that are there and cannot be read to their end
Statement = tuple[str, str]  # a key, and what it says


def statements(image: Image.Image) -> dict[str, str]:
    """Return what an open image states, by the keys of XMP_NAMES and UNREAD; of several statements, the first."""
    found, unread = dict[str, str](), list[str]()
    for name, read in (("XMP", _xmp), ("IPTC", _iptc), ("EXIF", _exif)):
        try:
            for key, text in read(image):
                words = " ".join(text.replace("\0", " ").split())[:LONGEST]
                if words:
                    found.setdefault(key, words.encode("utf-8", "replace").decode())
        except Exception:  # of a file that anybody may have written: Pillow raises nearly every kind
            unread.append(name)
    return found | ({UNREAD: ", ".join(unread)} if unread else {})


def _exif(image: Image.Image) -> Iterator[Statement]:
    exif: Mapping[int, Any] = Image.Image.getexif(image)
    for tag, key in EXIF_TAGS.items():
        value = exif.get(tag)
        if tag == XP_AUTHOR and isinstance(value, bytes | tuple):
            value = bytes(value).decode("utf-16-le", "ignore")
        elif isinstance(value, str):  # Pillow takes the bytes for Latin-1; many are UTF-8
            value = value.encode("latin-1", "replace")
        if isinstance(value, str | bytes):
            yield key, value if isinstance(value, str) else _text(value)


def _iptc(image: Image.Image) -> Iterator[Statement]:
    values = IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]
    for tag, key in IPTC_TAGS.items():
        several = values.get(tag) or ()
        for value in several if isinstance(several, list) else [several]:
            if isinstance(value, bytes):
                yield key, _text(value)


def _xmp(image: Image.Image) -> Iterator[Statement]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or _tiff_xmp(image)
    data = packet.encode("utf-8", "replace") if isinstance(packet, str) else bytes(packet or b"")
    if not data:
        return
    if len(data) > XMP_BYTES:
        raise ValueError(f"more than {XMP_BYTES:,} bytes of XMP")
    seen = _Xmp()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True  # else a text comes in pieces
    parser.StartDoctypeDeclHandler = _refuse  # a packet has none; entities in one can unfold to any size
    parser.StartElementHandler, parser.EndElementHandler = seen.start, seen.end
    parser.CharacterDataHandler = seen.text
    try:
        parser.Parse(data.strip(b"\0 \r\n\t"), True)
    finally:
        yield from seen.found  # what stands before an error counts


class _Xmp:
    """What the parser has met of the names that matter: as an attribute, a resource, or the text inside."""

    def __init__(self) -> None:
        self.found: list[Statement] = []
        self._open: list[str] = []  # keys of the elements around
        self._depth = 0
        self._depths: list[int] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self.found += [(XMP_NAMES[key], value) for key, value in attributes.items() if key in XMP_NAMES]
        if name in XMP_NAMES:
            self._open.append(XMP_NAMES[name])
            self._depths.append(self._depth)
            if resource := attributes.get(RDF_RESOURCE):
                self.found.append((XMP_NAMES[name], resource))

    def text(self, text: str) -> None:
        if self._open and text.strip():
            self.found.append((self._open[-1], text))

    def end(self, name: str) -> None:
        if self._depths and self._depths[-1] == self._depth:
            self._open.pop()
            self._depths.pop()
        self._depth -= 1


def _tiff_xmp(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {}).get(XMP_TIFF_TAG)


def _refuse(*_: Any) -> None:
    raise ValueError("a document type in XMP")


def _text(data: bytes) -> str:
    """Return the text of bytes that are UTF-8, or else of a Western European code."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
