"""ShareGPT's JSON with images: the conversations of LLaVA, and a list of paths."""

import json
from collections.abc import Iterator

from synthgen.commands.export.form import Form, Part
from synthgen.commands.export.forms.llava import MARKER, conversation
from synthgen.commands.export.layouts import JSON_LIST, TextFiles
from synthgen.commands.export.sample import Sample

FILE = "data.json"


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    part.count(FILE)
    row = {"id": sample.id, "conversations": conversation(sample), "images": list(sample.paths)}
    yield FILE, json.dumps(row, ensure_ascii=False)


SHAREGPT = Form(
    "sharegpt",
    "one JSON list of conversations (`human`, `gpt`) with a list of images, which stand beside it",
    "many trainers, under the name ShareGPT or sharegpt",
    "Whether a trainer leaves questions out of the loss is its own setting; look for `train_on_inputs`, "
    "`train_on_prompt` or `assistant_only_loss`. Paths are relative to the folder.",
    TextFiles(lambda facts: {FILE: JSON_LIST}, _rows),
    "beside",
    markers=(MARKER,),
)
