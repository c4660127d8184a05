"""What a plan is made from: the listed objects and what tagging found of them, a partition at a time.

Comes in: the logs of `0-listed` and `1-tagged`. Goes out: Arrow tables, all of a partition's in one order, so that a number
stands for an object. Embeddings are left where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import Damaged
from synthgen.store import CommitLog, Folder, RunFolder
from synthgen.tables import IMAGES, LIST, OBJECTS, TAG, TAGS, StageSpec, columns_of, tags_table

Reads = Mapping[str, str]  # `stage/partition.revision` → the digest of that commit


SEEN = columns_of(IMAGES, "object_id", "outcome", "image_id", "phash")
SIZED = columns_of(IMAGES, "object_id", "image_id", "width", "height")
PLACES = columns_of(OBJECTS, "object_id", "uri", "row")
DESCRIBED = columns_of(OBJECTS, "object_id", "uri", "version", "row", "source_meta")


@dataclass(frozen=True)
class Inputs:
    """The two stages that a plan is made from, as committed when it began."""

    out: Folder
    taggers: tuple[str, ...]
    listed: CommitLog
    tagged: CommitLog

    @staticmethod
    def of(folder: RunFolder, taggers: tuple[str, ...]) -> "Inputs":
        """Return them as they are now."""
        return Inputs(folder.out, taggers, folder.log(LIST), folder.log(TAG))

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.out, {LIST.folder: self.listed, TAG.folder: self.tagged})

    def at(self, reads: Mapping[str, Reads]) -> "Inputs":
        """As they were when these commits of these partitions were read."""
        logs = [_log_of(self.out, spec, log, reads) for spec, log in ((LIST, self.listed), (TAG, self.tagged))]
        return Inputs(self.out, self.taggers, *logs)

    def outdates(self, reads: Mapping[str, Reads]) -> bool:
        """Whether commits that were read have been replaced since. Their files may be deleted by now, or be those that were damaged."""
        logs = ((LIST, self.listed), (TAG, self.tagged))
        later = (
            commit
            for spec, log in logs
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
        """What planning a partition reads of it."""
        return self.listed.digests(LIST, [partition]) | self.tagged.digests(TAG, [partition])

    def seen(self, partition: str) -> pa.Table:
        """SEEN of each object of a partition: its outcome and what tells its content apart."""
        return self._folder.table(TAG, partition, "images", SEEN.names)

    def places(self, partition: str, object_ids: pa.ChunkedArray) -> pa.Table:
        """PLACES of these objects of a partition: where they are."""
        return _aligned(self._folder.table(LIST, partition, "objects", PLACES.names), object_ids)

    def objects(self, partition: str) -> pa.Table:
        """SIZED, DESCRIBED and `tags` of each object of a partition, in the order of `seen`."""
        rows = self._folder.table(TAG, partition, "images", SIZED.names)
        ids = rows.column("object_id")
        listed = _aligned(self._folder.table(LIST, partition, "objects", DESCRIBED.names), ids)
        for name in DESCRIBED.names[1:]:
            rows = rows.append_column(name, listed.column(name))
        return rows.append_column(pa.field("tags", TAGS), self._tags(partition, ids)).combine_chunks()

    def _tags(self, partition: str, object_ids: pa.ChunkedArray) -> pa.Array:
        """The tags of these objects from all taggers; of the tags with one path, that with the best score."""
        owners, tags = [np.empty(0, np.int64)], [pa.array([], TAGS.value_type)]
        for tagger in self.taggers:
            found = self._folder.table(TAG, partition, tags_table(tagger)).combine_chunks()
            lists = found.column("tags").combine_chunks() if found.num_rows else pa.array([], TAGS)
            place = pc.index_in(found.column("object_id"), object_ids.combine_chunks()).fill_null(-1).to_numpy()
            owners.append(place[pc.list_parent_indices(lists).to_numpy()])
            tags.append(lists.flatten())
        owner, all_tags = np.concatenate(owners), pa.concat_arrays(tags)
        best = _best(owner, all_tags)
        ends = np.searchsorted(owner[best], np.arange(len(object_ids) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), all_tags.take(pa.array(best)), type=TAGS)


def _best(owner: np.ndarray, tags: pa.StructArray) -> np.ndarray:
    """The places of the tags to keep, owner by owner in the order in which they came."""
    path = tags.field("path").dictionary_encode().indices.to_numpy()
    score = tags.field("score").fill_null(0).to_numpy()
    order = np.lexsort((-score, path, owner))  # stable: of equal scores the first
    first = np.ones(len(order), bool)
    first[1:] = (owner[order][1:] != owner[order][:-1]) | (path[order][1:] != path[order][:-1])
    kept = np.sort(order[first & (owner[order] >= 0)])
    return kept[np.argsort(owner[kept], kind="stable")]


def _aligned(rows: pa.Table, object_ids: pa.ChunkedArray) -> pa.Table:
    """The rows of these objects, in their order."""
    if rows.column("object_id").equals(object_ids):
        return rows
    return rows.take(pc.index_in(object_ids, rows.column("object_id").combine_chunks()))


def _log_of(out: Folder, spec: StageSpec, log: CommitLog, reads: Mapping[str, Reads]) -> CommitLog:
    """A log with just the commits that were read."""
    found = {}
    for partition, wanted in reads.items():
        commits = tuple(
            commit for commit in log.partitions.get(partition, ()) if f"{spec.folder}/{commit.name}" in wanted
        )
        digests = {f"{spec.folder}/{commit.name}": commit.digest for commit in commits}
        if digests != {name: digest for name, digest in wanted.items() if name.startswith(f"{spec.folder}/")}:
            raise Damaged(
                f"{out.url}: {spec.folder}: commits of partition {partition} that the plan was made from are gone or were changed"
            )
        found[partition] = commits
    return CommitLog({partition: found[partition] for partition in log.partitions if partition in found})
