"""What a training has seen: which images, and from which step on. Orders are functions, so nothing is logged for it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.training import TrainConfig
from synthgen.train import feed, held_out
from synthgen.train.feed import Feed
from synthgen.train.progress import checkpoints, progress_of
from synthgen.train.record import LOG, last_lines, read_record
from synthgen.train.row_index import RowIndex, read_part
from synthgen.train.stream import Order
from synthgen.train.uses import training_of


@dataclass(frozen=True)
class Trained:
    """A training as its record has it.

    Attributes:
        start: The model that it started from.
        steps: Taken so far.
        position: Rows taken so far.
    """

    out: Path
    feed: Feed
    settings: TrainConfig
    start: str
    steps: int
    position: int


@dataclass(frozen=True)
class Sighting:
    """When a training sees some images.

    Attributes:
        step: The first step with one of them, from 1; None if no step has any.
        times: How often so far.
        clean: The checkpoints that are there from before that step, by their steps.
    """

    trained: Trained
    step: int | None
    times: int
    clean: tuple[int, ...] = ()


@dataclass(frozen=True)
class SeenImages:
    """The images that a model was trained on.

    Attributes:
        ids: Of all images that are not held out.
        hashes: Perceptual ones of those that it was trained on, where they are known.
        bits: That may differ between near pictures.
    """

    ids: frozenset[str] = frozenset()
    hashes: frozenset[int] = frozenset()
    bits: int = 0


def trained(out: Path) -> Trained | None:
    """Return a training; None if there is no record of one."""
    record = read_record(out)
    if record is None:
        return None
    shape = {name: value for name, value in record["shape"].items() if name in TrainConfig.model_fields}
    settings = TrainConfig.model_validate(shape)
    fed = feed.of_record(record["data"], out / record["feed"])
    log = last_lines(out / LOG) if (out / LOG).exists() else []
    steps = log[-1]["step"] if log else 0
    kept = [progress_of(path) for path in checkpoints(out)]
    position = record.get("position") or max([steps * settings.batch, *(each.position for each in kept)])
    return Trained(out, fed, settings, record["model"], steps, position)


def sighting(of: Trained, images: Collection[str]) -> Sighting:
    """Return when a training sees some images.

    Raises:
        UserMistake: What is known of its rows was deleted.
    """
    order = Order(of.feed, of.settings)
    wanted = [_rows_with(of, number, index, images) for number, index in enumerate(order.indexes)]
    first, times, position = None, 0, 0
    last = of.settings.steps * of.settings.batch if of.position == 0 or of.steps < of.settings.steps else of.position
    for sets, numbers in order.chunks(0) if any(mask.any() for mask in wanted) else ():
        is_seen = np.zeros(len(sets), bool)
        for number, mask in enumerate(wanted):
            own = sets == number
            is_seen[own] = mask[numbers[own]]
        places = position + np.flatnonzero(is_seen)
        first = int(places[0]) if first is None and len(places) else first
        times += int((places < of.position).sum())
        position += len(sets)
        if position >= max(last, of.position) or (first is not None and position >= of.position):
            break
    if first is None or first >= max(last, of.position):
        return Sighting(of, None, 0)
    clean = (progress for path in checkpoints(of.out) if (progress := progress_of(path)).position <= first)
    return Sighting(of, first // of.settings.batch + 1, times, tuple(progress.steps for progress in clean))


def _rows_with(of: Trained, number: int, index: RowIndex, images: Collection[str]) -> np.ndarray:
    """Return which rows of a data set have one of some images: `(rows,) bool`."""
    found, wanted = np.zeros(len(index.row), bool), pa.array(sorted(images), pa.string())
    for place, file in enumerate(of.feed.taken[number].files):
        lists = read_part(of.feed.folder, file, ["row", "images"], hashes=of.settings.hold_out > 0)
        images_in = lists.column("images").combine_chunks()
        hits = pc.is_in(images_in.flatten(), wanted)
        parents = pc.list_parent_indices(images_in)
        rows = lists.column("row").combine_chunks().take(pc.unique(parents.filter(hits)))
        own = index.file == place
        found[own] = np.isin(index.row[own], rows.to_numpy())
    return found


def images_seen(model: Path) -> SeenImages:
    """Return the images that a model was tuned on, by this training and those before it; none without a record."""
    ids, hashes, bits = set[str](), set[int](), 0
    for each in lineage(model):
        for data in each.feed.taken:
            aside = held_out.read(each.feed.folder, data.name) if each.settings.hold_out else {}
            for file in data.files:
                columns = ["row", "images", "hashes"]
                table = read_part(each.feed.folder, file, columns, hashes=each.settings.hold_out > 0)
                sides = [(row, aside.get((file.sha256, row["row"]))) for row in table.to_pylist()]
                ids.update(image for row, side in sides if side != held_out.HELD for image in row["images"])
                hashes.update(hashed for row, side in sides if side is None for hashed in row["hashes"])
        bits = max(bits, each.settings.hold_out_bits)
    return SeenImages(frozenset(ids), frozenset(hashes), bits)


def lineage(model: Path) -> Iterator[Trained]:
    """Yield the training that a model is of, then the one that its starting model is of, and so on."""
    known = set[Path]()
    out = training_of(model) if model.is_dir() else None
    while out is not None and out not in known:
        known.add(out)
        found = trained(out)
        if found is None:
            return
        yield found
        out = training_of(Path(found.start)) if Path(found.start).is_dir() else None
