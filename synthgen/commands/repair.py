"""Partitions that are to be done again: the way back from a damaged file, at the price of what was in it and no more.

Comes in: names as the messages about damage print them (`3-generated/e001-00004`). Goes out: one more commit for each, after which
the next run finds them not done. What else is on record says how little that has to be:

    0-listed     listed again where it stood, for the objects that tagging saw of it; what was made of them stays
    2-planned    planned again; what was asked and what was taken back is read from its other files and from `3-generated`
    3-generated  the rows of undamaged files stay, the others are asked or scored again; without damage all are, under new ids
    others       emptied without a look at their files: they cost no model of generation

What comes of a partition needs no such care, since every stage notices that what it read is another.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.tables import GENERATE, PLAN, TAG, stage_at
from synthgen.errors import Damaged, UserMistake, nearest
from synthgen.ingest.sources import list_objects
from synthgen.job import run_record
from synthgen.job.funnel import FOLDERS
from synthgen.store import CommitLog, Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.commits import EMPTIED
from synthgen.store.denylist import read_denylist
from synthgen.tables import (
    ASSIGNMENTS,
    IMAGES,
    OBJECTS,
    PAIRS,
    PLANNED_IMAGES,
    SCORES,
    object_id,
    object_row,
    outcome_counts,
    plan_counts,
    score_counts,
    table,
)

LISTED, TAGGED, PLANNED, GENERATED = FOLDERS[:4]
NOTHING = TablePart((), EMPTIED, replaces=True)
FOUND_AGAIN = (
    "object_id",
    "uri",
    "version",
    "row",
    "source_meta",
)  # of an object, in the rows of its image in the plan


def redo(out: Folder, names: Sequence[str], lease: Lease) -> int:
    """Has these partitions done again by the next run; returns how many are. All names are checked first."""
    known = {
        f"{stage}/{partition}" for stage in FOLDERS for partition in StageFolder(out, stage_at(stage)).log().partitions
    }
    for name in names:
        if name not in known:
            raise UserMistake(f"--partition {name}: is not in {out.url}; {nearest(name, known)}")
    special = {LISTED: _listed_again, PLANNED: _unplanned, GENERATED: _ungenerated}
    done = 0
    for name in sorted(set(names)):  # what is made of a partition may say what was in it
        folder, _, partition = name.partition("/")
        stage = StageFolder(out, stage_at(folder))
        if stage.log().holds(partition):
            done += special[folder](stage, partition, lease) if folder in special else stage.empty(partition, lease)
    return done


# --- objects ----------------------------------------------------------------------------------------------------------


def _listed_again(stage: Stage, partition: str, lease: Lease) -> bool:
    """The partition's record as the source has it now; where nothing says what was in it, it goes with all that came of it."""
    try:
        ids = _column(StageFolder(stage.out, TAG), partition, "images", IMAGES)
    except Damaged:
        ids = []
    if not ids:
        done = [StageFolder(stage.out, stage_at(one)).empty(partition, lease) for one in FOLDERS[:4]]
        return any(done)
    rows = list(_found(stage.out, partition, ids).values())
    log = stage.log()
    revision, before = log.next_revision(partition), log.counts([partition])
    objects = table(sorted(rows, key=lambda row: (row["bucket"], row["object_id"])), OBJECTS)
    part = TablePart(
        (stage.write("objects", partition, revision, objects),),
        log.fingerprint(partition, "objects") or "",
        replaces=True,
    )
    counts = {"listed": len(rows) - before.get("listed", 0)}
    stage.insist(Receipt(partition, revision, {"objects": part}, counts), lease, log.partitions[partition][0].epoch)
    return True


def _found(out: Folder, partition: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The OBJECTS row of each id: as the source tells it, else as the plan remembers it, else bare. What was purged stays bare."""
    found: dict[str, dict[str, Any]] = {
        one: {**dict.fromkeys(OBJECTS.names), "object_id": one, "uri": "", "version": "", "bucket": 0} for one in ids
    }
    open_ids = found.keys() - read_denylist(out).object_ids
    for one in _planned_images(out, partition):
        if one["object_id"] in open_ids:
            found[one["object_id"]] = object_row(**{name: one[name] for name in FOUND_AGAIN[1:]}, bytes=None)
    left = set(open_ids)
    for listed in list_objects(run_record.source(out)) if left else ():
        name = object_id(listed.uri, listed.version, listed.row)
        if name in left:
            found[name] = object_row(**vars(listed))
            left.remove(name)
            if not left:
                break
    return found


def _planned_images(out: Folder, partition: str) -> list[dict[str, Any]]:
    stage, columns = StageFolder(out, PLAN), pa.schema([PLANNED_IMAGES.field(name) for name in FOUND_AGAIN])
    try:
        rows: list[dict[str, Any]] = stage.current(stage.log(), partition, "images", columns.names).to_pylist()
    except Damaged:
        return []
    return rows


def _column(stage: Stage, partition: str, name: str, schema: pa.Schema) -> list[str]:
    """The object ids in a table of a partition."""
    ids = pa.schema([schema.field("object_id")])
    found: list[str] = stage.current(stage.log(), partition, name, ids.names).column("object_id").to_pylist()
    return found


# --- the plan ---------------------------------------------------------------------------------------------------------


def _unplanned(stage: Stage, partition: str, lease: Lease) -> bool:
    """The plan of a partition without its damaged files; what is not known from others was asked, so `3-generated` has it."""
    log, generated = stage.log(), StageFolder(stage.out, GENERATE)
    known = _last(_readable(stage, log, partition, "assignments", ASSIGNMENTS), "assignment_id")
    asked = _last(_readable(generated, generated.log(), partition, "pairs", PAIRS), "assignment_id")
    asked = asked.filter(
        pc.invert(pc.is_in(asked.column("assignment_id"), known.column("assignment_id").combine_chunks()))
    )
    columns = {name: asked.column(name) for name in ASSIGNMENTS.names if name in PAIRS.names}
    columns |= {"because": pa.nulls(asked.num_rows), "retired": pa.array([False] * asked.num_rows)}
    rows = pa.concat_tables([known, pa.table({name: columns[name] for name in ASSIGNMENTS.names}, schema=ASSIGNMENTS)])
    counts, parts = plan_counts(rows.column("retired").to_pylist()), {}
    if _is_whole(stage, log, partition, "images"):
        counts.update(
            {name: count for name, count in log.counts([partition]).items() if name not in ("assigned", "retired")}
        )
    else:
        parts["images"] = NOTHING
    parts["assignments"] = _rewritten(stage, log, partition, "assignments", rows)
    return _commit(stage, log, partition, parts, counts, lease)


# --- pairs and scores -------------------------------------------------------------------------------------------------


def _ungenerated(stage: Stage, partition: str, lease: Lease) -> bool:
    """The outcomes of a partition without its damaged files; where none is damaged all of them are taken back."""
    log = stage.log()
    tables = {name for commit in log.partitions[partition] for name in commit.receipt.tables}
    damaged = {name for name in tables if not _is_whole(stage, log, partition, name)}
    if not damaged:
        return stage.empty(partition, lease)
    parts = dict.fromkeys(sorted(damaged), NOTHING)
    rows = _last(_readable(stage, log, partition, "pairs", PAIRS), "assignment_id")
    counts = outcome_counts(rows.select(["outcome", "reason"]).to_pylist())
    counts["retired"] = log.counts([partition]).get("retired", 0)
    for name in tables - damaged - {"pairs"}:
        scores = stage.current(log, partition, name)
        counts.update(
            score_counts(
                scores.filter(pc.is_in(scores.column("pair_id"), rows.column("pair_id").combine_chunks())).to_pylist()
            )
        )
    if "pairs" in damaged:
        parts["pairs"] = _rewritten(stage, log, partition, "pairs", rows)
    return _commit(stage, log, partition, parts, counts, lease)


# --- tables -----------------------------------------------------------------------------------------------------------


def _readable(stage: Stage, log: CommitLog, partition: str, name: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The current files of a table that are not damaged, oldest first, behind an empty one."""
    yield schema.empty_table()
    for part in log.parts(partition, name):
        for file in part.files:
            try:
                yield from stage.files(Receipt(partition, 1, {name: TablePart((file,), "")}), name, schema.names)
            except Damaged:
                continue


def _is_whole(stage: Stage, log: CommitLog, partition: str, name: str) -> bool:
    """Whether every current file of a table is as it was committed."""
    try:
        for _ in stage.read(log, partition, name):
            pass
    except Damaged:
        return False
    return True


def _last(files: Iterable[pa.Table], key: str) -> pa.Table:
    """The rows of some files: of those with one key, the last."""
    rows = pa.concat_tables(files)
    last = {value: place for place, value in enumerate(rows.column(key).to_pylist())}
    return rows.take(pa.array(sorted(last.values()), pa.int64()))


def _rewritten(stage: Stage, log: CommitLog, partition: str, name: str, rows: pa.Table) -> TablePart:
    file = stage.write(name, partition, log.next_revision(partition), rows)
    return TablePart((file,), EMPTIED, replaces=True)


def _commit(
    stage: Stage, log: CommitLog, partition: str, parts: Mapping[str, TablePart], counts: Counter[str], lease: Lease
) -> bool:
    """Commits what is left of a partition, and by how much that changes its counts; nothing under `reads`, so that it is to do."""
    counts.subtract(log.counts([partition]))
    # A pair's place among equals is told by its first commit.
    epoch = log.partitions[partition][0 if stage.name == GENERATED else -1].epoch
    stage.insist(
        Receipt(
            partition, log.next_revision(partition), parts, {name: count for name, count in counts.items() if count}
        ),
        lease,
        epoch,
    )
    return True
