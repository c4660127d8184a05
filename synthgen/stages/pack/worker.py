"""Writes a shard: the pairs of its samples, with their images, as Parquet.

Comes in: a Shard. Goes out: a receipt for its files, for a small index of what is in them, and for a record of each sample
whose image could not be had again. A shard is made in memory and written in one piece, like every file here.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.errors import Failure
from synthgen.stages.pack import redact
from synthgen.stages.pack.images import Sample, with_images
from synthgen.stages.pack.metadata import Embedded
from synthgen.stages.pack.samples import PackContext, Shard, samples_of
from synthgen.stages.pack.schema import MEGABYTE, ParquetFiles, row_bytes, sample_schema
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.commits import commit_name
from synthgen.tables import (
    GENERATE,
    PACK,
    PAIRS,
    PLAN,
    SELECT,
    SHARD_INDEX,
    UNPACKED,
    table,
)

Row = dict[str, Any]
PAIR_COLUMNS = pa.schema([field for field in PAIRS if field.name not in ("raw_question", "raw_answer")])


async def build(context: PackContext) -> "PackWorker":
    """A worker, where it is used."""
    return PackWorker(context)


def image_ids(shard: Shard) -> tuple[str, ...]:
    """The images of a shard, for cutting it in half."""
    return tuple(dict.fromkeys(shard.images))


class PackWorker:
    """Writes one shard after the other, in an actor."""

    def __init__(self, context: PackContext) -> None:
        self._context = context
        self._counters = {"samples": 0.0}
        self._one_at_a_time = asyncio.Lock()
        self._drains = False

    async def do(self, work: Shard) -> Receipt | None:
        """Writes a shard. Another waits: two at once would only take twice the memory."""
        async with self._one_at_a_time:
            if self._drains:
                return None
            receipt = await asyncio.to_thread(write_shard, self._context, work)
        self._counters["samples"] += len(work.samples)
        return receipt

    def progress(self) -> Mapping[str, float]:
        """Samples done."""
        return dict(self._counters)

    def drain(self) -> None:
        """Shards that have not begun are given back."""
        self._drains = True


def write_shard(context: PackContext, shard: Shard) -> Receipt:
    """Writes a shard's files and returns the receipt for them; nothing is visible before it is committed."""
    stage, pack = StageFolder(context.out, PACK), context.pack
    prefix = f"train-{commit_name(shard.partition, shard.revision)}"
    files = ParquetFiles(
        sample_schema(context.scores), pack.shard_megabytes * MEGABYTE, pack.row_group_megabytes * MEGABYTE
    )
    written, index, unpacked = [], list[Row](), list[Row]()
    for sample, image in with_images(context, shard, _samples(context, shard)):
        ids = {"image_id": sample.image_id, "sample_id": sample.sample_id}
        if isinstance(image, Failure):
            unpacked.append({**ids, "turns": len(sample.pairs), "reason": image.reason, "detail": image.detail})
            continue
        row = _row(sample, image, context)
        index.append({**ids, "bytes": row_bytes(row), **{name: row[name] for name in ("types", "forms", "languages")}})
        written += [stage.put("data", prefix, data, rows) for data, rows in files.add(row)]
    written += [stage.put("data", prefix, data, rows) for data, rows in files.finish()]
    small = {"index": table(index, SHARD_INDEX), "unpacked": table(unpacked, UNPACKED)}
    tables = {name: (stage.write(name, shard.partition, shard.revision, rows),) for name, rows in small.items()}
    parts = {name: TablePart(some, context.image_policy, replaces=True) for name, some in tables.items()}
    parts["data"] = TablePart(tuple(written), context.fingerprint, replaces=True)
    counts = _counts(shard, index, unpacked)
    return Receipt(shard.partition, shard.revision, parts, counts, _reads(shard), shard.epoch)


def _counts(shard: Shard, index: Sequence[Row], unpacked: Sequence[Row]) -> dict[str, int]:
    """Samples, and turns packed or not packed for a reason: by how much this revision changes their current numbers."""
    counts = Counter({"samples": len(index), "turns": sum(len(row["types"]) for row in index)})
    for row in unpacked:
        counts[row["reason"]] += row["turns"]
    if shard.is_first:
        for commit in shard.inputs[PACK.folder].partitions[shard.partition]:
            counts.subtract(commit.receipt.counts)
    return {name: count for name, count in counts.items() if count}


def _reads(shard: Shard) -> dict[str, str]:
    logs = {spec: shard.inputs[spec.folder] for spec in (PLAN, GENERATE, SELECT)}
    return {key: digest for spec, log in logs.items() for key, digest in log.digests(spec, log.partitions).items()}


# --- reading ----------------------------------------------------------------------------------------------------------


def _samples(context: PackContext, shard: Shard) -> list[Sample]:
    """The samples of a shard in order; of a piece of a shard, those of its images."""
    found: dict[str, Sample] = {}
    wanted = set(shard.samples)
    for partition in shard.inputs[SELECT.folder].partitions:
        folder = RunFolder(context.out, shard.inputs)
        decisions = folder.table(SELECT, partition, "decisions")
        here = [one for one in samples_of(decisions, context.pack.max_turns) if one[1] in wanted]
        if here:
            found.update({sample.sample_id: sample for sample in _filled(folder, partition, here, context.scores)})
    return [found[one] for one in shard.samples if shard.only is None or found[one].image_id in shard.only]


def _filled(
    folder: RunFolder, partition: str, ids: Sequence[tuple[str, str, list[str]]], names: Sequence[str]
) -> Iterator[Sample]:
    """Samples of one partition with their pairs, scores and the plan's row of their image."""
    pairs = {row["pair_id"]: row for row in folder.table(GENERATE, partition, "pairs", PAIR_COLUMNS.names).to_pylist()}
    rows = folder.table(PLAN, partition, "images").to_pylist()
    planned, kept = (
        {row["object_id"]: row for row in rows},
        {row["image_id"]: row for row in rows if row["outcome"] == "planned"},
    )
    scores = {}
    for name in names:
        values = folder.table(GENERATE, partition, f"scores/{name}")
        scores[name] = dict(zip(values.column("pair_id").to_pylist(), values.column("value").to_pylist(), strict=True))
    for image, sample, turns in ids:
        own = [pairs[pair] for pair in turns]
        scored = {name: [values.get(pair) for pair in turns] for name, values in scores.items()}
        # Since it was asked there, its place may have got another image; then a copy of its bytes is planned.
        yield Sample(image, sample, own, scored, kept.get(image) or planned[own[0]["object_id"]])


# --- a row ------------------------------------------------------------------------------------------------------------


def _row(sample: Sample, image: Embedded, context: PackContext) -> Row:
    pairs, planned = sample.pairs, sample.planned
    return {
        "id": sample.sample_id,
        "images": [{"bytes": image.data, "path": f"{sample.image_id}{image.suffix}"}],
        "messages": _messages(pairs, context),
        "image_id": sample.image_id,
        "object_id": planned["object_id"],
        "width": image.width,
        "height": image.height,
        "uris": [redact.uri(one, context.root) for one in planned["uris"]],
        "tags": [{**tag, "tagger": redact.shelf_name(tag["tagger"])} for tag in planned["tags"]],
        "license": _license(planned["source_meta"]),
        "source_meta": planned["source_meta"],
        # One model, unless an update was cut short.
        "model": ", ".join(dict.fromkeys(redact.model(pair["model"] or "") for pair in pairs)),
        "model_revision": ", ".join(dict.fromkeys(pair["revision"] or "" for pair in pairs)),
        "pair_ids": [pair["pair_id"] for pair in pairs],
        "types": [pair["type"] for pair in pairs],
        "forms": [pair["form"] for pair in pairs],
        "languages": [pair["language"] for pair in pairs],
        **{f"score_{name}": values for name, values in sample.scores.items()},
    }


def _messages(pairs: Sequence[Row], context: PackContext) -> list[Row]:
    """The conversation in TRL's form: the image first in the first turn."""
    messages: list[Row] = []
    for pair in pairs:
        asked = {"type": "text", "text": context.turn_text(pair["form"], pair["question"], pair["options"] or ())}
        messages.append({"role": "user", "content": [asked] if messages else [{"type": "image", "text": None}, asked]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": pair["answer"]}]})
    return messages


def _license(source_meta: str | None) -> str | None:
    """The licence that came along with the image, if one did."""
    try:
        meta = json.loads(source_meta or "null")
    except ValueError:
        return None
    found = (
        next((meta[key] for key in ("license", "licence") if meta.get(key)), None) if isinstance(meta, dict) else None
    )
    return None if found is None else str(found)
