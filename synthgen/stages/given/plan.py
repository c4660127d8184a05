"""The plan of an imported set: every image that can be used is planned, with an assignment for each turn of its row.

Rows whose images have the same bytes stay apart, each with its own turns: what is the same in two rows is for `select`
to find, where texts and images can be compared. A partition needs no other one, so it is planned again when it was
tagged again, and in an update.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.ingest.sources.instructions import Conversation
from synthgen.stages.contract import StageRun
from synthgen.stages.given.labels import Label, labels_of
from synthgen.stages.given.partitions import done_here, pending_after
from synthgen.store import Receipt, RunFolder, TablePart
from synthgen.tables import (
    ASSIGNMENTS,
    LIST,
    PLAN,
    PLANNED_IMAGES,
    TAG,
    changed_counts,
    make_id,
    table,
    tags_table,
)
from synthgen.workers import Task

VERSION = "1"  # of how turns become assignments; part of the fingerprint
LISTED = ["object_id", "uri", "version", "row", "source_meta", "source", "given"]
Row = dict[str, Any]


def pending(run: StageRun) -> list[Task]:
    """Return the partitions that were tagged since they were planned; in an update, those of other settings too."""
    return pending_after(run, TAG, "assignments", _fingerprint(run))


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Plan the partitions in this process."""
    return done_here(run, tasks, _plan)


def _fingerprint(run: StageRun) -> str:
    return make_id("given plan", VERSION, run.job.fingerprint("planned"))


def _plan(run: StageRun, task: Task) -> Receipt:
    folder, stage, name = run.folder, run.folder.stage(PLAN), task.partition
    rows = _tagged_rows(folder, name, run.job.pipeline.tag.taggers)
    conversations = [Conversation.parse(row["given"]) for row in rows]
    labels = labels_of(conversations, run.job.definitions.prompts.types)
    wanted = [
        _assignment(row, ordinal, label)
        for row, own in zip(rows, labels, strict=True)
        for ordinal, label in enumerate(own)
    ]
    before = folder.table(PLAN, name, "assignments")
    tables = {
        "images": table(map(_image, rows), PLANNED_IMAGES),
        "assignments": pa.concat_tables([table(wanted, ASSIGNMENTS), _retired(before, wanted)]),
    }
    parts = {
        key: TablePart((stage.write(key, name, task.revision, made),), _fingerprint(run), replaces=True)
        for key, made in tables.items()
    }
    counts: dict[str, int] = {}
    for key, made in tables.items():
        counts |= PLAN.table(key).count_rows(made)
    changes = changed_counts(folder.log(PLAN).counts([name]), counts)
    return Receipt(name, task.revision, parts, changes, folder.digests(PLAN.inputs, [name]), task.epoch)


def _tagged_rows(folder: RunFolder, partition: str, taggers: Sequence[str]) -> list[Row]:
    """Return the objects of a partition whose images can be used, with what was listed of them, and their tags."""
    images = folder.table(TAG, partition, "images", ["object_id", "image_id", "outcome", "rights"])
    tagged = images.filter(pc.equal(images.column("outcome"), "tagged"))
    known = {row["object_id"]: row for row in tagged.to_pylist()}
    tags: dict[str, list[Any]] = {}
    for tagger in taggers:
        for row in folder.table(TAG, partition, tags_table(tagger)).to_pylist():
            tags.setdefault(row["object_id"], []).extend(row["tags"])
    listed = folder.table(LIST, partition, "objects", LISTED).to_pylist()
    return [
        {**row, **known[row["object_id"]], "tags": tags.get(row["object_id"], [])}
        for row in listed
        if row["object_id"] in known and row["given"]
    ]


def _image(row: Row) -> Row:
    kept = ("object_id", "image_id", "uri", "version", "row", "tags", "source_meta", "source", "rights")
    return {**{name: row[name] for name in kept}, "outcome": "planned", "uris": [row["uri"]]}


def _assignment(row: Row, ordinal: int, label: Label) -> Row:
    return {
        "assignment_id": make_id("given turn", row["object_id"], str(ordinal)),
        "image_id": row["image_id"],
        "object_id": row["object_id"],
        **vars(label),
        "ordinal": ordinal,
        "because": [],
        "retired": False,
    }


def _retired(before: pa.Table, wanted: Sequence[Row]) -> pa.Table:
    """Return the assignments of the plan so far that are no longer wanted, marked as retired."""
    ids = pa.array([row["assignment_id"] for row in wanted], pa.string())
    gone = before.filter(pc.invert(pc.is_in(before.column("assignment_id"), ids)))
    place = gone.schema.get_field_index("retired")
    return gone.set_column(place, ASSIGNMENTS.field("retired"), pa.array([True] * gone.num_rows, pa.bool_()))
