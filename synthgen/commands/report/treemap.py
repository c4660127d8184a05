"""Treemaps: areas in proportion to counts, as square as can be (Bruls, Huizing, van Wijk 2000)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HUES = 8  # colours of roots, which repeat
ASPECT = 3.0  # of the whole map: width over height
LEAST_SHARE = 0.0015  # of the map: what is smaller goes together as one cell
OTHERS = "others"
PIXELS, LINE, LETTER = 10.5, 14, 6.2  # of a hundredth of the map's width, of a line of text, of a letter


@dataclass(frozen=True)
class Cell:
    """A rectangle of a treemap in per cent of the whole: a root, or a tag directly below one."""

    name: str
    count: int
    x: float
    y: float
    width: float
    height: float
    hue: int
    is_root: bool = False

    @property
    def label(self) -> str:
        """What is written into it: the last part of its name, or nothing where that does not fit a wide window."""
        text = self.name.rpartition("/")[2].replace("_", " ")
        fits = self.height * PIXELS / ASPECT > LINE and len(text) * LETTER + 8 < self.width * PIXELS
        return text if fits else ""


Rectangle = tuple[float, float, float, float]  # x, y, width, height


def treemap(counts: Mapping[str, int], hues: Mapping[str, int] | None = None) -> list[Cell]:
    """Return the cells of a map of tags: roots first, each followed by the tags below it.

    A tag can be on several images, so counts of tags below one root need not add up to its own; what no tag below it
    has is left as the root's own area.

    Args:
        counts: Path of a tag → its count, those above it included.
        hues: The colours of roots by another map; in turn where None.
    """
    roots = {name: count for name, count in counts.items() if "/" not in name and count}
    cells: list[Cell] = []
    width, height = 100.0 * ASPECT, 100.0
    for number, (root, place) in enumerate(squarify(_merged(roots), (0.0, 0.0, width, height)).items()):
        hue = number % HUES if hues is None else hues.get(root, HUES - 1)
        cells.append(_cell(root, roots.get(root, 0), place, hue, is_root=True))
        below = {name: count for name, count in counts.items() if name.rpartition("/")[0] == root and count}
        inner = _inside(place)
        for name, part in squarify(_merged(below, root), inner).items() if min(inner[2:]) > 0 else ():
            cells.append(_cell(name, below.get(name, 0), part, hue))
    return cells


def _merged(counts: Mapping[str, int], root: str = "") -> dict[str, int]:
    """Return counts in falling order, the smallest together as one."""
    total = sum(counts.values())
    large = {name: count for name, count in counts.items() if count >= LEAST_SHARE * total}
    rest = total - sum(large.values())
    ordered = dict(sorted(large.items(), key=lambda item: (-item[1], item[0])))
    return {**ordered, **({f"{root}/{OTHERS}" if root else OTHERS: rest} if rest else {})}


def _inside(place: Rectangle) -> Rectangle:
    """Return the part of a root's rectangle below its name."""
    x, y, width, height = place
    edge, head = 0.4, min(5.0, height / 3)
    return x + edge, y + head, width - 2 * edge, height - head - edge


def _cell(name: str, count: int, place: Rectangle, hue: int, *, is_root: bool = False) -> Cell:
    x, y, width, height = place
    return Cell(name, count, x / ASPECT, y, width / ASPECT, height, hue, is_root)


def squarify(counts: Mapping[str, int], place: Rectangle) -> dict[str, Rectangle]:
    """Return a rectangle inside `place` for each count, in proportion to it; counts fall."""
    x, y, width, height = place
    scale = width * height / max(1, sum(counts.values()))
    open_areas = [(name, count * scale) for name, count in counts.items()]
    placed: dict[str, Rectangle] = {}
    while open_areas:
        side = min(width, height)
        row = _best_row([area for _, area in open_areas], side)
        names, total = open_areas[:row], sum(area for _, area in open_areas[:row])
        depth = total / side if side else 0.0
        at = 0.0
        for name, area in names:
            length = area / depth if depth else 0.0
            placed[name] = (x, y + at, depth, length) if width >= height else (x + at, y, length, depth)
            at += length
        x, y, width, height = (
            (x + depth, y, width - depth, height) if width >= height else (x, y + depth, width, height - depth)
        )
        open_areas = open_areas[row:]
    return placed


def _best_row(areas: Sequence[float], side: float) -> int:
    """Return how many of the areas make a row whose worst rectangle is nearest to a square."""
    best = _worst(areas[:1], side)
    for count in range(2, len(areas) + 1):
        worst = _worst(areas[:count], side)
        if worst > best:
            return count - 1
        best = worst
    return len(areas)


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    if not total or not side or not min(row):
        return float("inf")
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))
