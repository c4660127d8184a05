"""`synth purge`: takes images out of an output folder, with everything that was made of them.

First the ids go onto the denylist, so that whatever happens next nothing brings them back; then each table that holds
them gets a revision that replaces the earlier ones. A bare record of the object stays in `0-listed` (its id, no uri, no
metadata), and one in `1-tagged` that says `purged`, so that the sums of `synth status` still hold. Decisions and shards
follow by running `select` and `pack`; last, the files that held the rows are deleted. A purge is on record from its
start to its end: in between some tables and files hold the image and some do not, so no other run starts, and purging
again continues a purge that was killed.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.copies import find_copies, objects
from synthgen.commands.lookup import find_objects
from synthgen.commands.report import forget_report
from synthgen.errors import LeaseHeld, UserMistake
from synthgen.job import run_record
from synthgen.job.funnel import products
from synthgen.job.request import RunRequest
from synthgen.run import StageRange, run
from synthgen.stages.contract import Job
from synthgen.stages.pack import redact
from synthgen.stages.plan.epochs import latest_epoch, pending_partitions
from synthgen.stages.score.receipt import count_partition
from synthgen.stages.select.forgetting import forget_embeddings
from synthgen.store import CommitLog, Lease, Receipt, RunFolder, TablePart
from synthgen.store.denylist import Denylist, extend_denylist, read_denylist
from synthgen.store.gc import collect_garbage
from synthgen.tables import (
    ASK,
    GENERATE,
    LIST,
    PLAN,
    SCORE,
    STAGES,
    TAG,
    StageSpec,
    changed_counts,
    split_partition,
)

Logs = Mapping[StageSpec, CommitLog]
Tables = Mapping[str, pa.Table]  # the tables of one partition of a stage

MIXED = "mixed"  # the fingerprint of a table whose rows had several
# What a bare record of an object keeps; every other column is empty.
KEPT = ("object_id", "bucket")
BARE = {
    (LIST, "objects"): {"uri": "", "version": ""},
    (TAG, "images"): {"outcome": "quarantined", "reason": "purged"},
}


@dataclass(frozen=True)
class PurgeResult:
    """The result of a purge.

    Attributes:
        objects: Objects taken out.
        images: Contents taken out; copies of the same bytes are one.
        partitions: Partitions written again.
        rows: How many fewer questions, pairs and samples there are, by their name in the singular.
        files: Files deleted.
        image_ids: Of the contents that the names mean; of all that were ever purged where none is named.
    """

    objects: int
    images: int
    partitions: int
    rows: Mapping[str, int]
    files: int
    image_ids: frozenset[str] = frozenset()


def purge(folder: RunFolder, job: Job, names: Collection[str]) -> PurgeResult:
    """Take out all images with one of these names and all with the same bytes.

    Args:
        folder: The output folder.
        job: Its job.
        names: Object or image ids, uris or the ends of uris; without one, a purge that was killed is finished.

    Raises:
        UserMistake: A name means nothing or several objects, or no purge was cut short.
        Exception: It failed; a note of the exception says so if the purge is half done.
    """
    if not names and not run_record.unfinished_purge(folder):
        raise UserMistake(f"{folder.out.url}: no purge was cut short here; name images by id, uri or file name")
    try:
        return _purge(folder, job, names)
    except Exception as error:
        if not isinstance(error, LeaseHeld) and run_record.unfinished_purge(folder):
            error.add_note(f"the purge is half done; finish it with: {run_record.finishing_purge(folder)}")
        raise


def _purge(folder: RunFolder, job: Job, names: Collection[str]) -> PurgeResult:
    """Take out images, or finish what an earlier purge began."""
    before = products(folder)
    with folder.lease() as lease:
        forget_report(folder)
        taken, images, partitions = _rewrite_tables(folder, names, lease, redaction_of(job))
    gone = images or read_denylist(folder.out).image_ids
    rest = [spec for spec in STAGES if not spec.is_rewritten and folder.log(spec).partitions]
    if rest:
        request = RunRequest.of(run_record.record_of(folder))
        run(folder, job, request, StageRange(rest[0].typed, rest[-1].typed, is_purge=True))
    with folder.lease() as lease:
        forget_embeddings(folder)
        deleted = collect_garbage(folder, lease)
        lease.check()
        run_record.finish_change(folder, "purge")
    after = products(folder)
    rows = {name: count - after[name] for name, count in before.items()}
    return PurgeResult(taken, len(images), partitions, rows, deleted.files, gone)


def redaction_of(job: Job) -> Callable[[str], str]:
    """Return the function that returns what samples show of a uri."""
    return partial(redact.uri, root=redact.root_of(job.pipeline.source))


def _rewrite_tables(
    folder: RunFolder, names: Iterable[str], lease: Lease, shown: Callable[[str], str]
) -> tuple[int, frozenset[str], int]:
    """Write the tables again without these images; `shown` returns what samples show of a uri.

    Returns:
        The number of objects, the contents, and the number of partitions.
    """
    _check_plan(folder)
    known = read_denylist(folder.out)
    wanted = frozenset(names) - known.object_ids - known.image_ids
    matches = find_objects(folder.out.url, lambda: (rows for _, rows in objects(folder)), wanted, shown, guess=False)
    named = frozenset[str]().union(*matches.values())
    copies = find_copies(folder, named, known.object_ids)
    object_ids, image_ids = copies.of(named)
    more = Denylist(object_ids - known.object_ids, image_ids - known.image_ids)
    # In this order: a purge that is recorded first and killed then would no longer know its images.
    if more.object_ids or more.image_ids:
        extend_denylist(folder.out, more)
    run_record.start_change(folder, "purge", "edit")
    gone = Denylist(known.object_ids | more.object_ids, known.image_ids | more.image_ids)
    before = {spec: folder.log(spec) for spec in STAGES if spec.is_rewritten}
    partitions = 0
    for name in copies.partitions:
        changed = [
            _rewrite(folder, spec, before, own, gone, lease)
            for spec in before
            for own in _read_first(before[spec], spec, name)
        ]
        partitions += any(changed)
    return len(more.object_ids), more.image_ids, partitions


def _read_first(log: CommitLog, spec: StageSpec, partition: str) -> list[str]:
    """Return the partitions of a stage that belong to one, those of a pass after that of a pass that it has read."""
    left, found = log.within(partition), list[str]()
    while left:
        waiting = {own for own in left if set(_passes_read(log, spec, own)) & set(left) - {own}}
        assert len(waiting) < len(left), f"partitions read each other: {left}"
        found += [own for own in left if own not in waiting]
        left = [own for own in left if own in waiting]
    return found


def _passes_read(log: CommitLog, spec: StageSpec, partition: str) -> list[str]:
    """Return the partitions of the same stage that the latest revision of a partition has read."""
    latest, prefix = log.latest(partition), f"{spec.folder}/"
    keys = latest.receipt.reads if latest else ()
    return sorted({key.removeprefix(prefix).rpartition(".")[0] for key in keys if key.startswith(prefix)})


def _check_plan(folder: RunFolder) -> None:
    """Raise UserMistake after a plan that was cut short: it is bound to the rows that it saw."""
    last, log = latest_epoch(folder), folder.log(PLAN)
    if last and pending_partitions(log, last):
        url = folder.out.url
        raise UserMistake(
            f"{url}: a plan was cut short here; finish it with `synth run --out {url} --until plan`, then purge"
        )


def _rewrite(folder: RunFolder, spec: StageSpec, before: Logs, partition: str, gone: Denylist, lease: Lease) -> bool:
    """Commit a revision of a partition without the images that are gone; return False if it holds none of them.

    `before` has the logs before the purge.
    """
    log = before[spec].only([partition])
    latest = log.latest(partition)
    if latest is None:
        return False
    stage, of_pairs = folder.stage(spec), split_partition(partition)[0]
    tables = {name: stage.current(log, partition, name) for name in sorted(log.tables())}
    pairs = folder.table(GENERATE, of_pairs, "pairs") if spec is SCORE else tables.get("pairs")
    remaining = {name: _without(spec, name, tables, pairs, gone) for name in tables}
    if all(remaining[name].equals(rows) for name, rows in tables.items()):
        return False
    if spec is SCORE:
        scored = {name: rows for name, rows in remaining.items() if rows.num_rows}
        counts = Counter(changed_counts(log.counts([partition]), count_partition(folder, partition, scored)))
    else:
        counts = Counter[str]()
        for name, rows in tables.items():
            counts.update(_count(spec, name, remaining[name], pairs))
            counts.subtract(_count(spec, name, rows, pairs))
    if spec in (ASK, GENERATE):
        counts["retired"] -= _never_asked(folder, before, partition, gone, tables[spec.watched])
    revision = log.next_revision(partition)
    parts = {
        name: TablePart(
            (stage.write(name, partition, revision, rows),), _fingerprint(log, partition, name), replaces=True
        )
        for name, rows in remaining.items()
    }
    # A pair's place among equals is that of its first commit; everything else goes by the latest.
    epoch = log.partitions[partition][0].epoch if spec is GENERATE else latest.epoch
    reads = _reads(folder, spec, before, of_pairs, latest.receipt)
    folder.commit_or_fail(spec, Receipt(partition, revision, parts, dict(counts), reads, epoch), lease)
    return True


def _fingerprint(log: CommitLog, partition: str, table: str) -> str:
    """Return the fingerprint of all rows of a table; that of none where an update of scores was cut short half-way."""
    made = {part.fingerprint for part in log.parts(partition, table)}
    is_mixed = len(made) > 1 and table.startswith("scores/")
    return MIXED if is_mixed else log.fingerprint(partition, table) or ""


def _reads(folder: RunFolder, spec: StageSpec, before: Logs, partition: str, receipt: Receipt) -> Mapping[str, str]:
    """Return the commits as they are now, so that the purge itself makes nothing stale.

    What was stale before it stays so.
    """
    others = {other: [partition] for other in spec.inputs} | {spec: _passes_read(before[spec], spec, receipt.partition)}
    read = {
        key: digest for other, names in others.items() for key, digest in before[other].digests(other, names).items()
    }
    settings = {key: digest for key, digest in receipt.reads.items() if "/" not in key}
    if receipt.reads != read | settings:
        return receipt.reads
    now = (folder.digests((other,), names) for other, names in others.items())
    return {key: digest for part in now for key, digest in part.items()} | settings


def _without(spec: StageSpec, name: str, tables: Tables, pairs: pa.Table | None, gone: Denylist) -> pa.Table:
    """Return a table without the images that are gone; objects stay as bare records."""
    rows = tables[name]
    if pairs is not None and name.startswith("scores/"):  # by assignment, so that those of replaced pairs go too
        remaining = pairs.filter(pc.invert(_is_gone(pairs, gone))).column("assignment_id").combine_chunks()
        return rows.filter(pc.is_in(rows.column("assignment_id"), remaining))
    mask = _is_gone(rows, gone)
    bare = BARE.get((spec, name))
    if bare is None or not pc.any(mask).as_py():
        return rows.filter(pc.invert(mask))
    listed = rows.to_pylist()
    records = [
        {**dict.fromkeys(row), **bare, **{key: row[key] for key in KEPT if key in row}} if is_gone else row
        for is_gone, row in zip(mask.to_pylist(), listed, strict=True)
    ]
    return pa.Table.from_pylist(records, rows.schema)


def _is_gone(rows: pa.Table, gone: Denylist) -> pa.ChunkedArray:
    """Return which rows are of an object or a content that is gone, or of a question that was written for it."""
    mask = pc.is_in(rows.column("object_id"), pa.array(sorted(gone.object_ids), pa.string()))
    for name in {"image_id", "partner"} & set(rows.schema.names):
        mask = pc.or_(mask, pc.is_in(rows.column(name), pa.array(sorted(gone.image_ids), pa.string())))
    return mask


def _count(spec: StageSpec, name: str, rows: pa.Table, pairs: pa.Table | None) -> Counter[str]:
    """Return how many rows a table adds to each count of its stage; scores of replaced pairs are not counted."""
    if pairs is not None and name.startswith("scores/"):
        rows = rows.filter(pc.is_in(rows.column("pair_id"), pairs.column("pair_id").combine_chunks()))
    return spec.table(name).count_rows(rows)


def _never_asked(folder: RunFolder, before: Logs, partition: str, gone: Denylist, outcomes: pa.Table) -> int:
    """Return how many assignments are gone that were retired before they had an outcome."""
    rows = folder.stage(PLAN).current(before[PLAN], partition, "assignments")
    rows = rows.filter(pc.and_(_is_gone(rows, gone), rows.column("retired")))
    asked = set(outcomes.column("assignment_id").to_pylist())
    return sum(assignment not in asked for assignment in rows.column("assignment_id").to_pylist())
