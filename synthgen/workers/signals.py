"""The signals that ask a run to end: SIGTERM, as platforms send it before they take a machine away, and Ctrl-C.

Comes in: a signal. Goes out: while workers are at work, a flag that their foreman looks at, so that what is begun is finished
and committed, and a second signal makes it look no further; at any other moment `Stopped` at once. Nothing is lost by
that either, since every write is whole or not there; it only costs what was under way.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from synthgen.errors import Stopped

HEARD = (signal.SIGTERM, signal.SIGINT)
_drains = False  # somebody looks at the flag
_asked: int | None = None  # the signal that came
_times = 0  # that one came


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Signals end the run in order, from here to the end of the block; only the main thread can have it so."""
    with _forgotten(), _restored():
        for number in HEARD:
            signal.signal(number, hear)
        try:
            yield
        except SystemError:  # what is raised in the middle of Ray's own code comes out as this
            if _asked is None:
                raise
            raise Stopped(_asked) from None


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals wait for the end of this block, and then find the handlers that there were before it.

    For a library that sets handlers of its own while it starts: in between, a signal would find one of those, or none. Its
    threads begin with the signals blocked and stay so, which leaves them to the main thread; its processes begin without that.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        with _restored():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """The handlers after the block are those before it."""
    before = {number: signal.getsignal(number) for number in HEARD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _forgotten() -> Iterator[None]:
    """What was heard in the block is of no meaning to what comes after it."""
    global _asked, _times
    _asked, _times = None, 0
    try:
        yield
    finally:
        _asked, _times = None, 0


def _hear_again() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


os.register_at_fork(after_in_child=_hear_again)


@contextlib.contextmanager
def draining() -> Iterator[None]:
    """The first signal only sets the flag in this block."""
    global _drains
    _drains = True
    try:
        yield
    finally:
        _drains = False


def asked() -> int | None:
    """The signal that asked the run to end, if one did."""
    return _asked


def is_now() -> bool:
    """Whether it was asked twice, so that nothing is waited for any more."""
    return _times > 1


def hear(number: int, _: FrameType | None) -> None:
    """The handler of both signals."""
    global _asked, _times
    _asked, _times = number, _times + 1
    if not _drains or _times > 2:
        raise Stopped(number)
    told = "now" if is_now() else "what is begun is finished and committed; the same signal again means now"
    print(f"stopping: {told}", file=sys.stderr, flush=True)
