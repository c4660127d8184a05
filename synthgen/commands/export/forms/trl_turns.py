"""Parquet with a row for each turn, as TRL's SFTTrainer takes prompts and completions.

TRL trains on completions alone by itself, whatever the chat template of the model.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.forms.trl import images_of
from synthgen.commands.export.layouts import ParquetParts
from synthgen.commands.export.sample import Sample
from synthgen.stages.pack.schema import IMAGE, MESSAGES, with_features


def _schema(facts: Facts) -> pa.Schema:
    names = ("prompt", "completion")
    return with_features([("id", pa.string()), ("images", pa.list_(IMAGE)), *((name, MESSAGES) for name in names)])


def _rows(sample: Sample, part: Part) -> Iterator[dict[str, Any]]:
    messages = sample.row["messages"]
    for number, turn in enumerate(sample.turns):
        part.count("data")
        yield {
            "id": turn.pair_id,
            "images": images_of(sample),
            "prompt": messages[: 2 * number + 1],
            "completion": messages[2 * number + 1 : 2 * number + 2],
        }


TRL_TURNS = Form(
    "trl-turns",
    "Parquet with `images`, `prompt` and `completion`, a row for each turn, images inside each",
    "TRL's `SFTTrainer`, with models whose chat template it does not know",
    "TRL trains on completions alone, whatever the template. It cuts at 1,024 tokens by default:\n\n"
    "```python\nSFTConfig(max_length=None, …)\n```\n\n"
    "The image is in every row of its sample, so the files are larger, and each step costs the image again.",
    ParquetParts("train", _schema, _rows),
    "inside",
    ignores_exif=False,
)
