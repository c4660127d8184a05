"""The conversation about one image: its questions, its answers and their scores, as calls to one engine.

The calls of an image go to one engine close together and the image stands first in each, so that the engine encodes and
prefills it once. Questions of one type are asked for in one call, which keeps them distinct. All asking calls come
before the answers, so that which of two equal questions counts does not depend on timing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from PIL.Image import Image

from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import AskPrompt, Prompts, asks_many, render
from synthgen.config.replies import Declined, Question, Unparsable, parse_questions, question_schema
from synthgen.engines import Engine, Reply, Request
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.session import ImageSession, answer_text, failure_of
from synthgen.stages.generate.similarity import normalize
from synthgen.tables import draw, pair_id

Row = dict[str, Any]


@dataclass(frozen=True)
class Assignment:
    """A planned question; `recipe` and `attempt` make the pair's id."""

    assignment_id: str
    image_id: str
    object_id: str
    type: str
    form: str
    language: str
    ordinal: int
    recipe: str
    attempt: int


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image, sized for the model."""

    image: Image
    key: str  # of its pixels: content, decoding, size
    tags: tuple[str, ...] = ()  # paths


@dataclass(frozen=True)
class AskedQuestion:
    """An assignment after its asking call: with a question, or with the failure that ended it."""

    assignment: Assignment
    reply: Reply  # of the asking call
    question: Question | None = None
    failure: Failure | None = None
    share: int = 1  # assignments that share the asking call
    place: int = 0  # among them


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
    subject: LoadedImage, assignments: Sequence[Assignment], engine: Engine, context: ConversationContext
) -> Outcome:
    """Ask, answer and score the assignments of one image.

    Returns:
        One pairs row per assignment, and one row per score of each assignment that became a pair.

    Raises:
        EngineDied: The engine can serve no further call. A call that fails costs one row and raises nothing.
    """
    session = _open_session(subject, engine, context)
    asked = await _ask_all(session, subject, _group(assignments, context.prompts))
    answered = await asyncio.gather(*(_answer(session, question, context.scores) for question in _fail_repeats(asked)))
    scores: dict[str, list[Row]] = {name: [] for name in context.scores}
    for _, score_rows in answered:
        for name, row in score_rows.items():
            scores[name].append(row)
    return Outcome([row for row, _ in answered], scores)


async def score_again(
    subject: LoadedImage, unscored: Sequence[tuple[Row, list[str]]], engine: Engine, context: ConversationContext
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


def failed_rows(assignments: Sequence[Assignment], reason: str, detail: str) -> list[Row]:
    """Return the rows of assignments whose image never reached the engine, or killed it."""
    failure = Failure(reason, detail)
    return [_row(AskedQuestion(assignment, Reply(""), failure=failure), None) for assignment in assignments]


def _open_session(subject: LoadedImage, engine: Engine, context: ConversationContext) -> ImageSession:
    return ImageSession(engine, context.prompts, context.sampling, context.seed, subject.image, subject.key)


# --- questions --------------------------------------------------------------------------------------------------------


def _group(assignments: Sequence[Assignment], prompts: Prompts) -> list[list[Assignment]]:
    """Group the assignments that one call can ask for: of one type, language and kind of options, in a fixed order."""
    groups: dict[tuple[str, str, bool, str], list[Assignment]] = {}
    for assignment in sorted(
        assignments, key=lambda one: (one.type, one.language, one.form == "choice", one.ordinal, one.form)
    ):
        is_choice = assignment.form == "choice"
        alone = "" if asks_many(prompts.ask(assignment.form)) else assignment.assignment_id
        groups.setdefault((assignment.type, assignment.language, is_choice, alone), []).append(assignment)
    return list(groups.values())


async def _ask_all(session: ImageSession, subject: LoadedImage, groups: list[list[Assignment]]) -> list[AskedQuestion]:
    # The first call fills the engine's caches for this image; sent together, all calls would find the caches empty.
    first = [await _ask(session, subject, groups[0])] if groups else []
    rest = await asyncio.gather(*(_ask(session, subject, group) for group in groups[1:]))
    return [asked for group in (*first, *rest) for asked in group]


async def _ask(session: ImageSession, subject: LoadedImage, group: list[Assignment]) -> list[AskedQuestion]:
    """Ask for the questions of a group in one call; assignments beyond those that come back fail."""
    first = group[0]
    prompt, is_choice = session.prompts.ask(first.form), first.form == "choice"
    text = render(
        prompt.text,
        type=session.prompts.types[first.type],
        n=len(group),
        language=first.language,
        tags=[tag.split("/")[-1] for tag in subject.tags],
    )
    request = Request(
        "ask",
        text,
        prompt.max_tokens,
        temperature=session.sampling.ask_temperature,
        top_p=session.sampling.top_p,
        seed=_sampling_seed(session.seed, first),
        schema=question_schema(is_choice, len(group)) if prompt.parse == "json" else None,
    )
    reply = await session.generate(request)
    questions, failure = _read_questions(reply, prompt, is_choice)
    return [
        AskedQuestion(assignment, reply, question, None if question else failure, len(group), place)
        for place, (assignment, question) in enumerate(zip_longest(group, questions[: len(group)]))
    ]


def _read_questions(reply: Reply, prompt: AskPrompt, is_choice: bool) -> tuple[list[Question], Failure]:
    """Return the questions of a reply, and the failure of the assignments for which there is none."""
    if failure := failure_of(reply, "the asking reply"):
        return [], failure
    parsed = parse_questions(reply.text, prompt.parse, prompt.none, is_choice)
    if isinstance(parsed, Declined):
        return [], Failure("declined")
    if isinstance(parsed, Unparsable):
        return [], Failure("unparsable", parsed.why)
    return parsed, Failure("too_few_questions")


def _fail_repeats(asked: Sequence[AskedQuestion]) -> list[AskedQuestion]:
    """Fail the questions that an earlier assignment of this image asks too."""
    first_by_text: dict[str, str] = {}
    checked = []
    for item in asked:
        if item.question:
            own = item.assignment.assignment_id
            first = first_by_text.setdefault(normalize(item.question.text), own)
            if first != own:
                item = replace(item, failure=Failure("repeated_question", f"asked by assignment {first}"))
        checked.append(item)
    return checked


def _sampling_seed(seed: int, assignment: Assignment) -> int:
    """Return the seed of an assignment's calls: a function of the run's seed, the assignment and the attempt."""
    number = draw(seed, "sampling", assignment.assignment_id, assignment.recipe, str(assignment.attempt))
    return int(number * 2**31)


# --- answers and scores -----------------------------------------------------------------------------------------------


async def _answer(session: ImageSession, asked: AskedQuestion, scores: tuple[str, ...]) -> tuple[Row, dict[str, Row]]:
    """Answer a question; return its pairs row, and the rows of its scores by name if it became a pair."""
    if asked.failure or asked.question is None:
        return _row(asked, None), {}
    assignment = asked.assignment
    reply = await session.answer(
        asked.question, assignment.form, assignment.language, seed=_sampling_seed(session.seed, assignment)
    )
    failure = failure_of(reply, "the answer")
    if failure is None and not reply.text.strip():
        failure = Failure("empty_answer")
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
        "prompt_tokens": _part(ask.prompt_tokens, asked) + answer_cost.prompt_tokens,
        "cached_tokens": _part(ask.cached_tokens, asked) + answer_cost.cached_tokens,
        "output_tokens": _part(ask.output_tokens, asked) + answer_cost.output_tokens,
        "seconds": ask.seconds / asked.share + answer_cost.seconds,
    }


def _part(tokens: int, asked: AskedQuestion) -> int:
    """Return an assignment's part of the asking call's tokens; the parts add up to the whole."""
    return tokens // asked.share + (asked.place < tokens % asked.share)
