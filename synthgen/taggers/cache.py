"""What the tables know of images that were tagged before.

Comes in: a partition of `1-tagged`. Goes out: for each of its tagged images the row of the images table, its embedding in it, and
what every tagger that has not changed since said. So another tagger, or an edit of one, costs no other's calls, and a tagger
that needs the embedding alone has it. A sidecar is read again each time: it is at hand, and the tables do not hold by tagger
what was left out of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.store import RunFolder
from synthgen.tables import TAG, tags_table
from synthgen.taggers.protocol import Floats, Tagged
from synthgen.taggers.spec import SidecarTaggerFile, TaggerSpec, embedding_of


@dataclass(frozen=True)
class CachedTags:
    """An image that was tagged."""

    row: Mapping[str, Any]  # of the images table
    said: dict[str, Tagged] = field(default_factory=dict)  # by taggers that have not changed

    @property
    def embedding(self) -> Floats | None:
        """As models take it; it is stored in half precision."""
        stored = self.row["embedding"]
        return None if stored is None else stored.astype(np.float32)


def read_cached_tags(folder: RunFolder, partition: str, specs: Sequence[TaggerSpec]) -> dict[str, CachedTags]:
    """Object id -> what is known of an image; the caller has made sure that the images table is of today's settings."""
    log, images = folder.log(TAG), folder.table(TAG, partition, "images")
    known = {row["object_id"]: CachedTags(row) for row in _rows(images) if row["outcome"] == "tagged"}
    for spec in specs:
        name = tags_table(spec.name)
        if isinstance(spec.file, SidecarTaggerFile) or log.fingerprint(partition, name) != spec.fingerprint:
            continue
        embeds = bool(spec.embedding) and spec.embedding == embedding_of(specs)
        for one in folder.table(TAG, partition, name).to_pylist():
            if past := known.get(one["object_id"]):
                past.said[spec.name] = Tagged(one["tags"], past.embedding if embeds else None)
    return known


def _rows(images: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts, but embeddings as arrays: as Python's numbers they would take twenty times the memory."""
    vectors = [
        one.values.to_numpy(zero_copy_only=False) if one.is_valid else None for one in images.column("embedding")
    ]
    rows: list[dict[str, Any]] = images.drop_columns("embedding").to_pylist()
    return [{**row, "embedding": vector} for row, vector in zip(rows, vectors, strict=True)]
