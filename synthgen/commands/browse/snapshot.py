"""A run as it is at one moment, for many readers: its logs are read once, and tables stay in memory for a while."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from threading import Lock

import pyarrow as pa

from synthgen.commands.browse.tally import Tally
from synthgen.commands.report.survey import partitions_of
from synthgen.config.pipeline import Pipeline
from synthgen.job import run_record
from synthgen.stages.pack import redact
from synthgen.stages.select.selection import scores_in
from synthgen.store import Folder, RunFolder
from synthgen.tables import LIST, STAGES, StageSpec

MOST_BYTES = 2**28  # of tables that are kept

Key = tuple[str, str, str, tuple[str, ...] | None]


class CachedFolder(RunFolder):
    """A run folder that keeps the tables that were read last; several threads may read."""

    def __init__(self, out: Folder, most_bytes: int = MOST_BYTES) -> None:
        """Read all logs of a folder, so that they are of one moment."""
        super().__init__(out)
        self._tables: OrderedDict[Key, pa.Table] = OrderedDict()
        self._most, self._bytes, self._lock = most_bytes, 0, Lock()
        for spec in STAGES:
            self.log(spec)

    def table(self, spec: StageSpec, partition: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the current rows of a table in a partition, see StageFolder.current."""
        key = (spec.folder, partition, table, None if columns is None else tuple(columns))
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        rows = super().table(spec, partition, table, columns)
        with self._lock:
            if key not in self._tables:
                self._tables[key] = rows
                self._bytes += rows.nbytes
            while self._bytes > self._most and len(self._tables) > 1:
                self._bytes -= self._tables.popitem(last=False)[1].nbytes
        return rows


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        pipeline: Of its last run.
        scores: The names of its scores.
        partitions: Those that hold images or questions, in order.
        shown: Returns what samples show of a uri.
        tally: The counts, which grow while partitions are read in the background.
    """

    folder: RunFolder
    pipeline: Pipeline
    scores: tuple[str, ...]
    partitions: tuple[str, ...]
    shown: Callable[[str], str]
    tally: Tally
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return PurePath(self.folder.out.url.rstrip("/")).name


def open_snapshot(out: Folder) -> Snapshot:
    """Return a run as it is now. Raises UserMistake if the folder holds none."""
    folder = CachedFolder(out)
    pipeline = run_record.pipeline_of(folder)
    partitions = tuple(dict.fromkeys([*folder.log(LIST).partitions, *partitions_of(folder)]))
    logs = {spec.folder: folder.log(spec) for spec in STAGES}
    return Snapshot(
        folder,
        pipeline,
        tuple(scores_in(folder)),
        partitions,
        partial(redact.uri, root=redact.root_of(pipeline.source)),
        Tally(RunFolder(out, logs), partitions),
    )
