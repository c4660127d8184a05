"""What every patch of a picture shows: the dense labels that teach the vision tower.

In: a `Scene`. Out: an int64 array of 36 patches x the heads of `HEADS`. Why this way: a picture is 36 patches of 24 px, four to
a cell, so the scene graph says for each patch which thing, colour, character, bar value and place it belongs to. Asking for
all of it at every patch gives hundreds of labels an image where a question gives one, and costs only the vision tower.
The counts and ranks make the tower look across the picture, so the language model later only has to read them off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo.world import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    GROUP_OF,
    GROUPS,
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

SIDE = 6  # patches a side
PATCH = 24
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
GROUP_NAMES = (*GROUPS, "shape")

# Heads whose classes are words of the world: their rows become the embeddings of those words in the language model.
WORD_HEADS: dict[str, tuple[str, ...]] = {
    "name": ("nothing", *OBJECTS, *SHAPES, "sign", "bar"),
    "colour": ("plain", *COLOURS),
    "group": ("none", *GROUP_NAMES),
    "background": (*BACKGROUNDS, "chart"),
    "row": ROWS,
    "column": COLUMNS,
    "text": ("blank", *WORDS, *NUMBERS),
}
# Heads that only help to see: their rows are dropped after training.
AID_HEADS: dict[str, int] = {
    "character": len(CHARACTERS) + 1, "same_name": 7, "same_look": 7, "same_group": 7, "all": 7, "rank": 4,
    "kind": 4, "same_colour": 7,
}  # fmt: skip
HEADS: dict[str, int] = {**{head: len(words) for head, words in WORD_HEADS.items()}, **AID_HEADS}
COLUMN_OF = {head: i for i, head in enumerate(HEADS)}
INDEX = {head: {word: i for i, word in enumerate(words)} for head, words in WORD_HEADS.items()}


def labels(scene: Scene) -> NDArray[np.int64]:
    """One row of labels per patch, in reading order."""
    grid = np.zeros((SIDE, SIDE, len(HEADS)), dtype=np.int64)
    grid[:, :, COLUMN_OF["background"]] = INDEX["background"][scene.background or "chart"]
    grid[:, :, COLUMN_OF["row"]] = (np.arange(SIDE) // 2)[:, None]
    grid[:, :, COLUMN_OF["column"]] = (np.arange(SIDE) // 2)[None, :]
    grid[:, :, COLUMN_OF["all"]] = len(scene.things) or len(scene.bars)
    grid[:, :, COLUMN_OF["kind"]] = ("scene", "sign", "chart", "empty").index(scene.kind)
    for thing in scene.things:
        _mark_thing(grid, thing, scene.things)
    if scene.sign:
        _mark_sign(grid, scene.sign)
    _mark_bars(grid, scene.bars)
    return grid.reshape(SIDE * SIDE, len(HEADS))


def _put(block: NDArray[np.int64], **values: int) -> None:
    for head, value in values.items():
        block[..., COLUMN_OF[head]] = value


def _group(thing: Thing) -> str:
    return GROUP_OF.get(thing.name, "shape")


def _mark_thing(grid: NDArray[np.int64], thing: Thing, things: tuple[Thing, ...]) -> None:
    row, column = divmod(thing.cell, 3)
    _put(
        grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2],
        name=INDEX["name"][thing.name],
        colour=INDEX["colour"][thing.colour or "plain"],
        group=INDEX["group"][_group(thing)],
        same_name=sum(t.name == thing.name for t in things),
        same_look=sum((t.name, t.colour) == (thing.name, thing.colour) for t in things),
        same_group=sum(_group(t) == _group(thing) for t in things),
        same_colour=sum(t.colour == thing.colour for t in things),
    )


def _mark_sign(grid: NDArray[np.int64], sign: Sign) -> None:
    block = grid[2 * sign.row : 2 * sign.row + 2]
    _put(block, name=INDEX["name"]["sign"], text=INDEX["text"][sign.text])
    advance = 0.602 * sign.size
    for column in range(SIDE):
        at = int(((column + 0.5) * PATCH - sign.x) // advance)  # the character under the middle of the patch
        if 0 <= at < len(sign.text):
            _put(block[:, column], character=1 + CHARACTERS.index(sign.text[at]))


def _mark_bars(grid: NDArray[np.int64], bars: tuple[Bar, ...]) -> None:
    values = [bar.value for bar in bars]
    for column in range(SIDE if bars else 0):
        left = column * PATCH
        overlap = [min(left + PATCH, bar.right) - max(left, bar.left) for bar in bars]
        best = max(range(len(bars)), key=overlap.__getitem__)
        if overlap[best] < 10:
            continue
        bar = bars[best]
        rank = 1 if bar.value == max(values) else 2 if bar.value == min(values) else 3
        _put(
            grid[:, column],
            name=INDEX["name"]["bar"],
            colour=INDEX["colour"][bar.colour],
            text=INDEX["text"][str(bar.value)],
            rank=rank,
        )
