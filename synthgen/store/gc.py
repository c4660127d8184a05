"""Garbage collection: deletes leftovers of killed workers and files that later revisions replaced.

Commit records stay: they are small, and they say what was there.
"""

import posixpath
from dataclasses import dataclass

from synthgen.store.commits import CommitLog
from synthgen.store.lease import Lease
from synthgen.store.run_folder import RunFolder
from synthgen.store.stage_folder import StageFolder
from synthgen.tables import STAGES


@dataclass(frozen=True)
class Deleted:
    """The number of files deleted, and their bytes."""

    files: int
    bytes: int


def collect_garbage(folder: RunFolder, lease: Lease) -> Deleted:
    """Delete the data files that no current commit names, and files whose writer was killed half-way.

    A worker that outlived its driver may be writing one of these: it then fails, and nobody waits for it.
    """
    files = size = 0
    for spec in STAGES:
        stage, log = folder.stage(spec), folder.log(spec)
        current = current_files(log)
        for path, bytes_ in stage.folder.sizes(".parquet").items():
            if posixpath.normpath(path) not in current:
                lease.check()
                stage.folder.remove([path])
                files, size = files + 1, size + bytes_
        stage.folder.child("strikes").remove(_settled_strikes(stage, log))
    for path, bytes_ in folder.out.unfinished().items():
        lease.check()
        folder.out.remove([path])
        files, size = files + 1, size + bytes_
    return Deleted(files, size)


def current_files(log: CommitLog) -> set[str]:
    """Return the files that readers see, as table/name, spelled as a disk does whatever a commit has (a/../b, a//b)."""
    return {posixpath.normpath(f"{table}/{file.name}") for table in log.tables() for file in log.files(table)}


def _settled_strikes(stage: StageFolder, log: CommitLog) -> list[str]:
    """Return the notes of worker deaths whose revision is committed since."""
    committed = {commit.name for revisions in log.partitions.values() for commit in revisions}
    names = stage.folder.child("strikes").names(".json")
    return [name for name in names if name.removesuffix(".json") in committed]
