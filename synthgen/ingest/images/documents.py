"""Pages of PDF files as images.

A page has no bytes of its own. It is the whole file behind a line that names the page, which PDF allows: so two pages
of one file have two hashes, and those of a copy of the file the same, whatever draws them. Nothing in a file is run:
the library is built without JavaScript, and opens no other file but fonts.
"""

import io
import math
import re
from collections.abc import Callable
from typing import Any

from PIL import Image

from synthgen.ingest.images.plugins import missing_package
from synthgen.ingest.images.unfit import Unfit

PAGE = re.compile(rb"%synthgen page ([1-9][0-9]{0,6})\n")
DPI = 144  # pixels of an inch: A4 has two megapixels
SCALE = DPI / 72  # pages are measured in points, 72 of an inch
PASSWORD, SECURITY = 4, 5  # errors of PDFium
LONGEST_SIDE = 1e7  # pixels; more is refused whatever the limits are


def page_file(data: bytes, number: int) -> bytes:
    """Return the file of one page of a PDF; the first has number 1."""
    return b"%%synthgen page %d\n%s" % (number, data)


def count_pages(file: bytes | io.BufferedIOBase) -> int:
    """Return how many pages a PDF has by its own account; an open file is read in pieces as they are needed.

    Raises:
        Unfit: It cannot be opened, or the package is missing.
    """
    document = _open(file)
    try:
        return len(document)
    finally:
        document.close()


def draw_page(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Return the picture of a page, at DPI.

    Args:
        data: As of `page_file`, or a PDF of one page.
        check_size: Raises Unfit if a width and height in pixels are outside the limits. Nothing is drawn before.

    Raises:
        Unfit: There is no such page, it is outside the limits, or it cannot be drawn.
    """
    named = PAGE.match(data)
    document = _open(data[named.end() :] if named else data)
    try:
        page = _page(document, int(named[1]) if named else None)
        sides = [side * SCALE for side in page.get_size()]
        if not all(0 < side < LONGEST_SIDE for side in sides):
            raise Unfit("too_many_pixels", f"a page of {sides[0]:,.0f} x {sides[1]:,.0f}")
        check_size(*map(math.ceil, sides))
        drawn = page.render(scale=SCALE, rev_byteorder=True, limit_image_cache=True).to_pil()
        image: Image.Image = drawn.convert("RGB") if drawn.mode != "RGB" else drawn.copy()
    except _error() as error:
        raise Unfit("corrupt", f"a page that cannot be drawn: {error}") from error
    finally:
        document.close()
    image.format = "PDF"
    return image


def _page(document: Any, number: int | None) -> Any:
    """Return a page; without a number, the only one."""
    count = len(document)
    if number is None and count != 1:
        raise Unfit(
            "too_many_frames",
            f"a PDF of {count:,} pages, which are not images one by one: there are more than source.max_pages, "
            "or its source lists no pages",
        )
    if (number or 1) > count:
        raise Unfit("corrupt", f"a PDF without a page {number:,}; it has {count:,}")
    if document.get_formtype():  # else what was filled in is not drawn
        document.init_forms()
    return document[(number or 1) - 1]


def _open(file: bytes | io.BufferedIOBase) -> Any:
    error_kind = _error()
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(file)
    except error_kind as error:
        if error.err_code in (PASSWORD, SECURITY):
            raise Unfit("unsupported", "a PDF that opens with a password only") from error
        raise Unfit("truncated" if _lacks_end(file) else "corrupt", f"a PDF that cannot be opened: {error}") from error


def _error() -> Any:
    """Return the class of the library's errors. Raises Unfit if the package is missing."""
    try:
        from pypdfium2 import PdfiumError
    except ImportError:
        raise missing_package("PDF") from None
    return PdfiumError


def _lacks_end(file: bytes | io.BufferedIOBase) -> bool:
    return isinstance(file, bytes) and b"%%EOF" not in file[-1024:]
