"""The lease on an output folder: only the driver that holds it may commit there.

Each lease has a term, a number that every commit records. Terms are files that are created one after the other, so the
highest one is the current driver's, and an older driver finds out before its next commit.

A thread renews the lease. It may be taken over when it was released, when its process is gone from this machine (a
killed run restarts at once), or when it was not renewed for a minute (its machine is gone). "This machine" means the
same table of processes: containers can share a host's name without seeing each other's processes. The clocks of two
machines can differ by more than a minute, so for the second half of it the next driver watches the lease, by its own
clock alone.
"""

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from synthgen.console import note
from synthgen.errors import LeaseHeld, LeaseLost
from synthgen.store.folder import Folder, number_of
from synthgen.store.records import checked_record, is_count, is_number, is_text, or_none
from synthgen.store.remote import display_uri

BEAT_SECONDS = 10.0
HOLDER = {
    "host": is_text, "machine": is_text, "pid": is_count, "started": or_none(is_text), "beat": is_number,
    "released": lambda value: isinstance(value, bool),
}  # fmt: skip
STALE_SECONDS = 60.0
WATCHED_SECONDS = 30.0  # the part of them for which a lease of another machine is watched before it is taken over


@dataclass
class Lease:
    """The right to commit to `folder`. It is a context manager that releases the lease at its end."""

    folder: Folder
    term: int
    _stop: threading.Event
    _thread: threading.Thread

    @staticmethod
    def take(folder: Folder) -> "Lease":
        """Take the next lease on this folder.

        Raises:
            LeaseHeld: A living driver has the current one.
        """
        terms = folder.child("lease")
        while True:
            names = terms.numbered()
            if names and (holder := _holder(terms, names[-1])):
                age = max(0.0, time.time() - holder["beat"])
                raise LeaseHeld(
                    f"{folder.url}: a run is at work here (process {holder['pid']} on {holder['host']}, "
                    f"renewed {age:.0f} s ago); wait for it, or stop it, or use another --out"
                )
            term = number_of(names[-1]) + 1 if names else 1
            if terms.create(_term_name(term), _record()):
                stop = threading.Event()
                thread = threading.Thread(target=_renew, args=(terms, _term_name(term), stop), daemon=True)
                thread.start()
                return Lease(folder, term, stop, thread)

    def check(self) -> None:
        """Check that no other driver took over; called before each commit.

        Raises:
            LeaseLost: One did.
        """
        names = self.folder.child("lease").numbered()
        if not names or names[-1] != _term_name(self.term):
            raise LeaseLost(
                f"{self.folder.url}: another run took over this folder; this one stops and has committed nothing since"
            )

    def release(self) -> None:
        """Let the next driver take over at once."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(BEAT_SECONDS)  # otherwise a beat in flight would overwrite the release
            # If this cannot be written, the lease ends after STALE_SECONDS, and the error of the run itself is
            # reported.
            with suppress(Exception):
                self.folder.child("lease").write(_term_name(self.term), _record(released=True))

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _renew(terms: Folder, name: str, stop: threading.Event) -> None:
    """Renew a lease until it is stopped; runs in a thread."""
    # Signals are for the main thread, also while it holds them back.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    while not stop.wait(BEAT_SECONDS):
        # A beat may fail with any error of a store's client. The next one tries again: STALE_SECONDS has room for
        # several, and a thread that ended here would lose the lease of a driver at work.
        with suppress(Exception):
            terms.write(name, _record())


def holder_of(folder: Folder) -> dict[str, Any] | None:
    """Return the record of the driver at work in this folder, or None. Clocks are trusted: it is for `synth status`."""
    names = folder.child("lease").numbered()
    record = _unreleased(folder.child("lease"), names[-1]) if names else None
    return record if record and time.time() - record["beat"] <= STALE_SECONDS else None


def _holder(terms: Folder, name: str) -> dict[str, Any] | None:
    """Return the record of the driver that holds a lease; None if the lease may be taken over."""
    record = _unreleased(terms, name)
    if record is None:
        return None
    age = time.time() - record["beat"]
    if record["machine"] == _machine():
        return record if age <= STALE_SECONDS else None
    if -BEAT_SECONDS <= age <= STALE_SECONDS - WATCHED_SECONDS:
        return record
    return _watch(terms, name, record)


def _watch(terms: Folder, name: str, record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a driver on another machine if it renews its lease within WATCHED_SECONDS, else None."""
    note(f"a run on {record['host']} may be at work here; watching its lease for {WATCHED_SECONDS:.0f} s")
    deadline = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, WATCHED_SECONDS / 10))
        now = _unreleased(terms, name)
        if now != record:
            return now
    return None


def _unreleased(terms: Folder, name: str) -> dict[str, Any] | None:
    """Return the record of a lease; None if it was released or its process is known to be gone."""
    repair = "remove it once no run is at work in this folder"
    record = checked_record(terms.read_json(name, repair), HOLDER, f"{display_uri(terms.url)}/{name}", repair)
    is_gone = record["machine"] == _machine() and _process_started(record["pid"]) != record["started"]
    return None if record["released"] or is_gone else record


def _record(*, released: bool = False) -> bytes:
    pid = os.getpid()
    holder = {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _process_started(pid)}
    return json.dumps({**holder, "beat": time.time(), "released": released}).encode()


@cache
def _machine() -> str:
    """Return the id of this table of processes: boot and pid namespace, or the host's name where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _process_started(pid: int) -> str | None:
    """Return when a process of this machine started, in clock ticks since boot, or None if there is no such process.

    It tells two processes with the same pid apart.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _term_name(term: int) -> str:
    return f"{term:06d}.json"
