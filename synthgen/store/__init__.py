"""The output folder: files on any filesystem (folder), who may commit (lease), stages as logs of commits (stage).

docs/format.md is the format in prose; the tests under tests/store hold its promises.
"""

from synthgen.store.commits import Commit, CommitLog, DataFile, Receipt, Stage, TablePart
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease

__all__ = ["Commit", "CommitLog", "DataFile", "Folder", "Lease", "Receipt", "Stage", "TablePart"]
