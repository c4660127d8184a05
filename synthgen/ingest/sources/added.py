"""The check of what a package's source lists: an object that no table can hold costs itself, and a warning names it.

A size that is no number is unknown. Metadata that is no JSON is replaced by the reason, as that of a sidecar file is.
"""

import json
import operator
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from synthgen.errors import listed as first_names
from synthgen.errors import one_line
from synthgen.ingest.sources.objects import Listed, meta_json
from synthgen.store.records import is_text

MOST = 2**63 - 1  # that a table can hold
NAMED = 5  # objects, in the warning
LONGEST_NAME = 80  # characters


class AddedObjects:
    """The check of one listing, which counts what it left out or did without."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}  # fault -> uris

    def check(self, listed: Listed) -> Listed | None:
        """Return the object as a table can hold it, or None if none can; its uri and version are texts."""
        if fault := _fault(listed):
            self._note(f"left out, {fault}", listed)
            return None
        size = whole_number(listed.bytes)
        if size is None and listed.bytes is not None:
            self._note("its size is no number and counts as unknown", listed)
        meta = listed.source_meta
        if (unreadable := _meta_fault(meta)) is not None:
            self._note("its metadata is no JSON", listed)
            meta = meta_json({"sidecar_unreadable": unreadable})
        return replace(listed, row=whole_number(listed.row), bytes=size, source_meta=meta)

    def warnings(self) -> Iterator[str]:
        """Yield one line for each kind of fault, with the first objects that have it."""
        for fault, names in self._names.items():
            yield f"{fault}: {first_names(names, NAMED)}"

    def _note(self, fault: str, listed: Listed) -> None:
        self._names.setdefault(fault, []).append(one_line(listed.uri, LONGEST_NAME))


def whole_number(value: Any) -> int | None:
    """Return a whole number from 0 on, also one of numpy, as Python's; None for anything else."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
    return number if number is not None and 0 <= number <= MOST else None


def _fault(listed: Listed) -> str | None:
    if not (is_text(listed.uri) and is_text(listed.version)):
        return "its uri or version holds half of a character"
    if listed.row is not None and whole_number(listed.row) is None:
        return "its row is no number from 0 on"
    return None


def _meta_fault(meta: Any) -> str | None:
    """Return why metadata cannot be stored; None if it can, or if there is none."""
    if meta is None:
        return None
    if not isinstance(meta, str):
        return f"its source gave {type(meta).__name__} in place of JSON text"
    try:
        json.loads(meta, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return one_line(error)
    return None if is_text(meta) else "it holds half of a character"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
