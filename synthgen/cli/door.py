"""The one way out of every command: whatever went wrong becomes one line on stderr, and an exit status.

A SynthError says what to do. An error of a disk names its file. Anything else was not foreseen: its details go to a
file, and the line names that file.
"""

import errno
import getpass
import io
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from synthgen import __version__
from synthgen.console import note, print_notes
from synthgen.errors import SynthError, UserMistake, describe_error, one_line

# What to do about an error of the operating system.
ADVICE = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some of your quota, then run the same command again",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "fix its permissions, or name another place",
    errno.EPERM: "fix its permissions, or name another place",
    errno.EMFILE: "raise the limit of open files (`ulimit -n 4096`)",
    errno.ENFILE: "close other programs: this machine has too many open files",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "name another place",
    errno.EIO: "the disk or the network drive failed; look at it first",
}


def run_command(command: Callable[[], object]) -> None:
    """Run a command.

    Raises:
        SystemExit: It failed; the status is that of the error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal shows every character
    print_notes()
    try:
        _enter_working_folder()
        _give_home()
        command()
    except SynthError as error:
        _leave(_with_notes(str(error), error), error.exit_status)
    except Exception as error:
        _leave(_with_notes(_disk_error(error) or _unforeseen(error), error), 1)


def _enter_working_folder() -> None:
    """Put the working folder on the path of modules: a console script lacks it, and module:attribute names live there.

    Raises:
        UserMistake: It was deleted, or is out of reach.
    """
    try:
        folder = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    except OSError as error:
        raise UserMistake(f"the working folder cannot be read ({error.strerror}); change into another one") from error
    sys.path.insert(0, folder)


def _give_home() -> None:
    """Give a user without a home folder the one for temporary files: libraries keep caches below it.

    In containers a user is often a bare number, without an entry among the users of the system.
    """
    try:
        Path.home()
        getpass.getuser()
    except (RuntimeError, KeyError, OSError):
        os.environ.setdefault("HOME", tempfile.gettempdir())
        os.environ.setdefault("USER", f"user{os.getuid()}")


def _with_notes(message: str, error: Exception) -> str:
    """Return a message with the notes that were added to its error on the way out."""
    return "; ".join([message, *getattr(error, "__notes__", ())])


def _leave(message: str, status: int) -> None:
    note(f"synth: {message}")
    raise SystemExit(status) from None


def _disk_error(error: Exception) -> str | None:
    """Return the line for an error of the operating system that the user can do something about, or None."""
    if not isinstance(error, OSError) or error.errno not in ADVICE:
        return None
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return one_line(f"{place}{error.strerror}; {ADVICE[error.errno]}")


def _unforeseen(error: Exception) -> str:
    """Write the details of an error that nobody foresaw to a file, and return the line that names it."""
    what = f"{describe_error(error)}; this was not foreseen"
    system = f"synthgen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    details = f"synth {command}\n{system}\n\n{''.join(traceback.format_exception(error))}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="synth-error-", suffix=".txt", delete=False) as file:
            file.write(details.encode(errors="backslashreplace").decode())
    except OSError as fault:
        return f"{what}, and its details could not be written ({fault.strerror}): please report it"
    return f"{what}: please report it with the details in {file.name}"
