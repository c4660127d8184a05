"""Additions by installed packages: an entry point of one of our groups names a source, tagger, engine or score."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from synthgen.errors import UserMistake, one_line


@cache
def added(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, in the order of their names; nothing is imported yet."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(point: EntryPoint, what: str, expected: str, is_expected: Callable[[Any], bool]) -> Any:
    """Import the object that an entry point names.

    Args:
        point: One of those that `added` returns.
        what: The kind of addition, for messages, such as "engine kind".
        expected: What the object must be, for messages, such as "an EngineKind".
        is_expected: Whether an object is that.

    Raises:
        UserMistake: The package does not load, or names something else.
    """
    source = f"{what} '{point.name}' of package {point.dist.name if point.dist else 'unknown'} ({point.value})"
    try:
        found = point.load()
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise UserMistake(f"{source} does not load: {one_line(error)}; fix or uninstall the package") from error
    if not is_expected(found):
        raise UserMistake(f"{source} is not {expected}; fix or uninstall the package")
    return found
