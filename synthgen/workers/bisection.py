"""Who was there when a worker died: strikes, and the halving that finds the one image that kills.

Comes in: works whose worker died. Goes out: what to give out next instead. A partition that was there at two deaths is cut in
half; a half at one more death again; an image that stands alone and kills twice is poison, and goes on record as such with
what its worker died of. Strikes are noted in the output folder (`strikes/<partition>.r<revision>.json` of a stage), so that
a driver that is killed too, or started elsewhere, goes on where the search was and does not begin it anew.
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

STRIKES = 2  # deaths after which a piece of work is cut in half


@dataclass
class _Piece:
    """A part of a partition, or all of it."""

    work: Task
    strikes: int = 0
    receipt: Receipt | None = None


class Bisection:
    """The partitions that were there at a death, in pieces."""

    def __init__(self, images: Callable[[Any], tuple[str, ...]], notes: Folder | None) -> None:
        self._images, self._notes = images, notes
        self._pieces: dict[str, list[_Piece]] = {}
        self._noted = _read(notes) if notes else {}

    def recall(self, work: Task) -> list[Task]:
        """What to give out for a partition: itself, or the pieces that an earlier driver had come to."""
        noted = self._noted.pop(commit_name(work.partition, work.revision), None)
        pieces = [_piece(work, one) for one in noted or ()]
        if not pieces or not self._covers(pieces, work):
            return [work]
        self._pieces[work.partition] = pieces
        return [piece.work for piece in pieces]

    def _covers(self, pieces: Sequence[_Piece], work: Task) -> bool:
        """Whether pieces are all of a partition: an earlier run may have had another part of it to do."""
        whole = any(piece.work.only is None for piece in pieces)
        return whole or {one for piece in pieces for one in piece.work.only or ()} == set(self._images(work))

    def is_suspect(self, work: Task) -> bool:
        """Whether it, or what it is a part of, was there at a death; then it is done alone: the next death says whose fault it is."""
        return not work.poison and any(piece.work == work for piece in self._pieces.get(work.partition, ()))

    def strike(self, work: Task, why: str) -> list[Task]:
        """Notes a death; returns what to give out for this work now."""
        pieces = self._pieces.setdefault(work.partition, [_Piece(work)])
        place = next(number for number, piece in enumerate(pieces) if piece.work == work)
        struck = pieces[place : place + 1] = self._struck(pieces[place], why)
        self._note(work.partition)
        return [piece.work for piece in struck]

    def settle(self, work: Task, receipt: Receipt) -> Receipt | None:
        """The partition's receipt, once those of all its pieces are there."""
        pieces = self._pieces.get(work.partition)
        if pieces is None:
            return receipt
        next(piece for piece in pieces if piece.work == work).receipt = receipt
        found = [piece.receipt for piece in pieces if piece.receipt]
        return _merged(found) if len(found) == len(pieces) else None

    def clear(self, work: Task) -> None:
        """The partition is committed."""
        if self._pieces.pop(work.partition, None) and self._notes:
            with suppress(SynthError):
                self._notes.remove([_name(work)])

    def _struck(self, piece: _Piece, why: str) -> list[_Piece]:
        work, strikes = piece.work, piece.strikes + 1
        # Half of something that kills is suspect already: one death is enough. A single image gets a second chance.
        if strikes < (STRIKES if work.only is None or len(work.only) == 1 else 1):
            return [_Piece(work, strikes)]
        images = work.only if work.only is not None else self._images(work)
        if len(images) <= 1:
            return [_Piece(replace(work, only=images, poison=True, why=why))]
        middle = len(images) // 2
        halves = (images[:middle], work.is_first), (images[middle:], False)
        return [_Piece(replace(work, only=half, is_first=is_first)) for half, is_first in halves]

    def _note(self, partition: str) -> None:
        if self._notes:
            pieces = self._pieces[partition]
            self._notes.write(_name(pieces[0].work), json.dumps([_noted(piece) for piece in pieces]).encode())


def _name(work: Task) -> str:
    return f"{commit_name(work.partition, work.revision)}.json"


def _noted(piece: _Piece) -> dict[str, Any]:
    work = piece.work
    return {
        "only": work.only,
        "is_first": work.is_first,
        "poison": work.poison,
        "why": work.why,
        "strikes": piece.strikes,
    }


def _piece(work: Task, noted: dict[str, Any]) -> _Piece:
    only = None if noted["only"] is None else tuple(noted["only"])
    found = replace(work, only=only, is_first=noted["is_first"], poison=noted["poison"], why=noted["why"])
    return _Piece(found, noted["strikes"])


def _read(notes: Folder) -> dict[str, list[dict[str, Any]]]:
    return {
        name.removesuffix(".json"): json.loads(data) for name, data in notes.read_many(notes.names(".json")).items()
    }


def _merged(receipts: Sequence[Receipt]) -> Receipt:
    """One receipt for the pieces of a partition. Where one of them is not whole, neither is this: it covers nothing."""
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
