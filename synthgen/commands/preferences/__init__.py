"""`synth preferences`: pairs of a kept and a rejected answer from a run's further samples, in TRL's form for DPO.

Nothing is asked: the samples are in the details of the scores that compared them. Each pair of the run gives a
preference or a reason why not, and the counts of both add up to all pairs. Images come from the run's shards.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.preferences.candidates import PREFERENCE, Candidates
from synthgen.commands.preferences.card import card, text
from synthgen.commands.preferences.rows import SHARD_COLUMNS, preference_row, preference_schema, row_bytes
from synthgen.config.packing import PackConfig
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.stages.memory import MEGABYTE
from synthgen.stages.pack.schema import ParquetFiles
from synthgen.store import Folder, RunFolder
from synthgen.store.opening import open_folder
from synthgen.store.parquet import read_batches
from synthgen.store.run_folder import NO_SHARDS
from synthgen.tables import PACK, SELECT

__all__ = ["PREFERENCE", "text", "write_preferences"]

NOT_PACKED = "not_packed"
Row = dict[str, Any]


def write_preferences(folder: RunFolder, target: str, margin: float) -> Mapping[str, int]:
    """Write the preferences of a run as Parquet shards with a card, and return outcome → pairs.

    Args:
        folder: The run.
        target: A folder that does not exist yet, or is empty.
        margin: The least difference between the shares of answers that say the one and the other.

    Raises:
        UserMistake: The run is not packed, the target is in use, or no score kept any sample.
    """
    run_record.check_is_run(folder)
    check_packed(folder)
    out = open_folder(target)
    if not out.is_empty():
        raise UserMistake(f"{target}: is not empty; give a folder that does not exist yet")
    return make_preferences(folder, out, margin, run_record.pipeline_of(folder).pack)


def make_preferences(folder: RunFolder, out: Folder, margin: float, pack: PackConfig) -> Mapping[str, int]:
    """Write the preferences of a packed run, and return outcome → pairs; without any, nothing is written.

    Args:
        folder: The run.
        out: Where they go.
        margin: The least difference of the shares.
        pack: Has the sizes of the files.
    """
    with TemporaryDirectory(prefix="synth-preferences-") as disk:
        candidates = Candidates(folder, margin, Path(disk))
        count = _write(folder, out.child("data"), candidates, pack)
    outcomes = Counter(candidates.outcomes)
    outcomes[NOT_PACKED] = outcomes[PREFERENCE] - count
    outcomes[PREFERENCE] = count
    written = {name: number for name, number in sorted(outcomes.items()) if number}
    if count:
        out.write("README.md", card(written, margin, candidates.scores).encode())
    return written


def check_packed(folder: RunFolder) -> None:
    """Raise UserMistake if the shards do not fit the decisions, and Damaged if one of them is lost."""
    kept, packed = folder.log(SELECT).counts().get("kept", 0), folder.log(PACK).counts()
    turns = sum(count for name, count in packed.items() if name != "samples")
    if not folder.whole_shards() or kept != turns:
        raise UserMistake(NO_SHARDS.format(folder.out.url))


def _write(folder: RunFolder, data: Folder, candidates: Candidates, pack: PackConfig) -> int:
    """Write the preferences as files, and return their number."""
    scores = _score_columns(folder)
    sizes = pack.shard_megabytes * MEGABYTE, pack.row_group_megabytes * MEGABYTE
    files, names, count = ParquetFiles(preference_schema(scores), *sizes, row_bytes), list[str](), 0
    for row in chain(_rows(folder, candidates, scores), [None]):
        for content, rows in files.finish() if row is None else files.add(row):
            names.append(f"train-{len(names):05}.parquet")
            data.write(names[-1], content)
            count += rows
    return count


def _score_columns(folder: RunFolder) -> list[str]:
    """Return the columns of scores that the shards have."""
    stage, log = folder.stage(PACK), folder.log(PACK)
    contents = (content for name in log.partitions for content in stage.read_bytes(log, name, "data"))
    names = pq.read_schema(pa.BufferReader(next(contents))).names
    return [name for name in names if name.startswith("score_")]


def _rows(folder: RunFolder, candidates: Candidates, scores: list[str]) -> Iterator[Row]:
    """Yield the preferences, shard by shard in the order of their samples."""
    stage, log = folder.stage(PACK), folder.log(PACK)
    for shard in log.partitions:
        wanted = candidates.of_shard(shard)
        for content in stage.read_bytes(log, shard, "data") if wanted else ():
            file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
            for batch in read_batches(file, [*SHARD_COLUMNS, *scores]):
                for sample in batch.to_pylist():
                    for turn, pair in enumerate(sample["pair_ids"]):
                        if pair in wanted:
                            yield preference_row(sample, turn, wanted[pair], scores)
