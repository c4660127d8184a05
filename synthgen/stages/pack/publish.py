"""Publishing: delete the files in `5-shards/data` that no commit names, and write the dataset card.

It runs on the driver after the last commit, so that a plain glob over the folder is the data set.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from synthgen import __version__
from synthgen.config.selection import SelectConfig
from synthgen.stages.pack.card import CardNotes, ShardContents, card
from synthgen.stages.pack.card_notes import examples_section, faults_section
from synthgen.stages.pack.command import command_of
from synthgen.stages.pack.samples import ORIGINS, TURN_KINDS, PackContext, ShardSummary, summarize
from synthgen.stages.pack.schema import card_features, sample_schema
from synthgen.store import Lease, RunFolder
from synthgen.tables import GENERATE, PACK, PLAN, SELECT, TAG


def publish(
    folder: RunFolder,
    context: PackContext,
    select: SelectConfig,
    facts: Mapping[str, str],
    lease: Lease,
    known: Mapping[str, ShardSummary],
) -> ShardContents:
    """Delete stale shard files, write the dataset card, and return its contents.

    Args:
        folder: The committed shards.
        context: What shapes them.
        select: The settings that pairs were selected with.
        facts: The origin of the data for the card.
        lease: Held on the folder.
        known: The summaries of shards that were read already, by the names of their last commits.
    """
    stage = folder.stage(PACK)
    contents = _contents(folder, context, known)
    current = {name for name, _ in contents.files}
    data = stage.folder.child("data")
    stale = [name for name in data.names(".parquet") if name not in current]
    lease.check()  # as late as possible: by the log read here, the files of a new driver would look stale
    data.remove(stale)
    facts = {**facts, **_asked_again(folder)}
    command = command_of(folder.record) if folder.record else ""
    notes = CardNotes(examples_section(folder), faults_section(folder), command, __version__)
    stage.folder.write("README.md", card(contents, facts, select, context.pack, notes).encode())
    return contents


def _asked_again(folder: RunFolder) -> dict[str, str]:
    """Return for the card how many pairs were asked again along another path, if any were."""
    count = folder.log(GENERATE).counts().get("reasked", 0)
    return {"Asked again": f"{count:,} pairs whose first answer was dropped, by `synth reask`"} if count else {}


def _contents(folder: RunFolder, context: PackContext, known: Mapping[str, ShardSummary]) -> ShardContents:
    """Return the contents of the current commits, from their indexes."""
    log = folder.log(PACK)
    shards = [known.get(commits[-1].name) or _read(folder, name) for name, commits in log.partitions.items()]
    return ShardContents(
        files=[(file.name, file.bytes) for file in log.files("data")],
        features=card_features(sample_schema(context.scores)),
        images=sum(shard.images for shard in shards),  # an image is in one shard; in imported sets rows count
        samples=sum(shard.samples for shard in shards),
        turns={kind: _total(shard.turns[kind] for shard in shards) for kind in TURN_KINDS},
        decisions=folder.log(SELECT).counts(),
        unpacked=_total(shard.unpacked for shard in shards),
        origins={origin: _total(shard.origins[origin] for shard in shards) for origin in ORIGINS},
        reserved=_reserved(folder),
    )


def _reserved(folder: RunFolder) -> int:
    """Return how many objects were left out because somebody says that no model may learn from them."""
    return folder.log(TAG).counts().get("quarantined.reserved", 0) + folder.log(PLAN).counts().get("reserved", 0)


def _read(folder: RunFolder, shard: str) -> ShardSummary:
    return summarize(folder.table(PACK, shard, "index"), folder.table(PACK, shard, "unpacked"))


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    """Return the sum of counters."""
    total = Counter[str]()
    for counter in counters:
        total.update(counter)
    return total
