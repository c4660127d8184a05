"""A watch beside the driver: where Ray itself ends or hangs, the run ends too, with one line that says so.

Ray waits without a limit for a part of it that is gone, or ends this process without a word after a minute. So a thread
looks at it: at the processes that were started here, at the head of the cluster, and at the node that this process
belongs to. Most waits of the driver ask for `fault` twice a second; one that is stuck inside Ray cannot, so after a
while the processes of a Ray that was started here are killed, and at last this process ends itself. Nothing is lost by
that: commits are whole or absent.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from synthgen.console import note
from synthgen.errors import JobFailing, SynthError, one_line

LOOK_SECONDS = 2.0  # between two looks
BLIND_LOOKS = 30  # in a row, after which the user is told
ANSWER_SECONDS = 5.0  # for the head of a cluster to answer
REFUSED_SECONDS = 40.0  # without a head that accepts connections; after 60, Ray ends this process itself
SILENT_SECONDS = 120.0  # without an answer of a head that accepts connections: a busy machine may be slow
START_SECONDS = 300.0  # for Ray to start, or to be joined
KILL_SECONDS = 10.0  # after a fault, for the run to end by itself
EXIT_SECONDS = 40.0  # after a fault, until this process ends
THEN = "finished work is kept, start again"
NEEDED = ("raylet", "gcs_server")  # processes without which a Ray on this machine cannot go on


class RayWatch:
    """The watch over one stay in a cluster; `fault` says what is wrong with Ray, if anything is."""

    def __init__(self, exit_process: Callable[[int], object] = os._exit) -> None:
        """Start to watch; until `set_joined`, only the time that this takes."""
        self.fault: str | None = None
        self._exit, self._is_over, self._is_joined = exit_process, threading.Event(), threading.Event()
        self._started = time.monotonic()
        self._silent_since: float | None = None  # on the monotonic clock; None while the head answers
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def set_joined(self) -> None:
        """Note that this process is in the cluster."""
        self._is_joined.set()

    def stop(self) -> None:
        """End the watch: this process has left the cluster, or never joined it."""
        self._is_over.set()

    def _watch(self) -> None:
        # Signals are for the main thread, also while it holds them back.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        blind = 0
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                self.fault = self._look() if self._is_joined.is_set() else self._look_at_start()
                blind = 0
            except Exception as error:  # what Ray raises while it is left or falls apart; the next look tells
                blind += 1
                if blind == BLIND_LOOKS:
                    note(f"Ray cannot be watched ({one_line(error)}); should it end, the run may wait for it")
            if self.fault:
                self._end()
                return

    def _look_at_start(self) -> str | None:
        waited = time.monotonic() - self._started
        return f"Ray has not started within {waited:.0f} s" if waited >= START_SECONDS else None

    def _look(self) -> str | None:
        """Return what is wrong with Ray, or None; takes no longer than twice ANSWER_SECONDS."""
        worker = _ray_worker()
        if gone := [kind for kind, _ in worker._global_node.dead_processes() if kind in NEEDED]:
            return f"Ray ended on this machine: its process {' and '.join(gone)} died"
        client, node = worker.global_worker.gcs_client, worker.global_worker.current_node_id
        asked = time.monotonic()
        try:
            [is_alive] = client.check_alive([node], timeout=ANSWER_SECONDS)
        except Exception:
            self._silent_since = self._silent_since or asked
            silent = time.monotonic() - self._silent_since
            limit = REFUSED_SECONDS if _refuses(client.address) else SILENT_SECONDS
            return f"the head of the Ray cluster has not answered for {silent:.0f} s" if silent >= limit else None
        self._silent_since = None
        return None if is_alive else "Ray has lost this machine: it counts as dead in its cluster"

    def _end(self) -> None:
        """Wait for the run to end by itself, then make it."""
        if self._is_over.wait(KILL_SECONDS):
            return
        with suppress(Exception):
            kill_local_ray()
        if not self._is_over.wait(EXIT_SECONDS - KILL_SECONDS):
            note(f"synth: {self.fault}; {THEN}")
            self._exit(1)


_WATCHES: list[RayWatch] = []  # of the stay in a cluster; empty outside of one


@contextmanager
def watched() -> Iterator[None]:
    """Watch Ray from here on, if it can be joined within this block."""
    watch = RayWatch()
    try:
        yield
    except BaseException:
        watch.stop()
        raise
    watch.set_joined()
    _WATCHES.append(watch)


def stop_watching() -> None:
    """End the watch: this process has left the cluster."""
    while _WATCHES:
        _WATCHES.pop().stop()


def ray_fault() -> str | None:
    """Return what is wrong with Ray itself, if it ended or hangs."""
    return _WATCHES[-1].fault if _WATCHES else None


def check_ray() -> None:
    """Raise JobFailing if Ray itself ended or hangs."""
    if fault := ray_fault():
        raise JobFailing(f"{fault}; {THEN}")


@contextmanager
def ray_faults() -> Iterator[None]:
    """Raise JobFailing in place of what a call of Ray raises once Ray itself is gone."""
    try:
        yield
    except SynthError:
        raise
    except Exception:
        check_ray()
        raise


def kill_local_ray() -> None:
    """Kill the processes of a Ray that was started here, so that no call waits for one that hangs."""
    for infos in _ray_worker()._global_node.all_processes.values():
        for info in infos:
            with suppress(OSError):
                info.process.kill()


def _ray_worker() -> Any:
    from ray._private import worker

    return worker


def _refuses(address: str) -> bool:
    """Return whether no process accepts connections at an address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError:
        return True
    return False
