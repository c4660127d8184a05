"""Families that lay one grid over an image, or bring it to one square."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from synthgen.engines.image_tokens.rule import PROCESSOR, Arguments


@dataclass(frozen=True)
class PatchGrid:
    """A grid of squares of `unit` pixels a side, a token each, as Qwen-VL and GLM-4.1V scale an image.

    Both sides are rounded to whole squares; an image outside the range of pixels is scaled into it first.

    Attributes:
        low: Fewest pixels of all frames after scaling.
        high: Most.
        frames: An image counts as so many frames.
        enlarges: An image narrower than a square is enlarged first.
    """

    unit: int
    low: int
    high: int
    frames: int = 1
    enlarges: bool = False
    around: int = 0
    keys: ClassVar[frozenset[str]] = frozenset({"size", "max_pixels", "min_pixels"})

    @property
    def most(self) -> int:
        """The most tokens of an image, one a square."""
        return self.high // (self.unit**2 * self.frames)

    def tokens(self, width: int, height: int) -> int:
        """Return the squares of the scaled image."""
        unit, low, high = self.unit, self.low / self.frames, self.high / self.frames
        if self.enlarges and (short := min(width, height)) < unit:
            scale = unit / short  # first, as the processor rounds it
            width, height = int(width * scale), int(height * scale)
        columns, rows = round(width / unit), round(height / unit)
        if columns * rows * unit**2 > high:
            scale = math.sqrt(width * height / high)
            return max(1, math.floor(width / scale / unit)) * max(1, math.floor(height / scale / unit))
        if columns * rows * unit**2 < low:
            scale = math.sqrt(low / (width * height))
            return math.ceil(width * scale / unit) * math.ceil(height * scale / unit)
        return columns * rows

    def within(self, most: int) -> Self:
        """Lower the most pixels."""
        high = min(self.high, most * self.unit**2 * self.frames)
        return replace(self, low=min(self.low, high), high=high)

    @property
    def settings(self) -> Arguments:
        """Despite their names, the edges are numbers of pixels."""
        return {PROCESSOR: {"size": {"shortest_edge": self.low, "longest_edge": self.high}}}


@dataclass(frozen=True)
class LongSideGrid:
    """Mistral 3: squares of `unit` pixels a side, a token each, and one more a row; a longer image is scaled down.

    Attributes:
        longest: Most pixels of a side.
    """

    unit: int
    longest: int
    around: int = 0
    keys: ClassVar[frozenset[str]] = frozenset({"size"})

    @property
    def most(self) -> int:
        """The tokens of a square image."""
        return self.tokens(self.longest, self.longest)

    def tokens(self, width: int, height: int) -> int:
        """Return the squares, the last of a row or column in part, and one token more a row."""
        if (ratio := max(width, height) / self.longest) > 1:
            width, height = math.floor(width / ratio), math.floor(height / ratio)
        columns, rows = (max(1, math.ceil(side / self.unit)) for side in (width, height))
        return (columns + 1) * rows

    def within(self, most: int) -> Self:
        """Shorten the longest side by whole squares."""
        squares = int((math.sqrt(1 + 4 * most) - 1) / 2)  # n (n + 1) tokens at most
        return self if self.most <= most else replace(self, longest=squares * self.unit)

    @property
    def settings(self) -> Arguments:
        """The longest side."""
        return {PROCESSOR: {"size": {"longest_edge": self.longest}}}


@dataclass(frozen=True)
class OneSquare:
    """Gemma 3: every image is one square of so many tokens; crops of long ones come beside it where that is on.

    Attributes:
        each: Tokens of a square.
        crops: Most crops; 0 is off.
    """

    each: int
    crops: int
    around: int = 3
    keys: ClassVar[frozenset[str]] = frozenset({"do_pan_and_scan", "pan_and_scan_max_num_crops"})

    @property
    def most(self) -> int:
        """The tokens of the square and its crops."""
        return self.each * (1 + self.crops)

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of an image of any size; with crops, the most."""
        return self.most

    def within(self, most: int) -> Self:
        """Turn the crops off, if there are any and too many."""
        return self if self.most <= most else replace(self, crops=0)

    @property
    def settings(self) -> Arguments:
        """Whether there are crops."""
        return {PROCESSOR: {"do_pan_and_scan": self.crops > 0}}
