"""The packing worker: writes the samples of a shard with their images as Parquet.

Beside the shard it writes a small index of it, and a record of each sample whose image could not be fetched again. A
shard is built in memory and written in one piece, like every file of a run.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config.turns import WORKED_FORM, with_options
from synthgen.errors import Failure
from synthgen.ingest.rights import license_of
from synthgen.ingest.sources.sets import members_of_set
from synthgen.stages.memory import MEGABYTE
from synthgen.stages.pack import redact
from synthgen.stages.pack.images import Packed, Sample, with_images
from synthgen.stages.pack.samples import PackContext, Shard, samples_of
from synthgen.stages.pack.schema import ParquetFiles, row_bytes, sample_schema
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
    changed_counts,
    draw,
    is_set,
    score_column,
    table,
)
from synthgen.workers import SerialWorker

Row = dict[str, Any]
INDEXED = ("types", "forms", "languages", "license", "source")  # columns of a sample that the index has too
PAIR_COLUMNS = pa.schema([field for field in PAIRS if field.name not in ("raw_question", "raw_answer")])


async def build(context: PackContext) -> SerialWorker:
    """Return a worker that writes shards and counts their samples."""
    counters = {"samples": 0.0}

    def work(shard: Shard) -> Receipt:
        receipt = write_shard(context, shard)
        counters["samples"] += len(shard.wanted)
        return receipt

    return SerialWorker(work, counters)


def image_ids(shard: Shard) -> tuple[str, ...]:
    """Return the images of a shard, by which it can be cut in half."""
    return tuple(dict.fromkeys(shard.images))


def write_shard(context: PackContext, shard: Shard) -> Receipt:
    """Write the files of a shard; no reader sees them before the receipt is committed."""
    stage, pack = StageFolder(context.out, PACK), context.pack
    prefix = f"train-{commit_name(shard.partition, shard.revision)}"
    files = ParquetFiles(
        sample_schema(context.scores), pack.shard_megabytes * MEGABYTE, pack.row_group_megabytes * MEGABYTE
    )
    written, index, unpacked = [], list[Row](), list[Row]()
    for sample, images in with_images(context, shard, _samples(context, shard)):
        ids = {"image_id": sample.image_id, "sample_id": sample.sample_id}
        if isinstance(images, Failure):
            unpacked.append({**ids, "turns": len(sample.pairs), "reason": images.reason, "detail": images.detail})
            continue
        row = _row(sample, images, context)
        index.append({**ids, "bytes": row_bytes(row), **{name: row[name] for name in INDEXED}})
        written += [stage.put("data", prefix, data, rows) for data, rows in files.add(row)]
    written += [stage.put("data", prefix, data, rows) for data, rows in files.finish()]
    parts, tables = {}, {"index": table(index, SHARD_INDEX), "unpacked": table(unpacked, UNPACKED)}
    for name, rows in tables.items():
        file = stage.write(name, shard.partition, shard.revision, rows)
        parts[name] = TablePart((file,), context.image_policy, replaces=True)
    parts["data"] = TablePart(tuple(written), context.fingerprint, replaces=True)
    folder = RunFolder(context.out, shard.inputs)
    partitions = list(folder.log(SELECT).partitions)
    reads = folder.digests((PLAN, GENERATE, SELECT), partitions) | folder.pass_digests(partitions, context.scores)
    return Receipt(shard.partition, shard.revision, parts, _counts(shard, tables), reads, shard.epoch)


def _counts(shard: Shard, tables: Mapping[str, pa.Table]) -> dict[str, int]:
    """Return by how much this revision changes the number of samples, of packed turns, and of others by reason."""
    counts = Counter[str]()
    for name, rows in tables.items():
        counts.update(PACK.table(name).count_rows(rows))
    return changed_counts(shard.inputs[PACK.folder].counts([shard.partition]) if shard.is_first else {}, counts)


# --- reading ----------------------------------------------------------------------------------------------------------


def _samples(context: PackContext, shard: Shard) -> list[Sample]:
    """Return the samples of a shard in order; of a piece of a shard, those of its images."""
    samples: dict[str, Sample] = {}
    folder, wanted = RunFolder(context.out, shard.inputs), set(shard.wanted)
    for partition in folder.log(SELECT).partitions:
        decisions = folder.table(SELECT, partition, "decisions")
        ids = [sample for sample in samples_of(decisions, context.pack.max_turns) if sample[1] in wanted]
        if ids:
            filled = _fill(folder, partition, ids, context.scores)
            samples.update({sample.sample_id: sample for sample in filled})
    return [samples[sample_id] for sample_id in shard.wanted]


def _fill(
    folder: RunFolder, partition: str, ids: Sequence[tuple[str, str, list[str]]], names: Sequence[str]
) -> Iterator[Sample]:
    """Yield samples of one partition with their pairs, their scores and the planned row of their image.

    Args:
        folder: The commits that the shard is made from.
        partition: Its name.
        ids: As of `samples_of`.
        names: The names of the scores.
    """
    pairs = {row["pair_id"]: row for row in folder.table(GENERATE, partition, "pairs", PAIR_COLUMNS.names).to_pylist()}
    rows = folder.table(PLAN, partition, "images").to_pylist()
    by_object = {row["object_id"]: row for row in rows}
    by_image = {row["image_id"]: row for row in rows if row["outcome"] == "planned"}
    scores = {}
    for name in names:
        values = folder.scores(partition, name, ["pair_id", "value"])
        scores[name] = dict(zip(values.column("pair_id").to_pylist(), values.column("value").to_pylist(), strict=True))
    for image, sample, turns in ids:
        own = [pairs[pair] for pair in turns]
        scored = {name: [values.get(pair) for pair in turns] for name, values in scores.items()}
        # After the image was asked about, its place can have got another one; then a copy of its bytes is planned.
        asked = by_object[own[0]["object_id"]]
        is_planned = asked["outcome"] == "planned" and asked["image_id"] == image
        yield Sample(image, sample, own, scored, asked if is_planned else by_image.get(image, asked))


# --- a row ------------------------------------------------------------------------------------------------------------


def _row(sample: Sample, images: Packed, context: PackContext) -> Row:
    pairs, planned = sample.pairs, sample.planned
    return {
        "id": sample.sample_id,
        "images": [{"bytes": image.data, "path": f"{own}{image.suffix}"} for own, image in images],
        "messages": _messages(pairs, len(images), context),
        "image_id": sample.image_id,
        "object_id": planned["object_id"],
        "width": images[0][1].width,
        "height": images[0][1].height,
        "uris": [redact.uri(uri, context.root) for uri in _places(planned)],
        "tags": [{**tag, "tagger": redact.shelf_name(tag["tagger"])} for tag in planned["tags"]],
        **_rights(planned),
        "source": planned["source"],
        "source_meta": planned["source_meta"],
        # There are several models where pairs were asked again, or an update was cut short.
        "model": ", ".join(dict.fromkeys(redact.model(pair["model"] or "") for pair in pairs)),
        "model_revision": ", ".join(dict.fromkeys(pair["revision"] or "" for pair in pairs)),
        "pair_ids": [pair["pair_id"] for pair in pairs],
        "types": [pair["type"] for pair in pairs],
        "forms": [pair["form"] for pair in pairs],
        "languages": [pair["language"] for pair in pairs],
        **{score_column(name): values for name, values in sample.scores.items()},
    }


def _places(planned: Row) -> list[str]:
    """Return the places of an image, or of a set and then those of its images in order."""
    own: list[str] = planned["uris"]
    if not is_set(planned["uri"]):
        return own
    return [*own, *(uri for uri, _, _ in members_of_set(planned["version"]))]


def _messages(pairs: Sequence[Row], images: int, context: PackContext) -> list[Row]:
    """Return the conversation in the form of TRL: the images first in the first turn."""
    messages: list[Row] = []
    shown = [{"type": "image", "text": None}] * images
    for pair in pairs:
        question, answer = _turn(pair, context)
        asked = {"type": "text", "text": question}
        messages.append({"role": "user", "content": [asked] if messages else [*shown, asked]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def _turn(pair: Row, context: PackContext) -> tuple[str, str]:
    """Return the words of the user and the answer; a share of the worked-out answers is shown with the working."""
    question, options, name = pair["question"], pair["options"] or (), pair["pair_id"]
    if pair["reasoning"] and draw(0, "worked", name) < context.pack.worked:
        asked = context.turn_text(WORKED_FORM, with_options(question, options), (), pair["language"], name)
        return asked, pair["reasoning"]
    return context.turn_text(pair["form"], question, options, pair["language"], name), pair["answer"]


def _rights(planned: Row) -> dict[str, str | None]:
    """Return what samples show of the rights to an image; of one that an older synth tagged, the licence alone."""
    rights = planned["rights"] or {"license": license_of(planned["source_meta"])}
    return {name: rights.get(name) for name in ("license", "author", "copyright", "source_url")}
