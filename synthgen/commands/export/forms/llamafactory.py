"""The JSON lines of LLaMA-Factory, and the `dataset_info.json` that it finds them by."""

import json
from collections.abc import Iterator, Mapping

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.layouts import JSON_LINES, TextFiles
from synthgen.commands.export.sample import Sample

FILE = "data.jsonl"
MARKERS = ("<image>", "<video>", "<audio>")  # it counts each of them against the files of a sample
# It takes a column or a tag that is not named here for absent, so all that are used are named.
DESCRIPTION = {
    "file_name": FILE,
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    part.count(FILE)
    messages = [{"role": role, "content": text} for role, text in sample.messages(MARKERS[0])]
    yield FILE, json.dumps({"id": sample.id, "messages": messages, "images": list(sample.paths)}, ensure_ascii=False)


def _others(facts: Facts) -> Mapping[str, str]:
    return {"dataset_info.json": json.dumps({facts.name: DESCRIPTION}, indent=2) + "\n"}


LLAMAFACTORY = Form(
    "llamafactory",
    "JSON lines with `messages` and `images`, `dataset_info.json`, images beside them",
    "LLaMA-Factory",
    "It trains on the answers alone unless `train_on_prompt` is set, and on those of every turn unless `mask_history` "
    "is. `cutoff_len` is 2,048 by default and cuts longer samples:\n\n"
    "```\nllamafactory-cli train --stage sft --dataset NAME --dataset_dir TARGET --media_dir TARGET --cutoff_len 8192 "
    "…\n```",
    TextFiles(lambda facts: {FILE: JSON_LINES}, _rows),
    "beside",
    markers=MARKERS,
    others=_others,
)
