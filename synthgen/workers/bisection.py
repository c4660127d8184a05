"""Bisection: finds the one image that kills its worker.

A partition is cut in half after its worker died twice; a half is cut again after one more death. An image that kills
twice while alone is poison: it is recorded with the death of its worker and not touched again. Strikes are stored in
the output folder (`strikes/<partition>.r<revision>.json` of a stage), so a driver that is killed too, or started
elsewhere, continues the search.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from synthgen.errors import SynthError
from synthgen.store import Folder, Receipt, TablePart
from synthgen.store.commits import commit_name
from synthgen.workers.task import Task

STRIKES = 2  # deaths after which a task is cut in half


@dataclass
class _Piece:
    """A part of a partition, or all of it."""

    task: Task
    strikes: int = 0
    receipt: Receipt | None = None


class Bisection:
    """The partitions that were there at a death, in pieces."""

    def __init__(self, images: Callable[[Any], tuple[str, ...]], notes: Folder | None) -> None:
        self._images, self._notes = images, notes
        self._pieces: dict[str, list[_Piece]] = {}
        self._stored = _read(notes) if notes else {}

    def recall(self, task: Task) -> list[Task]:
        """Return what to hand out for a partition: itself, or the pieces that an earlier driver had cut it into."""
        stored = self._stored.pop(commit_name(task.partition, task.revision), None)
        pieces = [_piece(task, entry) for entry in stored or ()]
        if not pieces or not self._covers(pieces, task):
            return [task]
        self._pieces[task.partition] = pieces
        return [piece.task for piece in pieces]

    def _covers(self, pieces: Sequence[_Piece], task: Task) -> bool:
        """Return whether the pieces are all of a partition: an earlier run may have had another part of it to do."""
        if any(piece.task.only is None for piece in pieces):
            return True
        return {image for piece in pieces for image in piece.task.only or ()} == set(self._images(task))

    def is_suspect(self, task: Task) -> bool:
        """Return whether a task was there at a death.

        Then it is done alone, so the next death says whose fault it is.
        """
        return not task.poison and any(piece.task == task for piece in self._pieces.get(task.partition, ()))

    def strike(self, task: Task, why: str) -> list[Task]:
        """Record a death and return what to hand out for this task now."""
        pieces = self._pieces.setdefault(task.partition, [_Piece(task)])
        place = next(number for number, piece in enumerate(pieces) if piece.task == task)
        struck = pieces[place : place + 1] = self._struck(pieces[place], why)
        self._store(task.partition)
        return [piece.task for piece in struck]

    def settle(self, task: Task, receipt: Receipt) -> Receipt | None:
        """Return the partition's receipt once those of all its pieces are there, else None."""
        pieces = self._pieces.get(task.partition)
        if pieces is None:
            return receipt
        next(piece for piece in pieces if piece.task == task).receipt = receipt
        receipts = [piece.receipt for piece in pieces if piece.receipt]
        return _merged(receipts) if len(receipts) == len(pieces) else None

    def clear(self, task: Task) -> None:
        """Forget a partition that is committed."""
        if self._pieces.pop(task.partition, None) and self._notes:
            with suppress(SynthError):
                self._notes.remove([_name(task)])

    def _struck(self, piece: _Piece, why: str) -> list[_Piece]:
        task, strikes = piece.task, piece.strikes + 1
        # Half of something that kills is suspect already: one death is enough. A single image gets a second chance.
        if strikes < (STRIKES if task.only is None or len(task.only) == 1 else 1):
            return [_Piece(task, strikes)]
        images = task.only if task.only is not None else self._images(task)
        if len(images) <= 1:
            return [_Piece(replace(task, only=images, poison=True, why=why))]
        middle = len(images) // 2
        halves = (images[:middle], task.is_first), (images[middle:], False)
        return [_Piece(replace(task, only=half, is_first=is_first)) for half, is_first in halves]

    def _store(self, partition: str) -> None:
        if self._notes:
            pieces = self._pieces[partition]
            self._notes.write(_name(pieces[0].task), json.dumps([_entry(piece) for piece in pieces]).encode())


def _name(task: Task) -> str:
    return f"{commit_name(task.partition, task.revision)}.json"


def _entry(piece: _Piece) -> dict[str, Any]:
    task = piece.task
    return {
        "only": task.only,
        "is_first": task.is_first,
        "poison": task.poison,
        "why": task.why,
        "strikes": piece.strikes,
    }


def _piece(task: Task, entry: dict[str, Any]) -> _Piece:
    only = None if entry["only"] is None else tuple(entry["only"])
    part = replace(task, only=only, is_first=entry["is_first"], poison=entry["poison"], why=entry["why"])
    return _Piece(part, entry["strikes"])


def _read(notes: Folder) -> dict[str, list[dict[str, Any]]]:
    files = notes.read_every_json("remove it, and the image that kills its worker is searched from the start")
    return {name.removesuffix(".json"): pieces for name, pieces in files.items()}


def _merged(receipts: Sequence[Receipt]) -> Receipt:
    """Return one receipt for the pieces of a partition. Where a piece is not whole, it covers nothing (`reads`)."""
    tables: dict[str, TablePart] = {}
    counts: dict[str, int] = {}
    for receipt in receipts:
        for name, part in receipt.tables.items():
            files = (*tables[name].files, *part.files) if name in tables else part.files
            tables[name] = replace(part, files=files)
        for outcome, count in receipt.counts.items():
            counts[outcome] = counts.get(outcome, 0) + count
    reads = receipts[0].reads if all(receipt.reads for receipt in receipts) else {}
    return replace(receipts[0], tables=tables, counts=counts, reads=reads)
