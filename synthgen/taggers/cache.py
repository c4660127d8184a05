"""The tags and embeddings of images that were tagged before.

With them, an edit of one tagger costs no calls to the others, and a tagger that needs only the embedding reads no
image. Taggers that read source_meta are not cached: source_meta is at hand, and the tables do not record per tagger
what was left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.store import RunFolder
from synthgen.tables import TAG, tags_table
from synthgen.taggers.protocol import Floats, Tagged
from synthgen.taggers.spec import TaggerSpec, stored_embedding_model


@dataclass(frozen=True)
class CachedTags:
    """An image that was tagged before."""

    row: Mapping[str, Any]  # of the images table
    tags: dict[str, Tagged] = field(default_factory=dict)  # by tagger, of those that have not changed since

    @property
    def embedding(self) -> Floats | None:
        """The stored embedding as models take it: (width,) float32; it is stored in half precision."""
        stored = self.row["embedding"]
        return None if stored is None else stored.astype(np.float32)


def read_cached_tags(folder: RunFolder, partition: str, specs: Sequence[TaggerSpec]) -> dict[str, CachedTags]:
    """Return object id -> cached tags of the tagged images of a partition.

    The caller has checked that the images table was made with the current settings.

    Args:
        folder: The commits to go by.
        partition: The partition to read.
        specs: The taggers of the pipeline.
    """
    log, images = folder.log(TAG), folder.table(TAG, partition, "images")
    cached = {row["object_id"]: CachedTags(row) for row in _image_rows(images) if row["outcome"] == "tagged"}
    for spec in specs:
        name = tags_table(spec.name)
        if spec.file.works_from == "source_meta" or log.fingerprint(partition, name) != spec.fingerprint:
            continue
        made_embedding = bool(spec.embedding_model) and spec.embedding_model == stored_embedding_model(specs)
        for row in folder.table(TAG, partition, name).to_pylist():
            if image := cached.get(row["object_id"]):
                image.tags[spec.name] = Tagged(row["tags"], image.embedding if made_embedding else None)
    return cached


def _image_rows(images: pa.Table) -> list[dict[str, Any]]:
    """Return rows as dicts with embeddings as arrays; Python floats would take twenty times the memory."""
    embeddings = [
        scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None
        for scalar in images.column("embedding")
    ]
    rows: list[dict[str, Any]] = images.drop_columns("embedding").to_pylist()
    return [{**row, "embedding": embedding} for row, embedding in zip(rows, embeddings, strict=True)]
