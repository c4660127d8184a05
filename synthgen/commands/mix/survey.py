"""The samples and pairs of the sets of one stage, as arrays, and which pairs another set has too.

Memory holds about a hundred bytes of each pair; texts and thumbnails wait on local disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthgen.config.mixture import MixedSet, MixtureFile
from synthgen.config.selection import SelectConfig
from synthgen.config.taxonomy import matches, with_ancestors
from synthgen.config.where import Where
from synthgen.dedup import plain_texts
from synthgen.stages.select.duplicates import KEPT, PairComparison
from synthgen.stages.select.judging import with_images, with_texts
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, PACK, PLAN, SELECT

OF_SAMPLES = ("id", "pair_ids", "license", "source")
OF_PAIRS = ["pair_id", "image_id", "object_id", "follows", "type", "form", "language", "question", "options", "answer"]
Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """A set of a mixture with its output folder, and the shards of that which hold samples."""

    name: str
    settings: MixedSet
    run: RunFolder
    shards: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """The kind of a pair; a set has few, however large it is."""

    type: str
    form: str
    language: str


@dataclass(frozen=True)
class Samples:
    """The packed samples of all sets of a stage; every array is (samples,).

    Attributes:
        keys: Of their ids.
        sets: The number of the set of each.
        shards: The number of its shard in that set.
        sizes: In bytes.
        is_allowed: By `where` of the mixture.
    """

    keys: Words
    sets: Numbers
    shards: Numbers
    sizes: Numbers
    is_allowed: Mask


@dataclass(frozen=True)
class Pairs:
    """The kept pairs of all sets of a stage; every array is (pairs,).

    Attributes:
        samples: The number of the sample of each, or -1 where its image could not be packed.
        roots: The number of the pair that each goes on from, or -1.
        kinds: Places in `all_kinds`.
        tags: A bit for each tag pattern that a quota names, in their order.
    """

    keys: Words
    sets: Numbers
    samples: Numbers
    roots: Numbers
    kinds: Numbers
    tags: Words
    all_kinds: tuple[Kind, ...]


class Survey:
    """What the sets of a stage hold."""

    def __init__(self, sources: Sequence[Source], mixture: MixtureFile, disk: Path) -> None:
        """Read the sets.

        Args:
            sources: In the order in which they count as earlier.
            mixture: Of which licences, tags and the comparison are looked at.
            disk: A folder on local disk.
        """
        self._mixture, self._patterns = mixture, sorted(mixture.quotas.tags)
        self._select = SelectConfig(near_questions=None, same_pair=mixture.same_pair)
        kept = sum(source.run.log(SELECT).counts().get("kept", 0) for source in sources)
        self._comparison = PairComparison(disk, self._select, kept) if mixture.same_pair is not None else None
        self._kinds: dict[Kind, int] = {}
        samples, pairs, first = list[Samples](), list[dict[str, Any]](), 0
        for number, source in enumerate(sources):
            own, sample_of = _samples(source, number, mixture.where)
            pairs += self._pairs(source, number, (sample_of[0], sample_of[1] + first))
            samples.append(own)
            first += len(own.keys)
        self.samples = _joined_samples(samples)
        self.pairs = self._joined_pairs(pairs)

    def doubled(self, is_dropped: Mask) -> Mask:
        """Return which pairs are said about the same picture by one that comes first; dropped ones are not compared."""
        if self._comparison is None:
            return np.zeros(len(is_dropped), bool)
        return np.asarray(self._comparison.verdicts(is_dropped).codes != KEPT)

    def _pairs(self, source: Source, number: int, sample_of: tuple[Words, Numbers]) -> Iterator[dict[str, Any]]:
        """Yield the arrays of the kept pairs of each partition of a set; `roots` count from the first of them."""
        for name in source.run.log(SELECT).partitions:
            decisions = source.run.table(SELECT, name, "decisions", ["pair_id", "kept"])
            kept = decisions.column("pair_id").filter(decisions.column("kept")).combine_chunks()
            rows = source.run.table(GENERATE, name, "pairs", [*OF_PAIRS, "assignment_id"]).select(OF_PAIRS)
            rows = rows.filter(pc.is_in(rows.column("pair_id"), kept)).combine_chunks()
            keys = keys_of(rows.column("pair_id").to_pylist())
            place = np.minimum(np.searchsorted(sample_of[0], keys), max(len(sample_of[0]) - 1, 0))
            is_packed = sample_of[0][place] == keys if len(sample_of[0]) else np.zeros(len(keys), bool)
            roots = pc.fill_null(pc.index_in(rows.column("follows"), rows.column("pair_id").combine_chunks()), -1)
            if self._comparison:
                self._comparison.add(self._compared(source, name, rows, number))
            yield {
                "keys": keys,
                "sets": np.full(len(keys), number, np.int64),
                "samples": np.where(is_packed, sample_of[1][place] if len(sample_of[1]) else -1, -1),
                "roots": roots.to_numpy().astype(np.int64),
                "kinds": self._coded(rows),
                "tags": self._tags(source.run, name, rows),
            }

    def _compared(self, source: Source, partition: str, rows: pa.Table, number: int) -> pa.Table:
        """Return pairs with what a comparison takes; those of an earlier set come before those of a later one."""
        rows = rows.append_column("plain", plain_texts(rows.column("question")))
        judged = rows.select(["pair_id", "image_id", "follows"])
        judged = judged.append_column("since", pa.array(np.full(rows.num_rows, number, np.int32)))
        judged = judged.append_column("score", pa.array(np.zeros(rows.num_rows, np.float32)))
        is_compared = pa.array(np.ones(rows.num_rows, bool))
        judged = with_texts(judged, rows, self._select, is_compared)
        return with_images(judged, rows, source.run, partition, is_compared)

    def _coded(self, rows: pa.Table) -> Numbers:
        columns = (rows.column(name).to_pylist() for name in ("type", "form", "language"))
        kinds = (Kind(*each) for each in zip(*columns, strict=True))
        return np.array([self._kinds.setdefault(kind, len(self._kinds)) for kind in kinds], np.int64)

    def _tags(self, run: RunFolder, partition: str, rows: pa.Table) -> Words:
        """Return a bit for each pattern that a tag of the image of a pair fits, or one above it."""
        if not self._patterns:
            return np.zeros(rows.num_rows, np.uint64)
        bits: dict[str, int] = {}
        for row in run.table(PLAN, partition, "images", ["object_id", "tags"]).to_pylist():
            paths = with_ancestors([tag["path"] for tag in row["tags"]])
            fitting = (place for place, pattern in enumerate(self._patterns) if any(matches(pattern, p) for p in paths))
            bits[row["object_id"]] = sum(1 << place for place in fitting)
        return np.array([bits.get(each, 0) for each in rows.column("object_id").to_pylist()], np.uint64)

    def _joined_pairs(self, parts: Sequence[dict[str, Any]]) -> Pairs:
        first = np.concatenate([[0], np.cumsum([len(part["keys"]) for part in parts])]).astype(np.int64)
        for part, start in zip(parts, first, strict=False):
            part["roots"] = np.where(part["roots"] >= 0, part["roots"] + start, -1)
        empty = {"keys": np.uint64, "tags": np.uint64}
        joined = {
            name: np.concatenate([np.empty(0, empty.get(name, np.int64)), *(part[name] for part in parts)])
            for name in ("keys", "sets", "samples", "roots", "kinds", "tags")
        }
        return Pairs(**joined, all_kinds=tuple(self._kinds))


def keys_of(ids: Sequence[str]) -> Words:
    """Return the first 64 bits of ids."""
    return np.array([int(each[:16], 16) for each in ids], np.uint64)


def _samples(source: Source, number: int, where: Where | None) -> tuple[Samples, tuple[Words, Numbers]]:
    """Return the samples of a set, and for each of their pairs, by its sorted key, the number of its sample."""
    keys, shards, sizes, allowed = list[str](), list[int](), list[int](), list[bool]()
    pair_keys, of_sample = list[Words](), list[int]()
    for place, shard in enumerate(source.shards):
        index = source.run.table(PACK, shard, "index", ["sample_id", "bytes"])
        size_of = dict(zip(*(index.column(name).to_pylist() for name in ("sample_id", "bytes")), strict=True))
        for row in _rows(source.run, shard):
            pair_keys.append(keys_of(row["pair_ids"]))
            of_sample += [len(keys)] * len(row["pair_ids"])
            keys.append(row["id"])
            shards.append(place)
            sizes.append(size_of[row["id"]])
            allowed.append(not where or where.fits(row["license"], row.get("source")))
    of_pairs = np.concatenate([np.empty(0, np.uint64), *pair_keys])
    order = np.argsort(of_pairs)
    samples = Samples(
        keys_of(keys),
        np.full(len(keys), number, np.int64),
        np.array(shards, np.int64),
        np.array(sizes, np.int64),
        np.array(allowed, bool),
    )
    return samples, (of_pairs[order], np.array(of_sample, np.int64)[order])


def _rows(run: RunFolder, shard: str) -> Iterator[dict[str, Any]]:
    """Yield OF_SAMPLES of a shard; its images are not read, and its bytes are verified when it is written."""
    data = run.stage(PACK).folder.child("data")
    for part in run.log(PACK).parts(shard, "data"):
        for file in part.files:
            with data.fs.open(data.full(file.name), "rb") as stream:
                table = pq.ParquetFile(stream, pre_buffer=False).read(list(OF_SAMPLES), use_threads=False)
            yield from table.to_pylist()


def _joined_samples(parts: Sequence[Samples]) -> Samples:
    names = ("keys", "sets", "shards", "sizes", "is_allowed")
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
