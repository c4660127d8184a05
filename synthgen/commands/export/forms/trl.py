"""Parquet with the columns that TRL's SFTTrainer takes, and no others that it could stumble over."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.layouts import ParquetParts
from synthgen.commands.export.sample import Sample
from synthgen.stages.pack.schema import IMAGE, MESSAGES, with_features


def images_of(sample: Sample) -> list[dict[str, Any]]:
    """Return the images as the datasets library stores them."""
    return [{"bytes": picture.data, "path": picture.name} for picture in sample.pictures]


def _schema(facts: Facts) -> pa.Schema:
    return with_features([("id", pa.string()), ("images", pa.list_(IMAGE)), ("messages", MESSAGES)])


def _rows(sample: Sample, part: Part) -> Iterator[dict[str, Any]]:
    part.count("data")
    yield {"id": sample.id, "images": images_of(sample), "messages": sample.row["messages"]}


TRL = Form(
    "trl",
    "Parquet with `images` and `messages`, images inside",
    "TRL's `SFTTrainer`, and whatever takes `messages` from the datasets library",
    "With its defaults TRL 1.16 also learns the questions and the placeholders of images, and cuts samples at 1,024 "
    "tokens. To train on the answers alone:\n\n"
    "```python\nSFTConfig(assistant_only_loss=True, max_length=None, …)\n```\n\n"
    "`assistant_only_loss` needs transformers 5.18 or later, and a chat template that marks the answers. TRL puts one "
    "in the place of the templates that it knows (Qwen2.5-VL, Qwen3-VL, Gemma 3, SmolVLM, LLaVA-NeXT and others, "
    "character for character); for others, as those of LLaVA-OneVision and InternVL, it refuses: give it a template "
    "with `{% generation %}` around the answers, or export with `--to trl-turns`.",
    ParquetParts("train", _schema, _rows),
    "inside",
    ignores_exif=False,
)
