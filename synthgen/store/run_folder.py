"""An output folder as one command sees it: its record and its logs of commits, each read once.

At the 8,000 partitions that a large job has, reading the logs is 48,000 requests to an object store. So a command opens
one RunFolder and passes it down; what the command itself commits is added to the snapshot.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from synthgen.errors import LeaseLost, UserMistake
from synthgen.store.commits import EMPTIED, Commit, CommitLog, DataFile, Receipt, StageFolder, TablePart
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease
from synthgen.tables import PACK, StageSpec

FORMAT = 1
NO_SHARDS = "{0}: this run has no shards yet; finish it with `synth run --out {0}`"  # 0: the folder as typed
Record = Mapping[str, Any]  # what a run was made with, see docs/format.md


class RunFolder:
    """A snapshot of an output folder, filled as it is asked for."""

    def __init__(self, out: Folder, logs: Mapping[str, CommitLog] | None = None) -> None:
        """Open `out`; `logs` (folder of a stage → log) are known already, as those that a task carries."""
        self.out = out
        self._logs = dict(logs or {})
        self._record: Record | None = None
        self._newest: str | None = None  # the file that holds the record
        self._is_record_known = False

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Hold the lease on this folder within this block. What others may have added before it is looked for again.

        Raises:
            LeaseHeld: Another driver has it.
        """
        with Lease.take(self.out) as lease:
            self._logs, self._is_record_known = {}, False
            yield lease

    def stage(self, spec: StageSpec) -> StageFolder:
        """Return the folder of a stage."""
        return StageFolder(self.out, spec)

    def log(self, spec: StageSpec) -> CommitLog:
        """Return the commits of a stage; they are read at the first call."""
        if spec.folder not in self._logs:
            self._logs[spec.folder] = self.stage(spec).log()
        return self._logs[spec.folder]

    def logs(self, specs: Iterable[StageSpec], partition: str) -> dict[str, CommitLog]:
        """Return the logs of some stages for one partition alone, as a task carries them."""
        return {spec.folder: self.log(spec).only([partition]) for spec in specs}

    def table(self, spec: StageSpec, partition: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the current rows of a table in a partition, see StageFolder.current."""
        return self.stage(spec).current(self.log(spec), partition, table, columns)

    def shards(self) -> list[DataFile]:
        """Return the committed shards that hold rows, in the order of their partitions."""
        return [file for file in self.log(PACK).files("data") if file.rows]

    def digests(self, specs: Iterable[StageSpec], partitions: Sequence[str]) -> dict[str, str]:
        """Return what a reader of these partitions of some stages writes under `reads`."""
        return {key: digest for spec in specs for key, digest in self.log(spec).digests(spec, partitions).items()}

    def commit(self, spec: StageSpec, receipt: Receipt, lease: Lease) -> Commit:
        """Commit a receipt and add it to the snapshot, see StageFolder.commit."""
        log, commit = self.log(spec), self.stage(spec).commit(receipt, lease)
        self._logs[spec.folder] = log.with_commit(commit)
        return commit

    def insist(self, spec: StageSpec, receipt: Receipt, lease: Lease) -> None:
        """Commit a receipt where no other of that revision would do.

        Raises:
            LeaseLost: Another driver committed that revision, as its last act before it lost its lease.
        """
        if self.commit(spec, receipt, lease).receipt != receipt:
            where = f"{self.out.url}: another run committed {spec.folder}/{receipt.partition}"
            raise LeaseLost(f"{where} at the same time; start again")

    def empty(self, spec: StageSpec, partition: str, lease: Lease) -> bool:
        """Take back all rows of a partition without reading them, so that it is redone.

        Returns:
            False if there was nothing to take back.
        """
        log = self.log(spec)
        latest = log.latest(partition)
        if latest is None or not log.holds(partition):
            return False
        tables = {name for commit in log.partitions[partition] for name in commit.receipt.tables}
        parts = {name: TablePart((), EMPTIED, replaces=True) for name in sorted(tables)}
        counts = {outcome: -count for outcome, count in log.counts([partition]).items()}
        receipt = Receipt(partition, log.next_revision(partition), parts, counts, epoch=latest.epoch)
        self.insist(spec, receipt, lease)
        return True

    @property
    def record(self) -> Record | None:
        """The latest record; {} if the run was killed before it stored one, None if no synth run made the folder.

        Raises:
            UserMistake: The folder has another format.
        """
        if not self._is_record_known:
            self._find_record()
            self._is_record_known = True
        return self._record

    def write_record(self, record: Record) -> None:
        """Store a record after those that exist."""
        folder = self.out.child("frozen")
        name = f"{len(folder.names('.json')) + 1:06d}.json"
        data = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode()
        folder.create(name, data)
        self._record, self._newest, self._is_record_known = json.loads(data), name, True

    def _find_record(self) -> None:
        """Read the newest record unless it is known; a record that is stored never changes."""
        if self._record is None and not _is_run(self.out):
            return
        folder = self.out.child("frozen")
        newest = next(reversed(folder.names(".json")), None)
        if self._record is None or newest != self._newest:
            self._record = json.loads(folder.read(newest)) if newest else {}
            self._newest = newest


def _is_run(out: Folder) -> bool:
    """Return whether a synth run made the folder.

    Raises:
        UserMistake: The folder has another format.
    """
    version = _format(out)
    if version not in (None, FORMAT):
        raise UserMistake(f"{out.url}: has format {version}; this synth reads format {FORMAT}; use another folder")
    return version is not None


def _format(out: Folder) -> int | None:
    """Return the format that `run.json` states, or None: other programs write a run.json too."""
    if "run.json" not in out.names(".json"):
        return None
    try:
        described = json.loads(out.read("run.json"))
    except (ValueError, RecursionError):
        return None
    version = described.get("format") if isinstance(described, dict) else None
    return version if type(version) is int else None
