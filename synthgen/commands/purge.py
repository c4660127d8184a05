"""Takes images out of an output folder, with all that came of them.

Comes in: a job, and object ids, image ids, uris or the ends of uris. Goes out: partitions written anew without them. First the ids
go onto the denylist, so that whatever happens next nothing brings them back; then each table that holds them gets a revision that
replaces the earlier ones. Of the object a bare record stays in `0-listed` (its id, no uri, nothing that came along) and one in
`1-tagged` that says `purged`, so that the sums of `synth status` still hold. Decisions and shards follow from the tables by running
`select` and `pack`; last, the files that held the rows are deleted. A purge is on record from its beginning to its end: in between
some tables and files hold the image and some do not, so no other run begins, and purging again goes on where a purge was killed.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.tables import LIST, PLAN, TAG, stage_at
from synthgen.commands.lookup import objects_meant
from synthgen.errors import UserMistake
from synthgen.job import funnel, run_record
from synthgen.job.job import Job
from synthgen.run import StageRange, run
from synthgen.stages.pack import redact
from synthgen.store import CommitLog, Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.denylist import Denylist, extend_denylist, read_denylist
from synthgen.store.gc import collect_garbage
from synthgen.tables import (
    ASSIGNMENTS,
    IMAGES,
    OBJECT_TAGS,
    OBJECTS,
    PAIRS,
    PLANNED_IMAGES,
    SCORES,
    outcome_counts,
    plan_counts,
    score_counts,
    tag_counts,
)

LISTED, TAGGED, PLANNED, GENERATED = "0-listed", "1-tagged", "2-planned", "3-generated"
KEYS = {
    "objects": "object_id",
    "images": "object_id",
    "tags": "object_id",
    "assignments": "assignment_id",
    "pairs": "assignment_id",
}
SCHEMAS = {
    "0-listed/objects": OBJECTS,
    "1-tagged/images": IMAGES,
    "1-tagged/tags": OBJECT_TAGS,
    "2-planned/images": PLANNED_IMAGES,
    "2-planned/assignments": ASSIGNMENTS,
    "3-generated/pairs": PAIRS,
    "3-generated/scores": SCORES,
}
# What is left of an object: everything but these is empty.
KEPT = ("object_id", "bucket")
BARE = {
    "0-listed/objects": {"uri": "", "version": ""},
    "1-tagged/images": {"outcome": "quarantined", "reason": "purged"},
}


@dataclass(frozen=True)
class PurgeResult:
    """What a purge came to."""

    objects: int
    images: int  # contents; copies of the same bytes are one
    partitions: int
    rows: Mapping[str, int]  # question, pair, sample → how many fewer there are
    files: int  # deleted


def purge(job: Job, names: Collection[str]) -> PurgeResult:
    """Takes out what has one of these names, and everything with the same bytes; without a name, what a killed purge left.

    From its first word on disk to its last no other run begins.
    """
    out = job.out
    if not names and not run_record.purge_cut_short(out):
        raise UserMistake(f"{out.url}: no purge was cut short here; name what is to go: ids, uris or file names")
    before = funnel.holds(out)
    with Lease.take(out) as lease:
        objects, images, partitions = _out_of_tables(out, names, lease, partial(redact.uri, root=job.pack_terms.root))
    reached = [
        stage
        for stage, folder in (("select", "4-selected"), ("pack", "5-shards"))
        if StageFolder(out, stage_at(folder)).log().partitions
    ]
    if reached:
        run(job, StageRange("select", reached[-1], purges=True))
    with Lease.take(out) as lease:
        deleted = collect_garbage(out, funnel.FOLDERS, lease)
        lease.check()
        run_record.finished(out, "purge")
    after = funnel.holds(out)
    return PurgeResult(
        objects, images, partitions, {name: before[name] - after[name] for name in before}, deleted.files
    )


def _out_of_tables(
    out: Folder, names: Iterable[str], lease: Lease, below: Callable[[str], str]
) -> tuple[int, int, int]:
    """Writes the tables anew; how many objects, contents and partitions that are. `below` gives what samples show of a uri."""
    _check_plan(StageFolder(out, PLAN))
    known = read_denylist(out)
    wanted = frozenset(names) - known.object_ids - known.image_ids
    meant = objects_meant(out.url, lambda: _objects(out), wanted, below)
    found = _with_copies(out, frozenset().union(*meant.values()))
    more = Denylist(found.object_ids - known.object_ids, found.image_ids - known.image_ids)
    # In this order: were it noted first and killed then, nobody would know any more what was to go.
    if more.object_ids or more.image_ids:
        extend_denylist(out, more)
    run_record.begun(out, "purge", "edit")
    everything = Denylist(known.object_ids | more.object_ids, known.image_ids | more.image_ids)
    logs = {stage: StageFolder(out, stage_at(stage)).log() for stage in (LISTED, TAGGED, PLANNED, GENERATED)}
    done = 0
    for name in _holding(out, logs[LIST.folder], everything):
        changed = [_rewrite(StageFolder(out, stage_at(stage)), logs, name, everything, lease) for stage in logs]
        done += any(changed)
    return len(more.object_ids), len(more.image_ids), done


def _holding(out: Folder, listed: CommitLog, gone: Denylist) -> list[str]:
    """The partitions of the objects that are gone; all stages cut the job into the same partitions."""
    stage, ids = StageFolder(out, LIST), pa.array(sorted(gone.object_ids), pa.string())
    columns = pa.schema([OBJECTS.field("object_id")])
    found = ((name, stage.current(listed, name, "objects", columns.names)) for name in listed.partitions)
    return [name for name, rows in found if pc.any(pc.is_in(rows.column("object_id"), ids)).as_py()]


def _with_copies(out: Folder, objects: frozenset[str]) -> Denylist:
    """These objects, and all others with their bytes."""
    ids, images, found = pa.array(sorted(objects), pa.string()), set[str](), set(objects)
    for rows in _objects(out):
        images.update(rows.filter(pc.is_in(rows.column("object_id"), ids)).column("image_id").drop_null().to_pylist())
    for rows in _objects(out):
        same = rows.filter(pc.is_in(rows.column("image_id"), pa.array(sorted(images), pa.string())))
        found.update(same.column("object_id").to_pylist())
    return Denylist(frozenset(found), frozenset(images))


def _objects(out: Folder) -> Iterable[pa.Table]:
    """object_id, uri, row and image_id (null until it is tagged) of every object, partition by partition."""
    listed, tagged = StageFolder(out, LIST), StageFolder(out, TAG)
    logs = listed.log(), tagged.log()
    columns = (
        pa.schema([OBJECTS.field(name) for name in ("object_id", "uri", "row")]),
        pa.schema([IMAGES.field("object_id"), IMAGES.field("image_id")]),
    )
    for name in logs[0].partitions:
        rows = listed.current(logs[0], name, "objects", columns[0].names)
        seen = tagged.current(logs[1], name, "images", columns[1].names)
        place = pc.index_in(rows.column("object_id"), seen.column("object_id").combine_chunks())
        yield rows.append_column("image_id", seen.column("image_id").take(place))


def _check_plan(stage: Stage) -> None:
    """A plan that was cut short is bound to the rows that it saw; it must come to its end first."""
    folder, log = stage.folder.child("epochs"), stage.log()
    names = folder.names(".json")
    if not names:
        return
    last = json.loads(folder.read(names[-1]))
    if any((latest := log.latest(name)) is None or latest.epoch < last["number"] for name in last["reads"]):
        raise UserMistake(
            f"{stage.out.url}: a plan was cut short here; finish it with `synth run --out {stage.out.url} --until plan`, then purge"
        )


def _rewrite(stage: Stage, logs: Mapping[str, CommitLog], partition: str, gone: Denylist, lease: Lease) -> bool:
    """Commits a revision of a partition without what is gone; False if it holds nothing of it. `logs` are those before the purge."""
    log = CommitLog({partition: logs[stage.name].partitions.get(partition, ())})
    latest = log.latest(partition)
    if latest is None:
        return False
    before = {table: _rows(stage, log, partition, table) for table in sorted(_tables(log))}
    after = {table: _without(f"{stage.name}/{table}", rows, gone, before) for table, rows in before.items()}
    if all(after[table].equals(rows) for table, rows in before.items()):
        return False
    revision, counts = log.next_revision(partition), Counter[str]()
    for table, rows in before.items():
        counts.update(_outcomes(f"{stage.name}/{table}", after[table], before))
        counts.subtract(_outcomes(f"{stage.name}/{table}", rows, before))
    if stage.name == GENERATED:
        counts["retired"] -= _never_asked(stage.out, partition, gone, before["pairs"])
    files = {table: stage.write(table, partition, revision, rows) for table, rows in after.items()}
    parts = {
        table: TablePart((file,), log.fingerprint(partition, table) or "", replaces=True)
        for table, file in files.items()
    }
    # A pair's place among equals is told by its first commit; everything else goes by the latest.
    epoch = log.partitions[partition][0].epoch if stage.name == GENERATED else latest.epoch
    stage.insist(
        Receipt(partition, revision, parts, dict(counts), _reads(stage, partition, latest.receipt, logs)), lease, epoch
    )
    return True


def _tables(log: CommitLog) -> set[str]:
    return {table for commits in log.partitions.values() for commit in commits for table in commit.receipt.tables}


def _rows(stage: Stage, log: CommitLog, partition: str, table: str) -> pa.Table:
    kind = table.partition("/")[0]
    return stage.current(log, partition, table, SCHEMAS[f"{stage.name}/{kind}"].names)


def _reads(stage: Stage, partition: str, before: Receipt, logs: Mapping[str, CommitLog]) -> Mapping[str, str]:
    """The commits as they are now, so that nothing is made anew for the sake of the purge, unless something was to be anyway."""
    earlier = {TAGGED: (LISTED,), PLANNED: (LISTED, TAGGED), GENERATED: (PLANNED,)}.get(stage.name, ())
    read = {key: digest for name in earlier for key, digest in logs[name].digests(name, [partition]).items()}
    if before.reads != read:
        return before.reads
    return {
        key: digest
        for name in earlier
        for key, digest in StageFolder(stage.out, stage_at(name)).log().digests(name, [partition]).items()
    }


def _without(name: str, rows: pa.Table, gone: Denylist, stage: Mapping[str, pa.Table]) -> pa.Table:
    """A table without what is gone; objects stay as bare records. `stage` holds the tables of the same partition."""
    if name.startswith(
        "3-generated/scores/"
    ):  # by assignment, for those of replaced pairs; what has no pair any more goes with them
        left = stage["pairs"].filter(pc.invert(_is_gone(stage["pairs"], gone))).column("assignment_id")
        return rows.filter(pc.is_in(rows.column("assignment_id"), left.combine_chunks()))
    mask = _is_gone(rows, gone)
    if name not in BARE or not pc.any(mask).as_py():
        return rows.filter(pc.invert(mask))
    listed = rows.to_pylist()
    bare = [{**dict.fromkeys(row), **BARE[name], **{key: row[key] for key in KEPT if key in row}} for row in listed]
    return pa.Table.from_pylist(
        [new if one else row for one, row, new in zip(mask.to_pylist(), listed, bare, strict=True)], rows.schema
    )


def _is_gone(rows: pa.Table, gone: Denylist) -> pa.ChunkedArray:
    """Which rows are of an object or a content that is gone."""
    found = pc.is_in(rows.column("object_id"), pa.array(sorted(gone.object_ids), pa.string()))
    if "image_id" not in rows.schema.names:
        return found
    return pc.or_(found, pc.is_in(rows.column("image_id"), pa.array(sorted(gone.image_ids), pa.string())))


def _outcomes(name: str, rows: pa.Table, stage: Mapping[str, pa.Table]) -> Counter[str]:
    """How many rows a table adds to each count of its stage. `stage` holds the tables of the same partition before the purge."""
    if name == "2-planned/images":
        return Counter(rows.column("outcome").to_pylist())
    if name == "2-planned/assignments":
        return plan_counts(rows.column("retired").to_pylist())
    if name == "1-tagged/images":
        return tag_counts(rows.select(["outcome", "reason", "detail"]).to_pylist())
    if name.startswith("3-generated/scores/"):  # those of pairs that were replaced are not counted any more
        return score_counts(
            rows.filter(pc.is_in(rows.column("pair_id"), stage["pairs"].column("pair_id").combine_chunks())).to_pylist()
        )
    return outcome_counts(rows.select(["outcome", "reason"]).to_pylist()) if name == "3-generated/pairs" else Counter()


def _never_asked(out: Folder, partition: str, gone: Denylist, pairs: pa.Table) -> int:
    """The assignments that are gone and were taken back before they had an outcome: `3-generated` counts them as retired."""
    stage = StageFolder(out, PLAN)
    log = stage.log()
    # The plan was written anew before: what it held is in the revisions up to the last but one.
    then = CommitLog({partition: log.partitions[partition][:-1]})
    rows = _rows(stage, then, partition, "assignments")
    rows = rows.filter(pc.and_(_is_gone(rows, gone), rows.column("retired")))
    asked = set(pairs.column("assignment_id").to_pylist())
    return sum(one not in asked for one in rows.column("assignment_id").to_pylist())
