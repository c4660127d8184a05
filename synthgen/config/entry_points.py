"""Additions by installed packages: an entry point of one of our groups names a source, tagger, engine or score."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Any

from synthgen.console import note
from synthgen.errors import UserMistake, one_line


@cache
def added(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name, in the order of their names; nothing is imported yet.

    A name that several packages offer has several; `offered` refuses it where it is used.
    """
    points: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(_points(group), key=lambda point: (point.name, _package(point))):
        points[point.name] = (*points.get(point.name, ()), point)
    return points


def offered(group: str, name: str, what: str, is_shipped: bool = False) -> EntryPoint | None:
    """Return the entry point of a name, or None if no package offers it.

    Args:
        group: One of our groups.
        name: As the user writes it.
        what: The kind of addition, for messages, such as "engine kind".
        is_shipped: Whether synthgen has one of that name itself.

    Raises:
        UserMistake: Several packages offer the name, or one does that synthgen has itself.
    """
    points = added(group).get(name, ())
    owners = [*(["synthgen itself"] if is_shipped else []), *(f"package {_package(point)}" for point in points)]
    if points and len(owners) > 1:
        fix = "rename it in the package, or uninstall it" if is_shipped else "rename one, or uninstall a package"
        raise UserMistake(f"{what} '{name}' is offered by {' and by '.join(owners)}; {fix}")
    return points[0] if points else None


def load(point: EntryPoint, what: str, expected: str, is_expected: Callable[[Any], bool]) -> Any:
    """Import the object that an entry point names.

    Args:
        point: One that `offered` returns.
        what: The kind of addition, for messages, such as "engine kind".
        expected: What the object must be, for messages, such as "an EngineKind".
        is_expected: Whether an object is that.

    Raises:
        UserMistake: The package does not load, or names something else.
    """
    source = f"{what} '{point.name}' of package {_package(point)} ({point.value})"
    try:
        found = point.load()
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise UserMistake(f"{source} does not load: {one_line(error)}; fix or uninstall the package") from error
    if not is_expected(found):
        raise UserMistake(f"{source} is not {expected}; fix or uninstall the package")
    return found


def _points(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception:  # one file that cannot be read, of whatever package, hides all others
        return [point for distribution in distributions() for point in _points_of(distribution, group)]


def _points_of(distribution: Distribution, group: str) -> Iterator[EntryPoint]:
    try:
        yield from distribution.entry_points.select(group=group)
    except Exception as error:
        note(f"package {_name_of(distribution)}: its entry points cannot be read and are left out ({one_line(error)})")


def _package(point: EntryPoint) -> str:
    return _name_of(point.dist) if point.dist else "unknown"


def _name_of(distribution: Distribution) -> str:
    try:
        return distribution.name or "unknown"
    except Exception:  # its metadata are damaged too
        return "unknown"
