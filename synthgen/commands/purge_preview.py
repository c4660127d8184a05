"""`synth purge --dry-run`: what a purge would take out, name by name. Nothing is written, and no lease is taken."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.copies import find_copies, objects
from synthgen.commands.lookup import find_objects
from synthgen.commands.purge import redaction_of
from synthgen.console import pluralize
from synthgen.errors import UserMistake
from synthgen.stages.contract import Job
from synthgen.store import RunFolder
from synthgen.store.denylist import read_denylist
from synthgen.tables import GENERATE, PACK, PLAN, StageSpec

PRODUCTS = ("question", "pair", "sample")  # in the singular, as `funnel.products` has them


@dataclass(frozen=True)
class NamePreview:
    """What one name would take out; several names may mean the same images."""

    objects: frozenset[str]
    images: frozenset[str]


@dataclass(frozen=True)
class PurgePreview:
    """What a purge would take out.

    Attributes:
        by_name: Name as typed → its objects and contents, copies included.
        purged: Names that were purged already.
        rows: Image id → its questions, pairs and samples, by their name in the singular.
    """

    by_name: Mapping[str, NamePreview]
    purged: tuple[str, ...]
    rows: Mapping[str, Counter[str]]

    @property
    def objects(self) -> frozenset[str]:
        """The objects of all names."""
        return frozenset[str]().union(*(name.objects for name in self.by_name.values()))

    @property
    def images(self) -> frozenset[str]:
        """The contents of all names."""
        return frozenset[str]().union(*(name.images for name in self.by_name.values()))

    def lines(self) -> list[str]:
        """Return a line for each name, and a last one on all of them together."""
        return [
            *(f"{name}: was purged already" for name in self.purged),
            *(f"{typed}: {self._text(name)}" for typed, name in self.by_name.items()),
            f"in all: {self._text(NamePreview(self.objects, self.images))}",
        ]

    def _text(self, part: NamePreview) -> str:
        counts: Counter[str] = Counter(object=len(part.objects), image=len(part.images))
        for image in part.images:
            counts.update(self.rows.get(image, {}))
        return ", ".join(pluralize(counts[noun], noun) for noun in ("object", "image", *PRODUCTS))


def preview_purge(folder: RunFolder, job: Job, names: Collection[str]) -> PurgePreview:
    """Return what `purge` would take out.

    Samples are those of today's shards; a purge packs anew, and a question that was dropped as the double of one that
    goes may come back.

    Args:
        folder: The output folder.
        job: Its job.
        names: Object or image ids, uris or the ends of uris.

    Raises:
        UserMistake: No name was given, or one means nothing or several objects.
    """
    if not names:
        raise UserMistake(f"{folder.out.url}: --dry-run shows what would go with the images named; name some")
    known = read_denylist(folder.out)
    purged = tuple(name for name in dict.fromkeys(names) if name in known.object_ids | known.image_ids)
    wanted = [name for name in dict.fromkeys(names) if name not in purged]
    matches = find_objects(
        folder.out.url, lambda: (rows for _, rows in objects(folder)), wanted, redaction_of(job), guess=False
    )
    copies = find_copies(folder, frozenset[str]().union(*matches.values()))
    by_name = {name: NamePreview(*copies.of(ids)) for name, ids in matches.items()}
    images = frozenset[str]().union(*(name.images for name in by_name.values()))
    return PurgePreview(by_name, purged, _count_rows(folder, images))


def _count_rows(folder: RunFolder, images: Collection[str]) -> dict[str, Counter[str]]:
    """Return how many questions, pairs and samples there are of each image."""
    counts: dict[str, Counter[str]] = {image: Counter() for image in images}
    for row in _of_images(folder, PLAN, "assignments", images, "retired", "partner"):
        counts[_gone_with(row, images)]["question"] += not row["retired"]
    for row in _of_images(folder, GENERATE, "pairs", images, "outcome", "partner"):
        counts[_gone_with(row, images)]["pair"] += row["outcome"] == "pair"
    for row in _of_images(folder, PACK, "index", images):
        counts[row["image_id"]]["sample"] += 1
    return counts


def _gone_with(row: Mapping[str, Any], images: Collection[str]) -> str:
    """Return the image that a row goes with: its own, or that which its question was written for."""
    return str(row["image_id"] if row["image_id"] in images else row["partner"])


def _of_images(
    folder: RunFolder, spec: StageSpec, table: str, images: Collection[str], *columns: str
) -> Iterator[dict[str, Any]]:
    wanted = pa.array(sorted(images), pa.string())
    for partition in folder.log(spec).partitions:
        rows = folder.table(spec, partition, table, ["image_id", *columns])
        is_wanted = pc.is_in(rows.column("image_id"), wanted)
        if "partner" in columns:
            is_wanted = pc.or_(is_wanted, pc.is_in(rows.column("partner"), wanted))
        yield from rows.filter(is_wanted).to_pylist()
