"""The errors that synthgen raises on purpose, as one tree.

    SynthError                 the job failed                                    exit 1
    ├── ModelUnavailable       a model could not be loaded or reached            exit 1
    ├── Damaged                a committed file is missing or its bytes differ   exit 1
    ├── LeaseLost              another driver took over this output folder       exit 1
    ├── JobFailing             nearly every call fails, so the job stops early   exit 1
    ├── NothingUsable          the run is over, and nothing came out of it       exit 1
    ├── Stopped                a signal asked the run to end                     exit 128 + its number
    └── UserMistake            the user can fix it; the message says how         exit 2
        ├── Mistakes           several mistakes, reported together               exit 2
        ├── SettingsChanged    the settings differ from those of the folder      exit 2
        └── LeaseHeld          another driver is at work in this folder          exit 2

Every message is one line: what is wrong, where, what is known, what to do. A fault that costs only one row is not an
exception but a `Failure`: a value in that row, with a reason from a closed list in tables/reasons.py.
"""

import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from signal import Signals
from typing import TypeVar

Result = TypeVar("Result")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
LIBRARIES = ("site-packages", sysconfig.get_path("stdlib"), "<frozen")  # in the paths of files that are no user's
LONGEST_WORD = 400  # characters of a name in a message; longer ones keep both ends
AT_LINE = re.compile(r"(.+?\.yaml):(\d+): ")  # the start of a mistake in a definition file


class SynthError(Exception):
    """The job failed; the message is for the user, and is one line whatever it quotes."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(on_one_line(message))


class ModelUnavailable(SynthError):
    """A model could not be loaded or reached."""


class Damaged(SynthError):
    """A committed file is missing, or its bytes are not those that were committed."""


class LeaseLost(SynthError):
    """Another driver took over this output folder."""


class JobFailing(SynthError):
    """Nearly every call fails, so the job stopped early."""


class NothingUsable(SynthError):
    """The run is over, and nothing came out of it."""


class Stopped(SynthError):
    """A signal asked the run to end; finished results are committed."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {Signals(number).name}; finished results are committed, run the same command again to continue"
        )
        self.number = number
        self.exit_status = 128 + number

    def __reduce__(self) -> tuple[type["Stopped"], tuple[int]]:
        """Return what makes the same error in another process."""
        return type(self), (self.number,)


class UserMistake(SynthError):
    """Something that the user can fix."""

    exit_status = 2


class Mistakes(UserMistake):
    """Several mistakes reported together, one a line; those of one file are adjacent, in the order of its lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = _by_line([on_one_line(line) for line in lines])
        super().__init__()
        self.args = ("\n".join(self.lines),)

    def __reduce__(self) -> tuple[type["Mistakes"], tuple[list[str]]]:
        """Return what makes the same error in another process."""
        return type(self), (self.lines,)


class SettingsChanged(UserMistake):
    """The settings differ from those that the output folder was made with."""


class LeaseHeld(UserMistake):
    """Another driver is at work in this output folder."""


@dataclass(frozen=True)
class Failure:
    """Why one row has no result: a reason from a closed list in tables/reasons.py, and one line of detail."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def on_one_line(message: str) -> str:
    """Return a message in which a terminal shows each quoted character and breaks no line, and no name fills it."""
    shown = (
        character if character.isprintable() or character == "\xa0" else repr(character)[1:-1] for character in message
    )
    return shorten_words("".join(shown), LONGEST_WORD)


def shorten_words(text: str, longest: int) -> str:
    """Return a text in which of each longer word, as a name of thousands of letters, both ends are left."""
    return re.sub(rf"\S{{{longest + 1},}}", lambda word: f"{word[0][: longest // 2]}…{word[0][-longest // 4 :]}", text)


def one_line(error: BaseException | str, limit: int = 300) -> str:
    """Return an error or text as one printable line of at most `limit` characters; an error is named by its class."""
    storable = str(error).encode("utf-8", "backslashreplace").decode()  # no table holds half of a surrogate pair
    plain = COLOUR.sub("", storable)
    plain = shorten_words(plain, limit // 3) if len(plain) > limit else plain
    text = "".join(character if character.isprintable() else " " for character in plain)
    text = " ".join(text.split())
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def is_whole_text(text: str) -> bool:
    """Return whether UTF-8 can hold a text, so that it has no half of a surrogate pair."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def whole_text(text: str) -> str:
    """Return a text as UTF-8 can hold it: JSON can spell half of a surrogate pair, which becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def code_failure(error: BaseException) -> Failure:
    """Return the failure of a row for an exception that nothing foresaw: its class, its message and its place."""
    return Failure("code_failed", describe_error(error))


def describe_error(error: BaseException, limit: int = 500) -> str:
    """Return an exception as one line with the file and line that it came from."""
    place = place_of(error)
    return f"{one_line(error, limit - len(place))}{place}"


def place_of(error: BaseException) -> str:
    """Return where an exception was raised, as " (file.py:12)": the last line that is no library's, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    ours = [frame for frame in frames if not any(part in frame.filename for part in LIBRARIES)]
    frame = (ours or frames)[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno})"


def attempt(faults: list[str], call: Callable[[], Result]) -> Result | None:
    """Return the result of a call; if it raises a UserMistake, add that to `faults` and return None.

    So the mistakes of several calls are reported together.
    """
    try:
        return call()
    except Mistakes as mistakes:
        faults += mistakes.lines
    except UserMistake as mistake:
        faults.append(str(mistake))
    return None


def _by_line(lines: Sequence[str]) -> list[str]:
    matched = [(line, AT_LINE.match(line)) for line in lines]
    places = {line: (match[1], int(match[2])) if match else (line, 0) for line, match in matched}
    rank = {file: number for number, file in enumerate(dict.fromkeys(file for file, _ in places.values()))}
    return sorted(lines, key=lambda line: (rank[places[line][0]], places[line][1]))


def guess(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None if none is like it."""
    return next(iter(get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question whether the nearest known name was meant; empty if none is near.

    It is for names of which there are too many to list.
    """
    match = guess(name, known)
    return f"did you mean '{match}'? " if match else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an "unknown name" message: the nearest known name, or the known names."""
    names = sorted(set(known))
    if question := did_you_mean(name, names):
        return question.rstrip()
    if not names:
        return "none is known here"
    return f"known: {listed(names, 12)}"


def listed(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first `most` names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + more
