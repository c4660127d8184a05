"""An output folder as one command sees it: its record and its logs of commits, each read once.

At the 8,000 partitions that a large job has, reading the logs is 48,000 requests to an object store. So a command opens
one RunFolder and passes it down; what the command itself commits is added to the snapshot.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from synthgen.errors import Damaged, LeaseLost, UserMistake
from synthgen.store.commits import EMPTIED, Commit, CommitLog, DataFile, Receipt, TablePart
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease
from synthgen.store.records import checked_record, fields, is_count, is_mapping, is_text, list_of, mapping_of, or_none
from synthgen.store.remote import display_uri
from synthgen.store.stage_folder import StageFolder
from synthgen.tables import PACK, SCORE, STAGES, StageSpec, pass_partitions, score_place

FORMAT = 1
REPAIR_RECORD = (
    "restore it from a copy; without one, run with --pipeline and --update: then what other settings made is done again"
)
REPAIR_DESCRIPTION = f'restore it from a copy, or write {{"format": {FORMAT}}} into it'
NO_SHARDS = "{0}: this run has no shards yet; finish it with `synth run --out {0}`"  # 0: the folder as typed
MIXTURE = "mixture"  # the key of the record of a folder that `synth mix` wrote, and no run
RECORD = {
    "pipeline": mapping_of(lambda section: section is None or isinstance(section, dict | str)),
    "started_in": is_text,
    "started_with": fields({"pipeline": or_none(is_text), "settings": list_of(is_text), "limit": or_none(is_count)}),
    "shape": mapping_of(is_mapping),
    "unfinished": mapping_of(is_text),
    "tagger_models": is_mapping,
}
Record = Mapping[str, Any]  # what a run was made with, see docs/format.md


class RunFolder:
    """A snapshot of an output folder, filled as it is asked for."""

    def __init__(self, out: Folder, logs: Mapping[str, CommitLog] | None = None) -> None:
        """Open `out`; `logs` (folder of a stage → log) are known already, as those that a task carries."""
        self.out = out
        self._logs = dict(logs or {})
        self._current = set(self._logs)  # the stages whose logs were read since the lease was taken
        self._lease: Lease | None = None
        self._record: Record | None = None
        self._newest: str | None = None  # the file that holds the record
        self._is_record_known = False

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Hold the lease on this folder within this block.

        Logs and record are looked at again, because another driver may have changed them.

        Raises:
            LeaseHeld: Another driver has it.
        """
        with Lease.take(self.out) as lease:
            self._current.clear()
            self._is_record_known, self._lease = False, lease
            try:
                yield lease
            finally:
                self._lease = None

    def stage(self, spec: StageSpec) -> StageFolder:
        """Return the folder of a stage."""
        return StageFolder(self.out, spec)

    def log(self, spec: StageSpec) -> CommitLog:
        """Return the commits of a stage. They are read at the first call, and under a lease those that are new."""
        if spec.folder not in self._current:
            self._logs[spec.folder] = self.stage(spec).log(self._logs.get(spec.folder))
            self._current.add(spec.folder)
        return self._logs[spec.folder]

    def logs(self, specs: Iterable[StageSpec], partition: str) -> dict[str, CommitLog]:
        """Return the logs of some stages for one partition alone, as a task carries them."""
        return {spec.folder: self.log(spec).only([partition]) for spec in specs}

    def table(self, spec: StageSpec, partition: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the current rows of a table in a partition, see StageFolder.current."""
        return self.stage(spec).current(self.log(spec), partition, table, columns)

    def scores(self, partition: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the current rows of a score, or PASS.SCORE, of the pairs of a partition, see StageFolder.current."""
        place = score_place(partition, name)
        return self.table(place.spec, place.partition, place.table, columns)

    def pass_digests(self, partitions: Sequence[str], scores: Iterable[str]) -> dict[str, str]:
        """Return what a reader of the scores of passes among `scores` writes under `reads`, as `digests` does."""
        return self.digests((SCORE,), pass_partitions(partitions, scores))

    def shards(self) -> list[DataFile]:
        """Return the committed shards that hold rows, in the order of their partitions."""
        return [file for file in self.log(PACK).files("data") if file.rows]

    def whole_shards(self) -> list[DataFile]:
        """Return the same, for a library that reads them: each is there and has its size.

        Raises:
            Damaged: One is missing or has another size.
        """
        stage = self.stage(PACK)
        sizes = stage.folder.child("data").sizes(".parquet")
        for partition in self.log(PACK).partitions:
            for part in self.log(PACK).parts(partition, "data"):
                for file in part.files:
                    if file.rows and sizes.get(file.name) != file.bytes:
                        fault = "was changed after it was committed" if file.name in sizes else "is missing"
                        raise Damaged(stage.fault_of("data", partition, file, fault))
        return self.shards()

    def digests(self, specs: Iterable[StageSpec], partitions: Sequence[str]) -> dict[str, str]:
        """Return what a reader of these partitions of some stages writes under `reads`."""
        return {key: digest for spec in specs for key, digest in self.log(spec).digests(spec, partitions).items()}

    def commit(self, spec: StageSpec, receipt: Receipt, lease: Lease) -> Commit:
        """Commit a receipt and add it to the snapshot, see StageFolder.commit."""
        log, commit = self.log(spec), self.stage(spec).commit(receipt, lease)
        self._logs[spec.folder] = log.with_commit(commit)
        return commit

    def commit_or_fail(self, spec: StageSpec, receipt: Receipt, lease: Lease) -> None:
        """Commit a receipt; fail if another one was committed as that revision.

        Raises:
            LeaseLost: See check_committed.
        """
        self.commit(spec, receipt, lease)
        self.check_committed(spec, receipt)

    def check_committed(self, spec: StageSpec, receipt: Receipt) -> None:
        """Check that no other receipt was committed as the revision of this one.

        Raises:
            LeaseLost: Another driver committed that revision, as its last act before it lost its lease.
        """
        commits = self.log(spec).partitions.get(receipt.partition, ())
        if any(commit.receipt.revision == receipt.revision and commit.receipt != receipt for commit in commits):
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
        self.commit_or_fail(spec, receipt, lease)
        return True

    @property
    def record(self) -> Record | None:
        """The latest record; {} if the run was killed before it stored one, None if no synth run made the folder.

        Raises:
            UserMistake: The folder has another format.
            Damaged: The record cannot be read, or there is none and there are commits.
        """
        if not self._is_record_known:
            self._find_record()
            self._is_record_known = True
        return self._record

    def forget_record(self) -> None:
        """Take a record that is lost or damaged for none, where the user accepts that."""
        names = self.out.child("frozen").numbered()
        self._record, self._newest, self._is_record_known = {}, names[-1] if names else None, True

    def write_record(self, record: Record) -> None:
        """Store a record after those that exist.

        Raises:
            LeaseLost: The lease of this folder is held here, and another driver took over and stored a record.
        """
        data = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode()
        # A driver that has lost its lease may store a record late. It must not count more than one of its successor.
        name = self.out.child("frozen").append(data, self._lease.check if self._lease else lambda: None)
        self._record, self._newest, self._is_record_known = json.loads(data), name, True

    def _find_record(self) -> None:
        """Read the newest record unless it is known; a record that is stored never changes."""
        if self._record is None and not _is_run(self.out):
            return
        folder = self.out.child("frozen")
        newest = next(reversed(folder.numbered()), None)
        if self._record is None or newest != self._newest:
            self._record = self._read_record(folder, newest)
            self._newest = newest

    def _read_record(self, folder: Folder, name: str | None) -> Record:
        if name is None:
            if any(self.stage(spec).folder.child("commits").names(".json") for spec in STAGES):
                lost = f"{display_uri(folder.url)}: has no record of the settings that its commits were made with"
                raise Damaged(f"{lost}, so it was damaged; {REPAIR_RECORD}")
            return {}
        where = f"{display_uri(folder.url)}/{name}"
        record = checked_record(folder.read_json(name, REPAIR_RECORD), RECORD, where, REPAIR_RECORD)
        if not record:
            raise Damaged(f"{where}: is empty, so it was damaged; {REPAIR_RECORD}")
        return record


def _is_run(out: Folder) -> bool:
    """Return whether a synth run made the folder.

    Raises:
        UserMistake: The folder has another format.
        Damaged: Its description is missing or cannot be read.
    """
    version = _format(out)
    if version is None and out.child("frozen").numbered():
        where = f"{display_uri(out.url)}/run.json"
        raise Damaged(f"{where}: does not state the format of this run, so it was damaged; {REPAIR_DESCRIPTION}")
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
