"""The images of a run that are wanted, those without a question too, and what a list shows of them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.browse.pairs import images_with
from synthgen.commands.browse.search import Found, Numbers
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.browse.wanted import Wanted, has_words, is_below
from synthgen.commands.report.examples import leaves_of
from synthgen.commands.report.outcomes import KEPT, read_rows
from synthgen.tables import LIST, PLAN, TAG

LISTED = "listed"  # the outcome of an object that is not looked at yet
PLANNED = ["object_id", "image_id", "outcome", "reason", "uri", "row", "tags"]


@dataclass(frozen=True)
class ImageCard:
    """What a list shows of an image.

    Attributes:
        outcome: In the plan, or else of reading it, with its reason.
        place: Its name, as samples show it.
        tags: The leaves of its tags, the best first.
        asked: Questions about it.
        kept: Pairs that are kept.
    """

    partition: str
    object_id: str
    outcome: str
    place: str
    tags: tuple[tuple[str, float | None], ...]
    asked: int
    kept: int


def image_rows(snapshot: Snapshot, partition: str) -> pa.Table:
    """Return object_id, image_id, uri, row and `outcome` of each object of a partition, and where it is in the plan."""
    folder = snapshot.folder
    planned = folder.table(PLAN, partition, "images", PLANNED)
    listed = folder.table(LIST, partition, "objects", ["object_id", "uri", "row"])
    if not listed.num_rows:
        listed = planned.select(["object_id", "uri", "row"])
    seen = folder.table(TAG, partition, "images", ["object_id", "outcome", "reason", "image_id"])
    in_plan = pc.index_in(listed.column("object_id"), planned.column("object_id").combine_chunks())
    in_tags = pc.index_in(listed.column("object_id"), seen.column("object_id").combine_chunks())
    outcomes = [_outcome(rows).take(places) for rows, places in ((planned, in_plan), (seen, in_tags))]
    image = pc.coalesce(planned.column("image_id").take(in_plan), seen.column("image_id").take(in_tags))
    columns = {"outcome": pc.coalesce(*outcomes, LISTED), "image_id": image, "planned": in_plan}
    for name, column in columns.items():
        listed = listed.append_column(name, column)
    return listed


def _outcome(rows: pa.Table) -> pa.ChunkedArray:
    """Return the outcome of each row, with its reason where it has one."""
    outcome, reason = rows.column("outcome"), rows.column("reason")
    return pc.if_else(pc.is_null(reason), outcome, pc.binary_join_element_wise(outcome, pc.fill_null(reason, ""), "."))


def match_images(snapshot: Snapshot, wanted: Wanted, partition: str) -> Numbers:
    """Return the rows of a partition, as of `image_rows`, that are wanted."""
    rows = image_rows(snapshot, partition)
    rows = rows.append_column("number", pa.array(np.arange(rows.num_rows)))
    if wanted.outcome:
        rows = rows.filter(is_below(rows.column("outcome"), wanted.outcome))
    if wanted.tag and rows.num_rows:
        rows = rows.filter(pc.is_in(rows.column("image_id"), images_with(snapshot, partition, wanted.tag)))
    if wanted.id and rows.num_rows:
        is_it = [pc.fill_null(pc.equal(rows.column(name), wanted.id), False) for name in ("object_id", "image_id")]
        rows = rows.filter(pc.or_(*is_it))
    elif wanted.q and rows.num_rows:
        rows = rows.filter(has_words(rows.column("uri"), wanted.words))
    return np.asarray(rows.column("number"), dtype=np.int64)


def load_images(snapshot: Snapshot, found: Found) -> list[ImageCard]:
    """Return what a list shows of the images that were found."""
    return [
        card
        for partition, numbers in found.by_partition.items()
        for card in _cards(snapshot, partition, pa.array(numbers, pa.int64()))
    ]


def _cards(snapshot: Snapshot, partition: str, numbers: pa.Array) -> list[ImageCard]:
    rows = image_rows(snapshot, partition).take(numbers)
    planned = snapshot.folder.table(PLAN, partition, "images", PLANNED).take(rows.column("planned"))
    tags = planned.column("tags").to_pylist()
    counts = _questions(snapshot, partition, rows.column("image_id").combine_chunks())
    return [
        ImageCard(
            partition,
            row["object_id"],
            row["outcome"],
            place_of(snapshot, row["uri"], row["row"]),
            leaves_of(of_image or ()),
            counts[row["image_id"]].total(),
            counts[row["image_id"]][KEPT],
        )
        for row, of_image in zip(rows.to_pylist(), tags, strict=True)
    ]


def _questions(snapshot: Snapshot, partition: str, image_ids: pa.Array) -> dict[str | None, Counter[str]]:
    """Return the outcomes of the questions about some images."""
    rows = read_rows(snapshot.folder, partition)
    rows = rows.filter(pc.is_in(rows.column("image_id"), image_ids)).select(["image_id", "outcome"]).to_pylist()
    counts: dict[str | None, Counter[str]] = {image: Counter() for image in image_ids.to_pylist()}
    for row in rows:
        counts[row["image_id"]][row["outcome"]] += 1
    return counts


def place_of(snapshot: Snapshot, uri: str | None, row: int | None) -> str:
    """Return the name of an image as samples show it; empty once it was purged."""
    if not uri:
        return ""
    return snapshot.shown(uri) if row is None else f"{snapshot.shown(uri)} row {row}"
