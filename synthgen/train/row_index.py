"""What is known of the rows of a data set before they are read to train on: identity, images and size.

Each file has an index of its own, written once beside the training and named by the file's digest. A row is identified
by its content: that of a run by its sample's id, any other by the hash of its images and its text. So does an image: by
the id under which a run knows it, else by the SHA-256 of its bytes.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.errors import UserMistake
from synthgen.ingest.images import Unfit, decode
from synthgen.store import RunFolder
from synthgen.store.folder import open_path
from synthgen.store.parquet import read_batches
from synthgen.tables import STRINGS, TAG, image_id, make_id
from synthgen.train.dataset import ShardFile, unreadable
from synthgen.train.forms import IMAGES, columns_of, in_one_form

INDEX = pa.schema(
    [
        ("row", pa.int32()),
        ("sample", pa.string()),
        ("images", STRINGS),
        ("hashes", pa.list_(pa.uint64())),  # perceptual ones of the images, where they are known
        ("characters", pa.int64()),  # of the text
        ("pixels", pa.int64()),  # of all images
    ]
)
OWN = ("id", "image_id", "width", "height")  # columns of the shards of a run, which tell all but the text
PIXELS_A_TOKEN, CHARACTERS_A_TOKEN = 28**2, 4  # roughly, to sort rows by their length
UNBOUNDED = ImagesConfig(min_side=1, max_aspect=1e6, max_bytes=2**31, model_pixels=10**8)

Hashes = Mapping[str, int]  # image id → perceptual hash


@dataclass(frozen=True)
class RowIndex:
    """The rows of a data set, in the order of its files.

    Attributes:
        file: `(rows,) int32`, the number of the file.
        row: `(rows,) int32`, the number in the file, from 0.
        key: `(rows,) uint64`, 64 bits of the hash of the row's identity.
        length: `(rows,) int64`, about how many tokens.
    """

    file: np.ndarray[Any, np.dtype[np.int32]]
    row: np.ndarray[Any, np.dtype[np.int32]]
    key: np.ndarray[Any, np.dtype[np.uint64]]
    length: np.ndarray[Any, np.dtype[np.int64]]

    def where(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> "RowIndex":
        """Return some of the rows."""
        return RowIndex(self.file[mask], self.row[mask], self.key[mask], self.length[mask])


# --- writing ----------------------------------------------------------------------------------------------------------


def write_indexes(files: Sequence[ShardFile], folder: Path, known: Hashes, *, hashes: bool, threads: int) -> None:
    """Write the indexes of files.

    Args:
        files: Of a data set.
        folder: Of the indexes.
        known: Perceptual hashes that a run has.
        hashes: Whether images without one are decoded for it.
        threads: That decode.

    Raises:
        ShardChanged: A file is missing.
        UserMistake: A file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads) as pool:
        for file in files:
            path = index_path(folder, file, hashes=hashes)
            writing = path.with_suffix(".writing")
            with pq.ParquetWriter(writing, INDEX, compression="zstd") as writer:
                for rows in _index(file, known, pool if hashes else None):
                    writer.write_table(pa.Table.from_pylist(rows, schema=INDEX))
            writing.rename(path)


def index_path(folder: Path, file: ShardFile, *, hashes: bool) -> Path:
    """Return the path of a file's index; one for which every image was decoded is another."""
    return folder / f"{file.sha256}{'-hashed' if hashes else ''}.parquet"


def run_hashes(run: RunFolder) -> dict[str, int]:
    """Return the perceptual hashes that a run has of its images."""
    found = dict[str, int]()
    log = run.log(TAG)
    for partition in log.partitions:
        rows = run.stage(TAG).current(log, partition, "images", ["image_id", "phash"])
        rows = rows.filter(pc.and_(pc.is_valid(rows.column("image_id")), pc.is_valid(rows.column("phash"))))
        found.update(zip(rows.column("image_id").to_pylist(), rows.column("phash").to_pylist(), strict=True))
    return found


def _index(file: ShardFile, known: Hashes, pool: ThreadPoolExecutor | None) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of an index, some at a time."""
    fs, path = open_path(file.url)
    number = 0
    try:
        with fs.open(path, "rb") as stream:
            parquet = pq.ParquetFile(stream, pre_buffer=False)
            is_own = _is_own(parquet)
            columns = _columns(parquet.schema_arrow, file.url, is_own=is_own)
            for batch in read_batches(parquet, columns):
                records = [in_one_form(record) for record in batch.to_pylist()]
                entries = [_entry(record, is_own) for record in records]
                hashes = _hashes(records, entries, known, pool)
                yield [
                    {"row": number + place, **entry, "hashes": hashed}
                    for place, (entry, hashed) in enumerate(zip(entries, hashes, strict=True))
                ]
                number += len(records)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _is_own(parquet: pq.ParquetFile) -> bool:
    """Return whether every row of a file has what a run writes of it, so that no image need be read."""
    schema = parquet.schema_arrow
    if not all(name in schema.names for name in OWN) or schema.field("image_id").type != pa.string():
        return False
    return not any(batch.column(name).null_count for batch in read_batches(parquet, OWN[:2]) for name in OWN[:2])


def _columns(schema: pa.Schema, where: str, *, is_own: bool) -> list[str]:
    """Return the columns that an index needs."""
    columns = columns_of(schema, where)
    return [*(name for name in columns if name not in IMAGES), *OWN] if is_own else columns


def _entry(record: Mapping[str, Any], is_own: bool) -> dict[str, Any]:
    text = json.dumps(record["messages"], ensure_ascii=False)
    if is_own:
        pixels = (record["width"] or 0) * (record["height"] or 0)
        return {"sample": record["id"], "images": [record["image_id"]], "characters": len(text), "pixels": pixels}
    files = [data for image in record["images"] if (data := bytes_of(image))]
    ids = [image_id(data) for data in files]
    return {
        "sample": make_id("row", text, *ids),
        "images": ids,
        "characters": len(text),
        "pixels": sum(map(_pixels, files)),
    }


def bytes_of(image: Any) -> bytes:
    """Return the bytes of an image in a row; none if it has none."""
    data = image.get("bytes") if isinstance(image, Mapping) else image
    return data if isinstance(data, bytes) else b""


def _pixels(data: bytes) -> int:
    """Return the pixels of an image by its header; 0 of one that cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.width * image.height
    except Exception:  # of many kinds: the image is refused where the row is encoded
        return 0


def _hashes(
    records: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], known: Hashes, pool: Any
) -> list[list[int]]:
    """Return the perceptual hashes of the images of each row, of those for which there is one."""
    if pool is None:
        return [[known[image] for image in entry["images"] if image in known] for entry in entries]
    missing = {
        image: data
        for record, entry in zip(records, entries, strict=True)
        for image, data in zip(entry["images"], filter(None, map(bytes_of, record["images"])), strict=False)
        if image not in known
    }
    found = {**known, **dict(zip(missing, pool.map(_hash, missing.values()), strict=True))}
    return [[hashed for image in entry["images"] if (hashed := found.get(image)) is not None] for entry in entries]


def _hash(data: bytes) -> int | None:
    try:
        return decode(data, UNBOUNDED).phash
    except Unfit:
        return None


# --- reading ----------------------------------------------------------------------------------------------------------


def read_index(files: Sequence[ShardFile], folder: Path, model_pixels: int, *, hashes: bool) -> RowIndex:
    """Return the rows of a data set; images larger than so many pixels count as these."""
    parts = list[RowIndex]()
    for number, file in enumerate(files):
        table = read_part(folder, file, ["row", "sample", "images", "characters", "pixels"], hashes=hashes)
        images = pc.list_value_length(table.column("images")).to_numpy()
        pixels = np.minimum(table.column("pixels").to_numpy(), images * model_pixels)
        characters = table.column("characters").to_numpy()
        parts.append(
            RowIndex(
                np.full(table.num_rows, number, np.int32),
                table.column("row").to_numpy().astype(np.int32),
                keys_of(table.column("sample").to_pylist()),
                characters // CHARACTERS_A_TOKEN + pixels // PIXELS_A_TOKEN,
            )
        )
    return RowIndex(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("file", "row", "key", "length"))
    )


def read_part(folder: Path, file: ShardFile, columns: Sequence[str], *, hashes: bool) -> pa.Table:
    """Return some columns of the index of a file. Raises UserMistake if it was deleted."""
    path = index_path(folder, file, hashes=hashes)
    try:
        return pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise UserMistake(
            f"{path}: cannot be read, so nobody can tell which rows are in {file.url}; put the folder {folder.name} of "
            "the training back"
        ) from error


def keys_of(samples: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return 64 bits of each row's identity."""
    return np.array([int(make_id("key", sample)[:16], 16) for sample in samples], np.uint64)
