"""The kept pairs of earlier runs, which come before all of this run (`select.against`); they are not decided anew."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.selection import SelectConfig
from synthgen.dedup import plain_texts
from synthgen.stages.select.duplicates import PairComparison
from synthgen.stages.select.judging import with_images, with_texts
from synthgen.stages.select.selection import Selection
from synthgen.store.earlier_runs import EarlierRun
from synthgen.tables import GENERATE, SELECT

COLUMNS = ["pair_id", "image_id", "follows", "form", "language", "question", "options", "answer"]  # of PAIRS


def start_comparison(selection: Selection, folder: Path) -> tuple[PairComparison, int]:
    """Return a comparison of all pairs, with those of earlier runs in it, and the number of the first of this run."""
    pairs = selection.folder.log(GENERATE).counts().get("pair", 0)
    pairs += sum(map(count_kept, selection.against))
    comparison = PairComparison(folder, selection.settings, pairs, selection.embedded())
    first = 0
    for number, run in enumerate(selection.against):
        for rows in kept_pairs(run, selection.settings):
            first = comparison.add(rows, number).stop
    return comparison, first


def count_kept(run: EarlierRun) -> int:
    """Return the number of pairs that an earlier run kept."""
    return run.folder.log(SELECT).counts().get("kept", 0)


def kept_pairs(run: EarlierRun, settings: SelectConfig) -> Iterator[pa.Table]:
    """Yield the kept pairs of an earlier run, partition by partition, with the columns that a comparison takes."""
    for name in run.folder.log(SELECT).partitions:
        decisions = run.folder.table(SELECT, name, "decisions", ["pair_id", "kept"])
        kept = decisions.column("pair_id").filter(decisions.column("kept")).combine_chunks()
        rows = run.folder.table(GENERATE, name, "pairs", [*COLUMNS, "assignment_id"]).select(COLUMNS)
        rows = rows.filter(pc.is_in(rows.column("pair_id"), kept)).combine_chunks()
        rows = rows.append_column("plain", plain_texts(rows.column("question")))
        judged = rows.select(["pair_id", "image_id", "follows"])
        for column in ("since", "score"):
            judged = judged.append_column(column, pa.array(np.zeros(rows.num_rows, np.float32)))
        is_compared = pa.array(np.ones(rows.num_rows, bool))
        judged = with_texts(judged, rows, settings, is_compared)
        has_images = settings.same_pair is not None
        yield with_images(judged, rows, run.folder, name, is_compared) if has_images else judged
