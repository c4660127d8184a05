"""The output folder: files on any filesystem, commits, the lease of the one driver.

docs/format.md describes the format; the tests under tests/store hold its promises.
"""

from synthgen.store.commits import Commit, CommitLog, DataFile, Receipt, TablePart
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease
from synthgen.store.run_folder import Record, RunFolder
from synthgen.store.stage_folder import StageFolder

__all__ = [
    "Commit", "CommitLog", "DataFile", "Folder", "Lease", "Receipt", "Record", "RunFolder", "StageFolder", "TablePart",
]  # fmt: skip
