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

from synthgen.config.families import InstructionType
from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import Prompts
from synthgen.config.replies import LETTERS, Question, letter_of
from synthgen.engines import Engine, Reply, Request, add_tokens
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.asking import (
    AskedQuestion,
    Assignment,
    PreparedImage,
    ask_all,
    ask_follow_ups,
    fail_repeats,
    sampling_seed,
    tokens_of,
)
from synthgen.stages.generate.measures import Pair, Score
from synthgen.stages.generate.questions import follow_up_row, question_row
from synthgen.stages.generate.session import Earlier, ImageSession, Turn, answer_text, failure_of
from synthgen.tables import pair_id

__all__ = [
    "Assignment",
    "ConversationContext",
    "Outcome",
    "PreparedImage",
    "ask_ahead",
    "converse",
    "failed_rows",
    "score_again",
    "unscored_rows",
]

Row = dict[str, Any]
FOLLOWED_FORMS = ("short", "brief", "detailed", "choice")  # that a talk goes on from


@dataclass(frozen=True)
class Outcome:
    """The rows that one image adds: of PAIRS and SCORES, or of QUESTIONS, as pairs, in the first of two passes."""

    pairs: list[Row] = field(default_factory=list)
    scores: Mapping[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversationContext:
    """The settings that all conversations of a run share."""

    prompts: Prompts
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int


async def ask_ahead(
    subject: PreparedImage, assignments: Sequence[Assignment], engine: Engine, context: ConversationContext
) -> Outcome:
    """Ask the assignments of one image for another model to answer.

    Returns:
        One questions row per assignment.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    session = _open_session(subject, engine, context)
    first, follow_ups = _in_order(assignments, context.prompts)
    asked = fail_repeats(await ask_all(session, subject, first))
    return Outcome([*map(question_row, asked), *map(follow_up_row, follow_ups)])


async def converse(
    subject: PreparedImage,
    assignments: Sequence[Assignment],
    engine: Engine,
    context: ConversationContext,
    questions: Mapping[str, AskedQuestion] | None = None,
) -> Outcome:
    """Ask, answer and score the assignments of one image.

    Args:
        subject: The image.
        assignments: Its assignments.
        engine: The engine that all calls go to.
        context: The settings of the run.
        questions: By assignment, where another model has asked already.

    Returns:
        One pairs row per assignment, and one row per score of each assignment that became a pair.

    Raises:
        EngineDied: The engine can serve no further call. A call that fails costs one row and raises nothing.
    """
    session = _open_session(subject, engine, context)
    first, follow_ups = _in_order(assignments, context.prompts)
    if questions is None:
        asked = fail_repeats(await ask_all(session, subject, first))
    else:
        asked = [questions[each.assignment_id] for each in first]
    answered = await _answer_all(session, asked, context.scores)
    if follow_ups:
        pairs = _to_go_on_from(context.prompts, [*subject.earlier, *(row for row, _ in answered)])
        more = fail_repeats([*asked, *await ask_follow_ups(session, subject, follow_ups, pairs)])[len(asked) :]
        answered += await _answer_all(session, more, context.scores)
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
    earlier = {str(row["pair_id"]): dict(row) for row in subject.earlier}
    rows = await asyncio.gather(*(_score_row(session, row, name, earlier) for row, name in wanted))
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


def failed_rows(
    assignments: Sequence[Assignment], failure: Failure, questions: Mapping[str, AskedQuestion] | None = None
) -> list[Row]:
    """Return the rows of assignments whose image never reached the engine, or killed it.

    Questions that were written before stay in their rows, and so do failures of these.
    """
    known = questions or {}
    asked = [known.get(each.assignment_id) or AskedQuestion(each, None) for each in assignments]
    return [_row(replace(item, failure=item.failure or failure), None, None) for item in asked]


def failed_questions(assignments: Sequence[Assignment], failure: Failure, prompts: Prompts) -> list[Row]:
    """Return the questions rows of assignments whose image never reached the engine that asks, or killed it."""
    first, follow_ups = _in_order(assignments, prompts)
    failed = (AskedQuestion(assignment, None, failure=failure) for assignment in first)
    return [*map(question_row, failed), *map(follow_up_row, follow_ups)]


def _in_order(assignments: Sequence[Assignment], prompts: Prompts) -> tuple[list[Assignment], list[Assignment]]:
    """Return the assignments whose questions come first, and those that go on from a pair."""
    follow_ups = [each for each in assignments if prompts.types[each.type].follows]
    return [each for each in assignments if each not in follow_ups], follow_ups


def _open_session(subject: PreparedImage, engine: Engine, context: ConversationContext) -> ImageSession:
    return ImageSession(engine, context.prompts, context.sampling, context.seed, subject.image, subject.key)


# --- answers and scores -----------------------------------------------------------------------------------------------


async def _answer_all(
    session: ImageSession, asked: Sequence[AskedQuestion], scores: tuple[str, ...]
) -> list[tuple[Row, dict[str, Row]]]:
    """Answer questions side by side; return the pairs row of each, with the rows of its scores by name."""
    return list(await asyncio.gather(*(_answer(session, question, scores) for question in asked)))


async def _answer(session: ImageSession, asked: AskedQuestion, scores: tuple[str, ...]) -> tuple[Row, dict[str, Row]]:
    """Answer a question; return its pairs row, and the rows of its scores by name if it became a pair."""
    kind = session.prompts.types[asked.assignment.type]
    if asked.failure or asked.question is None:
        return _row(asked, kind, None), {}
    assignment = asked.assignment
    turn = Turn(asked.question, kind, assignment.form, assignment.language, asked.earlier)
    reply = await session.answer(turn, seed=sampling_seed(session.seed, assignment))
    reply = _chosen(reply) if assignment.form == "choice" else reply
    failure = failure_of(reply, "the answer")
    if failure is None and not reply.text.strip():
        failure = Failure("empty_answer", reply.detail or "")
    row = _row(replace(asked, failure=failure), kind, reply)
    if failure:
        return row, {}
    if reply.reasoning and any(scoring.find_scorer(name).from_logprobs for name in scores):
        reply = await _with_logprobs(session, turn, reply.text)
    pair = _pair(row, turn, reply)
    score_rows = await asyncio.gather(*(scoring.score(name, session, pair) for name in scores))
    return row, dict(zip(scores, score_rows, strict=True))


def _chosen(reply: Reply) -> Reply:
    """Return a reply to multiple choice as its letter, which is what the turn asks for; one without stays whole.

    What comes behind the letter may be cut off without harm.
    """
    letter = letter_of(reply.text)
    if reply.failure or letter is None or letter == reply.text:
        return reply
    finish = "stop" if reply.finish == "length" else reply.finish
    return replace(reply, text=letter, whole=reply.text, finish=finish)


async def _score_row(session: ImageSession, row: Row, name: str, earlier: Mapping[str, Row]) -> Row:
    """Measure one score of a pairs row made earlier.

    Args:
        session: The image's session.
        row: Of PAIRS.
        name: Of the score.
        earlier: The image's pairs by their id, among them the one that the question goes on from.
    """
    before = earlier.get(row.get("follows") or "")
    turn = Turn(
        Question(row["question"], tuple(row["options"] or ())),
        session.prompts.types[row["type"]],
        row["form"],
        row["language"],
        _earlier(before) if before else None,
    )
    reply = Reply(row["answer"])
    if scoring.find_scorer(name).from_logprobs:
        reply = await _with_logprobs(session, turn, row["answer"])
    return await scoring.score(name, session, _pair(row, turn, reply))


async def _with_logprobs(session: ImageSession, turn: Turn, answer: str) -> Reply:
    """Return an answer with its log-probabilities, or with the reason why there are none."""
    if "given" not in session.engine.facts.capabilities:
        why = "the engine cannot score a given text; pairs have this score only if it is made with them"
        return Reply(answer, detail=why)
    given = await session.generate(Request("given", answer_text(session.prompts, turn), 1, given=answer))
    return Reply(answer, failure=given.failure, detail=given.detail, logprobs=given.logprobs)


def _pair(row: Row, turn: Turn, reply: Reply) -> Pair:
    ids = row["pair_id"], row["assignment_id"]
    return Pair(*ids, turn.type, turn.form, turn.language, turn.question, reply, turn.earlier)


def _to_go_on_from(prompts: Prompts, rows: Sequence[Mapping[str, Any]]) -> list[Earlier]:
    """Return the pairs that a follow-up can go on from, in the order of their assignments."""
    usable = [
        row
        for row in rows
        if row["outcome"] == "pair" and row["form"] in FOLLOWED_FORMS and not prompts.types[row["type"]].follows
    ]
    return [_earlier(row) for row in sorted(usable, key=lambda row: row["assignment_id"])]


def _earlier(row: Mapping[str, Any]) -> Earlier:
    """Return a pair as a further question sees it: of multiple choice with the words of the chosen option."""
    options = dict(zip(LETTERS, row["options"] or (), strict=False))
    return Earlier(row["pair_id"], row["question"], options.get(letter_of(row["answer"]) or "", row["answer"]))


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(asked: AskedQuestion, kind: InstructionType | None, answer: Reply | None) -> Row:
    """Return the pairs row of an assignment; tokens and seconds of the asking call are shared by its assignments."""
    assignment, question, failure = asked.assignment, asked.question, asked.failure
    asking, answer_cost, by = tokens_of(asked), answer or Reply(""), asked.by
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
        "key": asked.key,
        "truth": kind.truth if kind else None,
        "evidence": (question.evidence or None) if question else None,
        "follows": asked.earlier.pair_id if asked.earlier else None,
        "answer": answer.text if answer and not failure else None,
        "reasoning": (answer.reasoning or None) if answer else None,
        "raw_question": asked.reply.text if asked.reply else None,
        "raw_answer": (answer.whole or answer.text) if answer else None,
        "prompt_tokens": add_tokens(asking["prompt_tokens"], answer_cost.prompt_tokens),
        "cached_tokens": add_tokens(asking["cached_tokens"], answer_cost.cached_tokens),
        "output_tokens": add_tokens(asking["output_tokens"], answer_cost.output_tokens),
        "seconds": asking["seconds"] + answer_cost.seconds,
        "ask_model": by.model if by else None,
        "ask_revision": by.revision if by else None,
        "ask_attempt": by.attempt if by else None,
    }
