"""Students: a weak model tuned on equally many pairs of each selection, and how many new questions it answers right."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from demo.evaluate import answer_calls, judge_replies, share
from demo.inference import NanoVLM
from demo.laboratory.gates import Mask
from demo.laboratory.rated import Rows
from demo.world import HELD_OUT_SEED, sample

INSTRUCTIONS = {"short": "Answer shortly.", "brief": "Answer in a sentence."}  # as prompts/drawn.yaml has them
SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ]
)


@dataclass(frozen=True)
class Lesson:
    """How a student is taught and asked.

    Attributes:
        model: Folder of the model that it starts from.
        pairs: Number of pairs that it learns from.
        steps: Of training, of `batch` samples each.
        scenes: Held-out scenes whose questions it is asked.
    """

    model: Path
    pairs: int
    steps: int
    scenes: int
    batch: int = 16
    learning_rate: float = 4e-4


def teach(rows: Rows, selected: Mask, lesson: Lesson, folder: Path, seed: int) -> float:
    """Return the share of held-out questions that a student answers right after learning from selected pairs.

    Args:
        rows: The pairs of the generator.
        selected: Which of them may be learnt from, (pairs,).
        lesson: How much is learnt.
        folder: Where the shard and the tuned model go.
        seed: Picks the pairs where more are selected than are learnt from.
    """
    places = np.flatnonzero(selected).tolist()
    if len(places) < lesson.pairs:
        raise ValueError(f"{folder.name}: {len(places)} pairs are selected, {lesson.pairs} are to be learnt")
    write_shard(rows, random.Random(seed).sample(places, lesson.pairs), folder / "shards" / "train.parquet")
    settings = {"what": "all", "steps": lesson.steps, "batch": lesson.batch, "learning_rate": lesson.learning_rate}
    options = [part for name, value in settings.items() for part in ("--set", f"train.{name}={value}")]
    command = ["train", str(folder / "shards"), "--model", str(lesson.model), "--pipeline", "demo"]
    subprocess.run(
        [sys.executable, "-m", "synthgen", *command, "--out", str(folder / "tuned"), *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return right_answers(folder / "tuned" / "model", lesson.scenes)


def right_answers(model: Path, scenes: int) -> float:
    """Return the share of questions about held-out scenes that a model answers right."""
    calls, questions = answer_calls([sample(HELD_OUT_SEED, index) for index in range(scenes)], 8)
    return share(judge_replies(calls, questions, NanoVLM(model).reply(calls)))


def write_shard(rows: Rows, places: Sequence[int], path: Path) -> None:
    """Write pairs as samples of one turn, in the form that the trainer reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [_sample(rows.pairs[place], rows.pictures[place]) for place in places]
    pq.write_table(pa.Table.from_pylist(samples, SCHEMA), path)


def _sample(pair: dict[str, Any], picture: Path) -> dict[str, Any]:
    turns = (("user", f"{pair['question']} {INSTRUCTIONS[pair['form']]}"), ("assistant", pair["answer"]))
    return {
        "images": [{"bytes": picture.read_bytes(), "path": picture.name}],
        "messages": [{"role": role, "content": text} for role, text in turns],
    }
