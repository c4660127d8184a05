"""Notes for the person who waits; results go to stdout and are not mixed with these.

Notes are records of the logger `synthgen`, so a program that imports the package decides where they go and nothing is
printed unasked. The command line calls `print_notes`, which sends each bare message to stderr.
"""

import json
import logging
import sys

LOGGER = logging.getLogger("synthgen")
_HARMLESS = "\n\xa0\u200c\u200d\u202f\u3000"  # not printable to Python, and shown or needed by a terminal


class StderrHandler(logging.Handler):
    """A handler that prints the bare message to stderr and flushes it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        # sys.stderr is looked up for each record: while a live view is shown, rich stands in for it.
        print(for_terminal(self.format(record)), file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Log one message for the user; the command line prints it to stderr at once."""
    LOGGER.info("%s", text)


def show_text(text: str) -> None:
    """Print a result to stdout, escaped as `for_terminal` does."""
    print(for_terminal(text))


def for_terminal(text: str) -> str:
    """Return a text in which nothing is left that a terminal obeys, as models and files may write it.

    It is escaped as in JSON, so that JSON stays the same. Lines stay lines, and spaces and joiners of other scripts
    stay as they are.
    """
    return "".join(
        character if character.isprintable() or character in _HARMLESS else json.dumps(character)[1:-1]
        for character in text
    )


def print_notes() -> None:
    """Print the records of the logger `synthgen` to stderr from now on, as the command line does."""
    if is_printing_notes():
        return
    LOGGER.addHandler(StderrHandler())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # some libraries give the root logger a handler, which would print each note again
    # Without a handler, Python would print each attempt that this library warns of; the error comes to us in the end.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def is_printing_notes() -> bool:
    """Whether `print_notes` was called in this process."""
    return any(isinstance(handler, StderrHandler) for handler in LOGGER.handlers)


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun, `1 partition` or `2 partitions`; the noun's plural must end in a plain s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def clock(seconds: float) -> str:
    """Return a time as 0:07, 12:30 or 3:05:00."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
