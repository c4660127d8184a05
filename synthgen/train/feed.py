"""The data sets that a training draws from: their files, their weights, and what is known of their rows.

What is written about them stands in the folder `feed` of the output folder: the indexes of row_index.py, the rows that
are held out, and while training is under way the copies of row_store.py.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.config.training import TrainConfig
from synthgen.train import dataset, held_out
from synthgen.train.dataset import ShardFile
from synthgen.train.row_index import RowIndex, index_path, read_index, run_hashes, write_indexes
from synthgen.train.row_store import RowStore

FOLDER = "feed"
ONLY = "shards"  # the name of the data set of a training that has one
GIGABYTE = 10**9


@dataclass(frozen=True)
class DataSet:
    """A data set as it was when training started."""

    name: str
    source: str
    files: tuple[ShardFile, ...]


@dataclass(frozen=True)
class Feed:
    """What a training is fed with.

    Attributes:
        sets: The data sets.
        weights: By name, how often a row is taken from each; a data set without one is not taken from.
        folder: Of what is known of the rows.
        before: By name, the rows that earlier stages have taken; this one goes on after them.
    """

    sets: tuple[DataSet, ...]
    weights: Mapping[str, float]
    folder: Path
    before: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def taken(self) -> tuple[DataSet, ...]:
        """The data sets that rows are taken from."""
        return tuple(each for each in self.sets if self.weights.get(each.name))

    @property
    def files(self) -> list[ShardFile]:
        """The files that rows are taken from."""
        return [file for each in self.taken for file in each.files]

    @property
    def rows(self) -> int:
        """The rows of all of these, held out or not."""
        return sum(file.rows for file in self.files)

    def index(self, number: int, settings: TrainConfig) -> RowIndex:
        """Return the rows of a data set of `taken` that are trained on."""
        each = self.taken[number]
        rows = read_index(each.files, self.folder, settings.model_pixels, hashes=settings.hold_out > 0)
        aside = held_out.read(self.folder, each.name) if settings.hold_out else {}
        if not aside:
            return rows
        digests = [file.sha256 for file in each.files]
        places = zip(rows.file.tolist(), rows.row.tolist(), strict=True)
        return rows.where(np.array([(digests[file], row) not in aside for file, row in places]))

    def store(self, settings: TrainConfig) -> RowStore:
        """Return the rows of the files."""
        most = int(settings.shuffle_gigabytes * GIGABYTE) * max(1, len(self.taken))
        return RowStore(_scratch(self, settings), most)

    def record(self) -> list[dict[str, Any]]:
        """Return the data sets as training.json has them."""
        return [
            {**asdict(each), "weight": self.weights.get(each.name, 0.0), "before": self.before.get(each.name, 0)}
            for each in self.sets
        ]


def of_record(sets: Sequence[Mapping[str, Any]], folder: Path) -> Feed:
    """Return the feed that `Feed.record` recorded."""
    found = [DataSet(each["name"], each["source"], tuple(ShardFile(**file) for file in each["files"])) for each in sets]
    weights, before = ({each["name"]: each[key] for each in sets} for key in ("weight", "before"))
    return Feed(tuple(found), weights, folder, before)


def pin(sources: Mapping[str, str]) -> tuple[DataSet, ...]:
    """Return the data sets with their files as they are now. Raises UserMistake if one cannot be used."""
    return tuple(DataSet(name, dataset.absolute_url(source), dataset.pin(source)) for name, source in sources.items())


def open_feed(sources: Mapping[str, str], folder: Path, settings: TrainConfig) -> Feed:
    """Return data sets as they are now, of equal weight, with what is known of their rows in a folder."""
    feed = Feed(pin(sources), dict.fromkeys(sources, 1.0), folder)
    prepare(feed, settings)
    return feed


def prepare(feed: Feed, settings: TrainConfig) -> list[str]:
    """Write what is to be known of the rows before the first step, unless it is there; return what to tell of it."""
    hashes = settings.hold_out > 0
    for each in feed.sets:
        missing = [file for file in each.files if not index_path(feed.folder, file, hashes=hashes).exists()]
        if missing:
            run = dataset.find(each.source).run
            known = run_hashes(run) if run else {}
            write_indexes(missing, feed.folder, known, hashes=hashes, threads=settings.workers)
    data = {each.name: each.files for each in feed.sets}
    return (
        [held_out.choose(feed.folder, data, settings)]
        if hashes and held_out.is_due(feed.folder, data, settings)
        else []
    )


def forget_rows(feed: Feed, settings: TrainConfig) -> None:
    """Delete the copies of rows, which another start checks and makes again."""
    folder = _scratch(feed, settings)
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.name.partition(".")[0] in {file.sha256 for file in feed.files}:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds copies of another training
        folder.rmdir()


def _scratch(feed: Feed, settings: TrainConfig) -> Path:
    return Path(settings.scratch).absolute() if settings.scratch else feed.folder / "rows"
