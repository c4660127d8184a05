"""Deletes what no reader will ever see: leftovers of killed workers, and files that later revisions replaced.

Comes in: an output folder whose lease is held. Goes out: how many files and bytes were deleted. Commit records stay: they are
small, and they say what was there.
"""

import posixpath
from dataclasses import dataclass

from synthgen.store.commits import CommitLog, Stage
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease


@dataclass(frozen=True)
class Deleted:
    """What tidying freed."""

    files: int
    bytes: int


def collect_garbage(out: Folder, stages: tuple[str, ...], lease: Lease) -> Deleted:
    """Deletes every data file of these stages that no current commit names, and what was not whole when its writer was killed.

    A worker that outlived its driver may be writing one of these: it then fails, and nobody waits for it.
    """
    files = size = 0
    for name in stages:
        stage = Stage(out, name)
        current = current_files(stage.log())
        for path, found in stage.folder.sizes(".parquet").items():
            if posixpath.normpath(path) not in current:
                lease.check()
                stage.folder.remove([path])
                files, size = files + 1, size + found
        stage.folder.child("strikes").remove(_forgotten(stage))
    for path, found in out.unfinished().items():
        lease.check()
        out.remove([path])
        files, size = files + 1, size + found
    return Deleted(files, size)


def _forgotten(stage: Stage) -> list[str]:
    """Notes of deaths whose revision is committed."""
    done = {commit.name for revisions in stage.log().partitions.values() for commit in revisions}
    return [name for name in stage.folder.child("strikes").names(".json") if name.removesuffix(".json") in done]


def current_files(log: CommitLog) -> set[str]:
    """The files that readers see, as table/name in the one spelling that a disk gives back, whatever a commit has (a/../b, a//b)."""
    tables = {table for revisions in log.partitions.values() for commit in revisions for table in commit.receipt.tables}
    return {
        posixpath.normpath(f"{table}/{file.name}")
        for partition in log.partitions
        for table in tables
        for part in log.parts(partition, table)
        for file in part.files
    }
