"""The output folder: files on any filesystem (folder), who may commit (lease), stages as logs of commits (stage).

docs/format.md is the format in prose; tests/test_store_files.py, test_commits.py and test_lease.py hold its promises.
"""

from synthgen.store.folder import Folder
from synthgen.store.lease import Lease
from synthgen.store.stage import Commit, DataFile, Log, Receipt, Stage, TablePart

__all__ = ["Commit", "DataFile", "Folder", "Lease", "Log", "Receipt", "Stage", "TablePart"]
