"""What image files state of their rights is read from EXIF, IPTC and XMP, and a hostile statement says nothing."""

import io
import struct
from typing import Any

import pytest
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Decoded, DecoderPool, decode
from tests.fixtures.images import drawn, encoded

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:cc="http://creativecommons.org/ns#" '
    'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
)
CREATOR = "<dc:creator><rdf:Seq><rdf:li>Ann &amp; Bob</rdf:li></rdf:Seq></dc:creator>"
NOTICE = '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Ann</rdf:li></rdf:Alt></dc:rights>'
LICENSE = '<cc:license rdf:resource="http://creativecommons.org/licenses/by/4.0/"/>'
MINING = "<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</plus:DataMining>"
WHOLE = XMP.format(
    attributes='xmpRights:WebStatement="https://example.org/terms"', inside=CREATOR + NOTICE + LICENSE + MINING
)
EXPECTED = {
    "web_statement": "https://example.org/terms",
    "author": "Ann & Bob",
    "copyright": "© Ann",
    "license": "http://creativecommons.org/licenses/by/4.0/",
    "data_mining": "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED",
}


def stated(data: bytes) -> dict[str, str]:
    return dict(decode(data, ImagesConfig(formats=("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"))).stated)


def exif(**tags: Any) -> Image.Exif:
    values = Image.Exif()
    for name, value in tags.items():
        values[{"artist": 315, "copyright": 33432, "xp_author": 40093}[name]] = value
    return values


def iptc_jpeg(*records: tuple[int, bytes]) -> bytes:
    """Return a JPEG with an IPTC block as Photoshop writes it."""
    block = b"".join(b"\x1c\x02" + bytes([tag]) + struct.pack(">H", len(text)) + text for tag, text in records)
    block += b"\0" * (len(block) % 2)
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block
    data = encoded(drawn(), "JPEG")
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource + data[2:]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_xmp_is_read_from_every_format_that_holds_it(kind: str) -> None:
    options: dict[str, Any] = {"xmp": WHOLE.encode()}
    if kind == "TIFF":
        options = {"tiffinfo": {700: WHOLE.encode()}}
    assert stated(encoded(drawn(), kind, **options)) == EXPECTED


def test_xmp_of_a_png_is_read() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", WHOLE)
    assert stated(encoded(drawn(), "PNG", pnginfo=info)) == EXPECTED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_states_author_and_copyright(kind: str) -> None:
    data = encoded(drawn(), kind, exif=exif(artist="Ann\0", copyright="(c)  Ann"))
    assert stated(data) == {"author": "Ann", "copyright": "(c) Ann"}


def test_the_author_of_windows_is_read_where_there_is_no_other() -> None:
    name = "Añn".encode("utf-16-le")
    assert stated(encoded(drawn(), "JPEG", exif=exif(xp_author=name))) == {"author": "Añn"}
    assert stated(encoded(drawn(), "JPEG", exif=exif(xp_author=name, artist="Bob"))) == {"author": "Bob"}


def test_iptc_states_author_and_copyright_in_either_encoding() -> None:
    assert stated(iptc_jpeg((80, "Añn".encode()), (116, b"\xa9 A\xf1n"))) == {"author": "Añn", "copyright": "© Añn"}


def test_a_plain_file_states_nothing() -> None:
    assert stated(encoded(drawn(), "JPEG")) == {} and stated(encoded(drawn(), "GIF")) == {}


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))

LOST = {"unread": "XMP"}


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>' + WHOLE.replace("Ann &amp; Bob", "&l8;"), LOST),
        ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + WHOLE.replace("© Ann", "&f;"), LOST),
        (WHOLE[: WHOLE.index("<dc:rights>")], {
            "author": "Ann & Bob", "web_statement": "https://example.org/terms", **LOST
        }),
        ("not xml", LOST),
        ("<a>" * 50_000, LOST),
        (WHOLE + " " * 2**20, LOST),
        (WHOLE + " " * 70_000, EXPECTED),
        (WHOLE.replace("http://purl.org/dc/elements/1.1/", "http://example.org/"), {
            key: EXPECTED[key] for key in ("web_statement", "license", "data_mining")
        }),
        (WHOLE.replace("© Ann", "x" * 10_000), {**EXPECTED, "copyright": "x" * 500}),
    ],
)  # fmt: skip
def test_a_hostile_or_damaged_packet_says_what_stands_before_the_damage_and_is_named(
    packet: str, expected: dict[str, str]
) -> None:
    data = encoded(drawn(), "WEBP", xmp=packet.encode())
    assert stated(data) == expected


def test_damaged_exif_costs_its_statements_and_not_the_image() -> None:
    data = encoded(drawn(), "JPEG", exif=exif(artist="Ann", copyright="(c) Ann"))
    at = data.index(b"Exif\0\0")
    files = [
        data[: at + offset] + bytes([data[at + offset] ^ 0xFF]) + data[at + offset + 1 :] for offset in range(6, 46)
    ]
    with DecoderPool[int](ImagesConfig(), processes=1) as pool:  # Pillow warns of some
        assert all(isinstance(result, Decoded) for _, result in pool.decode_many(enumerate(files)))


def test_statements_come_back_from_the_child() -> None:
    data = encoded(drawn(), "JPEG", exif=exif(artist="Ann \N{SNOWMAN}".encode()))
    with DecoderPool[int](ImagesConfig(), processes=1) as pool:
        [(_, result)] = pool.decode_many([(0, data)])
    assert isinstance(result, Decoded) and result.stated == {"author": "Ann \N{SNOWMAN}"}
    assert not result.image.info and not Image.open(io.BytesIO(encoded(result.image, "PNG"))).getexif()
