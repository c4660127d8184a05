"""Signals that ask a run to end: SIGTERM, which platforms send before they take a machine away, SIGHUP, and Ctrl-C.

While workers are busy the first signal sets a flag that the pool reads, so that started tasks are finished and
committed; a second one ends the wait. At any other moment `Stopped` is raised at once. Nothing is lost by that either:
every write is whole or absent.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from synthgen.console import LOGGER
from synthgen.errors import Stopped

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last one where a terminal is closed
ENDING = "started tasks are finished and committed"  # what is still done after the first signal


class StopSignals:
    """The signals that a run has received so far."""

    def __init__(self, ending: str = ENDING) -> None:
        self.received: int | None = None  # the last signal
        self._ending = ending
        self._times = 0
        self._is_draining = False

    @property
    def is_urgent(self) -> bool:
        """Whether a second signal came, so that nothing is waited for."""
        return self._times > 1

    @contextlib.contextmanager
    def draining(self) -> Iterator[None]:
        """Let a signal only set the flag within this block: somebody reads it."""
        self._is_draining = True
        try:
            yield
        finally:
            self._is_draining = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal. Raises Stopped where nobody reads the flag, or at the third signal."""
        self.received, self._times = number, self._times + 1
        if not self._is_draining or self._times > 2:
            raise Stopped(number)
        LOGGER.warning(
            "stopping: %s",
            "now" if self.is_urgent else f"{self._ending}; the same signal again stops now",
        )


@contextlib.contextmanager
def listening(ending: str = ENDING) -> Iterator[StopSignals]:
    """Handle the signals within this block; `ending` says what is still done.

    Python hears signals in the main thread alone: in another one they stay with the program that started the thread.
    What `nohup` has ignored stays so.
    """
    signals = StopSignals(ending)
    with _handlers_restored() as before:
        for number, handler in before.items():
            if number != signal.SIGHUP or handler is not signal.SIG_IGN:
                signal.signal(number, signals.handle)
        try:
            yield signals
        except SystemError:  # an exception raised in the middle of Ray's own code comes out as this
            if signals.received is None:
                raise
            raise Stopped(signals.received) from None


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back until the end of this block, and restore the handlers from before it.

    For a library that sets handlers of its own while it starts: in between, a signal would find one of those, or none.
    Its threads start with the signals blocked and stay so, which leaves them to the main thread; its processes start
    with them unblocked, and never hear SIGHUP: a terminal that closes sends it to all at once, and this one decides.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        with _handlers_restored() as before:
            if before:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _handlers_restored() -> Iterator[dict[signal.Signals, Any]]:
    """Yield the handlers from before this block and restore them after it; none where this thread cannot set any."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in HEARD} if is_main else {}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


os.register_at_fork(after_in_child=_unblock)
