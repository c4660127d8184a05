"""Who used a run, or a tuned model: a note in its folder by each training and evaluation, which `synth purge` follows.

A note is a file of `uses/`, named by what it names, so that another start writes the same one again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthgen.console import note
from synthgen.errors import SynthError, UserMistake
from synthgen.store import Folder
from synthgen.tables import make_id
from synthgen.train import dataset

if TYPE_CHECKING:
    from synthgen.train.loop import TrainingRun

FOLDER = "uses"
Kind = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Use:
    """A training or an evaluation, by the place of its output folder."""

    kind: Kind
    out: str


def register(used: Folder, kind: Kind, out: str) -> None:
    """Leave a note of a use in a folder; where that cannot be written, the person is told."""
    url = dataset.absolute_url(out)
    record = json.dumps({"kind": kind, "out": url}).encode()
    try:
        used.child(FOLDER).write(f"{make_id('use', kind, url)}.json", record)
    except SynthError as error:
        note(f"{used.url}: cannot be written ({error}), so a purge there will not know of this {kind}")


def register_training(run: "TrainingRun") -> None:
    """Leave a note of a training in the runs that it takes rows from, and in the training that it starts from."""
    for each in run.feed.taken:
        try:
            of_run = dataset.find(each.source).run
        except UserMistake:  # it was there when training started
            continue
        if of_run:
            register(of_run.out, "training", str(run.out))
    if start := training_of(run.folder):
        register(Folder(str(start)), "training", str(run.out))


def training_of(model: Path) -> Path | None:
    """Return the folder of the training that a model is of; None if there is no record of one beside it."""
    model = model.resolve()
    return next((path for path in (model.parent, model) if (path / "training.json").is_file()), None)


def read(used: Folder) -> list[Use]:
    """Return the notes in a folder."""
    found = used.child(FOLDER).read_every_json("delete it").values()
    return sorted((Use(each["kind"], each["out"]) for each in found), key=lambda use: (use.kind != "training", use.out))
