"""Who may commit to an output folder: one driver at a time.

Comes in: the run's folder. Goes out: a Lease whose term is written into every commit. Terms are files created one after
the other, so the driver that created the highest one is the current driver and an older one finds out before its next
commit. A lease is renewed by a thread; it may be taken over when it was released, when its process is gone from this
same machine (a killed run restarts at once), or when it was not renewed for a minute (its machine is gone). The same
machine means the same table of processes: containers can share a host's name and know nothing of each other's. Clocks of
two machines can differ by more than that minute, so for its second half the taker looks on, by its own clock alone.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from synthgen.errors import LeaseHeld, LeaseLost
from synthgen.store.folder import Folder

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
WATCHED_SECONDS = 30.0  # of these: a living driver elsewhere renews its lease in that time, whatever the clocks say


@dataclass
class Lease:
    """The right to commit to `folder`; a context manager that releases it at the end."""

    folder: Folder
    term: int
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @staticmethod
    def take(folder: Folder) -> "Lease":
        """The next lease on this folder; LeaseHeld if a living driver has the current one."""
        terms = folder.child("lease")
        while True:
            names = terms.names(".json")
            if names and (holder := _holder(terms, names[-1])):
                raise LeaseHeld(
                    f"{folder.url}: a run is at work here (process {holder['pid']} on {holder['host']}, "
                    f"renewed {max(0.0, time.time() - holder['beat']):.0f} s ago); wait for it, or stop it, or use another --out"
                )
            term = int(names[-1].removesuffix(".json")) + 1 if names else 1
            if terms.create(_term_name(term), _record()):
                lease = Lease(folder, term)
                lease._thread = threading.Thread(target=lease._renew, daemon=True)
                lease._thread.start()
                return lease

    def check(self) -> None:
        """Raises LeaseLost if another driver took over; called before each commit."""
        names = self.folder.child("lease").names(".json")
        if not names or names[-1] != _term_name(self.term):
            raise LeaseLost(
                f"{self.folder.url}: another run took over this folder; this one stops and has committed nothing since"
            )

    def release(self) -> None:
        """Lets the next driver take over at once."""
        if not self._stop.is_set():
            self._stop.set()
            if self._thread:  # or a beat on its way would land on top of the release
                self._thread.join(BEAT_SECONDS)
            # Where it cannot be written, the lease ends by itself after STALE_SECONDS; the run's own error is what to tell.
            with suppress(Exception):
                self.folder.child("lease").write(_term_name(self.term), _record(released=True))

    def _renew(self) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT)
        )  # the main thread's, also while it holds them back
        while not self._stop.wait(BEAT_SECONDS):
            # A beat that fails, whatever a store's client calls that, is tried again at the next one: STALE_SECONDS leaves
            # room for several, and a thread that ended here would give the lease away while its driver works.
            with suppress(Exception):
                self.folder.child("lease").write(_term_name(self.term), _record())

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder_of(folder: Folder) -> dict[str, Any] | None:
    """The record of the driver now at work in this folder, or None; for `synth status`, which trusts the clocks."""
    names = folder.child("lease").names(".json")
    record = _unreleased(folder.child("lease"), names[-1]) if names else None
    return record if record and time.time() - record["beat"] <= STALE_SECONDS else None


def _holder(terms: Folder, name: str) -> dict[str, Any] | None:
    """The record of the driver that holds a lease; None if it may be taken over."""
    record = _unreleased(terms, name)
    if record is None:
        return None
    age = time.time() - record["beat"]
    if record["machine"] == _machine():
        return record if age <= STALE_SECONDS else None
    return record if -BEAT_SECONDS <= age <= STALE_SECONDS - WATCHED_SECONDS else _watched(terms, name, record)


def _watched(terms: Folder, name: str, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a driver elsewhere if it renews its lease while we look on."""
    print(
        f"a run on {record['host']} may be at work here; watching its lease for {WATCHED_SECONDS:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    give_up = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < give_up:
        time.sleep(min(1.0, WATCHED_SECONDS / 10))
        now = _unreleased(terms, name)
        if now != record:
            return now
    return None


def _unreleased(terms: Folder, name: str) -> dict[str, Any] | None:
    """The record of a lease, unless it was released or its process is known to be gone."""
    record: dict[str, Any] = json.loads(terms.read(name))
    is_gone = record["machine"] == _machine() and _process_started(record["pid"]) != record["started"]
    return None if record["released"] or is_gone else record


def _record(*, released: bool = False) -> bytes:
    pid = os.getpid()
    holder = {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _process_started(pid)}
    return json.dumps({**holder, "beat": time.time(), "released": released}).encode()


@cache
def _machine() -> str:
    """This table of processes: the boot and the pid namespace, where there is /proc, else the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _process_started(pid: int) -> str | None:
    """When a process of this machine started (clock ticks since boot), or None if there is none: pids are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _term_name(term: int) -> str:
    return f"{term:06d}.json"
