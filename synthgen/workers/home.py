"""The folder of a job in a worker: code of the user and relative paths mean there what they mean where a run begins."""

import contextlib
import os
import sys
from pathlib import Path


def enter(home: Path) -> None:
    """Make this process, which serves one job and ends with it, import from a folder and read relative paths from it.

    An engine's options and the user's own classes may name files, which nothing before them can resolve. On a machine
    without the folder, code of the user comes from the installed packages.
    """
    sys.path.insert(0, str(home))
    with contextlib.suppress(OSError):
        os.chdir(home)
