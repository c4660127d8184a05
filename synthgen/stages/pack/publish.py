"""Publishing: delete the files in `5-shards/data` that no commit names, and write the dataset card.

It runs on the driver after the last commit, so that a plain glob over the folder is the data set.
"""

from collections import Counter
from collections.abc import Mapping

from synthgen.config.pipeline import SelectConfig
from synthgen.stages.pack.card import ShardContents, card
from synthgen.stages.pack.samples import PackContext
from synthgen.stages.pack.schema import card_features, sample_schema
from synthgen.store import Lease, RunFolder
from synthgen.tables import PACK, SELECT


def publish(
    folder: RunFolder, context: PackContext, select: SelectConfig, facts: Mapping[str, str], lease: Lease
) -> ShardContents:
    """Delete stale shard files, write the dataset card, and return its contents."""
    stage = folder.stage(PACK)
    contents = _contents(folder, context)
    current = {name for name, _ in contents.files}
    data = stage.folder.child("data")
    stale = [name for name in data.names(".parquet") if name not in current]
    lease.check()  # as late as possible: by the log read here, the files of a new driver would look stale
    data.remove(stale)
    stage.folder.write("README.md", card(contents, facts, select, context.pack).encode())
    return contents


def _contents(folder: RunFolder, context: PackContext) -> ShardContents:
    """Return the contents of the current commits, from their indexes."""
    log = folder.log(PACK)
    files = [(file.name, file.bytes) for file in log.files("data")]
    turns: dict[str, Counter[str]] = {kind: Counter() for kind in ("type", "form", "language")}
    images, samples, unpacked = 0, 0, Counter[str]()
    for name in log.partitions:
        index = folder.table(PACK, name, "index")
        samples += index.num_rows
        images += len(index.column("image_id").unique())  # an image is in one shard
        for kind, counter in turns.items():
            counter.update(name for turns_of in index.column(f"{kind}s").to_pylist() for name in turns_of)
        unpacked.update(folder.table(PACK, name, "unpacked").column("reason").to_pylist())
    decisions = folder.log(SELECT).counts()
    return ShardContents(
        files, card_features(sample_schema(context.scores)), images, samples, turns, decisions, unpacked
    )
