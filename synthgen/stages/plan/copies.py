"""The places of images whose bytes the source has more than once.

All copies are looked up once, in the order of the listing, and spilled to local disk by the partition of the object
that represents them, which can be any partition.
"""

import tempfile
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from synthgen.stages.plan.duplicates import DuplicateSurvey
from synthgen.stages.plan.facts import SAME_BYTES
from synthgen.stages.plan.inputs import Inputs
from synthgen.store.spill import Spill

COPIES = pa.schema([("bucket", pa.int32()), ("index", pa.int64()), ("uri", pa.string())])


class Copies(AbstractContextManager["Copies"]):
    """The copies of the objects of some partitions, on disk until the block ends."""

    def __init__(self, inputs: Inputs, survey: DuplicateSurvey, partitions: Collection[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="synth-copies-")
        self._spill = Spill(Path(self._folder.name) / "copies")
        self._bucket = {name: number for number, name in enumerate(survey.spans)}
        self._fill(inputs, survey, partitions)

    def uris(self, partition: str) -> dict[int, list[str]]:
        """Return, by the survey's index of an object of a partition, the places of its copies."""
        rows = self._spill.read(self._bucket[partition], COPIES)
        uris: dict[int, list[str]] = {}
        for index, uri in zip(rows.column("index").to_pylist(), rows.column("uri").to_pylist(), strict=True):
            uris.setdefault(index, []).append(uri)
        return uris

    def _fill(self, inputs: Inputs, survey: DuplicateSurvey, partitions: Collection[str]) -> None:
        ends = np.array([span.stop for span in survey.spans.values()])
        is_wanted = np.isin(list(survey.spans), list(partitions))
        for name, span in survey.spans.items():
            copies = span.start + np.flatnonzero(survey.outcome[span] == SAME_BYTES)
            buckets = np.searchsorted(ends, survey.representative[copies], side="right")
            copies, buckets = copies[is_wanted[buckets]], buckets[is_wanted[buckets]]
            if not len(copies):
                continue
            object_ids = pa.chunked_array([[survey.object_id(index) for index in copies]])
            locations = inputs.locations(name, object_ids).to_pylist()
            uris = [row["uri"] if row["row"] is None else f"{row['uri']}#{row['row']}" for row in locations]
            represented_by = np.asarray(survey.representative[copies])
            self._spill.add(pa.table([buckets.astype(np.int32), represented_by, uris], schema=COPIES))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
