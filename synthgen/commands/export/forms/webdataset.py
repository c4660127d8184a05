"""WebDataset's tars: for each sample its images and a JSON file, under one key.

Every image is named `.jpg`, also a PNG or WebP, which readers tell by its first bytes: the datasets library takes its
columns from the first samples, and would drop the images of a suffix that it has not met there.
"""

import json
from collections.abc import Iterator

from synthgen.commands.export.form import Form, Part
from synthgen.commands.export.layouts import TarParts
from synthgen.commands.export.sample import Sample


def _members(sample: Sample, part: Part) -> Iterator[tuple[str, bytes]]:
    part.count("data")
    for number, picture in enumerate(sample.pictures):
        place = f".{number}" if len(sample.pictures) > 1 else ""
        yield f"{sample.id}{place}.jpg", picture.data
    about = {**sample.row, "images": [picture.name for picture in sample.pictures]}
    yield f"{sample.id}.json", json.dumps(about, ensure_ascii=False).encode()


WEBDATASET = Form(
    "webdataset",
    "tars of `KEY.jpg` and `KEY.json`, which has all columns of the shards",
    "the webdataset library, and what reads its tars",
    "The tars decide nothing about the loss; `messages` of the JSON file has the turns in TRL's form. Every image is "
    "named `.jpg`, whatever its format, so that readers find one column; `images` of the JSON file has its real "
    "name.\n\n"
    "```python\nimport webdataset\n\n"
    'data = webdataset.WebDataset("TARGET/train-{000000..LAST}.tar").decode("pil").to_tuple("jpg", "json")\n```',
    TarParts(_members),
    "inside",
)
