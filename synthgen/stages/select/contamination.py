"""Pairs whose image or question is in a benchmark set (`select.decontaminate`).

Images are compared by hash and thumbnail, as near duplicates are, with a larger radius and with crops of the
benchmark's images; and by embedding, where a set is an output folder with embeddings of the same model. Questions are
compared by the runs of words that they share (`dedup.ngrams`). A report of what matched is written beside the prints of
the sets.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.deduplication import DecontaminateConfig
from synthgen.config.pipeline import ImagesConfig
from synthgen.dedup import Thumbnails, near_known, plain_texts
from synthgen.dedup.ngrams import RunIndex
from synthgen.ingest.benchmark_prints import FOLDER, PRINTS, digest_of, prints_of
from synthgen.ingest.benchmark_sets import BenchmarkSet, Columns, open_benchmark_sets
from synthgen.store import RunFolder
from synthgen.store.remote import display_uri
from synthgen.tables import CONTAMINATED, TAG

IMAGES_AT_ONCE = 200_000  # of this run, compared together
IMAGE_COLUMNS = ["object_id", "image_id", "outcome", "phash", "thumbnail", "flat_share"]
NO_THUMBNAIL = bytes(PRINTS.field("thumbnail").type.byte_width)
REASONS = ("contaminated:image", "contaminated:question")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """An image of a benchmark set that an image of this run shows: by its hash or its embedding."""

    by: str
    item: int
    value: float


@dataclass
class Contamination:
    """What is known of the benchmark sets, and which images of this run are in them.

    Attributes:
        items: The set and the item of each print.
        images: image_id → the benchmark's image that it shows.
        questions: The benchmarks' questions.
        question_items: The item of each of them.
        counts: (set, reason) → pairs, and (set, "images") → images of this run.
    """

    settings: DecontaminateConfig
    sets: list[dict[str, Any]]
    items: list[tuple[str, str]]
    images: Mapping[str, Match]
    questions: RunIndex
    question_items: npt.NDArray[np.int64]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def matches(self, rows: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
        """Return, for each of REASONS, the item that each pair matches or -1; `rows` have image_id and `plain`."""
        images = [self.images[key].item if key in self.images else -1 for key in rows.column("image_id").to_pylist()]
        plain = rows.column("plain").cast(pa.large_string()).combine_chunks()
        found = self.questions.matches(plain)
        questions = np.where(found >= 0, self.question_items[found] if len(self.question_items) else -1, -1)
        return dict(zip(REASONS, (np.array(images, np.int64), questions), strict=True))

    def rows(self, pairs: pa.Table, matches: Mapping[str, npt.NDArray[np.int64]]) -> pa.Table:
        """Return CONTAMINATED of the pairs that match, and count them."""
        made = list[dict[str, Any]]()
        ids, image_ids = (pairs.column(name).to_pylist() for name in ("pair_id", "image_id"))
        for reason, items in matches.items():
            for pair in np.flatnonzero(items >= 0).tolist():
                name, item = self.items[items[pair]]
                match = self.images[image_ids[pair]] if reason == REASONS[0] else Match("words", 0, np.nan)
                value = None if np.isnan(match.value) else match.value
                made.append({"pair_id": ids[pair], "by": match.by, "set": name, "item": item, "value": value})
                self.counts[name, reason] += 1
        made.sort(key=lambda row: (row["pair_id"], row["by"]))
        return pa.Table.from_pylist(made, schema=CONTAMINATED)

    def write_report(self, folder: RunFolder) -> None:
        """Write the report with today's date beside the prints of the sets."""
        now = datetime.now(UTC)
        shown = Counter(self.items[match.item][0] for match in self.images.values())
        matched = {
            one["name"]: {"images": shown[one["name"]], **{key: self.counts[one["name"], key] for key in REASONS}}
            for one in self.sets
        }
        settings = self.settings.model_dump(mode="json", exclude={"sets"})
        report = {
            "made": now.isoformat(timespec="seconds"),
            "settings": settings,
            "sets": self.sets,
            "matched": matched,
        }
        name = f"report-{now:%Y%m%dT%H%M%S%f}Z.json"
        folder.out.child(FOLDER).write(name, json.dumps(report, indent=1, ensure_ascii=False).encode())


def open_sets(settings: DecontaminateConfig, home: Path) -> tuple[BenchmarkSet, ...]:
    """Return the sets that are named. Raises Mistakes if some cannot be used."""
    return open_benchmark_sets("select.decontaminate.sets", settings.sets, home, _columns(settings))


def digests(sets: tuple[BenchmarkSet, ...], settings: DecontaminateConfig, limits: ImagesConfig) -> list[str]:
    """Return a digest of the prints of each set."""
    return [digest_of(one, _columns(settings), limits) for one in sets]


def find_contamination(
    folder: RunFolder, sets: tuple[BenchmarkSet, ...], settings: DecontaminateConfig, limits: ImagesConfig
) -> Contamination:
    """Return what images of this run are in these sets, and what is needed to look for questions."""
    tables, described = list[pa.Table](), list[dict[str, Any]]()
    for one in sets:
        prints = prints_of(folder.out, one, _columns(settings), limits)
        tables.append(prints.append_column("set", pa.array([one.name] * prints.num_rows, pa.string())))
        described.append(_described(one, prints, folder))
    prints = pa.concat_tables(tables)
    items = list(zip(prints.column("set").to_pylist(), prints.column("item").to_pylist(), strict=True))
    asked = prints.column("question").is_valid()
    questions = plain_texts(prints.column("question").filter(asked))
    known = _Known.of(prints, settings, [one.run for one in sets if one.run], folder)
    images = {image_id: match for part in _image_batches(folder, known) for image_id, match in known.find(part)}
    places = np.flatnonzero(asked.to_numpy())
    return Contamination(settings, described, items, images, RunIndex.of(questions, settings.words), places)


@dataclass(frozen=True)
class _Known:
    """The images of benchmark sets.

    Attributes:
        items: The print of each image.
        embeddings: Unit vectors, (images with one, dimensions), and the print of each.
    """

    bits: int
    cosine: float | None
    items: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    cells: npt.NDArray[np.uint8]
    shares: Floats
    embeddings: tuple[Floats, npt.NDArray[np.int64]] | None

    @staticmethod
    def of(prints: pa.Table, settings: DecontaminateConfig, runs: list[RunFolder], folder: RunFolder) -> "_Known":
        """Return the images of these prints, with those embeddings that the model of this run made."""
        shown = np.flatnonzero(prints.column("phash").is_valid().to_numpy())
        rows = prints.take(pa.array(shown))
        embeddings = None
        if settings.cosine is not None and any(_embedding(run) == _embedding(folder) for run in runs):
            has_one = np.flatnonzero(rows.column("embedding").is_valid().to_numpy())
            if len(has_one):
                embeddings = _vectors(rows.column("embedding").take(pa.array(has_one))), shown[has_one]
        return _Known(settings.bits, settings.cosine, shown, *_seen(rows), embeddings)

    def find(self, images: pa.Table) -> Iterator[tuple[str, Match]]:
        """Yield the images that are in a benchmark set, by their id."""
        hashes, cells, shares = _seen(images)
        everything = np.concatenate([self.cells, cells]), np.concatenate([self.shares, shares])
        thumbnails = Thumbnails(*everything, np.arange(len(everything[0])))
        near = near_known(hashes, self.hashes, self.bits, thumbnails)
        ids = images.column("image_id").to_pylist()
        for place in np.flatnonzero(near >= 0).tolist():
            differing = int(np.bitwise_count(hashes[place] ^ self.hashes[near[place]]))
            yield ids[place], Match("hash", int(self.items[near[place]]), differing)
        if self.embeddings and self.cosine is not None and "embedding" in images.column_names:
            yield from self._find_embeddings(images, ids, near >= 0)

    def _find_embeddings(
        self, images: pa.Table, ids: list[str], is_found: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[str, Match]]:
        assert self.embeddings and self.cosine is not None
        known, items = self.embeddings
        rest = np.flatnonzero(images.column("embedding").is_valid().to_numpy() & ~is_found)
        vectors = _vectors(images.column("embedding").take(pa.array(rest)))
        for start in range(0, len(rest), 1 << 12):
            cosine = vectors[start : start + (1 << 12)] @ known.T
            best = cosine.argmax(axis=1)
            for row in np.flatnonzero(cosine[np.arange(len(best)), best] >= self.cosine - 1e-5).tolist():
                yield ids[rest[start + row]], Match("embedding", int(items[best[row]]), float(cosine[row, best[row]]))


def _image_batches(folder: RunFolder, known: _Known) -> Iterator[pa.Table]:
    """Yield the tagged images of a run, many at a time."""
    columns = [*IMAGE_COLUMNS, *(["embedding"] if known.embeddings else [])]
    waiting = list[pa.Table]()
    for partition in folder.log(TAG).partitions:
        rows = folder.table(TAG, partition, "images", columns)
        waiting.append(rows.filter(pc.equal(rows.column("outcome"), "tagged")))
        if sum(rows.num_rows for rows in waiting) >= IMAGES_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _seen(rows: pa.Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], Floats]:
    """Return the hashes, thumbnails and flat shares of images; a share is NaN where there is no thumbnail."""
    cells = rows.column("thumbnail").to_pylist()
    grid = np.frombuffer(b"".join(cell or NO_THUMBNAIL for cell in cells), np.uint8).reshape(-1, len(NO_THUMBNAIL))
    has_none = np.array([cell is None for cell in cells], bool)
    shares = np.where(has_none, np.nan, rows.column("flat_share").to_numpy()).astype(np.float32)
    return rows.column("phash").to_numpy().astype(np.uint64), grid, shares


def _vectors(embeddings: pa.ChunkedArray) -> Floats:
    """Return embeddings, none of them null and all of one length, as vectors of length 1."""
    column = embeddings.combine_chunks()
    if not len(column):
        return np.empty((0, 1), np.float32)
    rows = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), -1)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def _embedding(run: RunFolder) -> Any:
    return (run.record or {}).get("shape", {}).get("images", {}).get("embedding")


def _columns(settings: DecontaminateConfig) -> Columns:
    return Columns(settings.images, settings.questions)


def _described(benchmark: BenchmarkSet, prints: pa.Table, folder: RunFolder) -> dict[str, Any]:
    """Return what the report says of a set."""
    is_whole = pc.and_(prints.column("phash").is_valid(), pc.invert(pc.fill_null(prints.column("is_crop"), False)))
    unreadable = Counter(reason for reason in prints.column("failure").to_pylist() if reason)
    described = {
        "name": benchmark.name,
        "place": display_uri(benchmark.url),
        "digest": benchmark.digest,
        "images": pc.sum(is_whole, min_count=0).as_py(),
        "unreadable": dict(unreadable),
        "questions": prints.num_rows - prints.column("question").null_count,
    }
    if benchmark.run and _embedding(benchmark.run) != _embedding(folder):
        described["embeddings"] = "of another model; not compared"
    return described
