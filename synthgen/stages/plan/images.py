"""Images as the plan sees them: their tags with scores, the tags that rules see, and how rare the tags are."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.tables import is_set

UNTAGGED = ""  # counted as the tag of an image without tags


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image to be asked about; width and height in pixels.

    Attributes:
        tags: Path of a tag → its score.
        source: The name of its place, where the source has several.
    """

    object_id: str
    image_id: str
    tags: Mapping[str, float]
    width: int
    height: int
    license: str | None = None
    source: str | None = None
    is_set: bool = False


def images_of(rows: pa.Table) -> list[PlannedImage]:
    """Return the images in a table of `Inputs.objects`."""
    lists = rows.column("tags").combine_chunks()
    # Balancing reads the tags of some ten thousand images at once, so each tag is one string in memory.
    paths = list(map(sys.intern, lists.flatten().field("path").to_pylist()))
    scores = lists.flatten().field("score").fill_null(1.0).to_pylist()
    ends = np.cumsum(lists.value_lengths().to_numpy()).tolist()
    spans = zip([0, *ends], ends, strict=False)
    tags = [dict(zip(paths[start:end], scores[start:end], strict=True)) for start, end in spans]
    object_ids, image_ids = (rows.column(name).to_pylist() for name in ("object_id", "image_id"))
    widths, heights = (rows.column(name).fill_null(0).to_pylist() for name in ("width", "height"))
    licenses, sources = pc.struct_field(rows.column("rights"), "license").to_pylist(), rows.column("source").to_pylist()
    are_sets = map(is_set, rows.column("uri").to_pylist())
    return list(map(PlannedImage, object_ids, image_ids, tags, widths, heights, licenses, sources, are_sets))


def seen_tags(tags: Mapping[str, float], leaves: Collection[str], most: int) -> Mapping[str, float]:
    """Return the tags that rules see: of the leaves below one parent no more than the `most` best.

    Near synonyms below one parent (a bar chart can have fourteen such tags) would crowd out the rest of the image. Of
    equal scores, those first by path are seen. Leaves without a parent are all seen.
    """
    siblings: dict[str, list[str]] = {}
    for tag in tags:
        parent = tag.rpartition("/")[0]
        if parent and tag in leaves:
            siblings.setdefault(parent, []).append(tag)
    crowds = [below for below in siblings.values() if len(below) > most]
    hidden = {tag for crowd in crowds for tag in sorted(crowd, key=lambda tag: (-tags[tag], tag))[most:]}
    return {tag: score for tag, score in tags.items() if tag not in hidden} if hidden else tags


def rarity_of(images: Sequence[PlannedImage], strength: float) -> dict[str, float]:
    """Return how rare each tag of these images is: its count to the power -strength, scaled.

    An image counts as the mean of its tags; the scale makes that 1 on average over the images. The inverse frequency is
    that by which MetaCLIP balances (arXiv 2309.16671), but no image is left out: one of common tags is asked less.
    """
    counts = Counter(tag for image in images for tag in image.tags or [UNTAGGED])
    rare = {tag: count**-strength for tag, count in counts.items()}
    total = sum(mean_rarity(image, rare, 0.0) for image in images)
    return {tag: value * len(images) / total for tag, value in sorted(rare.items())}


def mean_rarity(image: PlannedImage, rarity: Mapping[str, float], default: float) -> float:
    """Return the mean over the tags of an image; `default` is the rarity of an unknown tag."""
    tags = image.tags or [UNTAGGED]
    return sum(rarity.get(tag, default) for tag in tags) / len(tags)
