"""Everything that the tables of a run say of one image: how it was read, its tags, its plan, its questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.browse.images import image_rows, place_of
from synthgen.commands.browse.pair import Other, questions_about
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.tables import LIST, PLAN, TAG

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ImageView:
    """What is known of an image.

    Attributes:
        outcome: In the plan, or else of reading it, with its reason.
        listed: Of OBJECTS; empty in a folder without it.
        seen: Of IMAGES; empty before it was looked at.
        planned: Of PLANNED_IMAGES; empty where the plan does not have it.
        tags: (path, score, tagger) of all, the best first.
        copies: The names of other objects with the same bytes.
    """

    partition: str
    object_id: str
    image_id: str
    outcome: str
    place: str
    listed: Row
    seen: Row
    planned: Row
    tags: Sequence[tuple[str, float | None, str]]
    copies: Sequence[str]
    questions: Sequence[Other]


def find_image(snapshot: Snapshot, partition: str, object_id: str) -> ImageView | None:
    """Return what is known of an image; None if there is none of that id in the partition."""
    if partition not in snapshot.partitions:
        return None
    rows = image_rows(snapshot, partition)
    own = rows.filter(pc.equal(rows.column("object_id"), object_id)).to_pylist()
    if not own:
        return None
    listed, seen, planned = (
        _row(snapshot, spec, partition, table, object_id)
        for spec, table in ((LIST, "objects"), (TAG, "images"), (PLAN, "images"))
    )
    copies = [snapshot.shown(uri) for uri in planned.get("uris") or () if uri != own[0]["uri"]]
    return ImageView(
        partition,
        object_id,
        own[0]["image_id"] or "",
        own[0]["outcome"],
        place_of(snapshot, own[0]["uri"], own[0]["row"]),
        listed,
        {name: value for name, value in seen.items() if name not in ("thumbnail", "embedding")},
        planned,
        _tags(snapshot, partition, object_id) or _of_plan(planned),
        copies,
        questions_about(snapshot, partition, own[0]["image_id"]) if own[0]["image_id"] else [],
    )


def _row(snapshot: Snapshot, spec: Any, partition: str, table: str, object_id: str) -> Row:
    rows = snapshot.folder.table(spec, partition, table)
    found: list[Row] = rows.filter(pc.equal(rows.column("object_id"), object_id)).to_pylist()
    return found[0] if found else {}


def _tags(snapshot: Snapshot, partition: str, object_id: str) -> list[tuple[str, float | None, str]]:
    """Return the tags that each tagger gave an image."""
    tables = sorted(name for name in snapshot.folder.log(TAG).tables() if name.startswith("tags/"))
    found: list[tuple[str, float | None, str]] = []
    for table in tables:
        rows: pa.Table = snapshot.folder.table(TAG, partition, table)
        for row in rows.filter(pc.equal(rows.column("object_id"), object_id)).to_pylist():
            found += [(tag["path"], tag["score"], tag["tagger"] or "") for tag in row["tags"] or ()]
    return sorted(found, key=lambda tag: (-(tag[1] or 0.0), tag[0]))


def _of_plan(planned: Row) -> list[tuple[str, float | None, str]]:
    return [(tag["path"], tag["score"], tag["tagger"] or "") for tag in planned.get("tags") or ()]
