"""LLaVA's JSON: one list of conversations, with a path for each image."""

import json
from collections.abc import Iterator
from typing import Any

from synthgen.commands.export.form import Form, Part
from synthgen.commands.export.layouts import JSON_LIST, TextFiles
from synthgen.commands.export.sample import Sample

FILE = "data.json"
MARKER = "<image>"
SPEAKERS = {"user": "human", "assistant": "gpt"}


def conversation(sample: Sample) -> list[dict[str, str]]:
    """Return the turns as LLaVA writes them, with a line for each image before the first question."""
    return [{"from": SPEAKERS[role], "value": text} for role, text in sample.messages(f"{MARKER}\n")]


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    image: Any = sample.paths[0] if len(sample.paths) == 1 else list(sample.paths)
    part.count(FILE)
    yield (
        FILE,
        json.dumps({"id": sample.id, "image": image, "conversations": conversation(sample)}, ensure_ascii=False),
    )


LLAVA = Form(
    "llava",
    "one JSON list of conversations (`human`, `gpt`), images beside it",
    "LLaVA, LLaVA-NeXT and what grew from them",
    "LLaVA trains on the answers alone. Give it the file and the folder, and a `model_max_length` that holds your "
    "longest sample, since it cuts the rest off:\n\n"
    "```\n--data_path TARGET/data.json --image_folder TARGET --model_max_length 4096\n```",
    TextFiles(lambda facts: {FILE: JSON_LIST}, _rows),
    "beside",
    markers=(MARKER,),
)
