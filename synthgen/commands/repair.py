"""`synth retry --partition`: repairs partitions with a damaged file, at the price of its rows and no more.

Each partition gets one more commit, after which the next run finds it not done. What is redone depends on what else is
on record:

    0-listed     listed again where it stood, for the objects that tagging saw of it; everything made of them stays
    2-planned    planned again; what was asked and what was retired is read from its other files and from `3-generated`
    3-asked      rows of undamaged files stay, the others are asked again, and then answered; if no file is damaged,
                 all are
    3-generated  rows of undamaged files stay, the others are asked or scored again; if no file is damaged, all are,
                 under new ids
    3-scored     tables without a damaged file stay, the others are scored again; if no file is damaged, all are
    others       emptied without reading their files: redoing them needs no generating model

What follows from a partition needs no such care, since every stage notices that its input has changed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.console import note
from synthgen.errors import Damaged, UserMistake, nearest
from synthgen.ingest.sources import kind_of_source, list_objects
from synthgen.job import run_record
from synthgen.store import Lease, Receipt, RunFolder, TablePart
from synthgen.store.commits import EMPTIED
from synthgen.store.denylist import read_denylist
from synthgen.store.stage_folder import last_by_key
from synthgen.tables import (
    ASK,
    ASSIGNMENTS,
    GENERATE,
    LIST,
    OBJECTS,
    PAIRS,
    PLAN,
    SCORE,
    STAGES,
    TAG,
    StageSpec,
    changed_counts,
    object_row,
    split_count,
    stage_at,
    table,
)

NOTHING = TablePart((), EMPTIED, replaces=True)
FOUND_AGAIN = ("uri", "version", "row", "source_meta", "source")  # of an object, in the row of its image in the plan


def repair(folder: RunFolder, names: Sequence[str], lease: Lease) -> int:
    """Have these partitions redone by the next run.

    Args:
        folder: The output folder.
        names: As messages about damage print them (`3-generated/e001-00004`). All are checked before anything is done.
        lease: On the folder.

    Returns:
        The number of partitions that will be redone.

    Raises:
        UserMistake: There is no such partition.
    """
    known = {f"{spec.folder}/{partition}" for spec in STAGES for partition in folder.log(spec).partitions}
    for name in names:
        if name not in known:
            raise UserMistake(f"--partition {name}: is not in {folder.out.url}; {nearest(name, known)}")
    remaining = frozenset(names) | (run_record.unfinished_names(folder, "repair") & known)
    special: Mapping[StageSpec, Callable[[RunFolder, str, Lease], bool]] = {
        **{LIST: _list_again, PLAN: _unplan},
        **{spec: partial(_ungenerate, spec) for spec in (ASK, GENERATE)},
        SCORE: _unscore,
    }
    done = 0
    for name in sorted(remaining):  # later stages may know what was in the partition of an earlier one
        run_record.start_names(folder, "repair", remaining)  # a repair that is killed here is finished from here on
        spec, partition = stage_at(name.partition("/")[0]), name.partition("/")[2]
        if folder.log(spec).holds(partition):
            done += special[spec](folder, partition, lease) if spec in special else folder.empty(spec, partition, lease)
        remaining -= {name}
    run_record.start_names(folder, "repair", remaining)
    return done


def finish_repair(folder: RunFolder) -> frozenset[str]:
    """Finish a repair that was cut short, if there is one, and return its partitions."""
    names = run_record.unfinished_names(folder, "repair")
    if names:
        note(f"a repair of {', '.join(sorted(names))} was cut short; this run finishes it")
        with folder.lease() as lease:
            repair(folder, (), lease)
    return names


# --- objects ----------------------------------------------------------------------------------------------------------


def _list_again(folder: RunFolder, partition: str, lease: Lease) -> bool:
    """Write the partition as the source has it now.

    Where nothing says which objects it had, it is emptied with everything that was made of them.
    """
    try:
        ids = folder.table(TAG, partition, "images", ["object_id"]).column("object_id").to_pylist()
    except Damaged:
        ids = []
    if not ids:
        rewritten = [spec for spec in STAGES if spec.is_rewritten]
        done = [folder.empty(spec, name, lease) for spec in rewritten for name in folder.log(spec).within(partition)]
        return any(done)
    rows = sorted(_find_again(folder, partition, ids).values(), key=lambda row: (row["bucket"], row["object_id"]))
    log = folder.log(LIST)
    revision, before = log.next_revision(partition), log.counts([partition])
    file = folder.stage(LIST).write("objects", partition, revision, table(rows, OBJECTS))
    parts = {"objects": TablePart((file,), log.fingerprint(partition, "objects") or "", replaces=True)}
    counts = {"listed": len(rows) - before.get("listed", 0)}
    epoch = log.partitions[partition][0].epoch
    folder.commit_or_fail(LIST, Receipt(partition, revision, parts, counts, epoch=epoch), lease)
    return True


def _find_again(folder: RunFolder, partition: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the OBJECTS row of each id: as the source lists it, else as the plan has it, else bare.

    Purged objects stay bare.
    """
    bare = {**dict.fromkeys(OBJECTS.names), "uri": "", "version": "", "bucket": 0}
    rows: dict[str, dict[str, Any]] = {key: {**bare, "object_id": key} for key in ids}
    wanted = rows.keys() - read_denylist(folder.out).object_ids
    source = run_record.source_of(run_record.record_of(folder))
    # Of a row of an instruction set, the plan does not have the conversation.
    planned = [] if kind_of_source(source.uri).has_pairs else _planned_images(folder, partition)
    for image in planned:
        if image["object_id"] in wanted:
            # An image with a newer date has the version by which it is found now, and the id by which it was listed.
            found = object_row(**{name: image[name] for name in FOUND_AGAIN}, bytes=None)
            rows[image["object_id"]] = {**found, "object_id": image["object_id"]}
    missing = set(wanted)
    for listed in list_objects(source) if missing else ():
        row = object_row(**vars(listed))
        name = row["object_id"]
        if name in missing:
            rows[name] = row
            missing.remove(name)
            if not missing:
                break
    return rows


def _planned_images(folder: RunFolder, partition: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = folder.table(PLAN, partition, "images", ["object_id", *FOUND_AGAIN]).to_pylist()
    except Damaged:
        return []
    return rows


# --- the plan ---------------------------------------------------------------------------------------------------------


def _unplan(folder: RunFolder, partition: str, lease: Lease) -> bool:
    """Commit the plan of a partition without its damaged files.

    Assignments that no undamaged file has were asked, so `3-generated` has them.
    """
    log = folder.log(PLAN)
    known = _undamaged(folder, PLAN, partition, "assignments")
    asked = _undamaged(folder, GENERATE, partition, "pairs")
    lost = pc.invert(pc.is_in(asked.column("assignment_id"), known.column("assignment_id").combine_chunks()))
    asked = asked.filter(lost)
    columns = {name: asked.column(name) for name in ASSIGNMENTS.names if name in PAIRS.names}
    unknown = pa.nulls(asked.num_rows)
    columns |= {"because": unknown, "thing": unknown, "retired": pa.array([False] * asked.num_rows)}
    restored = pa.table({name: columns[name] for name in ASSIGNMENTS.names}, schema=ASSIGNMENTS)
    rows = pa.concat_tables([known, restored])
    counts, parts = PLAN.table("assignments").count_rows(rows), {}
    if _is_undamaged(folder, PLAN, partition, "images"):
        before = log.counts([partition])
        counts.update({name: count for name, count in before.items() if name not in PLAN.other_counts})
    else:
        parts["images"] = NOTHING
    parts["assignments"] = _write(folder, PLAN, partition, "assignments", rows)
    return _commit(folder, PLAN, partition, parts, counts, lease)


# --- questions, pairs and scores --------------------------------------------------------------------------------------


def _ungenerate(spec: StageSpec, folder: RunFolder, partition: str, lease: Lease) -> bool:
    """Commit the outcomes of a partition without its damaged files; without damage, without any of them."""
    log, main = folder.log(spec), spec.watched
    tables = log.only([partition]).tables()
    damaged = {name for name in tables if not _is_undamaged(folder, spec, partition, name)}
    if not damaged:
        return folder.empty(spec, partition, lease)
    parts = dict.fromkeys(sorted(damaged), NOTHING)
    rows = _undamaged(folder, spec, partition, main)
    counts = spec.table(main).count_rows(rows)
    counts["retired"] = log.counts([partition]).get("retired", 0)
    for name in tables - damaged - {main}:
        scores, pair_ids = folder.table(spec, partition, name), rows.column("pair_id").combine_chunks()
        counts.update(spec.table(name).count_rows(scores.filter(pc.is_in(scores.column("pair_id"), pair_ids))))
    if main in damaged:
        parts[main] = _write(folder, spec, partition, main, rows)
    return _commit(folder, spec, partition, parts, counts, lease)


def _unscore(folder: RunFolder, partition: str, lease: Lease) -> bool:
    """Commit the scores of a pass without the tables that have damaged files; without damage, without any of them."""
    log = folder.log(SCORE)
    damaged = [name for name in log.only([partition]).tables() if not _is_undamaged(folder, SCORE, partition, name)]
    if not damaged:
        return folder.empty(SCORE, partition, lease)
    gone = {name.partition("/")[2] for name in damaged}
    counts = Counter({name: n for name, n in log.counts([partition]).items() if split_count(name)[0] not in gone})
    return _commit(folder, SCORE, partition, dict.fromkeys(sorted(damaged), NOTHING), counts, lease)


# --- tables -----------------------------------------------------------------------------------------------------------


def _undamaged(folder: RunFolder, spec: StageSpec, partition: str, name: str) -> pa.Table:
    """Return the current rows of a table as far as its files are not damaged."""
    known = spec.table(name)
    files = [known.schema.empty_table(), *_readable(folder, spec, partition, name)]
    return last_by_key(pa.concat_tables(files), known.key)


def _readable(folder: RunFolder, spec: StageSpec, partition: str, name: str) -> Iterator[pa.Table]:
    stage, columns = folder.stage(spec), spec.table(name).schema.names
    for part in folder.log(spec).parts(partition, name):
        for file in part.files:
            try:
                yield stage.read_file(name, partition, file, columns)
            except Damaged:
                continue


def _is_undamaged(folder: RunFolder, spec: StageSpec, partition: str, name: str) -> bool:
    """Return whether every current file of a table is as it was committed."""
    try:
        for _ in folder.stage(spec).read(folder.log(spec), partition, name):
            pass
    except Damaged:
        return False
    return True


def _write(folder: RunFolder, spec: StageSpec, partition: str, name: str, rows: pa.Table) -> TablePart:
    file = folder.stage(spec).write(name, partition, folder.log(spec).next_revision(partition), rows)
    return TablePart((file,), EMPTIED, replaces=True)


def _commit(
    folder: RunFolder,
    spec: StageSpec,
    partition: str,
    parts: Mapping[str, TablePart],
    counts: Counter[str],
    lease: Lease,
) -> bool:
    """Commit what remains of a partition and by how much that changes its counts.

    Without `reads` it is to be redone.
    """
    log = folder.log(spec)
    # A pair's place among equals is that of its first commit.
    epoch = log.partitions[partition][0 if spec is GENERATE else -1].epoch
    changes = changed_counts(log.counts([partition]), counts)
    receipt = Receipt(partition, log.next_revision(partition), parts, changes, epoch=epoch)
    folder.commit_or_fail(spec, receipt, lease)
    return True
