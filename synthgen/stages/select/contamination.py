"""Pairs whose image or question is in a benchmark set (`select.decontaminate`).

Images are compared as `benchmark_images` does, questions by the runs of words that they share (`dedup.ngrams`). A
report of what matched is written beside the prints of the sets.
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
from synthgen.config.source import ImagesConfig
from synthgen.dedup import plain_texts
from synthgen.dedup.ngrams import RunIndex
from synthgen.ingest.benchmark_prints import FOLDER, digest_of, prints_of
from synthgen.ingest.benchmark_sets import BenchmarkSet, open_benchmark_sets
from synthgen.ingest.benchmark_tables import Columns
from synthgen.stages.select.benchmark_images import KnownImages, Match, embedding_of
from synthgen.store import RunFolder
from synthgen.store.remote import display_uri
from synthgen.tables import CONTAMINATED, TAG

IMAGES_AT_ONCE = 200_000  # of this run, compared together
IMAGE_COLUMNS = ["object_id", "image_id", "outcome", "phash", "thumbnail", "flat_share"]
REASONS = ("contaminated:image", "contaminated:question")


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

    @property
    def notes(self) -> list[str]:
        """What of the sets could not be read, a line for each: nothing is compared with that."""
        found = list[str]()
        for one in self.sets:
            lost = ", ".join(f"{count:,} {reason}" for reason, count in sorted(one["unreadable"].items()))
            if lost:
                what = f"not all of it can be read ({lost}); copies of that are not found"
                found.append(f"select.decontaminate: {one['name']}: {what}")
            if not one["images"] and not one["questions"]:
                found.append(f"select.decontaminate: {one['name']}: has no image and no question to compare with")
        return found

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
    known = KnownImages.of(prints, settings, [one.run for one in sets if one.run], folder)
    images = {image_id: match for part in _image_batches(folder, known) for image_id, match in known.find(part)}
    places = np.flatnonzero(asked.to_numpy())
    return Contamination(settings, described, items, images, RunIndex.of(questions, settings.words), places)


def _image_batches(folder: RunFolder, known: KnownImages) -> Iterator[pa.Table]:
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
    if benchmark.run and embedding_of(benchmark.run) != embedding_of(folder):
        described["embeddings"] = "of another model; not compared"
    return described
