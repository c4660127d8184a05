"""Parquet in the columns of FineVision, which nanoVLM trains on.

FineVision's ratings of turns are not written: the scores of a run have other prompts and ranges, and nanoVLM takes a
turn without ratings as it is.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.forms.trl import images_of
from synthgen.commands.export.layouts import ParquetParts
from synthgen.commands.export.sample import Sample
from synthgen.stages.pack.schema import IMAGE, with_features

TEXTS = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))


def _schema(facts: Facts) -> pa.Schema:
    return with_features([("id", pa.string()), ("images", pa.list_(IMAGE)), ("texts", TEXTS), ("source", pa.string())])


def _rows(sample: Sample, part: Part) -> Iterator[dict[str, Any]]:
    part.count("data")
    texts = [{"user": turn.question, "assistant": turn.answer} for turn in sample.turns]
    yield {"id": sample.id, "images": images_of(sample), "texts": texts, "source": part.facts.name}


FINEVISION = Form(
    "finevision",
    "Parquet with `images`, `texts` (`user`, `assistant`) and `source`, images inside",
    "nanoVLM, and what trains on FineVision",
    "nanoVLM trains on the answers alone, and takes turns without ratings as they are. It sets the first `val_size` "
    "samples apart, 50,000 by default, which must be fewer than there are. In its `TrainConfig`:\n\n"
    '```python\ntrain_dataset_path: str = "TARGET"\ntrain_dataset_name: tuple[str, ...] = ("default",)\n```',
    ParquetParts("train", _schema, _rows),
    "inside",
    ignores_exif=False,
)
