"""Cut the emoji of the drawn world out of a font, into `assets/emoji.png`.

Fonts redraw their emoji from version to version, and the models know the pictures of one version. The sheet in
`assets/` is of Noto Color Emoji 2.042 (Debian 12, fonts-noto-color-emoji); make it again only when objects are added to
world.py.

    python -m demo.make_emoji /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from demo.draw import EMOJI_COLUMNS, EMOJI_SHEET, EMOJI_SIDE
from demo.world import GROUPS

FONT_SIZE = 109  # the one size that this bitmap font holds


def cut_emoji(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """Return one emoji, cropped to what it shows and centred in a square of EMOJI_SIDE pixels."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((EMOJI_SIDE, EMOJI_SIDE), Image.Resampling.LANCZOS)


def make_sheet(font_path: Path) -> Image.Image:
    """Return all objects' emoji, EMOJI_COLUMNS to a row, in the order of world.OBJECTS."""
    font = ImageFont.truetype(str(font_path), FONT_SIZE)
    characters = [character for group in GROUPS.values() for character in group.values()]
    rows = -(-len(characters) // EMOJI_COLUMNS)
    sheet = Image.new("RGBA", (EMOJI_COLUMNS * EMOJI_SIDE, rows * EMOJI_SIDE))
    for number, character in enumerate(characters):
        row, column = divmod(number, EMOJI_COLUMNS)
        sheet.paste(cut_emoji(font, character), (column * EMOJI_SIDE, row * EMOJI_SIDE))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the emoji of the drawn world out of a font.")
    parser.add_argument("font", type=Path, help="NotoColorEmoji.ttf")
    parser.add_argument("--out", type=Path, default=EMOJI_SHEET)
    args = parser.parse_args()
    make_sheet(args.font).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
