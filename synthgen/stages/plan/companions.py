"""The table of companions: which leaf tags often occur together, over the images that an epoch plans.

It is counted in two passes: the first counts the leaves and writes them to local disk, the second counts the pairs of
the commonest. Memory holds a number for each pair of common leaves (2 MB), however many images there are. Counts are
sums, so the table depends neither on the partitions nor on their order. An entry, once made, stays: otherwise growth
would change the things that planned questions name. Leaves that come later get theirs from the images they come with.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.config.taxonomy import with_ancestors
from synthgen.stages.plan.duplicates import DuplicateSurvey
from synthgen.stages.plan.facts import KEPT
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.things import Companions, is_near

MOST_LEAVES = 500  # the commonest leaf tags, whose pairs are counted
MOST_COMPANIONS = 8  # of a leaf tag
LEAST_TOGETHER = 2  # images that have both
BLOCK = 200_000  # tags whose pairs are counted at once

Counts = NDArray[np.int64]
Entries = NDArray[np.int32]  # (tags, 2): the index of an image, and the number of a leaf


def grow_companions(
    known: Companions, inputs: Inputs, survey: DuplicateSurvey, partitions: Sequence[str], leaves: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the table with an entry for every leaf tag of these partitions; the known entries stay as they are.

    Args:
        known: The table so far.
        inputs: The tags of all objects.
        survey: Says which objects are kept.
        partitions: Those that the epoch plans.
        leaves: The leaf tags of the taxonomy.
    """
    leaves = sorted(leaves)
    table = {leaf: dict(others) for leaf, others in known.items()}
    with tempfile.TemporaryFile(prefix="synth-companions-") as file:
        totals = np.zeros(len(leaves), np.int64)
        ends = [0]
        for name in partitions:
            entries = _entries(inputs, survey, name, leaves)
            file.write(entries.tobytes())
            totals += np.bincount(entries[:, 1], minlength=len(leaves))
            ends.append(ends[-1] + len(entries))
        new = [number for number in np.flatnonzero(totals).tolist() if leaves[number] not in table]
        if not new:
            return table
        common = np.lexsort((np.arange(len(leaves)), -totals))[:MOST_LEAVES]
        together = _count_pairs(_blocks(file, ends), common, len(leaves))
    place_of = {number: place for place, number in enumerate(common.tolist())}
    names = [leaves[number] for number in common.tolist()]
    for number in new:
        place = place_of.get(number)
        counts = together[place] if place is not None else np.zeros(0, np.int64)
        table[leaves[number]] = _companions(leaves[number], int(totals[number]), counts, names)
    return table


def _entries(inputs: Inputs, survey: DuplicateSurvey, partition: str, leaves: Sequence[str]) -> Entries:
    """Return the leaf tags of the kept objects of a partition, image by image."""
    span, tags = survey.spans[partition], inputs.tags(partition)
    owner = pc.list_parent_indices(tags).to_numpy()
    leaf = pc.index_in(tags.flatten().field("path"), pa.array(leaves, pa.string())).fill_null(-1).to_numpy()
    is_wanted = (leaf >= 0) & (np.asarray(survey.outcome[span]) == KEPT)[owner]
    return np.stack([span.start + owner[is_wanted], leaf[is_wanted]], axis=1).astype(np.int32)


def _blocks(file: BinaryIO, ends: Sequence[int]) -> Iterator[Entries]:
    """Yield the entries of whole partitions, about BLOCK at a time."""
    file.flush()
    entries = np.memmap(file, np.int32, "r").reshape(-1, 2)
    start = 0
    for end in ends:
        if end - start >= BLOCK or (end == ends[-1] and end > start):
            yield entries[start:end]
            start = end


def _count_pairs(blocks: Iterator[Entries], common: Counts, leaves: int) -> Counts:
    """Return how many images have both of two common leaves, (common, common)."""
    size = len(common)
    places = np.full(leaves, -1)
    places[common] = np.arange(size)
    together = np.zeros(size * size, np.int64)
    for block in blocks:
        owner, place = block[:, 0], places[block[:, 1]]
        owner, place = owner[place >= 0], place[place >= 0]
        for step in range(1, len(owner)):  # the entries of an image are neighbours
            is_same = owner[step:] == owner[:-step]
            if not is_same.any():
                break
            together += np.bincount(place[:-step][is_same] * size + place[step:][is_same], minlength=size * size)
    square = together.reshape(size, size)
    return square + square.T


def _companions(leaf: str, total: int, counts: Counts, names: Sequence[str]) -> dict[str, float]:
    """Return the leaves that are most often with a leaf and not near to it, each with its share of the images."""
    found: dict[str, float] = {}
    for place in np.lexsort((np.array(names[: len(counts)]), -counts)).tolist():
        if counts[place] < LEAST_TOGETHER or len(found) == MOST_COMPANIONS:
            break
        if not _are_near(leaf, names[place]):
            found[names[place]] = float(f"{counts[place] / total:.4g}")
    return found


def _are_near(leaf: str, other: str) -> bool:
    """Return whether an image with one leaf tag may have the other untagged."""
    return is_near(other, [leaf], with_ancestors([leaf])) or is_near(leaf, [other], with_ancestors([other]))
