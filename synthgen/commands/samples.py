"""A few training samples as text, so that a run ends with something to look at.

Only the footers of the shards and a few rows are read. A run that ends with its tags shows the count of each tag.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import pyarrow.parquet as pq

from synthgen.console import pluralize
from synthgen.errors import listed
from synthgen.store import Folder, RunFolder
from synthgen.tables import PACK, SELECT, TAG, tags_table

SAMPLES = 3  # shown at most
NEIGHBOURS = 12  # rows of which the one with the most instruction types is shown
TAGS = 10  # shown of all
RARE = 5
TURNS = 5  # shown of a sample


def text(run: RunFolder) -> str:
    """Return some different samples and the place of the shards; "" if there are none.

    The samples are spread over the shards. Shards that are older than the decisions are only named.
    """
    log, files = run.log(PACK), [file.name for file in run.whole_shards()]
    if not files:
        return ""
    data = run.stage(PACK).folder.child("data")
    shards = f"{pluralize(len(files), 'shard')}: {data.url}/*.parquet"
    if run.log(SELECT).counts().get("kept", 0) != log.counts().get("turns", 0):
        return f"\npack has not run yet on these decisions; of earlier ones {shards}"
    lines = [line for name, start, end in _stretches(files, SAMPLES) for line in _sample(data, name, start, end)]
    return "\n".join([*lines, "", shards])


def tags(run: RunFolder, taggers: Iterable[str], leaves: Iterable[str]) -> str:
    """Return how many images have each tag, the most frequent first, and the leaves that no image has.

    Args:
        run: The output folder.
        taggers: The names of the taggers whose tags count.
        leaves: The leaves of the taxonomy.
    """
    images = _images_by_tag(run, taggers)
    ordered = sorted(images.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{'tag':<45} {'images':>9}", *(f"{path:<45} {count:>9,}" for path, count in ordered[:TAGS])]
    if others := ordered[TAGS:]:
        rarest = ", ".join(f"{path} {count:,}" for path, count in others[-RARE:])
        lines.append(f"… and {pluralize(len(others), 'tag')} more; the rarest: {rarest}")
    if absent := sorted(set(leaves) - images.keys()):
        lines.append(f"found in no image: {listed(absent, TAGS)}")
    return "\n".join(lines)


def _images_by_tag(run: RunFolder, taggers: Iterable[str]) -> Counter[str]:
    images, names = Counter[str](), list(taggers)
    for partition in run.log(TAG).partitions:
        paths: dict[str, set[str]] = {}
        for tagger in names:
            for row in run.table(TAG, partition, tags_table(tagger)).to_pylist():
                paths.setdefault(row["object_id"], set()).update(tag["path"] for tag in row["tags"])
        images.update(path for of_image in paths.values() for path in of_image)
    return images


def _stretches(files: Sequence[str], count: int) -> Iterator[tuple[str, Fraction, Fraction]]:
    """Yield `count` stretches as (file, start, end), where start and end are shares of the file's rows.

    They share no row, so no sample is shown twice; a stretch of a small shard may be empty.
    """
    for index in range(count):
        number, rest = divmod(index * len(files), count)
        yield files[number], Fraction(rest, count), Fraction(min(rest + len(files), count), count)


def _sample(folder: Folder, name: str, start: Fraction, end: Fraction) -> Iterator[str]:
    """Yield the lines of a sample from between two shares of a file's first rows; none if no row is there."""
    with folder.fs.open(folder.full(name)) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        columns = [column for column in parquet.schema_arrow.names if column != "images"]
        table = parquet.read_row_group(0, columns=columns, use_threads=False)  # see store/stage_folder.py
    first, stop = int(start * table.num_rows), int(end * table.num_rows)
    rows = table.slice(first, min(NEIGHBOURS, stop - first)).to_pylist()
    if not rows:
        return
    row = max(rows, key=lambda row: len(set(row["types"])))
    questions, answers = (_texts(row["messages"], role) for role in ("user", "assistant"))
    yield from ("", row["uris"][0])
    for turn, (question, answer) in enumerate(zip(questions[:TURNS], answers, strict=False)):
        yield f"  Q: {question}"
        facts = filter(None, (row["types"][turn], _scores(row, turn)))
        yield f"  A: {answer}   ({'; '.join(facts)})"
    if len(questions) > TURNS:
        yield f"  … and {len(questions) - TURNS} more"


def _scores(row: dict[str, Any], turn: int) -> str:
    scores = {name: values[turn] for name, values in row.items() if name.startswith("score_")}
    return ", ".join(
        f"{name.removeprefix('score_')} {value:.2f}" for name, value in scores.items() if value is not None
    )


def _texts(messages: list[dict[str, Any]], role: str) -> list[str]:
    return [
        part["text"].replace("\n", " ")
        for message in messages
        if message["role"] == role
        for part in message["content"]
        if part["type"] == "text"
    ]
