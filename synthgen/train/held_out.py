"""The rows that are not trained on, so that a model can be asked about pictures that it never saw.

Pictures whose perceptual hashes are near form a cluster (dedup/images.py), and a cluster is held out as a whole, by a
draw of its own hash: in whatever data set and under whatever bytes a picture comes, it is on one side. A picture that
is near to one that is held out, but of another cluster, is on neither side; neither is a row with pictures of both.
Rows of text alone, and of images that cannot be decoded, are trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config.training import TrainConfig
from synthgen.dedup.images import near_hashes, near_images
from synthgen.errors import UserMistake
from synthgen.tables import draw, make_id
from synthgen.train.dataset import ShardFile
from synthgen.train.row_index import index_path

FILE = "held_out.parquet"
CHOSEN = b"chosen"  # in its metadata: the digest of what the choice depends on
HELD, LEFT = "held out", "left out"  # to be asked about; on neither side
SCHEMA = pa.schema([("data", pa.string()), ("file", pa.string()), ("row", pa.int32()), ("side", pa.string())])

Place = tuple[str, int]  # the digest of a file, and the number of a row in it
Words = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Sides:
    """On which side pictures are, by their perceptual hashes: all others are trained on."""

    held: frozenset[int]
    left: frozenset[int]

    def of_row(self, hashes: Sequence[int]) -> str | None:
        """Return the side of a row with such pictures; None if it is trained on."""
        if hashes and self.held.issuperset(hashes):
            return HELD
        return LEFT if any(each in self.held or each in self.left for each in hashes) else None


def choose(folder: Path, data: Mapping[str, Sequence[ShardFile]], settings: TrainConfig) -> str:
    """Write which rows are held out, and return what to tell of it.

    Args:
        folder: Of the indexes.
        data: The files of all data sets of the training, by name.
        settings: Share and seed.

    Raises:
        UserMistake: No picture is held out, or none is left to train on.
    """
    every = [file for files in data.values() for file in files]
    hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *(_hashes_in(folder, file) for file in every)]))
    sides = split(hashes, settings)
    if not sides.held or len(sides.held) == len(hashes):
        raise UserMistake(
            f"train.hold_out {settings.hold_out}: of {len(hashes):,} pictures {len(sides.held):,} are held out; "
            "give another share, or more data"
        )
    rows = [
        {"data": name, "file": file.sha256, "row": row, "side": side}
        for name, files in data.items()
        for file in files
        for row, own in _rows_in(folder, file)
        if (side := sides.of_row(own))
    ]
    writing = folder / f"{FILE}.writing"
    marked = SCHEMA.with_metadata({CHOSEN: _digest(data, settings)})
    pq.write_table(pa.Table.from_pylist(rows, schema=marked), writing)
    writing.rename(folder / FILE)
    held = sum(row["side"] == HELD for row in rows)
    return (
        f"held out: {held:,} rows, with {len(sides.held):,} of {len(hashes):,} pictures; {len(rows) - held:,} rows "
        "with pictures near to these are left out"
    )


def is_due(folder: Path, data: Mapping[str, Sequence[ShardFile]], settings: TrainConfig) -> bool:
    """Return whether rows of other data, or by other settings, are held out, or none yet."""
    path = folder / FILE
    return not path.is_file() or (pq.read_schema(path).metadata or {}).get(CHOSEN) != _digest(data, settings)


def _digest(data: Mapping[str, Sequence[ShardFile]], settings: TrainConfig) -> bytes:
    files = [f"{name}/{file.sha256}" for name, files in data.items() for file in files]
    return make_id(
        "held_out", repr((settings.hold_out, settings.hold_out_bits, settings.seed)), *sorted(files)
    ).encode()


def split(hashes: Words, settings: TrainConfig) -> Sides:
    """Return the sides of pictures.

    Args:
        hashes: `(pictures,) uint64`, sorted, none of them twice.
        settings: The share of the clusters, the seed of the draw, and the bits that may differ within a cluster.
    """
    bits, seed = settings.hold_out_bits, settings.seed
    centres = hashes[near_images(hashes, bits)]  # (pictures,) uint64, the first of each picture's cluster
    drawn = [draw(seed, "hold_out", f"{centre:016x}") < settings.hold_out for centre in centres.tolist()]
    is_held = np.array(drawn, bool)
    held, others = hashes[is_held], hashes[~is_held]
    near = near_hashes(others, held, bits)[0] if len(held) and len(others) else np.empty(0, np.int64)
    return Sides(frozenset(held.tolist()), frozenset(others[near].tolist()))


def read(folder: Path, name: str, side: str | None = None) -> dict[Place, str]:
    """Return the rows of a data set that are not trained on with their side, or those of one side."""
    if not (folder / FILE).is_file():
        return {}
    rows = pq.read_table(folder / FILE).to_pylist()
    return {
        (row["file"], row["row"]): row["side"]
        for row in rows
        if row["data"] == name and (side is None or row["side"] == side)
    }


def _hashes_in(folder: Path, file: ShardFile) -> Words:
    column = pq.read_table(index_path(folder, file, hashes=True), columns=["hashes"]).column("hashes")
    return np.unique(column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.uint64))


def _rows_in(folder: Path, file: ShardFile) -> list[tuple[int, list[int]]]:
    rows = pq.read_table(index_path(folder, file, hashes=True), columns=["row", "hashes"])
    return list(zip(rows.column("row").to_pylist(), rows.column("hashes").to_pylist(), strict=True))
