"""The conversation about one image: its questions, its answers and their scores, as calls to one engine.

The calls of an image go to one engine close together and the image stands first in each, so that the engine encodes and
prefills it once. Questions of one type are asked for in one call, which keeps them distinct. All asking calls come
before the answers, so that which of two equal questions counts does not depend on timing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import Prompts
from synthgen.config.replies import Question
from synthgen.engines import Engine, Reply, Request, add_tokens
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.asking import (
    AskedQuestion,
    Assignment,
    PreparedImage,
    ask_all,
    fail_repeats,
    sampling_seed,
)
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.session import ImageSession, answer_text, failure_of
from synthgen.tables import pair_id

__all__ = [
    "Assignment",
    "ConversationContext",
    "Outcome",
    "PreparedImage",
    "converse",
    "failed_rows",
    "score_again",
]

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The rows that one image adds."""

    pairs: list[Row] = field(default_factory=list)
    scores: Mapping[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversationContext:
    """The settings that all conversations of a run share."""

    prompts: Prompts
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int


async def converse(
    subject: PreparedImage, assignments: Sequence[Assignment], engine: Engine, context: ConversationContext
) -> Outcome:
    """Ask, answer and score the assignments of one image.

    Returns:
        One pairs row per assignment, and one row per score of each assignment that became a pair.

    Raises:
        EngineDied: The engine can serve no further call. A call that fails costs one row and raises nothing.
    """
    session = _open_session(subject, engine, context)
    asked = await ask_all(session, subject, assignments)
    answered = await asyncio.gather(*(_answer(session, question, context.scores) for question in fail_repeats(asked)))
    scores: dict[str, list[Row]] = {name: [] for name in context.scores}
    for _, score_rows in answered:
        for name, row in score_rows.items():
            scores[name].append(row)
    return Outcome([row for row, _ in answered], scores)


async def score_again(
    subject: PreparedImage, unscored: Sequence[tuple[Row, list[str]]], engine: Engine, context: ConversationContext
) -> Outcome:
    """Measure missing scores of pairs made earlier; the pairs stay as they are.

    Args:
        subject: The pairs' image.
        unscored: Pairs rows, each with the names of the scores to measure.
        engine: The engine that the scores ask.
        context: The settings of the run.
    """
    session = _open_session(subject, engine, context)
    wanted = [(row, name) for row, names in unscored for name in names]
    rows = await asyncio.gather(*(_score_row(session, row, name) for row, name in wanted))
    scores: dict[str, list[Row]] = {}
    for (_, name), row in zip(wanted, rows, strict=True):
        scores.setdefault(name, []).append(row)
    return Outcome([], scores)


def failed_rows(assignments: Sequence[Assignment], failure: Failure) -> list[Row]:
    """Return the rows of assignments whose image never reached the engine, or killed it."""
    return [_row(AskedQuestion(assignment, Reply(""), failure=failure), None) for assignment in assignments]


def _open_session(subject: PreparedImage, engine: Engine, context: ConversationContext) -> ImageSession:
    return ImageSession(engine, context.prompts, context.sampling, context.seed, subject.image, subject.key)


# --- answers and scores -----------------------------------------------------------------------------------------------


async def _answer(session: ImageSession, asked: AskedQuestion, scores: tuple[str, ...]) -> tuple[Row, dict[str, Row]]:
    """Answer a question; return its pairs row, and the rows of its scores by name if it became a pair."""
    if asked.failure or asked.question is None:
        return _row(asked, None), {}
    assignment = asked.assignment
    reply = await session.answer(
        asked.question, assignment.form, assignment.language, seed=sampling_seed(session.seed, assignment)
    )
    failure = failure_of(reply, "the answer")
    if failure is None and not reply.text.strip():
        failure = Failure("empty_answer", reply.detail or "")
    row = _row(replace(asked, failure=failure), reply)
    if failure:
        return row, {}
    pair = _pair(session, row, asked.question, reply)
    score_rows = await asyncio.gather(*(scoring.score(name, session, pair) for name in scores))
    return row, dict(zip(scores, score_rows, strict=True))


async def _score_row(session: ImageSession, row: Row, name: str) -> Row:
    """Measure one score of a pairs row made earlier."""
    question = Question(row["question"], tuple(row["options"] or ()))
    reply = Reply(row["answer"])
    if scoring.find_scorer(name).from_logprobs:
        reply = await _with_logprobs(session, row, question)
    return await scoring.score(name, session, _pair(session, row, question, reply))


async def _with_logprobs(session: ImageSession, row: Row, question: Question) -> Reply:
    """Return a stored answer with its log-probabilities, or with the reason why there are none."""
    if "given" not in session.engine.facts.capabilities:
        why = "the engine cannot score a given text; pairs have this score only if it is made with them"
        return Reply(row["answer"], detail=why)
    text = answer_text(session.prompts, question, row["form"], row["language"])
    given = await session.generate(Request("given", text, 1, given=row["answer"]))
    return Reply(row["answer"], failure=given.failure, detail=given.detail, logprobs=given.logprobs)


def _pair(session: ImageSession, row: Row, question: Question, reply: Reply) -> Pair:
    return Pair(
        row["pair_id"],
        row["assignment_id"],
        session.prompts.types[row["type"]],
        row["form"],
        row["language"],
        question,
        reply,
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(asked: AskedQuestion, answer: Reply | None) -> Row:
    """Return the pairs row of an assignment; tokens and seconds of the asking call are shared by its assignments."""
    assignment, ask, question, failure = asked.assignment, asked.reply, asked.question, asked.failure
    answer_cost = answer or Reply("")
    return {
        "assignment_id": assignment.assignment_id,
        "pair_id": None if failure else pair_id(assignment.assignment_id, assignment.recipe, assignment.attempt),
        "image_id": assignment.image_id,
        "object_id": assignment.object_id,
        "type": assignment.type,
        "form": assignment.form,
        "language": assignment.language,
        "ordinal": assignment.ordinal,
        "outcome": "failed" if failure else "pair",
        "reason": failure.reason if failure else None,
        "detail": (failure.detail or None) if failure else None,
        "recipe": assignment.recipe,
        "attempt": assignment.attempt,
        "question": question.text if question else None,
        "options": list(question.options) if question and question.options else None,
        "answer": answer.text if answer and not failure else None,
        "raw_question": ask.text,
        "raw_answer": answer.text if answer else None,
        "prompt_tokens": add_tokens(_part(ask.prompt_tokens, asked), answer_cost.prompt_tokens),
        "cached_tokens": add_tokens(_part(ask.cached_tokens, asked), answer_cost.cached_tokens),
        "output_tokens": add_tokens(_part(ask.output_tokens, asked), answer_cost.output_tokens),
        "seconds": ask.seconds / asked.share + answer_cost.seconds,
    }


def _part(tokens: int | None, asked: AskedQuestion) -> int | None:
    """Return an assignment's part of the asking call's tokens; the parts add up to the whole. None is unknown."""
    return None if tokens is None else tokens // asked.share + (asked.place < tokens % asked.share)
