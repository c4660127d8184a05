"""What a form of export is, and the part of an export that it writes at once.

A part holds the samples of one shard of the run. Its record is written last, so a part without one is written again
from the start: nothing that a killed export left half done is taken for whole.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol

from synthgen.commands.export.sample import Sample, Turn
from synthgen.store import Folder

# Why a sample or a turn is left out, and what that means.
REASONS = {
    "marker": "a text holds what the reader takes for an image",
    "missing_value": "pandas, which reads the file, takes a text of it for a missing value",
    "follow_up": "it goes on from another question, and a row has one",
    "replaced": "the run has another answer by now, and has not packed it yet",
    "several_images": "it is about a set of images, and a row has one",
    "sentences": "its answer is in sentences, which no exact match can grade",
}


@dataclass(frozen=True)
class Facts:
    """What a form may know of the whole export.

    Attributes:
        name: Of the data set, as programs take it: letters, digits and underscores.
        scores: The names of the scores in the shards.
        parts: The number of parts.
        place: The folder of the export, as programs on this machine or the store's clients take it.
    """

    name: str
    scores: tuple[str, ...]
    parts: int
    place: str


@dataclass
class Part:
    """A part while it is written.

    Attributes:
        number: From 0.
        rows: The rows of each file so far, those of earlier parts included.
        pairs: The records of the pairs by id, for forms that ask for them.
        files: The files that it made → their bytes.
        left_out: The id of a sample or pair, and why it is in no file.
    """

    target: Folder
    facts: Facts
    number: int
    rows: Counter[str]
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def count(self, file: str) -> int:
        """Count a row of a file, and return its number in the whole export, from 1."""
        self.rows[file] += 1
        return self.rows[file]

    def leave_out(self, name: str, reason: str) -> None:
        """Record that a sample or pair cannot be written in this form."""
        self.left_out.append((name, reason))

    def single_question(self, turn: Turn, sample: Sample) -> Mapping[str, Any] | None:
        """Return the record of a turn that can stand alone in a row with one image.

        It is None, with a reason on record, if it cannot.
        """
        if len(sample.pictures) > 1:
            self.leave_out(turn.pair_id, "several_images")
            return None
        pair = self.pairs.get(turn.pair_id)
        if pair is None or pair["follows"]:
            self.leave_out(turn.pair_id, "replaced" if pair is None else "follow_up")
            return None
        return pair

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a file of the export to write to; it is there when the block ends."""
        with self.target.stream(name) as sink:
            yield sink
            self.files[name] = sink.tell()


class Layout(Protocol):
    """How the rows of a form become files."""

    def write(self, part: Part, samples: Iterable[Sample]) -> None:
        """Write the samples of a part."""

    def finish(self, target: Folder, facts: Facts) -> None:
        """Write what only the whole has, once every part is there; it may be called again after a kill."""


def _no_files(facts: Facts) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Form:
    """A form of export.

    Attributes:
        name: As `--to` takes it.
        about: What is written, in a few words.
        reader: The programs that read it.
        settings: How these train on the answers alone, or evaluate, as Markdown; `NAME` stands for the name of the data
            set, `TARGET` for its folder and `LAST` for the number of its last part.
        layout: How rows become files.
        images: `beside` is files of their own, `inside` is in the files of the layout.
        ignores_exif: The reader does not turn images, so those that are stored turned are encoded again.
        needs_pairs: Its rows need the questions without their wording, and the options.
        markers: Texts that the reader takes for an image or the like. A sample with one of them is left out.
        others: Returns the other files, as path → text, which the reader is told of the data by.
    """

    name: str
    about: str
    reader: str
    settings: str
    layout: Layout
    images: Literal["beside", "inside"]
    ignores_exif: bool = True
    needs_pairs: bool = False
    markers: tuple[str, ...] = ()
    others: Callable[[Facts], Mapping[str, str]] = _no_files
