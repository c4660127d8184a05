"""Write what phase two teaches as shards, and the model that it starts from, for the recipe `nano` of `synth train`.

Each example is a row of its own, as it is asked later; those without a picture are rows of text alone, in a data set of
their own. `early` has the mixture of the first pictures, `late` that of the rest.

    python -m demo.lessons runs/lessons [--pictures 120000] [--role asker] [--tower runs/nano]
    synth train --recipe nano --model runs/lessons/start --out runs/tuned --data early=runs/lessons/early \\
      --data late=runs/lessons/late --data blind=runs/lessons/blind
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from demo.draw import draw
from demo.multitask_model import MultitaskVLM, init_from_vision
from demo.nano_vlm import export_vlm
from demo.tokenizer import load_tokenizer
from demo.training_examples import KEYS, ROLES, Example, sample_examples
from demo.training_mixture import DRAW_WEIGHTS, EARLY_PICTURES, KINDS
from demo.world import TRAIN_SEED, Scene, sample
from synthgen.stages.pack.schema import IMAGE, MESSAGES, with_features
from synthgen.tables import STRINGS

EXAMPLES = 20  # a picture, as many as phase two packs
PICTURES_A_FILE = 500
SCHEMA = with_features([("images", pa.list_(IMAGE)), ("messages", MESSAGES), ("types", STRINGS)])
Row = dict[str, Any]


def write_lessons(out: Path, pictures: int, role: str, seed: int = TRAIN_SEED + 1) -> None:
    """Write the examples about so many pictures, as the data sets `early`, `late` and `blind`."""
    early = min(EARLY_PICTURES, pictures // 2)
    for first in range(0, pictures, PICTURES_A_FILE):
        scenes = [sample(seed, index, kinds=KINDS) for index in range(first, min(pictures, first + PICTURES_A_FILE))]
        parts: dict[str, list[Row]] = {"early": [], "late": [], "blind": []}
        for scene in scenes:
            name = "early" if scene.index < early else "late"
            for example, row in rows_of(scene, role, is_early=name == "early"):
                parts["blind" if example.task == "blind" else name].append(row)
        for name, rows in parts.items():
            _write(out / name / f"{first:06d}.parquet", rows)


def rows_of(scene: Scene, role: str, *, is_early: bool) -> Iterator[tuple[Example, Row]]:
    """Yield the examples about a scene as rows in TRL's form."""
    file = io.BytesIO()
    draw(scene).save(file, "PNG")
    image = {"bytes": file.getvalue(), "path": None}
    weights = dict(zip(KEYS, DRAW_WEIGHTS, strict=True))
    examples = sample_examples(scene, scene.rng("lessons"), weights, ROLES[role][0 if is_early else 1])
    for example in islice(examples, EXAMPLES):
        images = [] if example.task == "blind" else [image]
        types = [example.key] * len(example.turns)
        yield example, {"images": images, "messages": _messages(example, bool(images)), "types": types}


def _messages(example: Example, has_image: bool) -> list[Row]:
    messages: list[Row] = []
    for prompt, reply in example.turns:
        shown = [{"type": "image", "text": None}] if has_image and not messages else []
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": prompt}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
    return messages


def _write(path: Path, rows: Sequence[Row]) -> None:
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path, row_group_size=1000)


def write_start(folder: Path, tokenizer: Path, tower: Path | None) -> None:
    """Write the model that learns, with the tower of phase one or with random weights.

    Args:
        folder: The folder of the model.
        tokenizer: The folder of the tokenizer, made on first use.
        tower: The checkpoint of phase one.
    """
    words = load_tokenizer(tokenizer)
    model = MultitaskVLM(words)
    if tower:
        init_from_vision(model, words, tower)
    export_vlm(model.vlm, words, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the lessons of phase two as shards, and the model they start.")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--pictures", type=int, default=120_000)
    parser.add_argument("--role", choices=ROLES, default="asker", help="what is learned; a judge asks nothing")
    parser.add_argument("--tower", type=Path, help="folder with what phase one left (vision.pt, tokenizer)")
    args = parser.parse_args()
    write_start(args.out / "start", (args.tower or args.out) / "tokenizer", args.tower and args.tower / "vision.pt")
    write_lessons(args.out, args.pictures, args.role)


if __name__ == "__main__":
    main()
