"""Commit records: which files make up the tables of a stage, each partition a short log of revisions.

It is a log and not one file a partition because a retry, an update and a purge each add to it without touching what is
there: a crash in the middle of any of them costs nothing.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from synthgen.errors import Damaged, one_line
from synthgen.store.records import is_count, is_text
from synthgen.tables import StageSpec

EMPTIED = "emptied"  # the fingerprint of a table that was emptied to be redone; no other has it


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that a worker wrote."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TablePart:
    """The files that one revision of a partition adds to one table."""

    files: tuple[DataFile, ...]
    fingerprint: str  # of everything that shaped the rows
    replaces: bool = False  # earlier parts no longer count


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a task: complete files that no reader sees until the driver commits the receipt.

    Attributes:
        counts: By how much the revision changes the number of rows of each outcome.
        reads: The commits it was made from, `folder/partition.revision` → digest.
    """

    partition: str
    revision: int
    tables: Mapping[str, TablePart]
    counts: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Commit:
    """A receipt that the driver committed."""

    receipt: Receipt
    term: int  # of the lease under which it was committed
    at: str  # UTC, ISO 8601
    digest: str  # SHA-256 of the record

    @property
    def epoch(self) -> int:
        """The epoch of its receipt."""
        return self.receipt.epoch

    @property
    def name(self) -> str:
        """`partition.revision`, as in file names and in `reads`."""
        return commit_name(self.receipt.partition, self.receipt.revision)


@dataclass(frozen=True)
class CommitLog:
    """A snapshot of a stage's commits: partition → its revisions in order."""

    partitions: Mapping[str, tuple[Commit, ...]]

    def latest(self, partition: str) -> Commit | None:
        """Return the last revision of a partition, or None if it has none."""
        revisions = self.partitions.get(partition, ())
        return revisions[-1] if revisions else None

    def holds(self, partition: str) -> bool:
        """Return whether a partition has a result: a revision that did not empty it to be redone."""
        latest = self.latest(partition)
        return latest is not None and not any(part.fingerprint == EMPTIED for part in latest.receipt.tables.values())

    def next_revision(self, partition: str) -> int:
        """Return the number that the next revision of a partition will have."""
        latest = self.latest(partition)
        return latest.receipt.revision + 1 if latest else 1

    def parts(self, partition: str, table: str) -> list[TablePart]:
        """Return the parts of a table that count in a partition: those from the last that replaces on."""
        current: list[TablePart] = []
        for commit in self.partitions.get(partition, ()):
            if part := commit.receipt.tables.get(table):
                current = [part] if part.replaces else [*current, part]
        return current

    def tables(self) -> set[str]:
        """Return the names of all tables that any commit has a part of."""
        return {name for commits in self.partitions.values() for commit in commits for name in commit.receipt.tables}

    def files(self, table: str) -> Iterator[DataFile]:
        """Yield the files of a table that count, partition by partition."""
        for partition in self.partitions:
            for part in self.parts(partition, table):
                yield from part.files

    def fingerprint(self, partition: str, table: str) -> str | None:
        """Return the fingerprint of the newest part of a table in a partition, or None if it has none."""
        parts = self.parts(partition, table)
        return parts[-1].fingerprint if parts else None

    def counts(self, partitions: Iterable[str] | None = None) -> dict[str, int]:
        """Return the current number of rows of each outcome, of all partitions or of some."""
        total: Counter[str] = Counter()
        for name in self.partitions if partitions is None else partitions:
            for commit in self.partitions.get(name, ()):
                total.update(commit.receipt.counts)
        return {outcome: count for outcome, count in sorted(total.items()) if count}

    def digests(self, spec: StageSpec, partitions: Iterable[str]) -> dict[str, str]:
        """Return what a reader of these partitions of the stage `spec` writes under `reads`."""
        return {
            f"{spec.folder}/{commit.name}": commit.digest
            for name in partitions
            for commit in self.partitions.get(name, ())
        }

    def only(self, partitions: Iterable[str]) -> "CommitLog":
        """Return the log of some partitions alone; those without a commit have an empty one."""
        return CommitLog({name: self.partitions.get(name, ()) for name in partitions})

    def within(self, partition: str) -> list[str]:
        """Return the partitions that belong to one of an earlier stage: itself, and in `3-scored` that of each pass."""
        return [name for name in self.partitions if name == partition or name.startswith(f"{partition}.")]

    def with_commit(self, commit: Commit) -> "CommitLog":
        """Return the log with one commit more."""
        partition = commit.receipt.partition
        whole = {**self.partitions, partition: (*self.partitions.get(partition, ()), commit)}
        before = next(reversed(list(self.partitions)), partition)
        is_in_order = partition in self.partitions or partition_order(before) <= partition_order(partition)
        # A log is copied at each commit, and rarely sorted.
        return CommitLog(whole) if is_in_order else in_order(whole)

    @property
    def next_epoch(self) -> int:
        """The epoch after the highest one committed; 1 if nothing is."""
        epochs = (commit.epoch for revisions in self.partitions.values() for commit in revisions)
        return max(epochs, default=0) + 1

    def as_json(self) -> list[dict[str, Any]]:
        """Return the commits as values that JSON can hold, for another process."""
        return [
            {**asdict(commit.receipt), "term": commit.term, "at": commit.at, "digest": commit.digest}
            for commits in self.partitions.values()
            for commit in commits
        ]

    @staticmethod
    def from_json(commits: Iterable[Mapping[str, Any]]) -> "CommitLog":
        """Return the log of which `as_json` gave the commits."""
        partitions: dict[str, list[Commit]] = {}
        for record in commits:
            partitions.setdefault(record["partition"], []).append(_commit_of(record, record["digest"]))
        return in_order(partitions)


def commit_name(partition: str, revision: int) -> str:
    """Return the name of a revision of a partition, as in file names and in `reads`."""
    return f"{partition}.r{revision}"


def file_name(receipt: Receipt) -> str:
    """Return the name of the file of a commit record."""
    return f"{commit_name(receipt.partition, receipt.revision)}.json"


def partition_name(epoch: int, number: int) -> str:
    """Return the name of a partition. It is padded for the eye; `partition_order` is its order."""
    return f"e{epoch:03d}-{number:05d}"


def partition_order(name: str) -> tuple[list[int], str]:
    """Return the sort key of a partition: its epoch and number, however wide they are printed."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name


def in_order(partitions: Mapping[str, Sequence[Commit]]) -> CommitLog:
    """Return the log of these commits, partitions and revisions in their order."""
    return CommitLog(
        {
            name: tuple(sorted(partitions[name], key=lambda commit: commit.receipt.revision))
            for name in sorted(partitions, key=partition_order)
        }
    )


def parse_commit(where: str, data: bytes) -> Commit:
    """Return the commit of a stored record.

    Args:
        where: Its file, for messages; the name says which partition and revision it is of.
        data: Its bytes.

    Raises:
        Damaged: It is no commit record, or one of another name.
    """
    try:
        record: dict[str, Any] = json.loads(data)
        if not where.endswith(f"/{commit_name(record['partition'], record['revision'])}.json"):
            raise ValueError(f"it is of {commit_name(record['partition'], record['revision'])}")
        return _commit_of(record, hashlib.sha256(data).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"is not a commit record ({one_line(str(error))})"
        raise Damaged(f"{where}: {why}; remove that file and run again to redo its partition") from error


def _commit_of(record: Mapping[str, Any], digest: str) -> Commit:
    """Return the commit of a record as it is stored."""
    receipt = Receipt(
        _text(record["partition"]),
        _count(record["revision"]),
        {_text(name): _parse_part(part) for name, part in record["tables"].items()},
        {_text(name): _whole(count) for name, count in record["counts"].items()},
        {_text(name): _text(read) for name, read in record["reads"].items()},
        _count(record["epoch"]),
    )
    return Commit(receipt, _count(record["term"]), _text(record["at"]), _text(digest))


def _parse_part(part: Mapping[str, Any]) -> TablePart:
    if not isinstance(part["replaces"], bool):
        raise TypeError(f"{part['replaces']!r} stands for true or false")
    return TablePart(tuple(map(_parse_file, part["files"])), _text(part["fingerprint"]), part["replaces"])


def _parse_file(file: Mapping[str, Any]) -> DataFile:
    parsed = DataFile(**file)
    if "/" in parsed.name:  # it would lead out of its table
        raise ValueError(f"{parsed.name!r} is no name of a file")
    if not (is_text(parsed.name) and is_text(parsed.sha256)):
        raise TypeError(f"{parsed.name!a:.40} and {parsed.sha256!a:.40} stand for a name and a checksum")
    return DataFile(parsed.name, _count(parsed.rows), _count(parsed.bytes), parsed.sha256)


def _text(value: Any) -> str:
    """Return a text, held once however many commits have it; the value is damaged if it is none."""
    if not is_text(value):
        raise TypeError(f"{value!a:.40} stands for text")
    return sys.intern(value)


def _count(value: Any) -> int:
    if not is_count(value):
        raise TypeError(f"{value!r:.40} stands for a number from 0 on")
    return int(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} stands for a whole number")
    return value
