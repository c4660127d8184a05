"""The places of images whose bytes the source has more than once, and the newest version of each place.

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

COPIES = pa.schema([("bucket", pa.int32()), ("index", pa.int64()), ("place", pa.string()), ("version", pa.string())])


def place_of(uri: str, row: int | None) -> str:
    """Return the place of an object as one text."""
    return uri if row is None else f"{uri}#{row}"


class Copies(AbstractContextManager["Copies"]):
    """The copies of the objects of some partitions, on disk until the block ends."""

    def __init__(self, inputs: Inputs, survey: DuplicateSurvey, partitions: Collection[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="synth-copies-")
        self._spill = Spill(Path(self._folder.name) / "copies")
        self._bucket = {name: number for number, name in enumerate(survey.spans)}
        self._fill(inputs, survey, partitions)

    def places(self, partition: str) -> dict[int, dict[str, str]]:
        """Return, by the survey's index of an object of a partition, the places of its copies → their newest version.

        The place of the object itself is among them where it has a newer version with the same bytes.
        """
        rows = self._spill.read(self._bucket[partition], COPIES)
        places: dict[int, dict[str, str]] = {}
        for index, place, version in zip(*(rows.column(name).to_pylist() for name in COPIES.names[1:]), strict=True):
            places.setdefault(index, {})[place] = version
        return places

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
            places = [place_of(row["uri"], row["row"]) for row in locations]
            versions = [row["version"] for row in locations]
            represented_by = np.asarray(survey.representative[copies])
            self._spill.add(pa.table([buckets.astype(np.int32), represented_by, places, versions], schema=COPIES))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
