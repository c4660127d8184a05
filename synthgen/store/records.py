"""The check of JSON records that are read back from an output folder, which a disk or an editor may have changed.

A value of another type, or one that is missing when it is asked for, is damage: one line with the file and what to do.
"""

from collections.abc import Callable, Mapping
from typing import Any

from synthgen.errors import Damaged, is_whole_text

Is = Callable[[Any], bool]


class StoredRecord(dict[str, Any]):
    """A record whose missing keys are damage."""

    def __init__(self, values: Mapping[str, Any], where: str, repair: str) -> None:
        super().__init__(values)
        self._where, self._repair = where, repair

    def __missing__(self, key: str) -> Any:
        raise Damaged(f"{self._where}: has no '{key}', so it was damaged; {self._repair}")


def checked_record(value: Any, kinds: Mapping[str, Is], where: str, repair: str) -> StoredRecord:
    """Return a record of which each value that is there is of its kind.

    Args:
        value: As JSON gives it.
        kinds: Key → whether a value can stand there. Other keys may hold anything.
        where: Its file, for messages.
        repair: What to do about damage, for messages.

    Raises:
        Damaged: It is no record, or a value is of another kind.
    """
    if not isinstance(value, dict):
        raise Damaged(f"{where}: is {type(value).__name__}, not keys with values, so it was damaged; {repair}")
    for key, is_kind in kinds.items():
        if key in value and not is_kind(value[key]):
            raise Damaged(f"{where}: its '{key}' is not what belongs there, so it was damaged; {repair}")
    return StoredRecord(value, where, repair)


def is_text(value: Any) -> bool:
    """Return whether a value is text that UTF-8 can hold."""
    return isinstance(value, str) and is_whole_text(value)


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number from 0 on."""
    return type(value) is int and 0 <= value < 2**63


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return type(value) in (int, float) and abs(value) < 2**63


def or_none(is_kind: Is) -> Is:
    """Return the check of a value that may be null too."""
    return lambda value: value is None or is_kind(value)


def list_of(is_kind: Is) -> Is:
    """Return the check of a list of such values."""
    return lambda value: isinstance(value, list) and all(map(is_kind, value))


def mapping_of(is_kind: Is) -> Is:
    """Return the check of keys with such values."""
    return lambda value: isinstance(value, dict) and all(map(is_text, value)) and all(map(is_kind, value.values()))


def fields(kinds: Mapping[str, Is]) -> Is:
    """Return the check of keys with values of which each has its own kind, if it is there."""
    return lambda value: (
        isinstance(value, dict) and all(is_kind(value[key]) for key, is_kind in kinds.items() if key in value)
    )


def is_mapping(value: Any) -> bool:
    """Return whether a value is keys with values."""
    return isinstance(value, dict)
