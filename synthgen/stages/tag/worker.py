"""The tagging worker: fetches, verifies, decodes and tags the images of a partition."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from synthgen.errors import Failure, one_line
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.load import load_images
from synthgen.ingest.rights import rights_of
from synthgen.ingest.sources import ref_of
from synthgen.ingest.sources.sets import member_objects
from synthgen.stages.tag.context import TagContext
from synthgen.stages.tag.todo import is_retry, objects_of
from synthgen.store import Receipt, RunFolder, TablePart
from synthgen.store.denylist import read_denylist
from synthgen.tables import IMAGES, LIST, OBJECT_TAGS, TAG, changed_counts, count_tagged, is_set, table, tags_table
from synthgen.taggers import KnownTags, Taggers, prepare_image, read_cached_tags, tag_images
from synthgen.workers import SerialWorker, Task, keep_to_given_gpus

Tags = dict[str, list[dict[str, Any]]]  # object id → its tags
Rows = dict[str, dict[str, Any]]  # object id → its row of IMAGES


async def build(context: TagContext) -> SerialWorker:
    """Load the taggers where the worker is, on the GPU that it was given or on the CPU."""
    keep_to_given_gpus()
    worker = await asyncio.to_thread(TagWorker, context)
    return SerialWorker(worker.do, worker.counters)


@dataclass
class _Batch:
    """Images decoded and not yet embedded."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)


class TagWorker:
    """Taggers and a pool of decoders, in one actor; `counters` is the number of images done."""

    def __init__(self, context: TagContext) -> None:
        self._context = context
        self._tagger = Taggers(context.taggers)
        self._denied = read_denylist(context.out)
        self._decoder: DecoderPool[str] = DecoderPool(context.images)
        self.counters = {"images": 0.0}

    def do(self, task: Task) -> Receipt:
        """Tag a partition, which takes seconds."""
        objects = objects_of(self._context, task)
        rows: Rows = {row["object_id"]: _blank(row["object_id"]) for row in objects}
        tags: Tags = {}
        if task.poison:
            for row in rows.values():
                why = one_line(f"the worker died on this image alone: {task.why}", 500)
                _quarantine(row, "tagger_failed", why)
        else:
            known = self._recall(objects, rows, tags, task)
            self._tag_all([row for row in objects if row["object_id"] not in tags], rows, tags, known)
        return self._receipt(task, list(rows.values()), tags)

    def _recall(self, objects: list[dict[str, Any]], rows: Rows, tags: Tags, task: Task) -> dict[str, KnownTags]:
        """Return, for each object, the tags that are known without its pixels.

        Where all taggers are known so, the row and the tags of the object are completed here.
        """
        known: dict[str, KnownTags] = {}
        if task.inputs[TAG.folder].fingerprint(task.partition, "images") != self._context.images_fingerprint:
            return known
        cached = read_cached_tags(RunFolder(self._context.out, task.inputs), task.partition, self._context.taggers)
        old = [
            row
            for row in objects
            if row["object_id"] in cached
            and row["object_id"] not in self._denied.object_ids
            and self._denied.image_ids.isdisjoint(_contents(cached[row["object_id"]].row))
        ]
        for start in range(0, len(old), self._context.batch):
            metas = {row["object_id"]: row["source_meta"] for row in old[start : start + self._context.batch]}
            recalled = self._tagger.recall([cached[object_id] for object_id in metas], list(metas.values()))
            tags_of = dict(zip(metas, recalled, strict=True))
            whole = {object_id: own for object_id, own in tags_of.items() if len(own) == len(self._context.taggers)}
            rows.update({object_id: dict(cached[object_id].row) for object_id in whole})
            self._tag_batch(_Batch([rows[object_id] for object_id in whole], list(whole.values())), tags)
            self.counters["images"] += len(whole)
            known |= tags_of
        return known

    def _tag_all(self, objects: list[dict[str, Any]], rows: Rows, tags: Tags, known: Mapping[str, KnownTags]) -> None:
        """Tag the objects that need their pixels."""
        batch = _Batch()
        metas = {row["object_id"]: row["source_meta"] for row in objects}
        listed = {row["object_id"]: row for row in objects}
        gone = {row["object_id"] for row in objects if not self._denied.object_ids.isdisjoint(_objects_in(row))}
        for object_id in gone:
            _quarantine(rows[object_id], "purged", "it was purged, or an image of its set was")
        for row in objects:
            if row["refused"]:
                _quarantine(rows[row["object_id"]], *row["refused"].split(": ", 1))
        wanted = (row for row in objects if not row["refused"] and row["object_id"] not in gone)
        refs = [ref_of(row) for row in wanted]
        for loaded in load_images(refs, self._context.source, self._decoder, denied_ids=self._denied.image_ids):
            row, image = rows[loaded.object_id], loaded.image
            row["image_id"], row["members"] = loaded.image_id, list(loaded.members) or None
            item: Any = image
            if isinstance(image, Decoded):
                _describe(row, image)
                item = self._reservation(row, image, listed[loaded.object_id])
            if isinstance(item, Decoded):
                prepare = partial(self._tagger.prepare, known=known.get(loaded.object_id, {}))
                item = prepare_image(prepare, item.image, metas[loaded.object_id])
            self.counters["images"] += 1  # not before: the first one loads the tagger
            if isinstance(item, Failure):
                _quarantine(row, item.reason, item.detail)
                continue
            batch.inputs.append(item)
            batch.rows.append(row)
            if len(batch.rows) >= self._context.batch:
                self._tag_batch(batch, tags)
                batch = _Batch()
        if batch.rows:
            self._tag_batch(batch, tags)

    def _reservation(self, row: dict[str, Any], image: Decoded, listed: dict[str, Any]) -> Decoded | Failure:
        """Add what is stated of its rights to the row of an image; return the image, or why it must not be used."""
        rights = rights_of(listed["source_meta"], image.stated, listed["uri"])
        row["rights"] = asdict(rights) if rights else None
        if rights and rights.reserved and not self._context.source.place(listed["source"]).use_reserved:
            return Failure("reserved", rights.reserved)
        return image

    def _tag_batch(self, batch: _Batch, tags: Tags) -> None:
        for row, tagged in zip(batch.rows, tag_images(self._tagger, batch.inputs), strict=True):
            if isinstance(tagged, Failure):
                _quarantine(row, tagged.reason, tagged.detail)
                continue
            row["detail"] = "; ".join(tagged.left_out) or None
            row["embedding"] = None if tagged.embedding is None else tagged.embedding.astype("float16")
            tags[row["object_id"]] = tagged.tags

    def _receipt(self, task: Task, rows: list[dict[str, Any]], tags: Tags) -> Receipt:
        folder = RunFolder(self._context.out, task.inputs)
        stage, done = folder.stage(TAG), {row["object_id"] for row in rows}
        columns = ["object_id", "outcome", "reason", "detail"]
        before = folder.table(TAG, task.partition, "images", columns).to_pylist()
        counts = changed_counts(count_tagged(row for row in before if row["object_id"] in done), count_tagged(rows))
        is_whole = not is_retry(self._context, task)
        images = stage.write("images", task.partition, task.revision, table(rows, IMAGES))
        parts = {"images": TablePart((images,), self._context.images_fingerprint, is_whole)}
        for tagger in self._context.taggers:
            name = tags_table(tagger.name)
            own = [_tags_by(tagger.name, object_id, all_tags) for object_id, all_tags in tags.items()]
            file = stage.write(name, task.partition, task.revision, table(own, OBJECT_TAGS))
            parts[name] = TablePart((file,), tagger.fingerprint, is_whole)
        reads = folder.digests((LIST,), [task.partition])
        return Receipt(task.partition, task.revision, parts, counts, reads, task.epoch)


def _tags_by(tagger: str, object_id: str, tags: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object_id": object_id, "tags": [tag for tag in tags if tag["tagger"] == tagger]}


def _objects_in(listed: Mapping[str, Any]) -> list[str]:
    """Return the object ids that a row of OBJECTS stands for: its own, and those of the images of a set."""
    return [listed["object_id"], *(member_objects(listed["version"]) if is_set(listed["uri"]) else ())]


def _contents(row: Mapping[str, Any]) -> list[str]:
    """Return the image ids that a row of IMAGES stands for: its own, and those of the images of a set."""
    return [row["image_id"], *(row["members"] or ())]


def _blank(object_id: str) -> dict[str, Any]:
    return {**dict.fromkeys(IMAGES.names), "object_id": object_id, "outcome": "tagged"}


def _describe(row: dict[str, Any], decoded: Decoded) -> None:
    row.update(format=decoded.format, width=decoded.width, height=decoded.height)
    row.update(phash=decoded.phash, thumbnail=decoded.thumbnail, flat_share=decoded.flat_share)


def _quarantine(row: dict[str, Any], reason: str, detail: str) -> None:
    row.update(outcome="quarantined", reason=reason, detail=detail)
