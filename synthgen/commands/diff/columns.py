"""The questions of a run as columns of numbers, so that those of millions can be compared in memory.

Ids and texts are 64 bits of a hash each: some 60 bytes a question, and 4 for each of its scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.report.branches import Branches
from synthgen.commands.report.outcomes import OUTCOMES, read_rows
from synthgen.commands.report.survey import partitions_of
from synthgen.stages.select.selection import scores_in
from synthgen.store import RunFolder
from synthgen.tables import GENERATE

NONE = "none"  # in place of a name that a row does not have

Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]
Values = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


@dataclass
class Names:
    """Names by number, in the order in which they were met."""

    known: dict[str, int] = field(default_factory=dict)

    def codes(self, column: pa.ChunkedArray) -> Codes:
        """Return the numbers of some names."""
        encoded = pc.fill_null(column, NONE).combine_chunks().dictionary_encode()
        numbers = [self.known.setdefault(name, len(self.known)) for name in encoded.dictionary.to_pylist()]
        return np.array(numbers, np.int32)[np.asarray(encoded.indices, dtype=np.int64)] if numbers else _empty(np.int32)

    @property
    def listed(self) -> list[str]:
        """The names by their number."""
        return list(self.known)


@dataclass(frozen=True)
class Columns:
    """The questions of a run, a row each.

    Attributes:
        assignment: Hash of its id; no two rows have one.
        pair: Hash of the id of its pair; 0 without one.
        question: Hash of the image and the question; 0 without a pair.
        answer: Hash of the answer.
        outcome: Index into OUTCOMES.
        type, why, partition: Numbers of names.
        row: In its partition.
        scores: Name → values, NaN where there is none.
        branches: How many images and questions each tag has.
    """

    assignment: Hashes
    pair: Hashes
    question: Hashes
    answer: Hashes
    outcome: Codes
    type: Codes
    why: Codes
    partition: Codes
    row: Codes
    scores: dict[str, Values]
    types: Sequence[str]
    whys: Sequence[str]
    partitions: Sequence[str]
    branches: Branches

    @property
    def is_kept(self) -> npt.NDArray[np.bool_]:
        """Which rows are kept pairs."""
        is_kept: npt.NDArray[np.bool_] = self.outcome == 0
        return is_kept

    @property
    def is_pair(self) -> npt.NDArray[np.bool_]:
        """Which rows are pairs."""
        is_pair: npt.NDArray[np.bool_] = self.pair != 0
        return is_pair


def read_columns(folder: RunFolder, progress: Callable[[int], None] = lambda partitions: None) -> Columns:
    """Return the questions of a run; `progress` is called after each partition."""
    types, whys, partitions, branches = Names(), Names(), partitions_of(folder), Branches()
    scores = scores_in(folder)
    parts: list[dict[str, Array]] = []
    for number, partition in enumerate(partitions):
        rows = read_rows(folder, partition)
        branches.add(folder, partition, rows)
        part = {**_texts(folder, partition, rows), "type": types.codes(rows.column("type"))}
        part |= {"why": whys.codes(rows.column("reason")), "row": np.arange(rows.num_rows, dtype=np.int32)}
        part |= {"partition": np.full(rows.num_rows, number, np.int32)}
        part |= {f"scores/{name}": _values(folder, partition, name, rows) for name in scores}
        parts.append(part)
        progress(1)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else _no_rows(scores)
    _, first = np.unique(whole["assignment"], return_index=True)  # an image may have moved to another partition
    whole = {name: column[first] for name, column in whole.items()}
    values = {name: whole.pop(f"scores/{name}") for name in scores}
    return Columns(
        **whole, scores=values, types=types.listed, whys=whys.listed, partitions=partitions, branches=branches
    )


def _texts(folder: RunFolder, partition: str, rows: pa.Table) -> dict[str, Array]:
    texts = folder.table(GENERATE, partition, "pairs", ["question", "answer"])
    question = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(texts.column("question"), "")))
    answer = pc.utf8_trim_whitespace(pc.fill_null(texts.column("answer"), ""))
    asked = pc.binary_join_element_wise(pc.fill_null(rows.column("image_id"), ""), question, "\n")
    is_pair = np.asarray(pc.is_valid(rows.column("pair_id")))
    codes = pc.index_in(rows.column("outcome"), pa.array(OUTCOMES))
    return {
        "assignment": _hashes(rows.column("assignment_id")),
        "pair": np.where(is_pair, _hashes(rows.column("pair_id")), np.uint64(0)),
        "question": np.where(is_pair, _hashes(asked), np.uint64(0)),
        "answer": _hashes(answer),
        "outcome": np.asarray(codes, dtype=np.int32),
    }


def _hashes(column: pa.ChunkedArray) -> Hashes:
    texts = np.asarray(pc.fill_null(column, "").to_pylist(), dtype=object)
    hashes: Hashes = pd.util.hash_array(texts, categorize=False) if len(texts) else _empty(np.uint64)
    return np.maximum(hashes, np.uint64(1))


def _values(folder: RunFolder, partition: str, name: str, rows: pa.Table) -> Values:
    scores = folder.scores(partition, name, ["pair_id", "value"])
    place = pc.index_in(rows.column("pair_id"), scores.column("pair_id").combine_chunks())
    return np.asarray(pc.fill_null(scores.column("value").take(place), float("nan")), dtype=np.float32)


def _empty(kind: type) -> Any:
    return np.empty(0, kind)


def _no_rows(scores: Sequence[str]) -> dict[str, Array]:
    hashes = {name: _empty(np.uint64) for name in ("assignment", "pair", "question", "answer")}
    codes = {name: _empty(np.int32) for name in ("outcome", "type", "why", "partition", "row")}
    return hashes | codes | {f"scores/{name}": _empty(np.float32) for name in scores}
