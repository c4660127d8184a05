"""Images that are drawn for a test, encoded, and the reason why one is refused."""

import io
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image, ImageDraw

from synthgen.config import Images
from synthgen.images import Unfit, decode
from synthgen.rows import QUARANTINE_REASONS

LIMITS = Images()
PHOTOS = Path(skimage.data.__file__).parent


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def drawn(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right, a white square in the upper left corner."""
    image = Image.new("RGB", size, "blue")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, size[0] // 2 - 1, size[1]), fill="red")
    pen.rectangle((0, 0, 7, 7), fill="white")
    return image.convert(mode)


def reason_of(data: bytes, limits: Images = LIMITS) -> str:
    with pytest.raises(Unfit) as caught:
        decode(data, limits)
    assert caught.value.reason in QUARANTINE_REASONS
    assert "\n" not in caught.value.detail
    return caught.value.reason
