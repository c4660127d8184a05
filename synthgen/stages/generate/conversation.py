"""Stage 3, seen from one image: everything that is said about it, as one conversation with one engine.

Comes in: the image, the assignments that the plan made for it, the prompts. Goes out: one row for every assignment (a pair,
or a failure with its reason) and the scores of its pairs. The calls of an image go to one engine close together and the
image stands first in each, so the engine encodes and prefills it once; stage after stage over all images would pay for it
at every call. Questions of one type are asked for in one call, which keeps them distinct. All asks of an image come before
its answers, so that a repeated question is found in an order that does not depend on timing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from PIL.Image import Image

from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import Prompts, asks_many, render
from synthgen.config.replies import Question, parse_questions, question_schema
from synthgen.engines import Engine, Reply, Request
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.scoring import ImageSession, Pair
from synthgen.tables import draw, pair_id

Row = dict[str, Any]


@dataclass(frozen=True)
class Assignment:
    """What the plan asks for; `recipe` and `attempt` make the pair's id."""

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
    """An image in hand."""

    image: Image
    key: str  # names its pixels: content, decoding, size
    tags: tuple[str, ...] = ()


@dataclass
class AskedQuestion:
    """An assignment after its ask: with a question, or with the failure that ended it."""

    assignment: Assignment
    reply: Reply
    question: Question | None = None
    reason: str | None = None
    detail: str | None = None
    share: int = 1  # assignments that shared the asking call
    place: int = 0  # among them


@dataclass(frozen=True)
class Outcome:
    """The rows that one image adds."""

    pairs: list[Row] = field(default_factory=list)
    scores: Mapping[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversationContext:
    """What all conversations of a run share."""

    prompts: Prompts
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int


async def converse(
    subject: LoadedImage, assignments: Sequence[Assignment], engine: Engine, terms: ConversationContext
) -> Outcome:
    """One image's conversation; raises EngineDied and nothing else."""
    talk = ImageSession(engine, terms.prompts, terms.sampling, terms.seed, subject.image, subject.key)
    asked = await _ask_all(talk, subject, _groups(assignments, terms.prompts))
    _drop_repeats(asked)
    finished = await asyncio.gather(*(_answer(talk, one, terms.scores) for one in asked))
    scores: dict[str, list[Row]] = {name: [] for name in terms.scores}
    for _, found in finished:
        for name, row in found.items():
            scores[name].append(row)
    return Outcome([pair for pair, _ in finished], scores)


async def score_again(
    subject: LoadedImage, unscored: Sequence[tuple[Row, list[str]]], engine: Engine, terms: ConversationContext
) -> Outcome:
    """The scores that pairs made earlier lack; the pairs stay as they are."""
    talk = ImageSession(engine, terms.prompts, terms.sampling, terms.seed, subject.image, subject.key)
    wanted = [(row, name) for row, names in unscored for name in names]
    found = await asyncio.gather(*(_score_row(talk, row, name) for row, name in wanted))
    scores: dict[str, list[Row]] = {}
    for (_, name), row in zip(wanted, found, strict=True):
        scores.setdefault(name, []).append(row)
    return Outcome([], scores)


async def _score_row(talk: ImageSession, row: Row, name: str) -> Row:
    question = Question(row["question"], tuple(row["options"] or ()))
    reply = Reply(row["answer"])
    if name in scoring.OF_LOGPROBS and "given" not in talk.engine.facts.capabilities:
        reply = Reply(
            row["answer"],
            detail="the engine cannot score a given text; pairs have this score only if it is made with them",
        )
    elif name in scoring.OF_LOGPROBS:
        text = scoring.answer_text(talk.prompts, question, row["form"], row["language"])
        given = await talk.say(Request("given", text, 1, given=row["answer"]))
        reply = Reply(row["answer"], failure=given.failure, detail=given.detail, logprobs=given.logprobs)
    kind = talk.prompts.types[row["type"]]
    return await scoring.score(
        name, talk, Pair(row["pair_id"], row["assignment_id"], kind, row["form"], row["language"], question, reply)
    )


def _groups(assignments: Sequence[Assignment], prompts: Prompts) -> list[list[Assignment]]:
    """Assignments that one call can ask for: of one type, language and kind of options, in a fixed order."""
    groups: dict[tuple[str, str, bool, str], list[Assignment]] = {}
    for one in sorted(
        assignments, key=lambda one: (one.type, one.language, one.form == "choice", one.ordinal, one.form)
    ):
        alone = "" if asks_many(prompts.ask(one.form)) else one.assignment_id
        groups.setdefault((one.type, one.language, one.form == "choice", alone), []).append(one)
    return list(groups.values())


async def _ask_all(talk: ImageSession, subject: LoadedImage, groups: list[list[Assignment]]) -> list[AskedQuestion]:
    # The first call fills the engine's caches for this image; sent together, all of them would find the caches empty.
    first = [await _ask(talk, subject, groups[0])] if groups else []
    rest = await asyncio.gather(*(_ask(talk, subject, group) for group in groups[1:]))
    return [asked for group in (*first, *rest) for asked in group]


async def _ask(talk: ImageSession, subject: LoadedImage, group: list[Assignment]) -> list[AskedQuestion]:
    one, choice = group[0], group[0].form == "choice"
    prompt = talk.prompts.ask(one.form)
    text = render(
        prompt.text,
        type=talk.prompts.types[one.type],
        n=len(group),
        language=one.language,
        tags=[tag.split("/")[-1] for tag in subject.tags],
    )
    reply = await talk.say(
        Request(
            "ask",
            text,
            prompt.max_tokens,
            temperature=talk.sampling.ask_temperature,
            top_p=talk.sampling.top_p,
            seed=_seed(talk.seed, one),
            schema=question_schema(choice, len(group)) if prompt.parse == "json" else None,
        )
    )
    failure, detail = scoring.fault(reply, "the asking reply") or (None, None)
    parsed = None if failure else parse_questions(reply.text, prompt.parse, prompt.none, choice)
    if isinstance(parsed, Failure):
        failure, detail = parsed.reason, parsed.detail or None
    questions = parsed if isinstance(parsed, list) else []
    found = zip_longest(group, questions[: len(group)])
    return [
        AskedQuestion(
            assignment, reply, question, None if question else failure or "too_few_questions", detail, len(group), place
        )
        for place, (assignment, question) in enumerate(found)
    ]


def _drop_repeats(asked: list[AskedQuestion]) -> None:
    """Fails the questions that an earlier assignment of this image asks too."""
    seen: dict[str, str] = {}
    for one in asked:
        if one.question is None:
            continue
        first = seen.setdefault(scoring.normal(one.question.text), one.assignment.assignment_id)
        if first != one.assignment.assignment_id:
            one.reason, one.detail = "repeated_question", f"asked by assignment {first}"


async def _answer(talk: ImageSession, asked: AskedQuestion, names: tuple[str, ...]) -> tuple[Row, dict[str, Row]]:
    """The row of an assignment, and the scores of its pair if it became one."""
    if asked.reason or asked.question is None:
        return _row(asked, None, asked.reason), {}
    reply = await talk.answer(
        asked.question, asked.assignment.form, asked.assignment.language, seed=_seed(talk.seed, asked.assignment)
    )
    reason, asked.detail = scoring.fault(reply, "the answer") or (None if reply.text.strip() else "empty_answer", None)
    row = _row(asked, reply, reason)
    if reason:
        return row, {}
    one = asked.assignment
    pair = Pair(
        row["pair_id"], one.assignment_id, talk.prompts.types[one.type], one.form, one.language, asked.question, reply
    )
    rows = await asyncio.gather(*(scoring.score(name, talk, pair) for name in names))
    return row, dict(zip(names, rows, strict=True))


def _row(asked: AskedQuestion, reply: Reply | None, reason: str | None) -> Row:
    """The pairs row of an assignment; the asking call's tokens and seconds are shared out over those it asked for."""
    one, ask = asked.assignment, asked.reply
    return {
        "assignment_id": one.assignment_id,
        "pair_id": None if reason else pair_id(one.assignment_id, one.recipe, one.attempt),
        "image_id": one.image_id,
        "object_id": one.object_id,
        "type": one.type,
        "form": one.form,
        "language": one.language,
        "ordinal": one.ordinal,
        "outcome": "failed" if reason else "pair",
        "reason": reason,
        "detail": asked.detail,
        "recipe": one.recipe,
        "attempt": one.attempt,
        "question": asked.question.text if asked.question else None,
        "options": list(asked.question.options) if asked.question and asked.question.options else None,
        "answer": None if reason or reply is None else reply.text,
        "raw_question": ask.text,
        "raw_answer": reply.text if reply else None,
        "prompt_tokens": _part(ask.prompt_tokens, asked) + (reply.prompt_tokens if reply else 0),
        "cached_tokens": _part(ask.cached_tokens, asked) + (reply.cached_tokens if reply else 0),
        "output_tokens": _part(ask.output_tokens, asked) + (reply.output_tokens if reply else 0),
        "seconds": ask.seconds / asked.share + (reply.seconds if reply else 0.0),
    }


def _part(tokens: int, asked: AskedQuestion) -> int:
    """What an assignment bears of its asking call; the parts add up to the whole."""
    return tokens // asked.share + (asked.place < tokens % asked.share)


def _seed(seed: int, one: Assignment) -> int:
    """The sampling seed of an assignment's calls: a function of the run seed, the row and the attempt."""
    return int(draw(seed, "sampling", one.assignment_id, one.recipe, str(one.attempt)) * 2**31)


def failed_rows(assignments: Sequence[Assignment], reason: str, detail: str) -> list[Row]:
    """The rows of assignments whose image never reached the engine, or killed it."""
    nothing = Reply("")
    return [_row(AskedQuestion(one, nothing, None, reason, detail), None, reason) for one in assignments]
