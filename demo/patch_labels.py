"""Dense labels that teach the vision tower: the thing, colour, character and so on that each patch shows.

A picture has 36 patches of 24 px, four to a cell of the grid, so the scene graph gives every label. That is hundreds of
labels a picture where a question gives one. The counts and ranks make the tower look across the picture; the language
model then only has to read them off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo.nano_vlm import PATCH, PATCHES, PATCHES_A_SIDE
from demo.world import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    GROUPS,
    KINDS,
    NUMBERS,
    OBJECTS,
    ROWS,
    SHAPES,
    WORDS,
    Bar,
    Scene,
    Sign,
    Thing,
)

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# Heads whose classes are words: their embeddings become those of the words in the language model.
WORD_HEADS: dict[str, tuple[str, ...]] = {
    "name": ("nothing", *OBJECTS, *SHAPES, "sign", "bar"),
    "colour": ("plain", *COLOURS),
    "group": ("none", *GROUPS, "shape"),
    "background": (*BACKGROUNDS, "chart"),
    "row": ROWS,
    "column": COLUMNS,
    "text": ("blank", *WORDS, *NUMBERS),
}
# Heads that only help to see: number of classes; their embeddings are dropped after training.
AUXILIARY_HEADS: dict[str, int] = {
    "character": len(CHARACTERS) + 1,
    "same_name": 7,
    "same_look": 7,
    "same_group": 7,
    "all": 7,
    "rank": 4,
    "kind": 4,
    "same_colour": 7,
}
HEADS: dict[str, int] = {**{head: len(words) for head, words in WORD_HEADS.items()}, **AUXILIARY_HEADS}
COLUMN_OF = {head: i for i, head in enumerate(HEADS)}  # of the label array
CLASS_OF = {head: {word: i for i, word in enumerate(words)} for head, words in WORD_HEADS.items()}


def patch_labels(scene: Scene) -> NDArray[np.int64]:
    """Return the class of every patch for every head: (PATCHES, heads) int64, patches in reading order."""
    side = PATCHES_A_SIDE
    grid = np.zeros((side, side, len(HEADS)), dtype=np.int64)
    grid[:, :, COLUMN_OF["background"]] = CLASS_OF["background"][scene.background or "chart"]
    grid[:, :, COLUMN_OF["row"]] = (np.arange(side) // 2)[:, None]  # (side, 1), broadcast
    grid[:, :, COLUMN_OF["column"]] = (np.arange(side) // 2)[None, :]  # (1, side), broadcast
    grid[:, :, COLUMN_OF["all"]] = len(scene.things) or len(scene.bars)
    grid[:, :, COLUMN_OF["kind"]] = KINDS.index(scene.kind)
    for thing in scene.things:
        _mark_thing(grid, thing, scene.things)
    if scene.sign:
        _mark_sign(grid, scene.sign)
    _mark_bars(grid, scene.bars)
    return grid.reshape(PATCHES, len(HEADS))


def _put(block: NDArray[np.int64], **values: int) -> None:
    """Set labels, by head, on a block of patches, (..., heads)."""
    for head, value in values.items():
        block[..., COLUMN_OF[head]] = value


def _mark_thing(grid: NDArray[np.int64], thing: Thing, things: tuple[Thing, ...]) -> None:
    row, column = divmod(thing.cell, 3)
    _put(  # a cell is 2 x 2 patches
        grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2],
        name=CLASS_OF["name"][thing.name],
        colour=CLASS_OF["colour"][thing.colour or "plain"],
        group=CLASS_OF["group"][thing.group],
        same_name=sum(other.name == thing.name for other in things),
        same_look=sum(other.phrase == thing.phrase for other in things),
        same_group=sum(other.group == thing.group for other in things),
        same_colour=sum(other.colour == thing.colour for other in things),
    )


def _mark_sign(grid: NDArray[np.int64], sign: Sign) -> None:
    block = grid[2 * sign.row : 2 * sign.row + 2]  # (2, side, heads)
    _put(block, name=CLASS_OF["name"]["sign"], text=CLASS_OF["text"][sign.text])
    advance = 0.602 * sign.size  # pixels from one character to the next
    for column in range(PATCHES_A_SIDE):
        at = int(((column + 0.5) * PATCH - sign.x) // advance)  # the character under the middle of the patch
        if 0 <= at < len(sign.text):
            _put(block[:, column], character=1 + CHARACTERS.index(sign.text[at]))


def _mark_bars(grid: NDArray[np.int64], bars: tuple[Bar, ...]) -> None:
    values = [bar.value for bar in bars]
    for column in range(PATCHES_A_SIDE if bars else 0):
        left = column * PATCH  # pixels
        overlap = [min(left + PATCH, bar.right) - max(left, bar.left) for bar in bars]
        widest = max(range(len(bars)), key=overlap.__getitem__)
        if overlap[widest] < 10:  # pixels
            continue
        bar = bars[widest]
        rank = 1 if bar.value == max(values) else 2 if bar.value == min(values) else 3
        _put(
            grid[:, column],
            name=CLASS_OF["name"]["bar"],
            colour=CLASS_OF["colour"][bar.colour],
            text=CLASS_OF["text"][str(bar.value)],
            rank=rank,
        )
