"""Formats that packages beside Pillow read: right pixels, and nothing that an SVG or HEIF says is obeyed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthgen.config.packing import PackConfig
from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool, decode, plugins
from synthgen.stages.pack.metadata import make_image_file
from tests.fixtures.heif import HEIC, TURNED
from tests.fixtures.images import drawn, reason_of
from tests.fixtures.pdfs import pdf

LIMITS = ImagesConfig(formats=("JPEG", "PNG", "HEIF", "SVG"), max_pixels=1_000_000, decode_seconds=5)
DRAWN = (
    '<svg xmlns="http://www.w3.org/2000/svg" {size}><rect width="60" height="40" fill="#f00"/>'
    '<rect x="30" width="30" height="40" fill="#00f"/><rect width="8" height="8" fill="#fff"/>{more}</svg>'
)
SIZE = 'width="60" height="40"'
needs_heif = pytest.mark.skipif(not plugins.has_package("HEIF"), reason="pi-heif is not installed")
needs_svg = pytest.mark.skipif(not plugins.has_package("SVG"), reason="resvg-py is not installed")


def svg(size: str = SIZE, more: str = "", before: str = "") -> bytes:
    return (before + DRAWN.format(size=size, more=more)).encode()


def difference(image: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two images in levels."""
    return float(np.abs(np.asarray(image, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize("name", sorted(plugins.PACKAGES))
def test_a_format_whose_package_is_missing_says_which(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in plugins.PACKAGES.values():
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    file = {"HEIF": HEIC, "SVG": svg(), "PDF": pdf(), "JXL": b"\xff\x0a", "RAW": b"IIRO"}[name]
    with pytest.raises(Exception, match=f"unsupported: {name} needs one more package: pip install "):
        decode(file, LIMITS.model_copy(update={"formats": (name,)}))
    with pytest.raises(Exception, match=f"format_not_allowed: {name}; images.formats may name it; allowed: JPEG"):
        decode(file, ImagesConfig())


@needs_heif
def test_a_heif_is_decoded_upright_in_its_colours() -> None:
    decoded = decode(HEIC, LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == ("HEIF", 60, 40)
    assert difference(decoded.image, drawn()) < 4
    turned = decode(TURNED, LIMITS)
    assert (turned.width, turned.height) == (40, 60)
    assert difference(turned.image, drawn().transpose(Image.Transpose.ROTATE_270)) < 4


@needs_heif
def test_a_heif_outside_the_limits_or_cut_or_damaged_is_refused_by_name() -> None:
    assert reason_of(HEIC, LIMITS.model_copy(update={"max_pixels": 2000})) == "too_many_pixels"
    assert reason_of(HEIC, LIMITS.model_copy(update={"min_side": 50})) == "too_small"
    for at in (60, 200, len(HEIC) - 5):
        assert reason_of(HEIC[:at], LIMITS) == "truncated"
    for at in range(8, len(HEIC), 7):
        damaged = HEIC[:at] + bytes([HEIC[at] ^ 0xFF]) + HEIC[at + 1 :]
        try:
            decode(damaged, LIMITS)
        except Exception as error:
            assert type(error).__name__ == "Unfit", error


@needs_svg
@pytest.mark.parametrize(
    ("size", "wide", "high"),
    [
        (SIZE, 60, 40),
        ('viewBox="0 0 60 40"', 60, 40),
        ('viewBox="0,0,60,40" width="120px"', 120, 80),
        ('viewBox="0 0 60 40" width="100%" height="100%"', 60, 40),
        ('width="1in" height="2in"', 96, 192),
        ('width="45pt" height="30pt"', 60, 40),
        ("", 100, 67),
    ],
)
def test_an_svg_is_drawn_at_the_size_that_it_declares(size: str, wide: int, high: int) -> None:
    decoded = decode(svg(size), LIMITS)
    assert (decoded.format, decoded.width, decoded.height, decoded.image.size) == ("SVG", wide, high, (wide, high))
    if (wide, high) == (60, 40):
        assert difference(decoded.image, drawn()) < 1


@needs_svg
@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + svg(),
        svg(before='<?xml version="1.0" encoding="ISO-8859-1"?><!-- \xe9 -->').decode().encode("latin-1"),
        svg(before='<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">\n'),
        svg(more='<a xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="https://a.org/"><g/></a>'),
        svg(more='<defs><g id="g"/></defs><use href="#g"/><use href=""/>'),
    ],
)
def test_an_svg_of_any_spelling_is_drawn(data: bytes) -> None:
    assert difference(decode(data, LIMITS).image, drawn()) < 1


@needs_svg
def test_an_svg_without_a_background_is_drawn_on_white() -> None:
    data = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="20" height="40"/></svg>'
    image = decode(data, LIMITS).image
    assert image.getpixel((5, 5)) == (0, 0, 0) and image.getpixel((35, 5)) == (255, 255, 255)
    assert reason_of(b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>', LIMITS) == "transparent"


@needs_svg
@pytest.mark.parametrize("name", ["image", "use", "feImage", "pattern", "linearGradient", "script"])
@pytest.mark.parametrize("key", ["href", "xlink:href", "x:href"])
def test_an_svg_that_refers_to_another_file_is_refused(tmp_path: Path, name: str, key: str) -> None:
    drawn().save(tmp_path / "secret.png")
    spaces = 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:x="http://www.w3.org/1999/xlink"'
    file, nested = f"{tmp_path}/secret.png", "data:image/svg+xml;base64,AA"
    for target in (file, f"file://{file}", "secret.png", "http://127.0.0.1:1/x.png", nested):
        data = svg(more=f'<{name} {spaces} {key}="{target}" width="60" height="40"/>')
        with pytest.raises(Exception, match=f"unsupported: an SVG that refers to another file: <{name}> "):
            decode(data, LIMITS)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (svg(before=f'<!DOCTYPE svg [<!ENTITY l0 "ha">{LAUGHS}]>', more="<text>&l8;</text>"), "unsupported"),
        (
            svg(before='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>', more="<text>&x;</text>"),
            "unsupported",
        ),
        (svg('width="1e5" height="1e5"'), "too_many_pixels"),
        (svg('width="1e300" height="1"'), "too_many_pixels"),
        (svg('width="4" height="40"'), "too_small"),
        (svg()[:-20], "truncated"),
        (svg(more="<g></h>"), "corrupt"),
        (b"<svg>\xff</svg>", "corrupt"),
    ],
)
def test_a_hostile_svg_is_refused_by_name(data: bytes, reason: str) -> None:
    assert reason_of(data, LIMITS) == reason


def test_an_svg_with_text_is_refused_where_no_font_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_has_fonts", lambda: False)
    assert reason_of(svg(more="<text y='20'>words</text>"), LIMITS) == "unsupported"


@needs_svg
@needs_heif
def test_children_decode_them_and_one_that_dies_costs_that_file() -> None:
    deep = svg(more="<g>" * 200_000 + "</g>" * 200_000)
    noise = '<filter id="f"><feTurbulence numOctaves="9999999"/></filter>'
    slow = svg(more=f'{noise}<rect width="60" height="40" filter="url(#f)"/>')
    files = {"svg": svg(), "heif": HEIC, "deep": deep, "slow": slow, "again": svg()}
    with DecoderPool[str](LIMITS, processes=1) as pool:
        results = dict(pool.decode_many(files.items()))
    assert [isinstance(results[name], Decoded) for name in ("svg", "heif", "again")] == [True] * 3
    for name in ("deep", "slow"):
        result = results[name]
        assert isinstance(result, Decoded) or result.reason in ("decoder_died", "decode_timeout", "corrupt"), name
    assert results.keys() == files.keys() and not isinstance(results["svg"], Failure)


@needs_svg
@needs_heif
def test_a_sample_holds_them_as_png() -> None:
    for data in (svg(), HEIC):
        file = make_image_file(data, LIMITS, PackConfig())
        assert (file.suffix, file.width, file.height, file.data[:4]) == (".png", 60, 40, b"\x89PNG")
