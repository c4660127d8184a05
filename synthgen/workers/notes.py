"""Notes of an actor, brought to the process that the user looks at; what workers print is otherwise shown to nobody."""

import logging
from collections.abc import Iterable

from synthgen.console import LOGGER

_passed_on: set[str] = set()  # several workers note the same things, and so does each that replaces one


class NoteCollector(logging.Handler):
    """A handler that keeps messages until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self._messages.append(self.format(record))

    def take(self) -> list[str]:
        """Return the messages since the last call."""
        messages, self._messages = self._messages, []
        return messages


def collect_notes() -> NoteCollector:
    """Keep all notes of this process, an actor, from now on."""
    collector = NoteCollector()
    LOGGER.addHandler(collector)
    LOGGER.setLevel(logging.INFO)
    return collector


def pass_on(messages: Iterable[str], worker: str | None = None) -> None:
    """Note what actors noted, each message once in this process; records have the name of the `worker`."""
    for message in messages:
        if message not in _passed_on:
            _passed_on.add(message)
            LOGGER.info("%s", message, extra={"worker": worker})
