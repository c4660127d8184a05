"""A question whose answer is known, and its row in the table of questions.

What a question asks for is its kind: `choice` (one option), `response` (all right options), `text`, `number`, or `fill`
(a blank). The answers of the first two are letters, in the order in which the options are given.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from synthgen.stages.pack.schema import IMAGE
from synthgen.store import Folder, StageFolder
from synthgen.tables import STRINGS, StageSpec
from synthgen.tables.stages import Table

LETTERS = "ABCDEFGH"  # that the reader of replies knows
CHOICE, RESPONSE, TEXT, NUMBER, FILL = KINDS = ("choice", "response", "text", "number", "fill")
WITH_OPTIONS = (CHOICE, RESPONSE)
NAMED = ("question_id", "image_id", "kind", "question", "prompt", "type", "form", "language", "source")
LISTED = ("options", "answers", "tags")

QUESTIONS = pa.schema([*((name, pa.string()) for name in NAMED), *((name, STRINGS) for name in LISTED)])
IMAGES = pa.schema([("image_id", pa.string()), ("image", IMAGE)])
# No stage of a run: a folder of the same form below that of an evaluation.
QUESTION_SPEC = StageSpec(
    name="questions",
    folder="questions",
    unit="images",
    module=__name__,
    tables=(Table("questions", QUESTIONS, "question_id"), Table("images", IMAGES, "image_id")),
)


@dataclass(frozen=True)
class Question:
    """A question whose answer is known.

    Attributes:
        image_id: The SHA-256 of its image; of a shard, that of the image before it was packed.
        kind: One of KINDS.
        answers: That are right, each alone; of multiple response all letters, which are right together.
        prompt: The user's words with options and all, where a training saw them so; empty where they are to be worded.
        type: The instruction type; empty where nobody said.
        form: The answer form of a shard; empty elsewhere.
        source: The row or turn that it comes from.
    """

    question_id: str
    image_id: str
    kind: str
    question: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    prompt: str = ""
    type: str = ""
    form: str = ""
    language: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """The row of QUESTIONS."""
        return asdict(self)

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Question":
        """Return the question of a row of QUESTIONS."""
        texts: dict[str, Any] = {name: row[name] or "" for name in NAMED}
        lists: dict[str, Any] = {name: tuple(row[name] or ()) for name in LISTED}
        return Question(**texts, **lists)


@dataclass(frozen=True)
class ImageQuestions:
    """An image as its file, and the questions about it."""

    image_id: str
    file: bytes
    questions: tuple[Question, ...]


def questions_in(out: Folder) -> StageFolder:
    """Return the folder of the questions of an evaluation."""
    return StageFolder(out, QUESTION_SPEC)
