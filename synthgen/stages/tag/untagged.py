"""How many tagged images have no tag: the questions on these are the ones that suit any image, and the poorest.

Commits do not count them, so tables are read, of a sample of partitions where there are many.
"""

from contextlib import suppress

import pyarrow.compute as pc

from synthgen.errors import Damaged
from synthgen.store import CommitLog, RunFolder
from synthgen.tables import TAG, tags_table
from synthgen.taggers.none import NAME as NO_TAGGER

SAMPLE = 16  # partitions that are read at most, at equal distances
MANY = 0.1  # share of images without a tag from which on there is something to do


def untagged(folder: RunFolder) -> dict[str, int]:
    """Return how many images have no tag of any tagger, and of how many tagged images: keys `images` and `of`."""
    partitions = list(folder.log(TAG).partitions)
    step = max(1, -(-len(partitions) // SAMPLE))
    counts = {"images": 0, "of": 0}
    for partition in partitions[::step]:
        with suppress(Damaged):  # `synth retry --partition` repairs it; the status is told all the same
            without, total = _count(folder, partition)
            counts["images"] += without
            counts["of"] += total
    return counts


def untagged_message(folder: RunFolder) -> str | None:
    """Return a line on images without a tag, with what to do where they are many; None if there are none."""
    counts = untagged(folder)
    if not counts["images"]:
        return None
    log = folder.log(TAG)
    share = counts["images"] / counts["of"]
    where = "tagged images" if counts["of"] == log.counts().get("tagged") else "tagged images of a sample"
    line = f"{counts['images']:,} of {counts['of']:,} {where} have no tag ({share:.1%})"
    if share <= MANY:
        return line
    if log.counts().get("left_out", 0) >= counts["images"]:
        return f"{line}: the tags that should have come along are missing or left out, see docs/tagging.md"
    return (
        f"{line}, more than {MANY:.0%}: fit the tagger's thresholds to labelled images (`synth calibrate`), give a "
        "copy of it `least: 3` (the best tags of each image, however unsure), or name a second tagger in tag.tagger; "
        "see docs/tagging.md"
    )


def _count(folder: RunFolder, partition: str) -> tuple[int, int]:
    """Return the images of a partition without a tag, and all its tagged images."""
    images: set[str] = set()
    with_tag: set[str] = set()
    for name in _tables(folder.log(TAG), partition):
        table = folder.table(TAG, partition, name, ["object_id", "tags"])
        images.update(table.column("object_id").to_pylist())
        has_tag = pc.greater(pc.list_value_length(table.column("tags")), 0)
        with_tag.update(table.filter(has_tag).column("object_id").to_pylist())
    return len(images - with_tag), len(images)


def _tables(log: CommitLog, partition: str) -> list[str]:
    """Return the tags tables of the taggers that last tagged a partition; tags of former ones are still there.

    The tagger that finds no tags is none of them.
    """
    latest = log.latest(partition)
    names = sorted(latest.receipt.tables) if latest else []
    return [name for name in names if name.startswith(tags_table("")) and name != tags_table(NO_TAGGER)]
