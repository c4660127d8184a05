"""Stage 1: objects of the source become images with tags.

Comes in: a partition of listed objects. Goes out: for each object an images row (its content's id, size, perceptual hash
and embedding, or the reason for its quarantine) and its tags; where tags that came along were left out, the row says which. The
worker fetches, hashes, decodes in children that may die, and embeds in batches. Embeddings are kept: where a taxonomy or a
threshold was edited the tags are worked out from them, and an image is only read again where a tagger that changed wants its
pixels.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.sources import read_objects, ref_of
from synthgen.store import CommitLog, Folder, Receipt, Stage, TablePart
from synthgen.store.denylist import read_denylist
from synthgen.tables import IMAGES, OBJECT_TAGS, OBJECTS, image_id, table, tag_counts, tags_table
from synthgen.taggers import (
    ClipTaggerFile,
    CustomTaggerFile,
    Failed,
    KnownTags,
    Taggers,
    TaggerSpec,
    VlmTaggerFile,
    prepared,
    read_cached_tags,
    tags_of_each,
)
from synthgen.workers import Task, keep_to_given_gpus

LISTED, TAGGED = "0-listed", "1-tagged"
Tags = dict[str, list[dict[str, Any]]]  # object id -> its tags


@dataclass(frozen=True)
class TagContext:
    """What a tagging worker needs to know."""

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    taggers: tuple[TaggerSpec, ...]
    batch: int
    images_fingerprint: str
    retry: frozenset[str] = frozenset()  # reasons of quarantines that are looked at again


def todo(listed: CommitLog, tagged: CommitLog, terms: TagContext, update: bool) -> list[Task]:
    """The partitions that are listed and not tagged; with `update`, those that were tagged on other terms too."""
    works = []
    for partition, revisions in listed.partitions.items():
        counts = tagged.counts([partition])
        is_wanted = any(counts.get(f"quarantined.{reason}") for reason in terms.retry)
        if not tagged.holds(partition) or is_wanted or (update and is_stale(tagged, partition, terms)):
            inputs = {
                LISTED: CommitLog({partition: revisions}),
                TAGGED: CommitLog({partition: tagged.partitions.get(partition, ())}),
            }
            works.append(Task(partition, tagged.next_revision(partition), inputs))
    return works


def is_stale(tagged: CommitLog, partition: str, terms: TagContext) -> bool:
    """Whether a tagged partition was made on other terms than these."""
    return tagged.fingerprint(partition, "images") != terms.images_fingerprint or any(
        tagged.fingerprint(partition, tags_table(one.name)) != one.fingerprint for one in terms.taggers
    )


def object_ids(terms: TagContext, work: Task) -> tuple[str, ...]:
    """The objects of a piece of work."""
    return tuple(row["object_id"] for row in _objects(terms, work))


def _objects(terms: TagContext, work: Task) -> list[dict[str, Any]]:
    """The objects rows to do: all of the partition, or those that are tried again."""
    listed = (
        Stage(terms.out, LISTED)
        .current(work.inputs[LISTED], work.partition, "objects", "object_id", OBJECTS)
        .to_pylist()
    )
    if _is_retry(terms, work):
        images = Stage(terms.out, TAGGED).current(work.inputs[TAGGED], work.partition, "images", "object_id", IMAGES)
        again = {
            row["object_id"]
            for row in images.select(["object_id", "reason"]).to_pylist()
            if row["reason"] in terms.retry
        }
        listed = [row for row in listed if row["object_id"] in again]
    return [row for row in listed if work.only is None or row["object_id"] in work.only]


def _is_retry(terms: TagContext, work: Task) -> bool:
    """Whether only the quarantined are done again: the partition was tagged on these terms."""
    tagged = work.inputs[TAGGED]
    return bool(terms.retry) and tagged.holds(work.partition) and not is_stale(tagged, work.partition, terms)


def resources(terms: TagContext, gpus: float | None) -> tuple[float, float | None]:
    """(cpus, gpus) of a worker: what the pipeline gives it, or what its VLM needs if that is more; gpus None is a share of one."""
    served = [one.file.serve for one in terms.taggers if isinstance(one.file, VlmTaggerFile)]
    needed = max([0.0, *(one.gpus for one in served if one.kind == "vllm")])
    is_open = (
        gpus is None
        and not needed
        and any(isinstance(one.file, ClipTaggerFile | CustomTaggerFile) for one in terms.taggers)
    )
    return max([1.0, *(one.cpus for one in served)]), None if is_open else max(gpus or 0.0, needed)


async def build(terms: TagContext) -> "TagWorker":
    """Loads the tagger where the worker is, on the GPU that it was given or on the CPU."""
    keep_to_given_gpus()
    return await asyncio.to_thread(TagWorker, terms)


@dataclass
class _Batch:
    """Images decoded and not yet embedded."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)


class TagWorker:
    """A tagger and a pool of decoders, in one actor."""

    def __init__(self, terms: TagContext) -> None:
        self._terms = terms
        self._tagger = Taggers(terms.taggers)
        self._denied = read_denylist(terms.out)
        self._decoder: DecoderPool[str] = DecoderPool(terms.images)
        self._counters = {"images": 0.0}
        self._one_at_a_time = asyncio.Lock()
        self._drains = False

    async def do(self, work: Task) -> Receipt | None:
        """Tags a partition. Another piece of work waits: two would only share the same cores."""
        async with self._one_at_a_time:
            return None if self._drains else await asyncio.to_thread(self._do, work)

    def drain(self) -> None:
        """Partitions that have not begun are given back; one takes seconds."""
        self._drains = True

    def progress(self) -> Mapping[str, float]:
        """Images done."""
        return dict(self._counters)

    def _do(self, work: Task) -> Receipt:
        listed = _objects(self._terms, work)
        rows = {row["object_id"]: _blank(row["object_id"]) for row in listed}
        tags: Tags = {}
        if work.poison:
            for row in rows.values():
                _quarantine(row, "tagger_failed", f"the worker died on this image alone: {work.why}"[:500])
        else:
            self._tag_all(listed, rows, tags, self._recalled(listed, rows, tags, work))
        return self._receipt(work, list(rows.values()), tags)

    def _recalled(
        self, listed: list[dict[str, Any]], rows: dict[str, dict[str, Any]], tags: Tags, work: Task
    ) -> dict[str, KnownTags]:
        """Object id -> what is known without the pixels; where that is all there is to know, its row and tags are done with it."""
        known: dict[str, KnownTags] = {}
        if work.inputs[TAGGED].fingerprint(work.partition, "images") != self._terms.images_fingerprint:
            return known
        past = read_cached_tags(
            Stage(self._terms.out, TAGGED), work.inputs[TAGGED], work.partition, self._terms.taggers
        )
        gone = self._denied
        old = [
            one
            for one in listed
            if (id_ := one["object_id"]) in past
            and id_ not in gone.object_ids
            and past[id_].row["image_id"] not in gone.image_ids
        ]
        for start in range(0, len(old), self._terms.batch):
            some = {one["object_id"]: one["source_meta"] for one in old[start : start + self._terms.batch]}
            said = dict(zip(some, self._tagger.recall([past[one] for one in some], list(some.values())), strict=True))
            whole = [one for one in said if len(said[one]) == len(self._terms.taggers)]
            rows.update({one: dict(past[one].row) for one in whole})
            self._tag_batch(_Batch([rows[one] for one in whole], [said[one] for one in whole]), tags)
            self._counters["images"] += len(whole)
            known |= said
        return known

    def _tag_all(
        self, listed: list[dict[str, Any]], rows: dict[str, dict[str, Any]], tags: Tags, known: Mapping[str, KnownTags]
    ) -> None:
        """Tags what has no tags yet, which takes its pixels."""
        batch, listed = _Batch(), [row for row in listed if row["object_id"] not in tags]
        metas = {row["object_id"]: row["source_meta"] for row in listed}
        for key, found in self._decoder.decode_many(self._readable(listed, rows)):
            if isinstance(found, Failure):
                _quarantine(rows[key], found.reason, found.detail)
                self._counters["images"] += 1
                continue
            _describe(rows[key], found)
            item = prepared(partial(self._tagger.prepare, known=known.get(key, {})), found.image, metas[key])
            self._counters["images"] += 1  # not before: the first one loads the tagger
            if isinstance(item, Failed):
                _quarantine(rows[key], "tagger_failed", item.why[:500])
                continue
            batch.inputs.append(item)
            batch.rows.append(rows[key])
            if len(batch.rows) >= self._terms.batch:
                self._tag_batch(batch, tags)
                batch = _Batch()
        if batch.rows:
            self._tag_batch(batch, tags)

    def _readable(self, listed: list[dict[str, Any]], rows: dict[str, dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
        """The bytes of the objects that can be read; the others are put on record here."""
        refs = [ref_of(row) for row in listed if row["object_id"] not in self._denied.object_ids]
        for one in {row["object_id"] for row in listed} & self._denied.object_ids:
            _quarantine(rows[one], "purged", "it was purged")
        for ref, data in read_objects(refs, self._terms.source, self._terms.images):
            row, found = rows[ref.object_id], None if isinstance(data, Failure) else image_id(data)
            if isinstance(data, Failure):
                _quarantine(row, data.reason, data.detail)
            elif found in self._denied.image_ids:
                _quarantine(row, "purged", "an image of the same bytes was purged")
            else:
                row["image_id"] = found
                yield ref.object_id, data
                continue
            self._counters["images"] += 1

    def _tag_batch(self, batch: _Batch, tags: Tags) -> None:
        for row, found in zip(batch.rows, tags_of_each(self._tagger, batch.inputs), strict=True):
            if found.failure:
                _quarantine(row, "tagger_failed", found.failure[:500])
                continue
            row["detail"] = "; ".join(found.left_out) or None
            row["embedding"] = None if found.embedding is None else found.embedding.astype("float16")
            tags[row["object_id"]] = found.tags

    def _receipt(self, work: Task, rows: list[dict[str, Any]], tags: Mapping[str, list[dict[str, Any]]]) -> Receipt:
        stage, log = Stage(self._terms.out, TAGGED), work.inputs[TAGGED]
        done = {row["object_id"] for row in rows}
        before = stage.current(log, work.partition, "images", "object_id", IMAGES).select(
            ["object_id", "outcome", "reason", "detail"]
        )
        counts = tag_counts(rows)
        counts.subtract(tag_counts(row for row in before.to_pylist() if row["object_id"] in done))
        images = stage.write("images", work.partition, work.revision, table(rows, IMAGES))
        is_whole = not _is_retry(self._terms, work)
        parts = {"images": TablePart((images,), self._terms.images_fingerprint, is_whole)}
        for tagger in self._terms.taggers:
            name = tags_table(tagger.name)
            mine = [
                {"object_id": one, "tags": [tag for tag in found if tag["tagger"] == tagger.name]}
                for one, found in tags.items()
            ]
            tagged = stage.write(name, work.partition, work.revision, table(mine, OBJECT_TAGS))
            parts[name] = TablePart((tagged,), tagger.fingerprint, is_whole)
        return Receipt(
            work.partition, work.revision, parts, dict(counts), work.inputs[LISTED].digests(LISTED, [work.partition])
        )


def _blank(object_id: str) -> dict[str, Any]:
    return {**dict.fromkeys(IMAGES.names), "object_id": object_id, "outcome": "tagged"}


def _describe(row: dict[str, Any], found: Decoded) -> None:
    row.update(format=found.format, width=found.width, height=found.height, phash=found.phash)


def _quarantine(row: dict[str, Any], reason: str, detail: str) -> None:
    row.update(outcome="quarantined", reason=reason, detail=detail)
