"""What models have seen of purged images: of trainings and evaluations that left a note in the run (train/uses.py).

A model cannot unlearn an image. So the person is told from which step on it was seen, and which checkpoint is clean;
models that were tuned from such a model have seen it too.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from synthgen.commands.evaluate.question import questions_in
from synthgen.console import pluralize
from synthgen.errors import SynthError
from synthgen.store import Folder, RunFolder
from synthgen.train import uses
from synthgen.train.sightings import Sighting, sighting, trained
from synthgen.train.uses import Use


def model_lines(folder: RunFolder, images: Collection[str]) -> list[str]:
    """Return a line for each training and evaluation that used a run, and for each that builds on one of these."""
    known = set[Use]()
    return [line for use in uses.read(folder.out) for line in _lines_of(use, images, "", known)]


def _lines_of(use: Use, images: Collection[str], start: str, known: set[Use]) -> Iterator[str]:
    """Yield the lines of a use; `start` is the training that it starts from, if that has seen an image."""
    if use in known:
        return
    known.add(use)
    try:
        yield from _evaluation(use, images) if use.kind == "evaluation" else _training(use, images, start, known)
    except SynthError as error:
        yield f"{use.kind} {use.out}: cannot be read, so nobody can tell what it has seen ({error})"


def _training(use: Use, images: Collection[str], start: str, known: set[Use]) -> Iterator[str]:
    found = trained(Path(use.out))
    if found is None:
        yield f"training {use.out}: is gone, or was moved; what it had seen is not known"
        return
    seen = sighting(found, images)
    yield f"training {use.out}: {_text(seen, start)}"
    if (found.feed.folder / "rows").is_dir():
        yield f"training {use.out}: was killed, and {found.feed.folder}/rows holds copies of its shards; delete it"
    tainted = use.out if seen.times else start
    for later in uses.read(Folder(use.out)):
        if later.kind == "training" and tainted:
            yield from _lines_of(later, images, tainted, known)


def _text(seen: Sighting, start: str) -> str:
    of, total = seen.trained, seen.trained.settings.steps
    if start:
        own = f"has seen it from step {seen.step:,} on, and" if seen.times else "has not seen it itself, but"
        return f"{own} starts from {start}, which has; no checkpoint is clean"
    if seen.step is None:
        return f"has not seen it, and does not in its {total:,} steps"
    if not seen.times:
        return f"has not seen it in {of.steps:,} steps; it comes in step {seen.step:,} of {total:,}"
    first = f"has seen it {pluralize(seen.times, 'time')}, from step {seen.step:,} of {total:,} on"
    if seen.clean:
        return f"{first}; its checkpoint step-{seen.clean[-1]:07d} is clean"
    return f"{first}; no checkpoint is clean, only the model that it started from, {of.start}"


def _evaluation(use: Use, images: Collection[str]) -> Iterator[str]:
    out = Folder(use.out)
    log, asked = questions_in(out).log(), 0
    for partition in log.partitions:
        ids = questions_in(out).current(log, partition, "questions", ["image_id"]).column("image_id").to_pylist()
        asked += sum(image in images for image in ids)
    if asked:
        yield f"evaluation {use.out}: has {pluralize(asked, 'question')} on it, and a copy of it; delete the folder"
    else:
        yield f"evaluation {use.out}: has no question on it"
