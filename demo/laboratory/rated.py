"""The pairs of a run with everything that was measured of them, and with what the oracle says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo.laboratory.gates import Pairs, Values
from demo.oracle import judge
from demo.world import Scene
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE, PLAN, StageSpec


@dataclass(frozen=True)
class Rows:
    """The pairs of a run, each with its scene and where its picture comes from."""

    pairs: list[dict[str, Any]]
    seeds: list[int]
    scenes: list[Scene]
    pictures: list[Path]


def rows_of(run: RunFolder, spec: StageSpec, table: str) -> Iterator[dict[str, Any]]:
    """Yield the current rows of a table."""
    for partition in run.log(spec).partitions:
        yield from run.table(spec, partition, table).to_pylist()


def read_pairs(out: Path, scenes: Mapping[Path, tuple[int, Scene]]) -> Rows:
    """Return the pairs of a run by their ids.

    Args:
        out: The output folder.
        scenes: Picture → its seed and its scene.
    """
    run = RunFolder(Folder(str(out)))
    pictures = {row["object_id"]: Path(row["uri"].removeprefix("file://")) for row in rows_of(run, PLAN, "images")}
    pairs = [row for row in rows_of(run, GENERATE, "pairs") if row["outcome"] == "pair"]
    pairs.sort(key=lambda row: str(row["pair_id"]))
    at = [pictures[row["object_id"]].resolve() for row in pairs]
    return Rows(pairs, [scenes[path][0] for path in at], [scenes[path][1] for path in at], at)


def rate(out: Path, rows: Rows, scores: Sequence[str]) -> Pairs:
    """Return the truth of pairs and the named scores of a run, those of no pass as of `self`."""
    run = RunFolder(Folder(str(out)))
    place = {row["pair_id"]: number for number, row in enumerate(rows.pairs)}
    values, calls, tokens = {}, {}, {}
    for score in scores:
        gate = score if "." in score else f"self.{score}"
        values[gate], (calls[gate], tokens[gate]) = _column(run, score, place)
    verdicts = [
        judge(scene, row["question"], row["answer"]).value == "true"
        for row, scene in zip(rows.pairs, rows.scenes, strict=True)
    ]
    return Pairs(np.array(rows.seeds), np.array(verdicts), values, calls, tokens)


def _column(run: RunFolder, score: str, place: Mapping[str, int]) -> tuple[Values, tuple[float, float]]:
    """Return the values of a score in the order of the pairs, and the engine calls and new tokens a pair."""
    column, calls, tokens = np.full(len(place), np.nan), 0, 0
    for partition in run.log(GENERATE).partitions:
        for row in run.scores(partition, score).to_pylist():
            if row["pair_id"] not in place:
                continue
            if row["value"] is not None:
                column[place[row["pair_id"]]] = row["value"]
            calls += row["calls"] or 0
            tokens += (row["prompt_tokens"] or 0) - (row["cached_tokens"] or 0) + (row["output_tokens"] or 0)
    return column, (calls / len(place), tokens / len(place))
