"""What became of each question: its replies, judged, and put together.

Multiple choice that was asked under every rotation is right if all its replies are (ShiftCheck); any other question has
one reply with its image. A question of which a call failed is neither right nor wrong until that call is made again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synthgen.commands.evaluate.judging import Judgement, judge
from synthgen.commands.evaluate.question import Question
from synthgen.commands.evaluate.replies import REPLIES, SEEN, Call, Evaluation, Row
from synthgen.commands.evaluate.wording import options_at, right_at
from synthgen.tables import STRINGS

RESULTS = pa.schema(
    [
        ("model", pa.string()),
        ("revision", pa.string()),
        *REPLIES,
        *((name, pa.string()) for name in ("kind", "type", "form", "language", "question")),
        ("options", STRINGS),  # in the order in which they were asked
        ("answers", STRINGS),  # that are right, in that order
        ("tags", STRINGS),
        ("parsed", pa.string()),
        ("right", pa.bool_()),
        ("exact", pa.bool_()),
        ("relaxed", pa.float32()),
        ("overlap", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Item:
    """A question, and what a model made of it.

    Attributes:
        right: Under all rotations; None if a call failed or is not made yet.
        plain: In the order in which the options are given.
        relaxed: As in Judgement, of that order.
        overlap: As in Judgement.
        controls: Variant → whether its reply is right.
        said: The letter of each rotation of multiple choice that was rotated; empty for anything else.
        replies: That came, with the image.
        unparsed: Of those, the ones that could not be read.
    """

    question: Question
    right: bool | None
    plain: bool | None
    relaxed: float | None
    overlap: float | None
    controls: Mapping[str, bool]
    said: tuple[str | None, ...]
    replies: int
    unparsed: int


def judged(evaluation: Evaluation) -> Iterator[tuple[list[Row], list[Item]]]:
    """Yield the rows of RESULTS and the items of a model, partition by partition."""
    log = evaluation.replies.log()
    for partition in evaluation.questions.log.partitions:
        replies = evaluation.rows(partition, log)
        calls: dict[str, list[tuple[Call, Row | None, Judgement | None]]] = {}
        rows = list[Row]()
        for call in evaluation.calls(evaluation.questions.questions(partition)):
            row = replies.get(call.reply_id)
            judgement = _judge(evaluation, call, row) if row else None
            calls.setdefault(call.question.question_id, []).append((call, row, judgement))
            if row:
                rows.append(_result(evaluation, call, row, judgement))
        yield rows, [_item(of_question) for of_question in calls.values()]


def _judge(evaluation: Evaluation, call: Call, row: Row) -> Judgement | None:
    """Return the judgement on a reply; None if the call failed."""
    if row["reason"]:
        return None
    is_cut_off = row["finish"] == "length"
    return judge(call.question, call.rotation, row["reply"] or "", is_cut_off, evaluation.settings.tolerance)


def _item(calls: list[tuple[Call, Row | None, Judgement | None]]) -> Item:
    question = calls[0][0].question
    seen = [judgement for call, _, judgement in calls if call.variant == SEEN]
    known = [judgement for judgement in seen if judgement]
    others = {call.variant: judgement.right for call, _, judgement in calls if judgement and call.variant != SEEN}
    return Item(
        question=question,
        right=all(judgement.right for judgement in known) if len(known) == len(seen) else None,
        plain=seen[0].right if seen[0] else None,
        relaxed=seen[0].relaxed if seen[0] else None,
        overlap=seen[0].overlap if seen[0] else None,
        controls=others,
        said=tuple(judgement.parsed for judgement in known) if 1 < len(known) == len(seen) else (),
        replies=len(known),
        unparsed=sum(judgement.parsed is None for judgement in known),
    )


def _result(evaluation: Evaluation, call: Call, row: Row, judgement: Judgement | None) -> dict[str, Any]:
    question = call.question
    said = vars(judgement) if judgement else dict.fromkeys(("parsed", "right", "exact", "relaxed", "overlap"))
    return {
        "model": evaluation.name,
        "revision": evaluation.model.revision,
        **row,
        **{name: getattr(question, name) or None for name in ("kind", "type", "form", "language", "question")},
        "options": list(options_at(question, call.rotation)) or None,
        "answers": list(right_at(question, call.rotation)),
        "tags": list(question.tags),
        **said,
    }
