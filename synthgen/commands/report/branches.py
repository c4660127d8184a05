"""How many images have each tag, and how many of the questions about them were asked and kept.

A tag counts for every tag above it, and an image once for each of them.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.report.outcomes import KEPT, OUTCOMES
from synthgen.config.taxonomy import with_ancestors
from synthgen.store import RunFolder
from synthgen.tables import PLAN

ONCE = ("planned", "unserved", "over_quota")  # the outcomes of an image that stands for itself and its duplicates

Numbers = npt.NDArray[np.int64]


@dataclass
class Branch:
    """The images of a tag and everything below it, and the questions about them by outcome."""

    images: int = 0
    questions: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Kept pairs."""
        return self.questions[KEPT]

    @property
    def kept_per_image(self) -> float:
        """The mean number of kept pairs of an image."""
        return self.kept / max(1, self.images)


@dataclass
class Branches:
    """The counts of all tags, of all images, and of images without a tag."""

    tags: dict[str, Branch] = field(default_factory=dict)
    total: Branch = field(default_factory=Branch)
    untagged: int = 0

    def add(self, folder: RunFolder, partition: str, rows: pa.Table) -> None:
        """Add the images of a partition and the questions about them, as of `read_rows`."""
        images = folder.table(PLAN, partition, "images", ["image_id", "outcome", "tags"])
        images = images.filter(pc.is_in(images.column("outcome"), pa.array(ONCE)))
        image, tag, names = _tagged(images)
        branches = [self.tags.setdefault(name, Branch()) for name in names]
        self.untagged += images.num_rows - len(np.unique(image))
        self.total.images += images.num_rows
        for branch, count in zip(branches, np.bincount(tag, minlength=len(names)).tolist(), strict=True):
            branch.images += count
        for outcome in OUTCOMES:
            questions = _per_image(images, rows.filter(pc.equal(rows.column("outcome"), outcome)))
            self.total.questions[outcome] += int(questions.sum())
            of_tags = np.bincount(tag, questions[image], len(names)).tolist()
            for branch, count in zip(branches, of_tags, strict=True):
                branch.questions[outcome] += int(count)


def _per_image(images: pa.Table, rows: pa.Table) -> Numbers:
    """Return how many of some questions are about each image, (images,) int64."""
    place = pc.index_in(rows.column("image_id"), images.column("image_id").combine_chunks())
    found = np.asarray(place.drop_null(), dtype=np.int64)
    return np.bincount(found, minlength=images.num_rows)


def _tagged(images: pa.Table) -> tuple[Numbers, Numbers, list[str]]:
    """Return (image, tag) as two arrays of numbers, each pair once with all tags above, and the names of the tags."""
    listed = images.column("tags").combine_chunks()
    paths = pc.struct_field(pc.list_flatten(listed), "path").dictionary_encode()
    known = paths.dictionary.to_pylist()
    names = with_ancestors(known)
    number = {name: index for index, name in enumerate(names)}
    above = [[number[name] for name in with_ancestors([path])] for path in known]
    if not names:
        empty = np.empty(0, np.int64)
        return empty, empty, names
    codes = np.asarray(paths.indices, dtype=np.int64)
    sizes = np.array([len(each) for each in above])
    lengths, starts = sizes[codes], (np.cumsum(sizes) - sizes)[codes]
    image = np.repeat(np.asarray(pc.list_parent_indices(listed), dtype=np.int64), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tag = np.concatenate(above)[np.repeat(starts, lengths) + within]
    keys = np.unique(image * len(names) + tag)
    return keys // len(names), keys % len(names), names


def uneven(branches: Branches, least_images: int) -> tuple[list[str], list[str]]:
    """Return the starved and the drowned tags.

    A tag is starved if its images have less than half as many kept pairs each as the mean image, drowned if they have
    more than twice as many.
    """
    mean = branches.total.kept_per_image
    per_image = {name: branch.kept_per_image for name, branch in branches.tags.items() if branch.images >= least_images}
    ordered = sorted(per_image, key=lambda name: (per_image[name], name))
    starved = [name for name in ordered if per_image[name] < mean / 2]
    drowned = [name for name in reversed(ordered) if per_image[name] > mean * 2]
    return starved, drowned


def absent(branches: Branches, leaves: tuple[str, ...]) -> list[str]:
    """Return the leaves of a taxonomy that no image has."""
    return sorted(set(leaves) - branches.tags.keys())
