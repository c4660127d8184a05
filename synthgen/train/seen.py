"""What a training saw of each pair, as scores: tables of the form of `3-generated/scores`, beside the model.

`scores/student_loss.parquet` has the loss of each pair when it was seen last, `scores/student_learned.parquet` the step
from which on it stayed right (the opposite of forgetting events; Toneva et al., arXiv 1812.05159), and where samples
are scored with the finished model (`train.score_after`), `scores/student_loss_after.parquet` its loss then. Until the
end, what was seen is in `seen/`, a file for each checkpoint, so that a continued training has it whole. A million
answers take some 150 MB of memory at the end.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.store import Folder
from synthgen.tables import SCORES, table
from synthgen.train.turns import TurnLoss

FOLDER, TABLES = "seen", "scores"
LOSS, LEARNED, LOSS_AFTER = "student_loss", "student_learned", "student_loss_after"
NOT_RIGHT = "not_right"  # why a pair has no step from which on it stayed right
SEEN = pa.schema(
    [
        ("pair_id", pa.string()),
        ("type", pa.string()),
        ("step", pa.int32()),
        ("loss", pa.float64()),  # the sum over its tokens
        ("tokens", pa.int32()),
        ("is_right", pa.bool_()),
    ]
)


class Seen:
    """Gathers what the steps saw of each pair, and writes it with each checkpoint.

    Args:
        out: The output folder.
        steps: Those of the checkpoint that the training continues from; what was seen after it is removed.
        is_writing: Whether this process writes; the others see nothing.
    """

    def __init__(self, out: Path, steps: int, *, is_writing: bool) -> None:
        self._folder, self._is_writing = out / FOLDER, is_writing
        self._rows: list[dict[str, Any]] = []
        for path in _parts(out) if is_writing else ():
            if int(path.stem) > steps:
                path.unlink()

    def add(self, step: int, turns: Sequence[TurnLoss]) -> None:
        """Take in the answers of a step."""
        if self._is_writing:
            self._rows += _rows_of(step, turns)

    def write(self, step: int) -> None:
        """Write what was seen since the last checkpoint; call it before that of this step is written."""
        if self._rows:
            _write(self._folder, f"{step:07d}", pa.Table.from_pylist(self._rows, SEEN))
        self._rows = []


def write_scores(out: Path) -> None:
    """Write the scores of all pairs that were seen; nothing where the shards name none."""
    seen = read(out)
    if not seen.num_rows:
        return
    views = list(_views(seen))
    _write(out / TABLES, LOSS, table(map(_loss_row, views), SCORES))
    _write(out / TABLES, LEARNED, table(map(_learned_row, views), SCORES))


def write_after(out: Path, step: int, turns: Iterable[TurnLoss]) -> None:
    """Write the losses of the finished model."""
    rows = [
        _score_row(turn.turn.pair_id, turn.mean, _detail(turn.turn.type, step, turn.answer_tokens, turn.is_right))
        for turn in {turn.turn.pair_id: turn for turn in turns if turn.turn.pair_id}.values()
    ]
    if rows:
        _write(out / TABLES, LOSS_AFTER, table(rows, SCORES))


def read(out: Path) -> pa.Table:
    """Return all that was seen, in the order of the steps."""
    tables = [pq.read_table(path, schema=SEEN, use_threads=False) for path in _parts(out)]
    return pa.concat_tables(tables) if tables else SEEN.empty_table()


@dataclass(frozen=True)
class View:
    """A pair as a training saw it.

    Attributes:
        first: Its mean loss of a token when it was seen first.
        last: When it was seen last.
        step: Of the last time.
        learned: The step from which on it was right each time; None if it was wrong the last time.
    """

    pair_id: str
    type: str | None
    times: int
    first: float
    last: float
    step: int
    tokens: int
    learned: int | None


def _views(seen: pa.Table) -> Iterable[View]:
    """Yield the pairs in the order in which they were first seen."""
    pairs = seen.column("pair_id").combine_chunks().dictionary_encode()
    codes = pairs.indices.to_numpy()  # (answers,)
    order = np.argsort(codes, kind="stable")  # by pair, then by step
    steps, losses, tokens, is_right = (
        seen.column(name).to_numpy()[order] for name in ("step", "loss", "tokens", "is_right")
    )
    types = seen.column("type").take(pa.array(order)).to_pylist()
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    places = np.where(is_right, -1, np.arange(len(order)))
    last_wrong = np.maximum.reduceat(places, starts)  # (pairs,); -1 where it was always right
    for name, start, end, wrong in zip(pairs.dictionary.to_pylist(), starts, ends, last_wrong, strict=True):
        last, right_from = end - 1, max(start, wrong + 1)
        yield View(
            name,
            types[last],
            int(end - start),
            float(losses[start] / tokens[start]),
            float(losses[last] / tokens[last]),
            int(steps[last]),
            int(tokens[last]),
            int(steps[right_from]) if right_from < end else None,
        )


def _loss_row(view: View) -> dict[str, Any]:
    detail = _detail(view.type, view.step, view.tokens, view.learned is not None)
    return _score_row(view.pair_id, view.last, {**detail, "times": view.times, "first": view.first})


def _learned_row(view: View) -> dict[str, Any]:
    row = _score_row(view.pair_id, view.learned, {"type": view.type, "times": view.times})
    return row if view.learned is not None else {**row, "reason": NOT_RIGHT}


def _detail(path: str | None, step: int, tokens: int, is_right: bool) -> dict[str, Any]:
    return {"type": path, "step": step, "tokens": tokens, "right": is_right}


def _score_row(pair_id: str | None, value: float | None, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {"pair_id": pair_id, "value": value, "detail": json.dumps(detail)}


def _rows_of(step: int, turns: Sequence[TurnLoss]) -> Iterable[dict[str, Any]]:
    for turn in turns:
        if turn.turn.pair_id:
            yield {
                "pair_id": turn.turn.pair_id,
                "type": turn.turn.type,
                "step": step,
                "loss": turn.loss,
                "tokens": turn.answer_tokens,
                "is_right": turn.is_right,
            }


def _parts(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("*.parquet"))


def _write(folder: Path, name: str, rows: pa.Table) -> None:
    """Write a table whole or not at all."""
    folder.mkdir(exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    Folder(str(folder.resolve())).write(f"{name}.parquet", sink.getvalue().to_pybytes())
