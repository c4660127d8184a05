"""The images that a model was tuned on, by the record that `synth train` leaves beside it.

An answer about a picture that a model has learned says nothing of what it can do with others.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged, UserMistake, one_line
from synthgen.store.folder import open_path
from synthgen.store.parquet import read_batches
from synthgen.tables import image_id


def images_seen(model: str) -> frozenset[str]:
    """Return the ids of the images that a model was tuned on; none where no training is on record beside it.

    Raises:
        UserMistake: A shard of the training is gone, so that nobody can tell.
        Damaged: The record of the training is damaged.
    """
    folder = Path(model)
    record = next((path for path in (folder.parent, folder) if (path / "training.json").is_file()), None)
    if not folder.is_dir() or record is None:
        return frozenset()
    try:
        files = json.loads((record / "training.json").read_bytes())["files"]
        urls = [str(file["url"]) for file in files]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{record}/training.json: is not the record of a training ({one_line(error)})") from error
    return frozenset(image for url in urls for image in _images_of(url, record))


def _images_of(url: str, record: Path) -> set[str]:
    fs, path = open_path(url)
    try:
        with fs.open(path) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            has_ids = "image_id" in file.schema_arrow.names
            batches = read_batches(file, ["image_id"] if has_ids else ["images"])
            return {image for batch in batches for row in batch.to_pylist() for image in _ids(row)}
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(
            f"{url}: a shard of the training in {record} cannot be read ({one_line(error)}), so nobody can tell which "
            "images it has seen; put it back, or take evaluate.seen=true to ask about all images"
        ) from error


def _ids(row: dict[str, Any]) -> list[str]:
    if "image_id" in row:
        return [row["image_id"]] if row["image_id"] else []
    return [image_id(image["bytes"]) for image in row["images"] or () if image and image.get("bytes")]
