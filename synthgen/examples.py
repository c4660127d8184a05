"""A few training samples as text, so that a run ends with something to look at.

Comes in: an output folder. Goes out: lines with an image's uri, its questions, answers and scores, from samples spread over
the shards; of a few neighbours the one with the most instruction types. Reads the footer of the shards and a few rows.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from synthgen.store import Folder, Stage

NEIGHBOURS = 12
TURNS = 5  # that are shown of a sample


def text(out: Folder, count: int = 3) -> str:
    """Some samples and where the shards are; "" if there are none."""
    stage = Stage(out, "5-shards")
    log = stage.log()
    files = [file.name for name in log.partitions for part in log.parts(name, "data") for file in part.files if file.rows]
    if not files:
        return ""
    data = stage.folder.child("data")
    spread = [divmod(index * len(files), count) for index in range(count)]
    lines = [line for number, rest in spread for line in _sample(data, files[number], rest / count)]
    shards = "1 shard" if len(files) == 1 else f"{len(files)} shards"
    return "\n".join([*lines, "", f"{shards}: {data.full('*.parquet')}"])


def _sample(folder: Folder, name: str, place: float) -> Iterator[str]:
    """The sample at some share of a file's first rows."""
    with folder.fs.open(folder.full(name)) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        columns = [one for one in parquet.schema_arrow.names if one != "images"]
        rows = parquet.read_row_group(0, columns=columns, use_threads=False)  # see store/stage.py
    some = rows.slice(int(place * rows.num_rows), NEIGHBOURS).to_pylist()
    row = max(some, key=lambda one: len(set(one["types"])))
    yield from ("", row["uris"][0])
    questions, answers = (_texts(row["messages"], role) for role in ("user", "assistant"))
    scores = [one.removeprefix("score_") for one in columns if one.startswith("score_")]
    for turn, (question, answer) in enumerate(zip(questions[:TURNS], answers, strict=False)):
        told = ", ".join(f"{one} {row[f'score_{one}'][turn]:.2f}" for one in scores if row[f"score_{one}"][turn] is not None)
        yield f"  Q: {question}"
        yield f"  A: {answer}   ({row['types'][turn]}; {told})"
    if len(questions) > TURNS:
        yield f"  … and {len(questions) - TURNS} more"


def _texts(messages: list[dict[str, Any]], role: str) -> list[str]:
    return [
        part["text"].replace("\n", " ")
        for message in messages
        if message["role"] == role
        for part in message["content"]
        if part["type"] == "text"
    ]
