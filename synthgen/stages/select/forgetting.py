"""Embeddings of texts that no pair has any more are deleted: a purge leaves nothing that was made of an image."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup import plain_texts
from synthgen.dedup.greedy import Words
from synthgen.dedup.text_set import text_hashes
from synthgen.stages.select.embedded import FOLDER, forget_others
from synthgen.stages.select.judging import compared_text
from synthgen.store import RunFolder
from synthgen.tables import GENERATE

COLUMNS = ["question", "options", "answer"]  # of PAIRS


def forget_embeddings(folder: RunFolder) -> None:
    """Delete the embeddings of texts that no pair of a run has."""
    if folder.out.child(FOLDER).names(".parquet"):
        parts = [_hashes(folder, name) for name in folder.log(GENERATE).partitions]
        forget_others(folder.out, np.unique(np.concatenate([np.empty(0, np.uint64), *parts])))


def _hashes(folder: RunFolder, partition: str) -> Words:
    """Return the hashes of the texts of a partition as they are compared."""
    rows = folder.table(GENERATE, partition, "pairs", COLUMNS)
    rows = rows.filter(pc.is_valid(rows.column("question")))
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    questions = compared_text(rows).cast(pa.large_string()).to_pylist()
    answers = plain_texts(pc.fill_null(rows.column("answer"), "")).to_pylist()
    return np.concatenate([text_hashes(questions), text_hashes(answers)])
