"""What a conversation is held with once more: an image with its stored rows, and an engine of stored replies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc
from PIL import Image

from synthgen.commands.browse.snapshot import Snapshot
from synthgen.config.prompt_pack import Prompts
from synthgen.engines import EngineInfo, Reply, Request
from synthgen.engines.protocol import ALL_CAPABILITIES
from synthgen.errors import Failure
from synthgen.stages.generate.answering import pair_of
from synthgen.stages.generate.asking import Assignment, PreparedImage, sampling_seed
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import ConversationContext
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.session import ImageSession
from synthgen.stages.generate.todo import assignment_of
from synthgen.tables import ASK, GENERATE, PLAN

PIXEL = Image.new("RGB", (1, 1))  # in place of the image, which no engine looks at here
FACTS = EngineInfo("stored", "", ALL_CAPABILITIES, None, "")

Row = Mapping[str, Any]


@dataclass
class StoredReplies:
    """An engine that gives stored replies, by purpose and seed, and keeps its calls; all other calls fail."""

    replies: Mapping[tuple[str, int | None], str]
    calls: list[tuple[Request, Reply]] = field(default_factory=list)
    facts: EngineInfo = FACTS

    async def generate(self, request: Request) -> Reply:
        """Return the stored reply."""
        text = self.replies.get((request.purpose, request.seed))
        reply = Reply.failed(Failure("call_failed", "not stored")) if text is None else Reply(text)
        self.calls.append((request, reply))
        return reply

    async def close(self) -> None:
        """Do nothing."""

    def request_of(self, reply: Reply | None) -> Request | None:
        """Return the request that a reply was given to."""
        return next((request for request, given in self.calls if given is reply), None)


@dataclass(frozen=True)
class Subject:
    """An image with the rows that its conversation consists of.

    Attributes:
        rows: Of PAIRS, by assignment, of all questions about the image.
        asked: Rows of PAIRS, or of QUESTIONS where another model asks, of the assignments of one call.
        planned: Rows of ASSIGNMENTS, by id.
    """

    prepared: PreparedImage
    rows: Mapping[str, Row]
    asked: Mapping[str, Row]
    planned: Mapping[str, Row]


def subject_of(snapshot: Snapshot, partition: str, row: Row, *, is_split: bool) -> Subject:
    """Return the image of a row with its conversation; a negative has the tags of the image that it was written for."""
    folder, image = snapshot.folder, row["image_id"]
    owners = _with(folder.table(PLAN, partition, "images"), "image_id", row["partner"] or image)
    own = [each for each in owners if each["same_as"] is None]
    tags = tuple(tag["path"] for tag in (own[0]["tags"] or ())) if own else ()
    rows = _by_id(_with(folder.table(GENERATE, partition, "pairs"), "image_id", image))
    planned = _by_id(_with(folder.table(PLAN, partition, "assignments"), "image_id", image))
    written = _by_id(_with(folder.table(ASK, partition, "questions"), "image_id", image) if is_split else [])
    asked = {
        name: written[name] if name in written and written[name]["outcome"] != "follow_up" else each
        for name, each in rows.items()
    }
    return Subject(PreparedImage(PIXEL, "", tags), rows, asked, planned)


def _with(rows: Any, column: str, value: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = rows.filter(pc.equal(rows.column(column), value)).to_pylist()
    return listed


def _by_id(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["assignment_id"]: row for row in rows}


def pair_in(prompts: Prompts, subject: Subject, row: Row) -> Pair:
    """Return the pair of a row as scores take it."""
    known = {each["pair_id"]: dict(each) for each in subject.rows.values() if each["pair_id"]}
    return pair_of(prompts, {**row, "answer": row["answer"] or ""}, known)


def session_of(engine: StoredReplies, context: ConversationContext) -> ImageSession:
    """Return the image in front of an engine."""
    return ImageSession(engine, context.prompts, context.sampling, context.seed, PIXEL, "")


def assignment_in(context: GenerateContext, subject: Subject, row: Row) -> Assignment:
    """Return the assignment of a row as its conversation took it."""
    thing = context.thing_of(subject.planned.get(row["assignment_id"], {}))
    return assignment_of(row, row["recipe"], thing, row["attempt"])


def seed_of(context: GenerateContext, subject: Subject, row: Row) -> int:
    """Return the seed of the calls of a row."""
    return sampling_seed(context.seed, assignment_in(context, subject, row))


def keyed_replies(context: GenerateContext, subject: Subject, purpose: str) -> dict[tuple[str, int | None], str]:
    """Return the stored replies to asking calls, each by the seed of every row that it is stored in."""
    rows = [row for row in subject.asked.values() if row["raw_question"] is not None]
    return {(purpose, seed_of(context, subject, row)): row["raw_question"] for row in rows}
