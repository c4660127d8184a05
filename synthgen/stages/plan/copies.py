"""Where else the bytes of planned images are.

Comes in: a survey. Goes out: for an object of a partition the places of its copies, wherever they were listed. All copies are looked
up once, in the order of the listing, and set aside on local disk by the partition of what stands for them.
"""

import tempfile
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from synthgen.stages.plan.duplicates import SAME_BYTES, DuplicateSurvey
from synthgen.stages.plan.inputs import Inputs
from synthgen.store.spill import Spill

COPIES = pa.schema([("bucket", pa.int32()), ("place", pa.int64()), ("uri", pa.string())])


class Copies(AbstractContextManager["Copies"]):
    """The copies of what is planned in some partitions."""

    def __init__(self, inputs: Inputs, survey: DuplicateSurvey, partitions: Collection[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="synth-copies-")
        self._spill = Spill(Path(self._folder.name) / "copies")
        self._number = {name: number for number, name in enumerate(survey.places)}
        self._fill(inputs, survey, partitions)

    def of(self, partition: str) -> dict[int, list[str]]:
        """Place of each object of a partition that has copies → where else its bytes are."""
        rows, found = self._spill.read(self._number[partition], COPIES), dict[int, list[str]]()
        for place, uri in zip(rows.column("place").to_pylist(), rows.column("uri").to_pylist(), strict=True):
            found.setdefault(place, []).append(uri)
        return found

    def _fill(self, inputs: Inputs, survey: DuplicateSurvey, partitions: Collection[str]) -> None:
        ends = np.array([span.stop for span in survey.places.values()])
        is_wanted = np.isin(list(survey.places), list(partitions))
        for name, span in survey.places.items():
            copies = span.start + np.flatnonzero(survey.outcome[span] == SAME_BYTES)
            buckets = np.searchsorted(ends, survey.stands_for[copies], side="right")
            copies, buckets = copies[is_wanted[buckets]], buckets[is_wanted[buckets]]
            if not len(copies):
                continue
            where = inputs.places(name, pa.chunked_array([[survey.object_id(place) for place in copies]])).to_pylist()
            uris = [row["uri"] if row["row"] is None else f"{row['uri']}#{row['row']}" for row in where]
            self._spill.add(
                pa.table([buckets.astype(np.int32), np.asarray(survey.stands_for[copies]), uris], schema=COPIES)
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
