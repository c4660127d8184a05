"""`synth import`: an instruction set that is there already becomes a run, and a report says what became of each row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.open import open_run_folder
from synthgen.config.rows import RowsConfig
from synthgen.config.source import SourceConfig
from synthgen.console import note
from synthgen.errors import UserMistake
from synthgen.ingest.sources.instructions import SCHEME, recognise
from synthgen.job.request import RunRequest
from synthgen.stages.listing import REPEATED, not_listed
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, LIST, PACK, SELECT, TAG

PIPELINE = "imported"  # of a new folder whose first request names none
# What became of the rows whose image can be used.
KEPT, NO_PAIR, NOT_KEPT, NOT_PACKED = "kept", "every turn is empty", "select kept no turn of it", "its image is gone"


@dataclass(frozen=True)
class ImportRequest:
    """What is imported, as it was typed.

    Attributes:
        place: The set: a file or a folder.
        form: Of its rows, or None.
        root: Where the paths of its images start, or None.
        license: Of rows that state none, or None.
        settings: `section.key=value`.
    """

    place: str
    form: str | None = None
    root: str | None = None
    license: str | None = None
    pipeline: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class RowsReport:
    """What became of the rows of a set.

    Attributes:
        repeated: Rows that are the same as another one, which stands for them.
        kept: Rows of which a turn is in the shards.
        dropped: Why not → rows.
        pending: Rows that nothing is decided on yet.
    """

    rows: int
    repeated: int
    kept: int
    dropped: Mapping[str, int]
    pending: int


def run_request(request: ImportRequest, out: str) -> RunRequest:
    """Return the run that imports a set, with the form of its rows and the column of its images spelled out.

    Raises:
        UserMistake: There is no set of that form there.
    """
    if not out:
        example = f"synth import {request.place} --out data"
        raise UserMistake(f"missing: --out, the folder for the results; for example: {example}")
    uri = request.place if request.place.startswith(f"{SCHEME}:") else f"{SCHEME}:{request.place}"
    source = SourceConfig(uri=uri, root=request.root, rows=RowsConfig(form=request.form))
    found = recognise(source)
    if request.form is None:
        note(f"{request.place}: rows of the form {found.form.name}")
    settings = [*request.settings, f"source.rows.form={found.form.name}"]
    settings += [f"source.image_column={found.column}"] if found.column else []
    settings += [f"{key}={value}" for key, value in _typed(request).items() if value is not None]
    is_new = open_run_folder(out).record is None
    return RunRequest.typed(request.pipeline or (PIPELINE if is_new else None), uri, None, settings)


def _typed(request: ImportRequest) -> dict[str, str | None]:
    return {"source.root": request.root, "source.rows.license": request.license}


def report_of(folder: RunFolder) -> RowsReport:
    """Return what became of each row of an imported set."""
    rows, counts = folder.log(LIST).counts().get("listed", 0), folder.log(TAG).counts()
    dropped = Counter({name: count for name, count in counts.items() if name.startswith("quarantined.")})
    unpacked = _unpacked_images(folder)
    kept = 0
    for partition in folder.log(GENERATE).partitions:
        of_partition = _fates(folder, partition, unpacked)
        kept += of_partition.pop(KEPT, 0)
        dropped.update(of_partition)
    named = {name: count for name, count in sorted(dropped.items()) if count}
    repeated = not_listed(folder).get(REPEATED, 0)
    return RowsReport(rows, repeated, kept, named, rows - kept - sum(named.values()))


def text(report: RowsReport) -> str:
    """Return a report as lines for a terminal."""
    lines = [f"{report.rows:>12,}  rows", f"{report.kept:>12,}  in the shards"]
    lines += [f"{count:>12,}  {name.replace('quarantined.', '')}" for name, count in report.dropped.items()]
    lines += [f"{report.pending:>12,}  pending"] if report.pending else []
    repeated = f"; {report.repeated:,} more stand there twice" if report.repeated else ""
    return "\n".join([*lines, f"every row is accounted for{repeated}"] if not report.pending else lines)


def _fates(folder: RunFolder, partition: str, unpacked: pa.Array) -> Counter[str]:
    """Return what became of the rows of a partition that have pairs, or only empty turns."""
    pairs = folder.table(GENERATE, partition, "pairs", ["assignment_id", "pair_id", "object_id", "image_id", "outcome"])
    decisions = folder.table(SELECT, partition, "decisions", ["pair_id", "kept"])
    chosen = decisions.filter(decisions.column("kept")).column("pair_id").combine_chunks()
    is_pair, is_kept = pc.equal(pairs.column("outcome"), "pair"), pc.is_in(pairs.column("pair_id"), chosen)
    is_packed = pc.and_(is_kept, pc.invert(pc.is_in(pairs.column("image_id"), unpacked)))
    with_pair, left, packed = (
        len(pairs.filter(mask).column("object_id").unique()) for mask in (is_pair, is_kept, is_packed)
    )
    rows = len(pairs.column("object_id").unique())
    fates = Counter({NO_PAIR: rows - with_pair, KEPT: packed, NOT_PACKED: left - packed})
    if decisions.num_rows:
        fates[NOT_KEPT] = with_pair - left
    return fates


def _unpacked_images(folder: RunFolder) -> pa.Array:
    log = folder.log(PACK)
    tables = (folder.table(PACK, name, "unpacked", ["image_id"]) for name in log.partitions)
    return pa.array(sorted({image for rows in tables for image in rows.column("image_id").to_pylist()}), pa.string())
