"""Shards of true answers about drawn pictures, in the form in which a run packs its pairs."""

from __future__ import annotations

import io
import random
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from demo.draw import draw
from demo.ground_truth import pick, qa_pairs
from demo.training_examples import Turn, answer_turn
from demo.world import Scene, sample
from synthgen.stages.pack.schema import sample_schema

SENTENCES = 0.3  # share of the answers that are sentences, as in a run of the pipeline `demo`
SHARD_ROWS = 1000


def write_shards(folder: Path, seed: int, count: int, types: Collection[str], turns: int) -> None:
    """Write the scenes of a seed with true answers, unless they are there.

    Args:
        folder: Where the Parquet files go.
        seed: Of the scenes.
        count: How many of them.
        types: The instruction types of the questions.
        turns: Most of them to a picture.
    """
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    schema = sample_schema(())
    for first in range(0, count, SHARD_ROWS):
        scenes = [sample(seed, index) for index in range(first, min(count, first + SHARD_ROWS))]
        rows = [_row(scene, types, turns) for scene in scenes]
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
        pq.write_table(table, folder / f"train-{first // SHARD_ROWS:05}.parquet")
    (folder / "done").touch()


def _row(scene: Scene, types: Collection[str], turns: int) -> dict[str, Any]:
    rng = scene.rng("gold")
    asked = list(_turns(scene, types, turns, rng))
    buffer = io.BytesIO()
    draw(scene).save(buffer, "PNG")
    name = f"{scene.seed}-{scene.index}"
    return {
        "id": name,
        "images": [{"bytes": buffer.getvalue(), "path": None}],
        "messages": [message for number, (_, turn) in enumerate(asked) for message in _messages(turn, number == 0)],
        "pair_ids": [f"{name}-{number}" for number in range(len(asked))],
        "types": [type_ for type_, _ in asked],
    }


def _turns(scene: Scene, types: Collection[str], turns: int, rng: random.Random) -> Iterator[tuple[str, Turn]]:
    """Yield one question of each type that the scene supports, in random order, and its answer."""
    pairs = qa_pairs(scene, rng)
    supported = [type_ for type_ in dict.fromkeys(pair.type for pair in pairs) if type_ in types]
    for type_ in rng.sample(supported, min(turns, len(supported))):
        pair = pick([pair for pair in pairs if pair.type == type_], rng)
        yield type_, answer_turn(pair, rng, SENTENCES)


def _messages(turn: Turn, is_first: bool) -> Iterator[dict[str, Any]]:
    question, answer = turn
    image = [{"type": "image", "text": None}] if is_first else []
    yield {"role": "user", "content": [*image, {"type": "text", "text": question}]}
    yield {"role": "assistant", "content": [{"type": "text", "text": answer}]}
