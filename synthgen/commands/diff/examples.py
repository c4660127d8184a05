"""Questions to look at, side by side: of each kind of change those with the lowest hashes, the same at every call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from synthgen.commands.diff.columns import Columns
from synthgen.commands.diff.compare import Compared, Numbers, Pairing, moves, same_pairs, shared
from synthgen.commands.report.draw import Drawn
from synthgen.commands.report.examples import Example, ImagePlace, load_examples
from synthgen.commands.report.outcomes import read_rows
from synthgen.commands.report.pictures import Picture, load_pictures
from synthgen.job import run_record
from synthgen.stages.pack import redact
from synthgen.store import RunFolder

SHOWN = 12  # of each kind
MOVED = 6  # of each score
ALONE = np.int64(-1)  # in place of a row on the side that does not have it
KINDS = (
    ("answered", "Answered otherwise", "the same question about the same image has another answer"),
    ("asked", "Asked otherwise", "the same place in the plan has another question"),
    ("lost", "Not kept any more", "kept before, and not after"),
    ("won", "Kept now", "not kept before, and kept after"),
)


@dataclass(frozen=True)
class SideBySide:
    """A question before and after; a side that does not have it is None."""

    kind: str
    note: str
    before: Example | None
    after: Example | None

    @property
    def image_id(self) -> str:
        """The id of its image."""
        return next(side.image_id for side in (self.after, self.before) if side)

    @property
    def place(self) -> str:
        """The name of its image."""
        return next((side.place for side in (self.after, self.before) if side and side.place), "")


def choose(before: Columns, after: Columns, found: Compared) -> list[tuple[str, str, Pairing]]:
    """Return (kind, note, rows) of what is shown, the rows before and after with ALONE where a side has none."""
    old, new = shared(before, after)
    gone, added = (_alone(side, rows) for side, rows in ((before, old), (after, new)))
    is_lost = before.is_kept[old] & ~after.is_kept[new]
    is_won = ~before.is_kept[old] & after.is_kept[new]
    lost = _joined((old[is_lost], new[is_lost]), _only_before(gone[before.is_kept[gone]]))
    won = _joined((old[is_won], new[is_won]), _only_after(added[after.is_kept[added]]))
    chosen = [("answered", "", _first(before, found.answered)), ("asked", "", _first(before, found.asked))]
    chosen += [("lost", "", _first_of_either(before, after, lost)), ("won", "", _first_of_either(before, after, won))]
    same = same_pairs(before, after, (old, new))
    for score in found.scores:
        change = np.nan_to_num(moves(score.name, before, after, same))
        largest = np.argsort(-np.abs(change), kind="stable")[: min(MOVED, score.moved)]
        for place in largest.tolist():
            note = f"{score.name} {change[place]:+.3g}"
            chosen.append(("moved", note, (same[0][[place]], same[1][[place]])))
    return chosen


def _alone(side: Columns, rows: Numbers) -> Numbers:
    return np.delete(np.arange(len(side.row)), rows)


def _only_before(rows: Numbers) -> Pairing:
    return rows, np.full(len(rows), ALONE)


def _only_after(rows: Numbers) -> Pairing:
    return np.full(len(rows), ALONE), rows


def _joined(*pairings: Pairing) -> Pairing:
    return np.concatenate([each[0] for each in pairings]), np.concatenate([each[1] for each in pairings])


def _first(before: Columns, rows: Pairing) -> Pairing:
    order = np.argsort(before.assignment[rows[0]])[:SHOWN]
    return rows[0][order], rows[1][order]


def _first_of_either(before: Columns, after: Columns, rows: Pairing) -> Pairing:
    """Return some rows with the lowest hashes of their assignments, of whichever side has them."""
    old, new = rows
    if not len(old):
        return rows
    hashes = np.zeros(len(old), np.uint64)
    hashes[old >= 0] = before.assignment[old[old >= 0]]
    hashes[old < 0] = after.assignment[new[old < 0]]
    order = np.argsort(hashes)[:SHOWN]
    return old[order], new[order]


def load(
    sides: tuple[RunFolder, RunFolder], columns: tuple[Columns, Columns], chosen: Sequence[tuple[str, str, Pairing]]
) -> tuple[list[SideBySide], tuple[dict[str, ImagePlace], dict[str, ImagePlace]]]:
    """Return what was chosen with its texts, and the places of the images of both sides."""
    wanted = [sorted({row for _, _, rows in chosen for row in rows[side].tolist() if row >= 0}) for side in range(2)]
    found = [_examples(folder, side, rows) for folder, side, rows in zip(sides, columns, wanted, strict=True)]
    shown = [
        SideBySide(kind, note, found[0][0].get(old), found[1][0].get(new))
        for kind, note, rows in chosen
        for old, new in zip(rows[0].tolist(), rows[1].tolist(), strict=True)
    ]
    return [each for each in shown if each.before or each.after], (found[0][1], found[1][1])


def _examples(
    folder: RunFolder, side: Columns, rows: Sequence[int]
) -> tuple[dict[int, Example], dict[str, ImagePlace]]:
    """Return the questions of some rows by row, and the places of their images."""
    by_partition: dict[str, list[int]] = {}
    for row in rows:
        by_partition.setdefault(side.partitions[side.partition[row]], []).append(row)
    numbers: dict[str, int] = {}
    drawn: list[tuple[str, Drawn]] = []
    for partition, here in by_partition.items():
        table = read_rows(folder, partition).take(pa.array(side.row[here].tolist(), pa.int64()))
        for row, found in zip(here, table.to_pylist(), strict=True):
            name = found["assignment_id"]
            numbers[name] = row
            drawn.append((found["outcome"], Drawn(found["pair_id"] or name, name, partition, found["reason"])))
    shown = _shown(folder)
    examples, places = load_examples(folder, drawn, side.scores, shown)
    return {numbers[example.assignment_id]: example for example in examples}, places


def _shown(folder: RunFolder) -> Callable[[str], str]:
    source = run_record.pipeline_of(folder).source
    return partial(redact.uri, root=redact.root_of(source))


def pictures_of(
    sides: tuple[RunFolder, RunFolder], places: tuple[Mapping[str, ImagePlace], Mapping[str, ImagePlace]]
) -> dict[str, Picture | str]:
    """Return the pictures of the images by their ids: by the run after, and of what only the one before has by that."""
    found: dict[str, Picture | str] = {}
    for folder, of_side in reversed(list(zip(sides, places, strict=True))):
        missing = {image: place for image, place in of_side.items() if not isinstance(found.get(image), Picture)}
        pipeline = run_record.pipeline_of(folder)
        found |= load_pictures(folder, pipeline.source, pipeline.images, missing)
    return found
