"""Functions of the user that say which pairs are dropped, and why: `select.functions`.

    def too_shiny(pairs: pyarrow.Table) -> list[str | None]: ...   # of each pair a reason, or None to keep it

A function gets pairs as rows (columns of PAIRS, and `score_NAME` for each score) and judges each by itself: which pairs
come together is not defined. Reasons are short words, so that they can be counted. What goes wrong costs the pairs that
it goes wrong for, and never the run.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import library
from synthgen.errors import UserMistake, describe_error

PAIRS_AT_ONCE = 1000  # in one call
REASON = re.compile(r"[a-z][a-z0-9_-]{0,39}")
MOST_REASONS = 20  # different ones of a function
USER = "user:"  # begins the reasons of functions
FAILED, BAD_REASON, MANY_REASONS = RESERVED = ("failed", "bad_reason", "many_reasons")  # no function may give these


@dataclass
class UserFunction:
    """A function of the user, imported.

    Attributes:
        name: Of the function, behind `user:` in reasons.
        fault: The first thing that went wrong in it, as one line.
    """

    name: str
    call: Callable[[pa.Table], Sequence[str | None]]
    digest: str
    fault: str = ""

    def reasons(self, pairs: pa.Table) -> list[str | None]:
        """Return the reason against each pair, or None; a call that fails is repeated in halves, to find the pair."""
        try:
            found = _listed(self.call(pairs), pairs.num_rows)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            self.fault = self.fault or describe_error(error)  # also where the halves then go well
            if pairs.num_rows > 1:
                half = pairs.num_rows // 2
                return [*self.reasons(pairs.slice(0, half)), *self.reasons(pairs.slice(half))]
            return [self._named(FAILED)]
        return [self._checked(reason) for reason in found]

    def _checked(self, reason: Any) -> str | None:
        if reason is None:
            return None
        if isinstance(reason, str) and REASON.fullmatch(reason) and reason not in RESERVED:
            return self._named(reason)
        what = f"the reason {str(reason)[:60]!r} is no word of up to 40 small letters, digits, _ and -"
        if reason in RESERVED:
            what = f"the reason '{reason}' is what synth itself says of functions; give it another name"
        self.fault = self.fault or what
        return self._named(BAD_REASON)

    def _named(self, reason: str) -> str:
        return f"{USER}{self.name}:{reason}"


def _listed(given: Any, pairs: int) -> list[Any]:
    """Return what a function returned as a list with an entry for each pair.

    Raises:
        TypeError: It is no list of reasons.
        ValueError: It is of another length.
    """
    if isinstance(given, pa.Array | pa.ChunkedArray):
        given = given.to_pylist()
    if isinstance(given, str | bytes | dict) or not isinstance(given, Iterable):
        raise TypeError(f"returned {type(given).__name__}, not a list with a reason or None for each pair")
    found = list(given)
    if len(found) != pairs:
        raise ValueError(f"returned {len(found)} reasons for {pairs} pairs")
    return found


def load_functions(names: Sequence[str], home: Path) -> tuple[UserFunction, ...]:
    """Import functions, as `module:function`, from the working folder of the run or from installed packages.

    Raises:
        UserMistake: One cannot be imported, or is none.
    """
    if not names:
        return ()
    with _importing_from(home):
        return tuple(_load(name) for name in names)


def _load(name: str) -> UserFunction:
    function = library.import_attribute(name, f"select.functions: {name}")
    if not callable(function):
        raise UserMistake(f"select.functions: {name} is {type(function).__name__}, not a function of a table of pairs")
    file = import_module(name.partition(":")[0]).__file__
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    return UserFunction(name.partition(":")[2], function, code)


@contextmanager
def _importing_from(home: Path) -> Iterator[None]:
    """Import modules from a folder before all others; what a function imports later is found there last."""
    folder = str(home.absolute())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def reasons_by(functions: Iterable[UserFunction], pairs: pa.Table) -> list[str | None]:
    """Return the first reason that any function has against each pair, or None; a function sees what is left."""
    found: list[str | None] = [None] * pairs.num_rows
    for function in functions:
        places = [place for place, reason in enumerate(found) if reason is None]
        for start in range(0, len(places), PAIRS_AT_ONCE):
            some = places[start : start + PAIRS_AT_ONCE]
            for place, reason in zip(some, function.reasons(pairs.take(pa.array(some))), strict=True):
                found[place] = reason
    return found


class ReasonCounter:
    """The reasons of functions that were given so far; a function has too many if they cannot be told apart by eye."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def add(self, reasons: Iterable[str]) -> None:
        """Add reasons; those of other rules are passed over."""
        for reason in reasons:
            if reason.startswith(USER):
                seen = self._seen.setdefault(function_of(reason), set())
                if len(seen) <= MOST_REASONS:
                    seen.add(reason)

    def joined(self, rows: pa.Table) -> pa.Table:
        """Return judged rows with one reason in place of all of a function that has too many."""
        reason, place = rows.column("reason"), rows.column_names.index("reason")
        for name, seen in self._seen.items():
            if len(seen) > MOST_REASONS:
                is_its_own = pc.starts_with(reason, f"{USER}{name}:")
                reason = pc.if_else(is_its_own, f"{USER}{name}:{MANY_REASONS}", reason)
        return rows.set_column(place, "reason", reason)


def function_of(reason: str) -> str:
    """Return the name of the function that a reason is of."""
    return reason.removeprefix(USER).partition(":")[0]
