"""The calls that an evaluation makes, and the table of the replies: one row a call, stored before it is judged.

A question is asked with its image, of multiple choice under every rotation of the options, and once for each control:
without the image (`blind`), and with another image of its partition (`swapped`). A reply is asked once: what a folder
has is never asked again, but for calls that failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synthgen.commands.evaluate.question import Question
from synthgen.commands.evaluate.question_set import QuestionSet
from synthgen.commands.evaluate.wording import is_rotated, prompt_of
from synthgen.config.engine import EngineConfig
from synthgen.config.source import ImagesConfig
from synthgen.config.training import EvaluateConfig
from synthgen.engines import ModelName, Reply
from synthgen.engines.kinds import reply_options
from synthgen.ingest.images import DECODING
from synthgen.store import CommitLog, StageFolder
from synthgen.tables import StageSpec, make_id
from synthgen.tables.stages import Table
from synthgen.workers import Task

SEEN, BLIND, SWAPPED = VARIANTS = ("image", "blind", "swapped")
REPLIES = pa.schema(
    [
        *((name, pa.string()) for name in ("reply_id", "question_id", "image_id", "variant")),
        ("rotation", pa.int32()),
        *((name, pa.string()) for name in ("partner", "prompt", "reply", "finish", "reason", "detail")),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seconds", pa.float32()),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A question as it is asked once.

    Attributes:
        variant: One of VARIANTS.
        rotation: Of its options.
        partner: The id of the image that is shown in place of its own, if another is.
    """

    question: Question
    variant: str
    rotation: int = 0
    partner: str = ""

    @property
    def reply_id(self) -> str:
        """The id of its reply."""
        return make_id("reply", self.question.question_id, self.variant, str(self.rotation), self.partner)


@dataclass(frozen=True)
class Evaluation:
    """A model and the questions that it is asked; it is sent to the workers.

    Attributes:
        name: The model as it was typed.
        model: The exact model.
        seen: Images that are not asked about, as a model was tuned on them.
    """

    name: str
    model: ModelName
    engine: EngineConfig
    questions: QuestionSet
    images: ImagesConfig
    settings: EvaluateConfig
    seen: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """The hash of what shapes a reply beside the question, its variant and its rotation."""
        named = self.model.named
        shape = (
            *([named] if isinstance(named, str) else named),
            repr(sorted(reply_options(self.engine).items())),
            self.settings.wording,
            str(self.settings.max_tokens),
            str(self.images.model_pixels),
            DECODING,
        )
        return make_id("evaluation", *shape)

    @property
    def replies(self) -> StageFolder:
        """The folder of its replies, which other settings do not share."""
        name = "".join(letter if letter.isalnum() else "-" for letter in self.name.rstrip("/").rpartition("/")[2])
        spec = StageSpec(
            name="replies",
            folder=f"replies/{name[:60]}-{self.fingerprint[:8]}",
            unit="questions",
            module=__name__,
            tables=(Table("replies", REPLIES, "reply_id"),),
        )
        return StageFolder(self.questions.out, spec)

    def calls(self, questions: Sequence[Question]) -> Iterator[Call]:
        """Yield the calls for the questions of a partition, those about one image after each other."""
        partners = partners_of([question.image_id for question in questions], self.settings.seed)
        for question in sorted(questions, key=lambda question: question.image_id):
            if question.image_id in self.seen:
                continue
            rotations = len(question.options) if self.settings.rotations and is_rotated(question) else 1
            yield from (Call(question, SEEN, rotation) for rotation in range(rotations))
            for variant in self.settings.controls:
                partner = partners.get(question.image_id, "") if variant == SWAPPED else ""
                if variant == BLIND or partner:
                    yield Call(question, variant, 0, partner)

    def pending(self, task: Task) -> list[Call]:
        """Return the calls of a partition, or of a piece of it, that have no reply yet."""
        log = task.inputs[self.replies.spec.folder]
        known = self.replies.current(log, task.partition, "replies", ["reply_id", "reason"]).to_pylist()
        done = {row["reply_id"] for row in known if row["reason"] is None}
        calls = self.calls(self.questions.questions(task.partition))
        only = None if task.only is None else set(task.only)
        return [
            call for call in calls if call.reply_id not in done and (only is None or call.question.image_id in only)
        ]

    def tasks(self) -> Iterator[tuple[Task, int]]:
        """Yield the partitions in which calls are pending, each with their number."""
        log = self.replies.log()
        for partition in self.questions.log.partitions:
            inputs = {self.replies.spec.folder: log.only([partition])}
            task = Task(partition, log.next_revision(partition), inputs)
            if pending := self.pending(task):
                yield task, len(pending)

    def rows(self, partition: str, log: CommitLog) -> dict[str, Row]:
        """Return the replies of a partition by their ids."""
        rows = self.replies.current(log, partition, "replies").to_pylist()
        return {row["reply_id"]: row for row in rows}

    def prompt(self, call: Call) -> str:
        """Return the words of a call."""
        return prompt_of(call.question, self.settings.wording, call.rotation)


def partners_of(images: Sequence[str], seed: int) -> Mapping[str, str]:
    """Return for each image the one that is shown in its place: the next in an order that the seed draws."""
    order = sorted(set(images), key=lambda image: make_id("partner", str(seed), image))
    return dict(zip(order, [*order[1:], order[0]], strict=True)) if len(order) > 1 else {}


def reply_row(call: Call, prompt: str, reply: Reply) -> Row:
    """Return the row of a reply."""
    return {
        "reply_id": call.reply_id,
        "question_id": call.question.question_id,
        "image_id": call.question.image_id,
        "variant": call.variant,
        "rotation": call.rotation,
        "partner": call.partner or None,
        "prompt": prompt,
        "reply": reply.text,
        "finish": reply.finish,
        "reason": reply.failure,
        "detail": reply.detail,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
        "seconds": reply.seconds,
    }


def image_ids(evaluation: Evaluation, task: Task) -> tuple[str, ...]:
    """Return the images of the pending calls of a task, by which a pool cuts it in half."""
    return tuple(sorted({call.question.image_id for call in evaluation.pending(task)}))
