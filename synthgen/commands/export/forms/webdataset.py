"""WebDataset's tars: for each sample its images and a JSON file, under one key."""

import json
from collections.abc import Iterator

from synthgen.commands.export.form import Form, Part
from synthgen.commands.export.layouts import TarParts
from synthgen.commands.export.sample import Sample


def _members(sample: Sample, part: Part) -> Iterator[tuple[str, bytes]]:
    part.count("data")
    for number, picture in enumerate(sample.pictures):
        place = f".{number}" if len(sample.pictures) > 1 else ""
        yield f"{sample.id}{place}{picture.suffix}", picture.data
    yield f"{sample.id}.json", json.dumps(sample.row, ensure_ascii=False).encode()


WEBDATASET = Form(
    "webdataset",
    "tars of `KEY.jpg` (`.png`, `.webp`) and `KEY.json`, which has all columns of the shards",
    "the webdataset library, and what reads its tars",
    "The tars decide nothing about the loss; `messages` of the JSON file has the turns in TRL's form:\n\n"
    "```python\nimport webdataset\n\n"
    'data = webdataset.WebDataset("TARGET/train-{000000..LAST}.tar").decode("pil")\n'
    'sample["json"]["messages"]  # the image is sample["jpg"], sample["png"] or sample["webp"]\n```',
    TarParts(_members),
    "inside",
)
