"""Questions as rows: the first of two passes, in which one model asks what another will answer.

The rows say everything that the second pass needs of the asking calls, so that the first is not needed any more when
the second runs. Questions that go on from a pair are left to the second pass, which has the pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthgen.config.replies import Question
from synthgen.engines import Reply
from synthgen.errors import Failure
from synthgen.stages.generate.asking import AskedBy, AskedQuestion, Assignment, tokens_of

Row = dict[str, Any]
ASSIGNED = (
    "assignment_id",
    "image_id",
    "object_id",
    "type",
    "form",
    "language",
    "ordinal",
    "partner",
    "recipe",
    "attempt",
)


def question_row(asked: AskedQuestion) -> Row:
    """Return the row of QUESTIONS of an assignment; its model is added when the rows are written."""
    question, failure, reply = asked.question, asked.failure, asked.reply
    return {
        **{name: getattr(asked.assignment, name) for name in ASSIGNED},
        "outcome": "failed" if failure else "asked",
        "reason": failure.reason if failure else None,
        "detail": (failure.detail or None) if failure else None,
        "question": question.text if question else None,
        "options": list(question.options) if question and question.options else None,
        "key": asked.key,
        "evidence": (question.evidence or None) if question else None,
        "raw_question": reply.text if reply else None,
        **tokens_of(asked),
    }


def follow_up_row(assignment: Assignment) -> Row:
    """Return the row of an assignment whose question is asked in the second pass."""
    return {**question_row(AskedQuestion(assignment, None)), "outcome": "follow_up"}


def read_question(row: Mapping[str, Any], assignment: Assignment) -> AskedQuestion:
    """Return a row of QUESTIONS as the second pass takes it, for an assignment with the recipe of its pair."""
    tokens = {name: row[name] for name in ("prompt_tokens", "cached_tokens", "output_tokens", "seconds")}
    question = Question(row["question"], tuple(row["options"] or ()), evidence=row["evidence"] or "")
    return AskedQuestion(
        assignment,
        None if row["raw_question"] is None else Reply(row["raw_question"], **tokens),
        None if row["question"] is None else question,
        Failure(row["reason"], row["detail"] or "") if row["outcome"] == "failed" else None,
        key=row["key"],
        by=AskedBy(row["model"], row["revision"], row["attempt"]),
    )


def read_questions(rows: Iterable[Mapping[str, Any]], assignments: Sequence[Assignment]) -> dict[str, AskedQuestion]:
    """Return the questions of these assignments by their id, without those that are asked in the second pass."""
    known = {assignment.assignment_id: assignment for assignment in assignments}
    return {
        row["assignment_id"]: read_question(row, known[row["assignment_id"]])
        for row in rows
        if row["assignment_id"] in known and row["outcome"] != "follow_up"
    }
