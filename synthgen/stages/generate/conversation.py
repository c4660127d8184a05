"""The conversation about one image: its questions, its answers and their scores, as calls to one engine.

The calls of an image go to one engine close together and the image stands first in each, so that the engine encodes and
prefills it once. Questions of one type are asked for in one call, which keeps them distinct. All asking calls come
before the answers, so that which of two equal questions counts does not depend on timing. Questions that go on from a
pair come last, when the pairs are known. Where one model asks and another answers, `ask_ahead` is the first half of it
and `converse` the second, which takes the questions as they were written.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config.families import is_unanswerable
from synthgen.config.prompt_pack import Prompts
from synthgen.engines import Engine
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.answering import ConversationContext, Row, answer_all, earlier_of, pair_row, score_pair
from synthgen.stages.generate.asking import (
    AskedQuestion,
    Assignment,
    PreparedImage,
    ask_all,
    ask_follow_ups,
    fail_repeats,
)
from synthgen.stages.generate.measures import Score
from synthgen.stages.generate.questions import follow_up_row, question_row
from synthgen.stages.generate.session import Earlier, ImageSession

__all__ = [
    "Assignment",
    "ConversationContext",
    "Outcome",
    "PreparedImage",
    "ask_ahead",
    "ask_for_others",
    "converse",
    "failed_rows",
    "score_again",
    "unscored_rows",
]

Questions = Mapping[str, AskedQuestion]  # by assignment
NO_QUESTIONS: Questions = {}
FOLLOWED_FORMS = ("short", "brief", "detailed", "choice")  # that a talk goes on from


@dataclass(frozen=True)
class Outcome:
    """The rows that one image adds: of PAIRS and SCORES, or of QUESTIONS, as pairs, in the first of two passes."""

    pairs: list[Row] = field(default_factory=list)
    scores: Mapping[str, list[Row]] = field(default_factory=dict)


async def ask_ahead(
    subject: PreparedImage,
    assignments: Sequence[Assignment],
    engine: Engine,
    context: ConversationContext,
    questions: Questions = NO_QUESTIONS,
) -> Outcome:
    """Ask the assignments of one image for another model to answer.

    Args:
        subject: The image.
        assignments: Its assignments.
        engine: The engine that all calls go to.
        context: The settings of the run.
        questions: By assignment, those of negatives, as `ask_for_others` has asked them.

    Returns:
        One questions row per assignment.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    session = _open_session(subject, engine, context)
    first, follow_ups = _in_order(assignments, context.prompts)
    asked = await _ask_rest(session, subject, first, questions)
    return Outcome([*map(question_row, asked), *map(follow_up_row, follow_ups)])


async def ask_for_others(
    subject: PreparedImage, assignments: Sequence[Assignment], engine: Engine, context: ConversationContext
) -> list[AskedQuestion]:
    """Ask about an image for negatives, which put the questions to other images.

    Each has a call of its own, so that what it asks does not depend on which others are still to be asked.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    session = _open_session(subject, engine, context)
    first = await ask_all(session, subject, assignments[:1])  # alone, as in `ask_all`
    rest = await asyncio.gather(*(ask_all(session, subject, [each]) for each in assignments[1:]))
    return [question for asked in (first, *rest) for question in asked]


async def _ask_rest(
    session: ImageSession, subject: PreparedImage, first: Sequence[Assignment], questions: Questions
) -> list[AskedQuestion]:
    """Ask the assignments that have no question yet; those that have one come last, as they are the first to fail."""
    given = [questions[each.assignment_id] for each in first if each.assignment_id in questions]
    rest = [each for each in first if each.assignment_id not in questions]
    return fail_repeats([*(await ask_all(session, subject, rest) if rest else ()), *given])


async def converse(
    subject: PreparedImage,
    assignments: Sequence[Assignment],
    engine: Engine,
    context: ConversationContext,
    questions: Questions = NO_QUESTIONS,
) -> Outcome:
    """Ask, answer and score the assignments of one image.

    Args:
        subject: The image.
        assignments: Its assignments.
        engine: The engine that all calls go to.
        context: The settings of the run.
        questions: By assignment, all of them where another model has asked already, else those of negatives.

    Returns:
        One pairs row per assignment, and one row per score of each assignment that became a pair.

    Raises:
        EngineDied: The engine can serve no further call. A call that fails costs one row and raises nothing.
    """
    session = _open_session(subject, engine, context)
    first, follow_ups = _in_order(assignments, context.prompts)
    if all(each.assignment_id in questions for each in first):
        asked = [questions[each.assignment_id] for each in first]
    else:
        asked = await _ask_rest(session, subject, first, questions)
    known = [dict(row) for row in subject.earlier]
    answered = await answer_all(session, asked, context, known)
    if follow_ups:
        known += [each.row for each in answered]
        pairs = _to_go_on_from(context.prompts, known)
        more = fail_repeats([*asked, *await ask_follow_ups(session, subject, follow_ups, pairs)])[len(asked) :]
        answered += await answer_all(session, more, context, known)
    scores = {name: [each.scores[name] for each in answered if name in each.scores] for name in context.scores}
    return Outcome([each.row for each in answered], scores)


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
    known = {str(row["pair_id"]): dict(row) for row in subject.earlier}
    rows = await asyncio.gather(*(score_pair(session, row, name, known) for row, name in wanted))
    scores: dict[str, list[Row]] = {}
    for (_, name), row in zip(wanted, rows, strict=True):
        scores.setdefault(name, []).append(row)
    return Outcome([], scores)


def unscored_rows(unscored: Sequence[tuple[Row, list[str]]], failure: Failure) -> dict[str, list[Row]]:
    """Return a row without a value for each score that pairs lack, as `score_again` takes them."""
    rows: dict[str, list[Row]] = {}
    for pair, names in unscored:
        row = scoring.score_row(pair["pair_id"], pair["assignment_id"], Score(None, str(failure)))
        for name in names:
            rows.setdefault(name, []).append(row)
    return rows


def failed_rows(assignments: Sequence[Assignment], failure: Failure, questions: Questions = NO_QUESTIONS) -> list[Row]:
    """Return the rows of assignments whose image never reached the engine, or killed it.

    Questions that were written before stay in their rows, and so do failures of these.
    """
    asked = [questions.get(each.assignment_id) or AskedQuestion(each, None) for each in assignments]
    return [pair_row(replace(item, failure=item.failure or failure), None, None) for item in asked]


def failed_questions(assignments: Sequence[Assignment], failure: Failure, prompts: Prompts) -> list[Row]:
    """Return the questions rows of assignments whose image never reached the engine that asks, or killed it."""
    first, follow_ups = _in_order(assignments, prompts)
    failed = (AskedQuestion(assignment, None, failure=failure) for assignment in first)
    return [*map(question_row, failed), *map(follow_up_row, follow_ups)]


def _in_order(assignments: Sequence[Assignment], prompts: Prompts) -> tuple[list[Assignment], list[Assignment]]:
    """Return the assignments whose questions come first, and those that go on from a pair."""
    follow_ups = [each for each in assignments if prompts.type_of(each.type).follows]
    return [each for each in assignments if each not in follow_ups], follow_ups


def _open_session(subject: PreparedImage, engine: Engine, context: ConversationContext) -> ImageSession:
    shared = context.prompts, context.sampling, context.seed
    return ImageSession(engine, *shared, subject.image, subject.key, subject.more)


def _to_go_on_from(prompts: Prompts, rows: Sequence[Mapping[str, Any]]) -> list[Earlier]:
    """Return the pairs that a follow-up can go on from, in the order of their assignments."""
    usable = [
        row for row in rows if row["outcome"] == "pair" and row["form"] in FOLLOWED_FORMS and _is_followed(prompts, row)
    ]
    return [earlier_of(row) for row in sorted(usable, key=lambda row: row["assignment_id"])]


def _is_followed(prompts: Prompts, row: Mapping[str, Any]) -> bool:
    """Return whether a talk may go on from a pair: not from one that goes on or ends it, and not from a negative."""
    kind = prompts.types.get(row["type"])
    return not is_unanswerable(row["type"]) and kind is not None and not (kind.follows or kind.ends)
