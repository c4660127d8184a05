"""Which shards there should be, and which of them are to be written.

Comes in: the decisions, and the small index of the shards that exist. Goes out: pieces of work. A sample is an image with
its kept pairs in the order of the plan, in runs of at most `max_turns`; its id is made of them, so comparing ids says what
changed. Shards come in epochs: images that are in no shard yet go to new shards of a new epoch, in the order of the
partitions that planned them; a shard with a sample that should be otherwise is written anew as its next revision; all
others stay as they are. No image is read here, and of each sample only its ids and size are held.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Images, Pack, Source
from synthgen.pack.features import MEGABYTE
from synthgen.rows import DECISIONS, OBJECTS, PLANNED_IMAGES, SHARD_INDEX, UNPACKED, make_id, sample_id
from synthgen.store import Folder, Log, Stage
from synthgen.store.stage import partition_name
from synthgen.workers import Work

LISTED, PLANNED, GENERATED, SELECTED, SHARDS = "0-listed", "2-planned", "3-generated", "4-selected", "5-shards"
FORMAT_VERSION = "2"  # part of the fingerprint; raise it when the columns change
IMAGES_VERSION = "1"  # raise it when the image in a sample would be another; until then a shard that is written anew keeps its own
USUAL_BYTES = 200_000  # of an image whose size no listing tells and before any shard is written

TurnText = Callable[[str, str, Sequence[str]], str]  # answer form, question, options -> the user's words


@dataclass(frozen=True)
class Terms:
    """What shapes the shards; it is sent to the workers."""

    out: Folder
    source: Source
    images: Images
    pack: Pack
    scores: tuple[str, ...]  # of which there are columns
    turn_text: TurnText
    wording: str  # the fingerprint of turn_text
    root: str = ""  # the local folder of the source, which no sample tells

    @property
    def image_policy(self) -> str:
        """Changes when the image in a sample would."""
        pixels = str(self.images.model_pixels) if self.pack.images == "resized" else ""
        return make_id("images", IMAGES_VERSION, self.pack.images, self.pack.metadata, pixels)

    @property
    def fingerprint(self) -> str:
        """Changes when a sample would; the size of shards shapes no sample."""
        return make_id("shards", FORMAT_VERSION, self.image_policy, str(self.pack.max_turns), self.wording, *sorted(self.scores))


@dataclass(frozen=True)
class Shard(Work):
    """A shard to be written: its samples, and in `inputs` the commits that they are made from."""

    epoch: int = 0
    samples: tuple[str, ...] = ()  # ids, in order
    images: tuple[str, ...] = ()  # of each sample


def todo(terms: Terms, retry: Collection[str] = ()) -> list[Shard]:
    """The shards to write, those of earlier epochs first; also those with samples that could not be packed for a reason to `retry`."""
    logs = {name: Stage(terms.out, name).log() for name in (LISTED, PLANNED, GENERATED, SELECTED, SHARDS)}
    wanted, packed = _wanted(terms, logs), _packed(terms, logs[SHARDS])
    place = pc.index_in(wanted.column("image_id"), packed.column("image_id").combine_chunks())
    wanted = wanted.append_column("shard", packed.column("partition").take(place))
    touched = _touched(terms, logs[SHARDS], wanted, packed)
    touched |= {name for name in logs[SHARDS].partitions if any(logs[SHARDS].counts([name]).get(reason) for reason in retry)}
    here = _places(wanted.column("shard"))
    works = [_rewritten(logs, name, wanted.take(pa.array(here.get(name, []), pa.int64()))) for name in sorted(touched)]
    fresh = wanted.filter(pc.is_null(wanted.column("shard")))
    epoch = logs[SHARDS].last_epoch + 1
    cuts = _cuts(_sizes(terms, logs, fresh, packed), fresh.column("image_id").to_pylist(), terms.pack.shard_megabytes * MEGABYTE)
    for number, (start, end) in enumerate(cuts):
        works.append(_work(logs, partition_name(epoch, number), epoch, fresh.slice(start, end - start)))
    return works


def _places(column: pa.ChunkedArray) -> dict[str, list[int]]:
    """Value -> the rows that have it, in order."""
    places: dict[str, list[int]] = {}
    for row, value in enumerate(column.to_pylist()):
        if value is not None:
            places.setdefault(value, []).append(row)
    return places


def samples_of(decisions: pa.Table, max_turns: int) -> Iterator[tuple[str, str, list[str]]]:
    """(image_id, sample_id, pair ids) of the kept pairs of a partition, images in the order of their first pair."""
    kept = decisions.filter(decisions.column("kept"))
    pairs: dict[str, list[str]] = {}
    for image, pair in zip(kept.column("image_id").to_pylist(), kept.column("pair_id").to_pylist(), strict=True):
        pairs.setdefault(image, []).append(pair)
    for image, turns in pairs.items():
        for start in range(0, len(turns), max_turns):
            some = turns[start : start + max_turns]
            yield image, sample_id(image, some), some


def _wanted(terms: Terms, logs: Mapping[str, Log]) -> pa.Table:
    """image_id, sample_id and planning partition of every sample that there should be, in order."""
    stage, log = Stage(terms.out, SELECTED), logs[SELECTED]
    parts = [pa.schema([(name, pa.string()) for name in ("image_id", "sample_id", "partition")]).empty_table()]
    for name in log.partitions:
        decisions = stage.current(log, name, "decisions", "pair_id", DECISIONS)
        found = [(image, sample, name) for image, sample, _ in samples_of(decisions, terms.pack.max_turns)]
        columns = zip(*found, strict=True) if found else ((), (), ())
        parts.append(pa.table([pa.array(column, pa.string()) for column in columns], schema=parts[0].schema))
    return pa.concat_tables(parts)


def _packed(terms: Terms, log: Log) -> pa.Table:
    """image_id, sample_id, bytes and shard of every sample that is in a shard, or that could not be packed there."""
    stage, columns = Stage(terms.out, SHARDS), ["image_id", "sample_id", "bytes"]
    parts = [SHARD_INDEX.empty_table().select(columns).append_column("partition", pa.array([], pa.string()))]
    for name in log.partitions:
        index = stage.current(log, name, "index", "sample_id", SHARD_INDEX).select(columns)
        unpacked = stage.current(log, name, "unpacked", "sample_id", UNPACKED).select(columns[:2])
        both = pa.concat_tables([index, unpacked], promote_options="default")
        parts.append(both.append_column("partition", pa.array([name] * both.num_rows, pa.string())))
    return pa.concat_tables(parts)


def _touched(terms: Terms, log: Log, wanted: pa.Table, packed: pa.Table) -> set[str]:
    """The shards in which something should be otherwise: made on other terms, or with a sample too many or too few."""
    gone = packed.filter(pc.invert(pc.is_in(packed.column("sample_id"), wanted.column("sample_id").combine_chunks())))
    new = wanted.filter(pc.invert(pc.is_in(wanted.column("sample_id"), packed.column("sample_id").combine_chunks())))
    other = [name for name in log.partitions if log.fingerprint(name, "data") != terms.fingerprint]
    return {*gone.column("partition").to_pylist(), *new.column("shard").drop_null().to_pylist(), *other}


def _rewritten(logs: Mapping[str, Log], name: str, samples: pa.Table) -> Shard:
    work = _work(logs, name, logs[SHARDS].partitions[name][0].epoch, samples)
    return replace(work, revision=logs[SHARDS].next_revision(name))


def _work(logs: Mapping[str, Log], name: str, epoch: int, samples: pa.Table) -> Shard:
    """A shard with just the logs of the partitions that its samples come from, and its own."""
    origins = pc.unique(samples.column("partition")).to_pylist()
    inputs = {stage: Log({one: logs[stage].partitions[one] for one in origins}) for stage in (PLANNED, GENERATED, SELECTED)}
    inputs[SHARDS] = Log({name: logs[SHARDS].partitions.get(name, ())})
    ids, images = (tuple(samples.column(column).to_pylist()) for column in ("sample_id", "image_id"))
    return Shard(name, 1, inputs, epoch=epoch, samples=ids, images=images)


def _sizes(terms: Terms, logs: Mapping[str, Log], fresh: pa.Table, packed: pa.Table) -> list[int]:
    """About how many bytes each sample will take: what the listing says of its image, else as much as the others take."""
    mean = pc.mean(packed.column("bytes")).as_py() if packed.num_rows else None
    most = terms.images.model_pixels if terms.pack.images == "resized" else None
    known: dict[str, int] = {}
    for name in pc.unique(fresh.column("partition")).to_pylist():
        listed = Stage(terms.out, LISTED).current(logs[LISTED], name, "objects", "object_id", OBJECTS)
        planned = Stage(terms.out, PLANNED).current(logs[PLANNED], name, "images", "object_id", PLANNED_IMAGES)
        place = pc.index_in(planned.column("object_id"), listed.column("object_id").combine_chunks())
        sizes = listed.column("bytes").take(place).to_pylist()
        known.update({image: size for image, size in zip(planned.column("image_id").to_pylist(), sizes, strict=True) if size})
    usual = int(mean or USUAL_BYTES)
    return [min(known.get(image, usual), most or known.get(image, usual)) for image in fresh.column("image_id").to_pylist()]


def _cuts(sizes: Sequence[int], images: Sequence[str], most: int) -> list[tuple[int, int]]:
    """Runs of samples of about `most` bytes; the samples of one image stay together."""
    cuts, start, total = [], 0, 0
    for index, (size, image) in enumerate(zip(sizes, images, strict=True)):
        if index > start and total + size > most and image != images[index - 1]:
            cuts.append((start, index))
            start, total = index, 0
        total += size
    return [*cuts, (start, len(sizes))] if sizes else []
