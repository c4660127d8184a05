"""A set of images as one file: the files of its members in order, behind a line that says where each begins.

So a set has bytes, and with them an id, limits and guards like an image: its SHA-256 depends on the content and the
order of its members alone, and its decoding cannot take down more than a child process. Pages of one PDF share the
bytes of that PDF.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from synthgen.ingest.images.documents import PAGE
from synthgen.ingest.images.unfit import Unfit

MAGIC = b"%synthgen set "
HEADER = re.compile(re.escape(MAGIC) + rb"([^\n]{2,100000})\n")
BACKGROUND = (255, 255, 255)


class SetFile:
    """The files of a set, as they arrive; those of pages hold one copy of their document."""

    def __init__(self) -> None:
        self._heads: list[tuple[str, int]] = []  # of each member: the line that names its page, and its body
        self._bodies: list[bytes] = []
        self.size = 0  # bytes of the bodies

    def add(self, file: bytes) -> None:
        """Add the file of the next member."""
        named = PAGE.match(file)
        head = named[0] if named else b""
        body = file[len(head) :]
        number = next((number for number, known in enumerate(self._bodies) if known == body), len(self._bodies))
        if number == len(self._bodies):
            self._bodies.append(body)
            self.size += len(body)
        self._heads.append((head.decode(), number))

    def file(self) -> bytes:
        """Return the file of the set."""
        parts = {"members": self._heads, "bytes": [len(body) for body in self._bodies]}
        return b"%s%s\n%s" % (MAGIC, json.dumps(parts, separators=(",", ":")).encode(), b"".join(self._bodies))


def is_set_file(data: bytes) -> bool:
    """Return whether a file is that of a set."""
    return data.startswith(MAGIC)


def members_of(data: bytes) -> list[bytes]:
    """Return the files of the members of a set, in order.

    Raises:
        Unfit: The file is not one that `SetFile` made.
    """
    header = HEADER.match(data)
    try:
        parts: Any = json.loads(header[1]) if header else None
        start, bodies = header.end() if header else 0, list[bytes]()
        for size in parts["bytes"]:
            bodies.append(data[start : start + size])
            start += size
        return [head.encode() + bodies[number] for head, number in parts["members"]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise Unfit("corrupt", f"a set whose first line cannot be read: {error}") from error


def sheet_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the width and height of the sheet that shows images of these sizes."""
    columns = math.ceil(math.sqrt(len(sizes)))
    rows = -(-len(sizes) // columns)
    return columns * max(width for width, _ in sizes), rows * max(height for _, height in sizes)


def sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Return one RGB image that shows all of a set: row by row, each at its own size in a cell of equal size."""
    whole = Image.new("RGB", sheet_size([image.size for image in images]), BACKGROUND)
    columns = math.ceil(math.sqrt(len(images)))
    width, height = (max(image.size[side] for image in images) for side in (0, 1))
    for number, image in enumerate(images):
        whole.paste(image, (number % columns * width, number // columns * height))
    return whole
