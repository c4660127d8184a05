"""The JSON lines of ms-swift."""

import json
from collections.abc import Iterator

from synthgen.commands.export.form import Form, Part
from synthgen.commands.export.layouts import JSON_LINES, TextFiles
from synthgen.commands.export.sample import Sample

FILE = "data.jsonl"
MARKERS = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>")


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    part.count(FILE)
    messages = [{"role": role, "content": text} for role, text in sample.messages(MARKERS[0])]
    yield FILE, json.dumps({"id": sample.id, "messages": messages, "images": list(sample.paths)}, ensure_ascii=False)


MS_SWIFT = Form(
    "ms-swift",
    "JSON lines with `messages` and `images`, images beside them",
    "ms-swift",
    "It trains on the answers alone with its default `--loss_scale default`, and drops samples that are longer than "
    "`--max_length`. `ROOT_IMAGE_DIR` is where the paths start:\n\n"
    "```\nROOT_IMAGE_DIR=TARGET swift sft --dataset TARGET/data.jsonl …\n```",
    TextFiles(lambda facts: {FILE: JSON_LINES}, _rows),
    "beside",
    markers=MARKERS,
)
