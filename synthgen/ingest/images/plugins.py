"""Formats that a package beside Pillow reads, imported when the first such file comes.

HEIF becomes an image of Pillow's as any other. An SVG is drawn at the size that it declares. It may refer to nothing
outside of itself: the library that draws it would open files by their paths. So it is read once before, and refused if
it names another file or declares entities, which can unfold to any size. Links (`<a>`) are not drawn and may be there.
"""

import importlib.util
import io
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

from PIL import Image, ImageFile

from synthgen.ingest.images.unfit import Unfit

# Of the extra `formats`; a module has `_` in place of `-`.
PACKAGES = {"HEIF": "pi-heif", "SVG": "resvg-py", "PDF": "pypdfium2", "JXL": "pylibjxl", "RAW": "rawpy"}
ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})")
LENGTH = re.compile(r"\s*\+?(\d*\.?\d+(?:e[+-]?\d+)?)\s*(px|pt|pc|mm|cm|in|q)?\s*", re.IGNORECASE)
DPI = 96
PIXELS = {"px": 1, "pt": DPI / 72, "pc": DPI / 6, "mm": DPI / 25.4, "cm": DPI / 2.54, "in": DPI, "q": DPI / 101.6}
DEFAULT_SIDE = 100.0  # pixels, of an SVG that says nothing of its size
LONGEST_SIDE = 1e7  # pixels; more is refused whatever it says
INSIDE = re.compile(r"\s*(?:#|data:image/(?:png|jpe?g|gif|webp)[;,]|$)", re.IGNORECASE)  # what an SVG may refer to
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts")
FONTS = {".ttf", ".otf", ".ttc", ".otc"}


def has_package(name: str) -> bool:
    """Return whether the package of a format is installed."""
    return importlib.util.find_spec(PACKAGES[name].replace("-", "_")) is not None


def missing_package(name: str) -> Unfit:
    """Return the refusal of a format whose package is not installed."""
    return Unfit("unsupported", f"{name} needs one more package: pip install {PACKAGES[name]}")


def register_heif() -> None:
    """Teach Pillow to read HEIF. Raises Unfit if the package is missing."""
    try:
        import pi_heif
    except ImportError:
        raise missing_package("HEIF") from None
    pi_heif.options.DECODE_THREADS = 1  # the pool of decoders is the parallelism
    pi_heif.register_heif_opener()


# --- SVG --------------------------------------------------------------------------------------------------------------


def svg_size(data: bytes, check_size: Callable[[int, int], None]) -> tuple[int, int]:
    """Return the size in pixels at which an SVG is drawn.

    Args:
        data: The file.
        check_size: Raises Unfit if a width and height are outside the limits.

    Raises:
        Unfit: It cannot be parsed, declares entities, refers to another file, or has text where no font is.
    """
    seen = _Seen()
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = seen.entity
    parser.StartElementHandler = seen.element
    try:
        parser.Parse(_text(data).encode(), True)
    except expat.ExpatError as error:
        raise Unfit("truncated" if _ends_inside(data) else "corrupt", f"an SVG that is no XML: {error}") from error
    if seen.has_text and not _has_fonts():
        raise Unfit("unsupported", "an SVG with text, and this machine has no fonts")
    size = seen.size()
    check_size(*size)
    return size


def draw_svg(data: bytes, size: tuple[int, int]) -> ImageFile.ImageFile:
    """Return an SVG, checked before, as an open image of this size at most: one that declares none is cropped."""
    try:
        import resvg_py
    except ImportError:
        raise missing_package("SVG") from None
    try:
        drawn = bytes(resvg_py.svg_to_bytes(svg_string=_text(data), width=size[0], height=size[1], dpi=DPI))
    except ValueError as error:
        raise Unfit("corrupt", f"an SVG that cannot be drawn: {error}") from error
    image = Image.open(io.BytesIO(drawn), formats=("PNG",))
    image.format = "SVG"
    return image


class _Seen:
    """What the parser has met in an SVG."""

    def __init__(self) -> None:
        self.has_text = False
        self._root: dict[str, str] | None = None

    def entity(self, name: str, *_: Any) -> None:
        raise Unfit("unsupported", f"an SVG that declares the entity '{name}'")

    def element(self, name: str, attributes: dict[str, str]) -> None:
        if self._root is None:
            self._root = attributes
        kind = name.rpartition(":")[2]
        self.has_text = self.has_text or kind == "text"
        for key, value in attributes.items():
            if key.rpartition(":")[2] == "href" and kind != "a" and not INSIDE.match(value):
                raise Unfit("unsupported", f"an SVG that refers to another file: <{kind}> {value[:80]}")

    def size(self) -> tuple[int, int]:
        root = self._root or {}
        box = [float(number) for number in re.findall(r"[-+]?\d*\.?\d+(?:e[+-]?\d+)?", root.get("viewBox", ""), re.I)]
        wide, high = (box[2], box[3]) if len(box) == 4 and min(box[2:]) > 0 else (DEFAULT_SIDE, DEFAULT_SIDE)
        width, height = _pixels(root.get("width")), _pixels(root.get("height"))
        if width is None and height is None:
            width, height = wide, high
        sides = (width or (height or 0) * wide / high, height or (width or 0) * high / wide)
        if not all(0 < side < LONGEST_SIDE for side in sides):
            raise Unfit("too_many_pixels", f"an SVG of {sides[0]:,.0f} x {sides[1]:,.0f}")
        return max(1, round(sides[0])), max(1, round(sides[1]))


def _pixels(length: str | None) -> float | None:
    """Return a length of an SVG in pixels; None if it depends on what is around the picture."""
    match = LENGTH.fullmatch(length or "")
    return float(match[1]) * PIXELS[(match[2] or "px").lower()] if match else None


def _text(data: bytes) -> str:
    """Return the text of an SVG without its declaration, whose encoding is no longer that of the text."""
    declared = ENCODING.match(data[:400].lstrip(b"\xef\xbb\xbf \r\n\t"))
    try:
        text = data.decode(declared[1].decode() if declared else "utf-8-sig")
    except (LookupError, ValueError) as error:
        raise Unfit("corrupt", f"an SVG whose text cannot be decoded: {error}") from error
    return re.sub(r"^\ufeff?\s*<\?xml.*?\?>", "", text, flags=re.DOTALL)


def _ends_inside(data: bytes) -> bool:
    return b"</svg" not in data[-1024:] and not data.rstrip().endswith(b"/>")


@cache
def _has_fonts() -> bool:
    """Return whether this machine has a font that text could be drawn in."""
    home = Path.home()
    folders = (*map(Path, FONT_FOLDERS), home / ".fonts", home / ".local/share/fonts")
    return any(path.suffix.lower() in FONTS for folder in folders for path in folder.rglob("*"))
