"""Made images of one style and another content each, and copies of images: for near_duplicates.py."""

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

Copy = Callable[[Image.Image], bytes]

TEXT = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna "
    "aliqua total invoice due paid street number date item price"
)
WORDS = TEXT.split()
INK, BLUE, LINE = (30, 30, 30), (60, 110, 180), (200, 200, 200)
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44")


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def _write(pen: ImageDraw.ImageDraw, x: float, y: float, text: object, size: float = 20) -> None:
    pen.text((x, y), str(text), font=ImageFont.load_default(size=max(4, int(size))), fill=INK)


def _words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(count))


def page(draw: random.Random, scale: float = 1.0) -> Image.Image:
    """Return a page of text with other words each time."""
    image, pen = _canvas(int(827 * scale), int(1169 * scale))
    _write(pen, 80 * scale, 60 * scale, f"Invoice {draw.randrange(10**6):06d}", 40 * scale)
    for y in range(160, 1080, 34):
        _write(pen, 80 * scale, y * scale, _words(draw, 10), 22 * scale)
    return image


def form(draw: random.Random, few: bool = False) -> Image.Image:
    """Return an invoice with its own items; with `few`, only its number and its total differ."""
    rest = random.Random(1) if few else draw
    image, pen = _canvas(827, 1169)
    pen.rectangle((60, 40, 300, 120), fill=(20, 60, 140))
    _write(pen, 500, 60, "INVOICE", 40)
    _write(pen, 500, 120, f"No. {draw.randrange(10**6):06d}")
    for row in range(14):
        amount, price = rest.randrange(1, 20), rest.randrange(100, 99_999) / 100
        cells = (60, _words(rest, 3)), (400, amount), (500, f"{price:.2f}"), (640, f"{amount * price:.2f}")
        for x, text in cells:
            _write(pen, x, 320 + 40 * row, text)
        pen.line((60, 352 + 40 * row, 770, 352 + 40 * row), fill=LINE)
    _write(pen, 640, 920, f"{draw.randrange(10_000, 999_999) / 100:.2f}", 24)
    return image


def bars(draw: random.Random) -> Image.Image:
    """Return a bar chart."""
    image, pen = _canvas(640, 480)
    _write(pen, 200, 10, "Sales by quarter", 22)
    pen.line((60, 50, 60, 430, 610, 430), fill=INK, width=2)
    for number in range(6):
        _write(pen, 85 + 86 * number, 440, f"Q{number + 1}", 14)
        pen.rectangle((80 + 86 * number, 430 - draw.randrange(20, 370), 137 + 86 * number, 429), fill=BLUE)
    return image


def curves(draw: random.Random) -> Image.Image:
    """Return a line chart."""
    image, pen = _canvas(640, 480)
    _write(pen, 200, 10, "Load over time", 22)
    pen.line((60, 50, 60, 430, 610, 430), fill=INK, width=2)
    for colour in COLOURS[:2]:
        height, points = 0.5, list[tuple[float, float]]()
        for number in range(24):
            height = min(1.0, max(0.0, height + draw.uniform(-0.15, 0.15)))
            points.append((60 + number * 23, 430 - height * 370))
        pen.line(points, fill=colour, width=2)
    return image


def pie(draw: random.Random) -> Image.Image:
    """Return a pie chart."""
    image, pen = _canvas(600, 500)
    shares, angle = [draw.random() + 0.1 for _ in COLOURS], 0.0
    for share, colour in zip(shares, COLOURS, strict=True):
        pen.pieslice((120, 70, 480, 430), angle, angle := angle + 360 * share / sum(shares), fill=colour)
    return image


def table(draw: random.Random) -> Image.Image:
    """Return a table of numbers."""
    image, pen = _canvas(900, 700)
    for row in range(18):
        _write(pen, 50, 62 + 33 * row, WORDS[row], 17)
        for column in range(6):
            _write(pen, 165 + 115 * column, 62 + 33 * row, draw.randrange(1000, 10_000) / 10, 17)
        pen.line((40, 89 + 33 * row, 860, 89 + 33 * row), fill=LINE)
    return image


def slide(draw: random.Random) -> Image.Image:
    """Return a slide with bullets."""
    image, pen = _canvas(1280, 720)
    pen.rectangle((0, 0, 1280, 110), fill=(170, 190, 220))
    _write(pen, 60, 28, _words(draw, 4).title(), 46)
    for row in range(5):
        pen.ellipse((70, 190 + row * 90, 84, 204 + row * 90), fill=INK)
        _write(pen, 110, 175 + row * 90, _words(draw, draw.randrange(5, 9)), 34)
    return image


def screen(draw: random.Random) -> Image.Image:
    """Return a window with a list of mails."""
    image, pen = _canvas(1280, 800)
    pen.rectangle((0, 0, 1280, 44), fill=(50, 50, 60))
    pen.rectangle((0, 44, 220, 800), fill=(236, 238, 242))
    for row in range(17):
        for x, text in ((244, _words(draw, 2).title()), (470, _words(draw, draw.randrange(5, 9)))):
            _write(pen, x, 56 + row * 43, text, 18)
        pen.line((232, 89 + row * 43, 1280, 89 + row * 43), fill=LINE)
    return image


def scene(draw: random.Random) -> Image.Image:
    """Return slopes, shapes and grain, as photographs have them."""
    rng = np.random.default_rng(draw.randrange(1 << 30))
    size = 640, 480
    image = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, side = draw.randrange(560), draw.randrange(400), draw.randrange(20, 160)
        pen.ellipse((x, y, x + side, y + side * 0.7), fill=tuple(draw.randrange(256) for _ in range(3)))
    grain = rng.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[random.Random], Image.Image]] = {
    "pages": page,
    "small pages": lambda draw: page(draw, 0.5),
    "invoices": form,
    "number, total": lambda draw: form(draw, few=True),
    "bar charts": bars,
    "line charts": curves,
    "pie charts": pie,
    "tables": table,
    "slides": slide,
    "screenshots": screen,
    "scenes": scene,
}


def _encoded(image: Image.Image, format_name: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, format_name, **options)
    return file.getvalue()


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, left_top: float, right_bottom: float) -> Image.Image:
    width, height = image.size
    box = width * left_top, height * left_top, width * (1 - right_bottom), height * (1 - right_bottom)
    return image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]


def _brighter(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image.convert("RGB")).enhance(factor)


COPIES: dict[str, dict[str, Copy]] = {
    "file": {
        "png": lambda image: _encoded(image, "PNG"),
        "q30": lambda image: _encoded(image, quality=30),
        "q95": lambda image: _encoded(image, quality=95),
        "webp": lambda image: _encoded(image, "WEBP", quality=70),
    },
    "size": {
        "half": lambda image: _encoded(_scaled(image, 0.5), "PNG"),
        "half, q50": lambda image: _encoded(_scaled(image, 0.5), quality=50),
        "double": lambda image: _encoded(_scaled(image, 2), quality=90),
    },
    "light": {
        "brighter": lambda image: _encoded(_brighter(image, 1.08), quality=90),
        "darker": lambda image: _encoded(_brighter(image, 0.92), quality=90),
    },
    "crop 1 %": {
        "all sides": lambda image: _encoded(_cropped(image, 0.005, 0.005), quality=90),
        "a corner": lambda image: _encoded(_cropped(image, 0.01, 0), quality=90),
    },
    "crop 2 %": {
        "all sides": lambda image: _encoded(_cropped(image, 0.01, 0.01), quality=90),
        "a corner": lambda image: _encoded(_cropped(image, 0.02, 0), quality=90),
    },
}
