"""Makes the shards folder what its card says: no file that is not of the data set, and a card that names those that are.

Comes in: the commits. Goes out: README.md beside the shards. Runs on the driver, after the last commit. Files of 5-shards/data
that no current commit names (earlier revisions, leftovers of killed workers) are deleted here, and only here, so that a
plain glob over the folder is the data set.
"""

from collections import Counter
from collections.abc import Mapping

from synthgen.config.pipeline import SelectConfig
from synthgen.stages.pack.card import ShardContents, card
from synthgen.stages.pack.samples import SELECTED, SHARDS, PackContext
from synthgen.stages.pack.schema import card_features, sample_schema
from synthgen.store import CommitLog, Lease, Stage
from synthgen.tables import SHARD_INDEX, UNPACKED


def publish(terms: PackContext, select: SelectConfig, facts: Mapping[str, str], lease: Lease) -> ShardContents:
    """Deletes what is stale, writes the card, and returns what it says; `facts` as in `card`."""
    stage = Stage(terms.out, SHARDS)
    contents = _contents(terms, stage.log())
    current = {name for name, _ in contents.files}
    data = stage.folder.child("data")
    stale = [name for name in data.names(".parquet") if name not in current]
    lease.check()  # last: another driver's files are stale by a log that was read before it began
    data.remove(stale)
    stage.folder.write("README.md", card(contents, facts, select, terms.pack).encode())
    return contents


def _contents(terms: PackContext, log: CommitLog) -> ShardContents:
    """What the current commits hold, from their indexes."""
    stage = Stage(terms.out, SHARDS)
    files = [
        (file.name, file.bytes) for name in log.partitions for part in log.parts(name, "data") for file in part.files
    ]
    turns: dict[str, Counter[str]] = {kind: Counter() for kind in ("type", "form", "language")}
    images, samples, unpacked = 0, 0, Counter[str]()
    for name in log.partitions:
        index = stage.current(log, name, "index", "sample_id", SHARD_INDEX)
        samples += index.num_rows
        images += len(index.column("image_id").unique())  # an image is in one shard
        for kind, counter in turns.items():
            counter.update(one for row in index.column(f"{kind}s").to_pylist() for one in row)
        unpacked.update(stage.current(log, name, "unpacked", "sample_id", UNPACKED).column("reason").to_pylist())
    decisions = Stage(terms.out, SELECTED).log().counts()
    return ShardContents(files, card_features(sample_schema(terms.scores)), images, samples, turns, decisions, unpacked)
