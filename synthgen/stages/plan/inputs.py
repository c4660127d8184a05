"""The inputs of a plan: listed objects and what tagging knows of them, as Arrow tables of one partition at a time.

All tables of a partition have one order, so that an index stands for an object. Embeddings are read only
where images are compared by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.errors import Damaged
from synthgen.store import CommitLog, Folder, RunFolder
from synthgen.tables import IMAGES, LIST, OBJECTS, TAG, TAGS, StageSpec, columns_of, tags_table

Reads = Mapping[str, str]  # `stage/partition.revision` → the digest of that commit
Indexes = NDArray[np.int64]

HASHES = columns_of(IMAGES, "object_id", "outcome", "reason", "image_id", "phash", "thumbnail", "flat_share", "rights")
SIZES = columns_of(IMAGES, "object_id", "image_id", "width", "height", "rights")
LOCATIONS = columns_of(OBJECTS, "object_id", "uri", "version", "row", "source")
DESCRIPTIONS = columns_of(OBJECTS, "object_id", "uri", "version", "row", "source_meta", "source")


@dataclass(frozen=True)
class Inputs:
    """A snapshot of the two stages that a plan reads."""

    out: Folder
    taggers: tuple[str, ...]
    listed: CommitLog
    tagged: CommitLog

    @staticmethod
    def from_folder(folder: RunFolder, taggers: tuple[str, ...]) -> "Inputs":
        """Return the inputs as they are now."""
        return Inputs(folder.out, taggers, folder.log(LIST), folder.log(TAG))

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.out, {LIST.folder: self.listed, TAG.folder: self.tagged})

    def as_of(self, reads: Mapping[str, Reads]) -> "Inputs":
        """Return the inputs as they were when these commits were read, by partition.

        Raises:
            Damaged: One of the commits is missing or was changed.
        """
        logs = [_log_as_of(self.out, spec, log, reads) for spec, log in ((LIST, self.listed), (TAG, self.tagged))]
        return Inputs(self.out, self.taggers, *logs)

    def has_replaced(self, reads: Mapping[str, Reads]) -> bool:
        """Return whether later commits replace what was read, by partition.

        The files that were read can be deleted then, or be the damaged ones.
        """
        later = (
            commit
            for spec, log in ((LIST, self.listed), (TAG, self.tagged))
            for partition, read in reads.items()
            for commit in log.partitions.get(partition, ())
            if f"{spec.folder}/{commit.name}" not in read
        )
        return any(part.replaces for commit in later for part in commit.receipt.tables.values())

    @property
    def partitions(self) -> list[str]:
        """The tagged partitions, in order."""
        return list(self.tagged.partitions)

    def reads(self, partition: str) -> dict[str, str]:
        """Return the commits that planning a partition reads."""
        return self._folder.digests((LIST, TAG), [partition])

    def hashes(self, partition: str, *, with_embeddings: bool = False) -> pa.Table:
        """Return HASHES of each object of a partition, its outcome and the hashes of its content, and its embedding."""
        names = [*HASHES.names, *(["embedding"] if with_embeddings else [])]
        return self._folder.table(TAG, partition, "images", names)

    def locations(self, partition: str, object_ids: pa.ChunkedArray) -> pa.Table:
        """Return LOCATIONS of these objects of a partition, in their order."""
        return _align(self._folder.table(LIST, partition, "objects", LOCATIONS.names), object_ids)

    def objects(self, partition: str) -> pa.Table:
        """Return SIZES, DESCRIPTIONS and `tags` of each object of a partition, in the order of `hashes`."""
        rows = self._folder.table(TAG, partition, "images", SIZES.names)
        ids = rows.column("object_id")
        listed = _align(self._folder.table(LIST, partition, "objects", DESCRIPTIONS.names), ids)
        for name in DESCRIPTIONS.names[1:]:
            rows = rows.append_column(name, listed.column(name))
        return rows.append_column(pa.field("tags", TAGS), self._tags(partition, ids)).combine_chunks()

    def tags(self, partition: str) -> pa.ListArray:
        """Return the tags of each object of a partition, in the order of `hashes`."""
        return self._tags(partition, self._folder.table(TAG, partition, "images", ["object_id"]).column("object_id"))

    def _tags(self, partition: str, object_ids: pa.ChunkedArray) -> pa.ListArray:
        """Return the tags of these objects by all taggers; of several with one path, the one with the best score."""
        owners, tags = [np.empty(0, np.int64)], [pa.array([], TAGS.value_type)]
        for tagger in self.taggers:
            rows = self._folder.table(TAG, partition, tags_table(tagger)).combine_chunks()
            lists = rows.column("tags").combine_chunks() if rows.num_rows else pa.array([], TAGS)
            index = pc.index_in(rows.column("object_id"), object_ids.combine_chunks()).fill_null(-1).to_numpy()
            owners.append(index[pc.list_parent_indices(lists).to_numpy()])
            tags.append(lists.flatten())
        owner, all_tags = np.concatenate(owners), pa.concat_arrays(tags)
        best = _best(owner, all_tags)
        ends = np.searchsorted(owner[best], np.arange(len(object_ids) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), all_tags.take(pa.array(best)), type=TAGS)


def _best(owner: Indexes, tags: pa.StructArray) -> Indexes:
    """Return the indexes of the tags to keep, owner by owner in their order.

    Args:
        owner: The index of the object of each tag, -1 for a tag of no object, (tags,) int64.
        tags: Structs of a path and a score.
    """
    path = tags.field("path").dictionary_encode().indices.to_numpy()
    score = tags.field("score").fill_null(0).to_numpy()
    order = np.lexsort((-score, path, owner))  # it is stable: of equal scores the first is kept
    is_first = np.ones(len(order), bool)
    is_first[1:] = (owner[order][1:] != owner[order][:-1]) | (path[order][1:] != path[order][:-1])
    kept = np.sort(order[is_first & (owner[order] >= 0)])
    return kept[np.argsort(owner[kept], kind="stable")]


def _align(rows: pa.Table, object_ids: pa.ChunkedArray) -> pa.Table:
    """Return the rows of these objects, in their order."""
    if rows.column("object_id").equals(object_ids):
        return rows
    return rows.take(pc.index_in(object_ids, rows.column("object_id").combine_chunks()))


def _log_as_of(out: Folder, spec: StageSpec, log: CommitLog, reads: Mapping[str, Reads]) -> CommitLog:
    """Return a log with just the commits that were read."""
    partitions = {}
    for partition, read in reads.items():
        commits = tuple(
            commit for commit in log.partitions.get(partition, ()) if f"{spec.folder}/{commit.name}" in read
        )
        digests = {f"{spec.folder}/{commit.name}": commit.digest for commit in commits}
        if digests != {name: digest for name, digest in read.items() if name.startswith(f"{spec.folder}/")}:
            raise Damaged(
                f"{out.url}: {spec.folder}: commits of partition {partition} that the plan was made from "
                "are gone or were changed"
            )
        partitions[partition] = commits
    return CommitLog({partition: partitions[partition] for partition in log.partitions if partition in partitions})
