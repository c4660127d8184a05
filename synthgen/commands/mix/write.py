"""The taken samples as shards: those of a set one after the other, each with the turns that are taken of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.export.sample import score_names
from synthgen.commands.mix.choice import TAKEN, Choice
from synthgen.commands.mix.survey import Source, Survey
from synthgen.config.mixture import MixturePack
from synthgen.stages.memory import MEGABYTE
from synthgen.stages.pack.schema import ParquetFiles, row_bytes, sample_schema
from synthgen.stages.pack.worker import INDEXED
from synthgen.store import Folder, Receipt, StageFolder, TablePart
from synthgen.store.commits import commit_name, partition_name
from synthgen.store.parquet import read_batches
from synthgen.tables import PACK, SHARD_INDEX, UNPACKED, sample_id, score_column, table

MORE = (("mixed_from", pa.string()), ("stage", pa.int32()))  # columns of a sample beside those of a run
OF_TURNS = ("pair_ids", "types", "forms", "languages")
IMAGE = {"type": "image", "text": None}
Row = dict[str, Any]


@dataclass(frozen=True)
class MixTask:
    """Shards of a set that become one partition.

    Attributes:
        taken: The first 64 bits of the pairs that are taken of them.
    """

    partition: str
    stage: int
    source: Source
    shards: tuple[str, ...]
    taken: frozenset[int]


@dataclass(frozen=True)
class MixContext:
    """What all shards of a mixture share.

    Attributes:
        fingerprint: Of the mixture and of everything that it is made of.
        scores: The names of the scores that any of its sets has.
    """

    out: Folder
    pack: MixturePack
    fingerprint: str
    scores: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns of a sample."""
        return sample_schema(self.scores, MORE)


def scores_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the names of the scores that the shards of any set have."""
    names = (name for source in sources for name in score_names(source.run, source.shards[0]))
    return tuple(sorted(set(names)))


def tasks_of(stage: int, sources: Sequence[Source], survey: Survey, choice: Choice, most: int) -> Iterator[MixTask]:
    """Yield the partitions of a stage: of each set runs of its shards with about `most` bytes to take."""
    samples, pairs, number = survey.samples, survey.pairs, 0
    is_taken = choice.codes == TAKEN
    for place, source in enumerate(sources):
        of_set = is_taken & (pairs.sets == place)
        keys, shard_of = pairs.keys[of_set], samples.shards[pairs.samples[of_set]]
        taken = np.unique(pairs.samples[of_set])
        sizes = np.bincount(samples.shards[taken], samples.sizes[taken], minlength=len(source.shards))
        for first, end in _runs(sizes.tolist(), most):
            here = keys[(shard_of >= first) & (shard_of < end)]
            name = partition_name(stage, number)
            yield MixTask(name, stage, source, source.shards[first:end], frozenset(here.tolist()))
            number += 1


def _runs(sizes: Sequence[float], most: int) -> Iterator[tuple[int, int]]:
    """Yield runs of shards with about `most` bytes each, one at least; those without any go with their neighbours."""
    start, waiting = 0, 0.0
    for place, size in enumerate(sizes):
        if waiting and waiting + size > most:
            yield start, place
            start, waiting = place, 0.0
        waiting += size
    if waiting:
        yield start, len(sizes)


def write_partition(context: MixContext, task: MixTask) -> Receipt:
    """Write a partition; no reader sees it before its receipt is committed."""
    stage, pack = StageFolder(context.out, PACK), context.pack
    prefix = f"stage-{task.stage}-{task.source.name}-{commit_name(task.partition, 1)}"
    files = ParquetFiles(context.schema, pack.shard_megabytes * MEGABYTE, pack.row_group_megabytes * MEGABYTE)
    written, index = [], list[Row]()
    for row in _rows(context, task):
        ids = {"image_id": row["image_id"], "sample_id": row["id"], "bytes": row_bytes(row)}
        index.append({**ids, **{name: row[name] for name in INDEXED}})
        written += [stage.put("data", prefix, data, rows) for data, rows in files.add(row)]
    written += [stage.put("data", prefix, data, rows) for data, rows in files.finish()]
    parts = {"data": TablePart(tuple(written), context.fingerprint, replaces=True)}
    counts: dict[str, int] = {}
    for name, rows in (("index", table(index, SHARD_INDEX)), ("unpacked", table([], UNPACKED))):
        file = stage.write(name, task.partition, 1, rows)
        parts[name] = TablePart((file,), context.fingerprint, replaces=True)
        counts |= PACK.table(name).count_rows(rows)
    return Receipt(task.partition, 1, parts, counts, epoch=task.stage)


def _rows(context: MixContext, task: MixTask) -> Iterator[Row]:
    """Yield the samples of a partition with the turns that are taken."""
    run = task.source.run
    columns = [score_column(name) for name in context.scores]
    for shard in task.shards:
        for file in run.stage(PACK).open_files(run.log(PACK), shard, "data"):
            with file:
                parquet = pq.ParquetFile(file, pre_buffer=False)
                for batch in read_batches(parquet, parquet.schema_arrow.names):
                    for row in batch.to_pylist():
                        turns = [
                            place for place, pair in enumerate(row["pair_ids"]) if int(pair[:16], 16) in task.taken
                        ]
                        if turns:
                            unscored = dict.fromkeys(columns, [None] * len(turns))
                            own = {**unscored, **_with_turns(row, turns)}
                            yield {**own, "mixed_from": task.source.name, "stage": task.stage}


def _with_turns(row: Mapping[str, Any], turns: Sequence[int]) -> Row:
    """Return a sample with some of its turns, the image first in the first of them."""
    if len(turns) == len(row["pair_ids"]):
        return dict(row)
    lists = [name for name in row if name in OF_TURNS or name.startswith(score_column(""))]
    own = {name: row[name] and [row[name][turn] for turn in turns] for name in lists}
    messages = [dict(message) for turn in turns for message in row["messages"][2 * turn : 2 * turn + 2]]
    if turns[0]:
        messages[0]["content"] = [*[IMAGE] * len(row["images"]), *messages[0]["content"]]
    return {**row, **own, "messages": messages, "id": sample_id(row["image_id"], own["pair_ids"])}
