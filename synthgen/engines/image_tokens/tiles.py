"""Families that cut an image into tiles of one size, and show a small copy of it beside them."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from synthgen.engines.image_tokens.rule import MOST_ASPECT, OVERRIDES, PROCESSOR, Arguments


class HashedList(list[int]):
    """A list within a list of settings: vLLM keeps processors by the hash of theirs, and these take lists alone."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


@dataclass(frozen=True)
class FormTiles:
    """InternVL: tiles of one size in the grid whose form is nearest to the image's, and a small copy of it all.

    Attributes:
        side: Pixels a side of a tile.
        each: Tokens of a tile.
        fewest: Fewest tiles.
        tiles: Most tiles, without the copy.
        setting: The name of the setting for the most tiles.
    """

    side: int
    each: int
    fewest: int
    tiles: int
    setting: str = "max_patches"
    around: int = 2
    keys: ClassVar[frozenset[str]] = frozenset({"max_patches", "crop_to_patches", "max_dynamic_patch"})

    @property
    def most(self) -> int:
        """The tokens of all tiles and the copy."""
        return self.each * (self.tiles + (self.tiles > 1))

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of the grid and the copy; of two grids of one form the larger, unless it enlarges much."""
        counts = range(1, self.tiles + 1)
        grids = [(x, y) for x in counts for y in counts if self.fewest <= x * y <= self.tiles]
        best, least = (1, 1), math.inf
        for columns, rows in sorted(grids, key=math.prod):
            difference = abs(width / height - columns / rows)
            has_pixels = width * height > 0.5 * self.side**2 * columns * rows
            if difference < least or (difference == least and has_pixels):
                best, least = (columns, rows), difference
        return replace(self, tiles=math.prod(best)).most

    def within(self, most: int) -> Self:
        """Lower the number of tiles, down to one without a copy."""
        counts = (count for count in range(self.tiles, 1, -1) if replace(self, tiles=count).most <= most)
        tiles = next(counts, 1)
        return replace(self, tiles=tiles, fewest=min(self.fewest, tiles))

    @property
    def settings(self) -> Arguments:
        """The most tiles."""
        return {PROCESSOR: {self.setting: self.tiles}}


@dataclass(frozen=True)
class Canvases:
    """LLaVA-OneVision: the canvas that shows most of an image, in tiles without their padding, and a small copy.

    Attributes:
        side: Pixels a side of a tile.
        patches: Patches a side of a tile, a token each; a row of them has one token more.
        canvases: Heights and widths in pixels.
        full: Tiles from which on the canvas is scaled down, to their number of tokens.
    """

    side: int
    patches: int
    canvases: tuple[tuple[int, int], ...]
    full: int = 9
    around: int = 0
    keys: ClassVar[frozenset[str]] = frozenset({"image_grid_pinpoints"})

    @property
    def most(self) -> int:
        """The tokens of the largest canvas."""
        return max(map(self._bound, self.canvases))

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of the copy, of what the canvas shows, and one more a row."""
        rows, columns = max(self.canvases, key=lambda canvas: self._worth(canvas, width, height))
        down, across = self.patches * (rows // self.side), self.patches * (columns // self.side)
        if width / height > across / down:
            down -= (down - int(round(height * (across / width), 7))) // 2 * 2
        else:
            across -= (across - int(round(width * (down / height), 7))) // 2 * 2
        if (ratio := math.sqrt(down * across / (self.full * self.patches**2))) > 1.1:
            down, across = int(down // ratio), int(across // ratio)
        return self.patches**2 + down * across + down

    def within(self, most: int) -> Self:
        """Leave out canvases of more tokens; the smallest one stays."""
        if self.most <= most:
            return self
        kept = tuple(canvas for canvas in self.canvases if self._bound(canvas) <= most)
        return replace(self, canvases=kept or (min(self.canvases, key=self._bound),))

    @property
    def settings(self) -> Arguments:
        """The canvases, which the model reads from its configuration and the processor from its own."""
        canvases = {"image_grid_pinpoints": [HashedList(canvas) for canvas in self.canvases]}
        return {PROCESSOR: canvases, OVERRIDES: canvases}

    def _bound(self, canvas: tuple[int, int]) -> int:
        down, across = (self.patches * (length // self.side) for length in canvas)
        return self.patches**2 + min(down * across, int(1.1**2 * self.full * self.patches**2)) + down

    def _worth(self, canvas: tuple[int, int], width: int, height: int) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - math.prod(canvas)


@dataclass(frozen=True)
class LongSideTiles:
    """Idefics3 and SmolVLM: the longer side is made some tiles long, and a small copy follows.

    A tile has two marks before it, a row of tiles a line break after it, the copy two marks before and one after it.

    Attributes:
        side: Pixels a side of a tile.
        longest: Pixels of the longer side.
        each: Tokens of a tile.
        splits: Whether tiles are cut at all.
    """

    side: int
    longest: int
    each: int
    splits: bool = True
    around: int = 0
    keys: ClassVar[frozenset[str]] = frozenset({"size", "do_image_splitting", "max_image_size"})

    @property
    def most(self) -> int:
        """The tokens of a square image."""
        return self.tokens(1, 1)

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of the tiles and of the copy; an image of one tile is its copy alone."""
        # One side is divided by the form, the other multiplied, as the processor does, so that rounding is the same.
        is_wide, form = width >= height, width / height
        short = int(self.longest / form) if is_wide else int(self.longest * form)
        short = max(1, short + short % 2)
        along = math.ceil(self.longest / self.side)
        long = along * self.side
        across = int(long / (self.longest / short)) if is_wide else int(long * (short / self.longest))
        across, copy = math.ceil(across / self.side), self.each + 3
        if not self.splits or along * across == 1:
            return copy
        rows = across if is_wide else along
        return along * across * (self.each + 2) + rows + copy

    def within(self, most: int) -> Self:
        """Shorten the longer side by whole tiles, down to one."""
        if self.most <= most:
            return self
        lengths = [self.side * count for count in range(self.longest // self.side, 0, -1)]
        rules = [replace(self, longest=length) for length in lengths if length < self.longest]
        return next((rule for rule in rules if rule.most <= most), rules[-1] if rules else self)

    @property
    def settings(self) -> Arguments:
        """The longer side."""
        return {PROCESSOR: {"size": {"longest_edge": self.longest}}}


@dataclass(frozen=True)
class Slices:
    """MiniCPM-V 4.6: a small copy with its number (5 marks), and slices of one area with 2 marks each.

    Attributes:
        side: Pixels a side of a square slice.
        unit: Pixels a side of a token.
        slices: Most slices; an image of the area of one has none.
        dense: Tokens of a square of `unit`.
    """

    side: int
    unit: int
    slices: int
    dense: int = 1
    around: int = 0
    keys: ClassVar[frozenset[str]] = frozenset({"max_slice_nums", "slice_mode", "scale_resolution", "downsample_mode"})

    @property
    def most(self) -> int:
        """A bound: that of the longest image for the copy and for each slice."""
        side = self.side / self.unit
        longest = math.sqrt(MOST_ASPECT)
        each = self.dense * int((side * longest + 0.5) * (side / longest + 0.5))
        return 5 + each + (self.slices * (each + 2) + self.slices - 1 if self.slices > 1 else 0)

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of the copy and of the slices, with a line break between their rows."""
        grid = self._grid(width, height)
        if not grid:
            return 5 + self._scaled(width, height, enlarge=True)
        rows, columns = grid
        refined = (max(round(width / columns), 1), max(round(height / rows), 1))
        each = 2 + self._scaled(*refined, enlarge=True)
        return 5 + self._scaled(width, height, enlarge=False) + rows * columns * each + rows - 1

    def within(self, most: int) -> Self:
        """Lower the number of slices, down to none."""
        counts = range(self.slices, 1, -1)
        fits = (count for count in counts if replace(self, slices=count).most <= most)
        return self if self.most <= most else replace(self, slices=next(fits, 1))

    @property
    def settings(self) -> Arguments:
        """The most slices."""
        return {PROCESSOR: {"max_slice_nums": self.slices}}

    def _grid(self, width: int, height: int) -> tuple[int, int] | None:
        """Return rows and columns of the slices, nearest to the image's form; none for a small image."""
        wanted = min(math.ceil(width * height / self.side**2), self.slices)
        if wanted <= 1:
            return None
        counts = [count for count in (wanted - 1, wanted, wanted + 1) if 1 < count <= self.slices]
        grids = [(rows, count // rows) for count in counts for rows in range(1, count + 1) if count % rows == 0]
        form = math.log(width / height)
        return min(grids, key=lambda grid: (abs(form - math.log(grid[1] / grid[0])), -grid[0]))

    def _scaled(self, width: float, height: float, *, enlarge: bool) -> int:
        """Return the tokens of an image that is brought to the area of a slice; a small one only with `enlarge`."""
        if enlarge or width * height > self.side**2:
            form = width / height
            height = int(self.side / math.sqrt(form))
            width = int(height * form)
        return self.dense * math.prod(max(round(side / self.unit), 1) for side in (width, height))
