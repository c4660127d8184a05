"""The pairs of a run that are wanted, and what a list shows of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.browse.search import Found, Numbers
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.browse.wanted import Wanted, has_words, is_below
from synthgen.commands.report.draw import Drawn
from synthgen.commands.report.examples import Example, ImagePlace, load_examples
from synthgen.commands.report.outcomes import read_rows
from synthgen.tables import GENERATE, PLAN

TEXTS = ("question", "answer", "options")
IDS = ("pair_id", "assignment_id", "image_id", "object_id")


def match_pairs(snapshot: Snapshot, wanted: Wanted, partition: str) -> Numbers:
    """Return the rows of a partition of `generate` that are wanted; what costs more is asked of fewer rows."""
    rows = read_rows(snapshot.folder, partition)
    rows = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    for name in ("outcome", "form", "language"):
        if value := getattr(wanted, name):
            rows = rows.filter(pc.fill_null(pc.equal(rows.column(name), value), False))
    for name in ("type", "reason"):
        if value := getattr(wanted, name):
            rows = rows.filter(is_below(rows.column(name), value))
    if wanted.tag and rows.num_rows:
        rows = rows.filter(pc.is_in(rows.column("image_id"), images_with(snapshot, partition, wanted.tag)))
    if wanted.score and rows.num_rows:
        rows = rows.filter(pc.is_in(rows.column("pair_id"), _scored(snapshot, partition, wanted)))
    if wanted.q and rows.num_rows:
        rows = rows.filter(_with_words(snapshot, partition, wanted, rows.column("row")))
    return np.asarray(rows.column("row"), dtype=np.int64)


def images_with(snapshot: Snapshot, partition: str, tag: str) -> pa.Array:
    """Return the ids of the images of a partition that have a tag, or one below it."""
    images = snapshot.folder.table(PLAN, partition, "images", ["image_id", "tags"])
    lists = images.column("tags").combine_chunks()
    found = is_below(pc.struct_field(pc.list_flatten(lists), "path"), tag)
    owners = pc.unique(pc.list_parent_indices(lists).filter(found))
    return images.column("image_id").take(owners).combine_chunks()


def _scored(snapshot: Snapshot, partition: str, wanted: Wanted) -> pa.Array:
    """Return the ids of pairs whose value of a score is within its limits."""
    if wanted.score not in snapshot.scores:
        return pa.array([], pa.string())
    rows = snapshot.folder.scores(partition, wanted.score, ["pair_id", "value"])
    least, most = wanted.limits
    values = pc.fill_null(rows.column("value"), float("nan"))
    is_inside = pc.and_(pc.greater_equal(values, np.float32(least)), pc.less_equal(values, np.float32(most)))
    return rows.filter(is_inside).column("pair_id").combine_chunks()


def _with_words(snapshot: Snapshot, partition: str, wanted: Wanted, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which of some rows have the words, or the id, that is looked for."""
    names = IDS if wanted.id else TEXTS
    rows = snapshot.folder.table(GENERATE, partition, "pairs", names).take(numbers)
    if wanted.id:
        found = [pc.fill_null(pc.equal(rows.column(name), wanted.id), False) for name in names]
        return pc.or_(pc.or_(found[0], found[1]), pc.or_(found[2], found[3]))
    options = pc.fill_null(pc.binary_join(rows.column("options"), "\n"), "")
    texts = [*(pc.fill_null(rows.column(name), "") for name in TEXTS[:2]), options]
    return has_words(pc.binary_join_element_wise(*texts, "\n"), wanted.words)


def load_pairs(snapshot: Snapshot, found: Found) -> tuple[list[Example], dict[str, ImagePlace]]:
    """Return what a list shows of the pairs that were found, and the place of each image by its id."""
    drawn = [each for partition, numbers in found.by_partition.items() for each in _drawn(snapshot, partition, numbers)]
    return load_examples(snapshot.folder, drawn, snapshot.scores, snapshot.shown)


def _drawn(snapshot: Snapshot, partition: str, numbers: Sequence[int]) -> list[tuple[str, Drawn]]:
    rows = read_rows(snapshot.folder, partition).take(pa.array(numbers, pa.int64())).to_pylist()
    return [
        (row["outcome"], Drawn(row["pair_id"] or row["assignment_id"], row["assignment_id"], partition, row["reason"]))
        for row in rows
    ]
