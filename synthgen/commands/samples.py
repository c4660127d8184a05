"""A few training samples as text, so that a run ends with something to look at.

Comes in: an output folder. Goes out: lines with an image's uri, its questions, answers and scores, from samples spread over
the shards; of a few neighbours the one with the most instruction types. Reads the footer of the shards and a few rows. Shards that
are older than the decisions are only named. Where a run ends with its tags, these are counted instead.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import pyarrow.parquet as pq

from synthgen.console import pluralize
from synthgen.store import Folder, Stage
from synthgen.tables import OBJECT_TAGS, tags_table

NEIGHBOURS = 12
TAGS = 10  # that are shown of all
RARE = 5
TURNS = 5  # that are shown of a sample


def text(out: Folder, count: int = 3) -> str:
    """Up to `count` samples, each once, and where the shards are; "" if there are none."""
    stage = Stage(out, "5-shards")
    log = stage.log()
    files = [
        file.name for name in log.partitions for part in log.parts(name, "data") for file in part.files if file.rows
    ]
    if not files:
        return ""
    data = stage.folder.child("data")
    shards = f"{pluralize(len(files), 'shard')}: {data.url}/*.parquet"
    if Stage(out, "4-selected").log().counts().get("kept", 0) != log.counts().get("turns", 0):
        return f"\npack has not run yet on these decisions; of earlier ones {shards}"
    # Stretches that share no row, so that no sample is shown twice; of a small shard some are empty.
    spread = [divmod(index * len(files), count) for index in range(count)]
    stretches = [
        (number, Fraction(rest, count), Fraction(min(rest + len(files), count), count)) for number, rest in spread
    ]
    lines = [line for number, start, end in stretches for line in _sample(data, files[number], start, end)]
    return "\n".join([*lines, "", shards])


def tags(out: Folder, taggers: Iterable[str], leaves: Iterable[str]) -> str:
    """How many images have each tag, the most frequent first; and which leaves of the taxonomy no image has."""
    stage, images = Stage(out, "1-tagged"), Counter[str]()
    log = stage.log()
    for partition in log.partitions:
        found: dict[str, set[str]] = {}
        for tagger in taggers:
            for row in stage.current(log, partition, tags_table(tagger), "object_id", OBJECT_TAGS).to_pylist():
                found.setdefault(row["object_id"], set()).update(tag["path"] for tag in row["tags"])
        images.update(path for paths in found.values() for path in paths)
    absent = sorted(set(leaves) - images.keys())
    ordered = sorted(images.items(), key=lambda one: (-one[1], one[0]))
    lines = [f"{'tag':<45} {'images':>9}", *(f"{path:<45} {count:>9,}" for path, count in ordered[:TAGS])]
    if rest := ordered[TAGS:]:
        lines.append(
            f"… and {pluralize(len(rest), 'tag')} more; the rarest: "
            + ", ".join(f"{path} {count:,}" for path, count in rest[-RARE:])
        )
    if absent:
        more = f" and {len(absent) - TAGS} more" if len(absent) > TAGS else ""
        lines.append(f"found in no image: {', '.join(absent[:TAGS])}{more}")
    return "\n".join(lines)


def _sample(folder: Folder, name: str, start: Fraction, end: Fraction) -> Iterator[str]:
    """A sample from between two shares of a file's first rows; nothing if no row is there."""
    with folder.fs.open(folder.full(name)) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        columns = [one for one in parquet.schema_arrow.names if one != "images"]
        rows = parquet.read_row_group(0, columns=columns, use_threads=False)  # see store/commits.py
    first, behind = int(start * rows.num_rows), int(end * rows.num_rows)
    some = rows.slice(first, min(NEIGHBOURS, behind - first)).to_pylist()
    if not some:
        return
    row = max(some, key=lambda one: len(set(one["types"])))
    yield from ("", row["uris"][0])
    questions, answers = (_texts(row["messages"], role) for role in ("user", "assistant"))
    scores = [one.removeprefix("score_") for one in columns if one.startswith("score_")]
    for turn, (question, answer) in enumerate(zip(questions[:TURNS], answers, strict=False)):
        told = ", ".join(
            f"{one} {row[f'score_{one}'][turn]:.2f}" for one in scores if row[f"score_{one}"][turn] is not None
        )
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
