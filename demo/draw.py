"""The renderer: a scene graph in, a Pillow picture out.

The same scene gives the same bytes on every machine: emoji and letters come from `assets/`, not from fonts of the
system. Emoji are resized once per size and cached, so one core draws about 2,000 pictures a second and training needs
none on disk.
"""

from __future__ import annotations

import math
import random
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.world import BACKGROUNDS, CELL, COLOURS, OBJECTS, SIZE, Bar, Scene, Sign, Thing

ASSETS = Path(__file__).parent / "assets"
EMOJI_SHEET = ASSETS / "emoji.png"  # every object in the order of OBJECTS; make_emoji.py writes it
EMOJI_SIDE, EMOJI_COLUMNS = 128, 10  # pixels of one emoji, emoji of one row of the sheet
SIGN_FONT = ASSETS / "DejaVuSansMono-Bold.ttf"
OTHER_SIGN_FONT = ASSETS / "DejaVuSerif-Bold.ttf"  # never in training: for the distribution-shift test of evaluate.py
UNIT = 13  # pixels of a bar for each unit of its value
FLOOR = 132  # y of a chart's horizontal axis, pixels
Pencil = ImageDraw.ImageDraw


@cache
def _emoji_sheet() -> Image.Image:
    return Image.open(EMOJI_SHEET).convert("RGBA")


@cache
def emoji(name: str, size: int) -> Image.Image:
    """Return an object's emoji with its alpha channel, in a square of `size` pixels."""
    row, column = divmod(OBJECTS.index(name), EMOJI_COLUMNS)
    left, top = column * EMOJI_SIDE, row * EMOJI_SIDE
    full = _emoji_sheet().crop((left, top, left + EMOJI_SIDE, top + EMOJI_SIDE))
    return full.resize((size, size), Image.Resampling.BOX)


@cache
def shape(name: str, colour: str, size: int) -> Image.Image:
    """Return a filled shape in a square of `size` pixels, with an outline that shows on any background."""
    big = Image.new("RGBA", (size * 4, size * 4))  # drawn at four times its size, then reduced: smooth edges
    pencil, edge = ImageDraw.Draw(big), (110, 110, 110, 255)
    fill, box = (*COLOURS[colour], 255), (3, 3, size * 4 - 4, size * 4 - 4)
    if name == "circle":
        pencil.ellipse(box, fill, edge, width=7)
    elif name == "square":
        inset = size // 4
        pencil.rectangle((inset, inset, size * 4 - inset, size * 4 - inset), fill, edge, width=7)
    else:
        pencil.polygon([(x * size * 4, y * size * 4) for x, y in _outline(name)], fill, edge, width=7)
    return big.resize((size, size), Image.Resampling.BOX)


def _outline(name: str) -> list[tuple[float, float]]:
    """Return the corners of a shape in the unit square."""
    if name == "triangle":
        return [(0.5, 0.04), (0.97, 0.94), (0.03, 0.94)]
    if name == "cross":
        a, b = 0.34, 0.66
        return [
            (a, 0.03), (b, 0.03), (b, a), (0.97, a), (0.97, b), (b, b),
            (b, 0.97), (a, 0.97), (a, b), (0.03, b), (0.03, a), (a, a),
        ]  # fmt: skip
    if name == "star":
        ring = [(i * math.pi / 5, 0.5 if i % 2 == 0 else 0.2) for i in range(10)]
        return [(0.5 + r * math.sin(a), 0.53 - r * math.cos(a)) for a, r in ring]
    angles = [i * math.pi / 30 for i in range(60)]  # the heart curve
    xs = [16 * math.sin(t) ** 3 for t in angles]
    ys = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in angles]
    return [(0.5 + x / 34, 0.47 - y / 34) for x, y in zip(xs, ys, strict=True)]


def gradient(top: tuple[int, int, int], bottom: tuple[int, int, int], height: int = SIZE) -> Image.Image:
    """Return a vertical gradient as wide as the picture and `height` pixels high."""
    steps = np.linspace(0.0, 1.0, height)[:, None]  # (height, 1)
    column = (1 - steps) * np.array(top) + steps * np.array(bottom)  # (height, 3)
    return Image.fromarray(np.repeat(column[:, None, :], SIZE, axis=1).astype(np.uint8))  # (height, SIZE, 3)


def background(name: str | None, rng: random.Random) -> Image.Image:
    """Return a background: colours and scattered details that look like no thing of the world; plain paper for None."""
    if name not in PAINTERS:
        return Image.new("RGB", (SIZE, SIZE), (244, 244, 240))
    (top, bottom), paint = PAINTERS[name]
    shift = rng.randint(-10, 10)
    image = gradient(_shift_colour(top, shift), _shift_colour(bottom, shift))
    paint(ImageDraw.Draw(image), rng)
    return image


def _shift_colour(colour: tuple[int, int, int], by: int) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, channel + by)) for channel in colour)
    return r, g, b


def _beach(pencil: Pencil, rng: random.Random) -> None:
    shore = rng.randint(60, 84)
    pencil.rectangle((0, shore - 26, SIZE, shore), (40, 150, 210))
    pencil.rectangle((0, shore, SIZE, SIZE), (238, 214, 150))
    for _ in range(14):
        x, y = rng.randrange(SIZE), rng.randrange(shore, SIZE)
        pencil.point((x, y), (200, 170, 110))
    pencil.line((0, shore, SIZE, shore), (250, 250, 250), 2)


def _forest(pencil: Pencil, rng: random.Random) -> None:
    for x in range(rng.randint(-12, 0), SIZE, 18):
        top = rng.randint(4, 50)
        pencil.rectangle((x + 7, top + 40, x + 11, SIZE), (70, 48, 28))
        for level in (0, 18, 36):
            pencil.polygon(
                [(x + 9, top + level), (x - 3, top + level + 26), (x + 21, top + level + 26)],
                (14, rng.randint(66, 92), 34),
            )


def _city(pencil: Pencil, rng: random.Random) -> None:
    x = rng.randint(-16, 0)
    while x < SIZE:
        width, top = rng.randint(20, 32), rng.randint(16, 70)
        grey = rng.randint(86, 124)
        pencil.rectangle((x, top, x + width, SIZE), (grey, grey, grey + 12), (60, 60, 70))
        for wy in range(top + 5, SIZE - 8, 12):
            for wx in range(x + 4, x + width - 5, 9):
                pencil.rectangle((wx, wy, wx + 3, wy + 5), (226, 216, 150) if rng.random() < 0.5 else (70, 76, 92))
        x += width


def _desert(pencil: Pencil, rng: random.Random) -> None:
    for base, colour in ((70, (226, 160, 88)), (98, (210, 140, 70)), (122, (190, 120, 56))):
        lean, x = rng.randint(-14, 14), rng.randint(-60, 0)
        pencil.ellipse((x, base + lean // 2, x + 150, base + 110), colour)
        pencil.ellipse((x + 100, base - lean // 2, x + 270, base + 110), colour)


def _snow(pencil: Pencil, rng: random.Random) -> None:
    for x in (rng.randint(-50, -10), rng.randint(40, 80)):
        pencil.polygon([(x, 90), (x + 50, rng.randint(20, 44)), (x + 100, 90)], (178, 192, 214))
    pencil.rectangle((0, rng.randint(80, 90), SIZE, SIZE), (240, 246, 252))
    for _ in range(26):
        x, y = rng.randrange(SIZE), rng.randrange(SIZE)
        pencil.ellipse((x, y, x + 2, y + 2), (255, 255, 255))


def _space(pencil: Pencil, rng: random.Random) -> None:
    for _ in range(46):
        x, y, glow = rng.randrange(SIZE), rng.randrange(SIZE), rng.randint(150, 255)
        pencil.point((x, y), (glow, glow, glow))
        if glow > 230:
            pencil.rectangle((x, y, x + 1, y + 1), (glow, glow, 220))


def _sea(pencil: Pencil, rng: random.Random) -> None:
    for y in range(rng.randint(4, 14), SIZE, 18):
        for x in range(rng.randint(-20, 0), SIZE, 24):
            pencil.arc((x, y, x + 16, y + 9), 200, 340, (150, 214, 244), 2)


def _meadow(pencil: Pencil, rng: random.Random) -> None:
    horizon = rng.randint(40, 60)
    pencil.rectangle((0, horizon, SIZE, SIZE), (112, 200, 80))
    for _ in range(40):
        x, y = rng.randrange(SIZE), rng.randrange(horizon, SIZE)
        pencil.line((x, y, x + 1, y - 4), (60, 150, 50))


def _sunset(pencil: Pencil, rng: random.Random) -> None:
    x = rng.randint(30, 110)
    pencil.ellipse((x - 20, 60, x + 20, 100), (255, 200, 120))
    pencil.rectangle((0, 96, SIZE, SIZE), (66, 40, 70))


def _grid(pencil: Pencil, rng: random.Random) -> None:
    for at in range(rng.randint(0, 11), SIZE, 12):
        pencil.line((0, at, SIZE, at), (196, 206, 222))
        pencil.line((at, 0, at, SIZE), (196, 206, 222))


PAINTERS = {
    "beach": (((130, 204, 245), (200, 232, 250)), _beach),
    "forest": (((60, 110, 70), (20, 50, 26)), _forest),
    "city": (((170, 180, 196), (140, 146, 160)), _city),
    "desert": (((250, 214, 150), (236, 180, 110)), _desert),
    "snow": (((196, 214, 236), (226, 236, 246)), _snow),
    "space": (((8, 8, 30), (22, 12, 48)), _space),
    "sea": (((60, 160, 220), (14, 62, 132)), _sea),
    "meadow": (((150, 208, 250), (200, 230, 250)), _meadow),
    "sunset": (((120, 40, 90), (250, 130, 70)), _sunset),
    "grid": (((236, 240, 248), (236, 240, 248)), _grid),
}
assert set(BACKGROUNDS) <= set(PAINTERS)


def draw(scene: Scene, sign_font: Path = SIGN_FONT) -> Image.Image:
    """Return the picture of a scene, RGB, SIZE x SIZE pixels."""
    image = background(scene.background, scene.rng("background"))
    pencil = ImageDraw.Draw(image)
    if scene.bars:
        _draw_chart(pencil, scene.bars)
    for thing in scene.things:
        _paste_thing(image, thing)
    if scene.sign:
        _draw_sign(pencil, scene.sign, sign_font)
    return image


def _paste_thing(image: Image.Image, thing: Thing) -> None:
    picture = shape(thing.name, thing.colour, thing.size) if thing.colour else emoji(thing.name, thing.size)
    image.paste(picture, (thing.x, thing.y), mask=picture)


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def _draw_sign(pencil: Pencil, sign: Sign, font: Path) -> None:
    top = sign.row * CELL + 2
    board, ink = ((248, 248, 240), (20, 20, 20)) if sign.ink == "dark" else ((30, 60, 50), (250, 250, 250))
    pencil.rectangle((1, top, SIZE - 2, top + 43), board, (120, 120, 120), 2)
    pencil.text((sign.x, sign.y), sign.text, ink, _font(font, sign.size), anchor="lt")


def _draw_chart(pencil: Pencil, bars: tuple[Bar, ...]) -> None:
    for value in range(1, 10):
        y = FLOOR - value * UNIT
        pencil.line((14, y, SIZE - 2, y), (150, 150, 160) if value == 5 else (212, 212, 216))
    for bar in bars:
        pencil.rectangle((bar.left, FLOOR - bar.value * UNIT, bar.right, FLOOR), COLOURS[bar.colour], (90, 90, 90))
    pencil.line((14, 8, 14, FLOOR), (30, 30, 30), 2)
    pencil.line((14, FLOOR, SIZE - 2, FLOOR), (30, 30, 30), 2)
