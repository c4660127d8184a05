"""Questions are answered and pairs scored, side by side, once all questions of an image are known.

A score of the question alone can be a gate (`generate.gate`): a question that fails it costs the calls of that score,
and none for an answer and what follows.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config.engine import SamplingConfig
from synthgen.config.families import InstructionType, is_unanswerable
from synthgen.config.generation import UNANSWERABLE_SCORE
from synthgen.config.prompt_pack import Prompts
from synthgen.config.replies import LETTERS, Question, letter_of
from synthgen.config.selection import Threshold
from synthgen.engines import Reply, Request, add_tokens
from synthgen.engines.recorder import Meter
from synthgen.errors import Failure
from synthgen.stages.generate import scoring
from synthgen.stages.generate.asking import AskedQuestion, sampling_seed, tokens_of
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.session import Earlier, ImageSession, Turn, answer_text, failure_of, limit_of
from synthgen.tables import pair_id, score_failure

Row = dict[str, Any]
TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True)
class ConversationContext:
    """The settings that all conversations of a run share."""

    prompts: Prompts
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int
    gate: Mapping[str, Threshold] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A question that came to its end.

    Attributes:
        row: Of PAIRS.
        pair: None where it has no answer.
        scores: Rows of SCORES by name.
    """

    row: Row
    pair: Pair | None = None
    scores: Mapping[str, Row] = field(default_factory=dict)


async def answer_all(
    session: ImageSession, asked: Sequence[AskedQuestion], context: ConversationContext, known: Sequence[Row] = ()
) -> list[Answered]:
    """Answer questions about an image side by side, and score those that became pairs.

    Args:
        session: The image's session.
        asked: The questions, some of which may have failed already.
        context: The settings of the run.
        known: Rows of PAIRS about the image that are there already, for scores that compare pairs.
    """
    answered = await asyncio.gather(*(_answer(session, question, context) for question in asked))
    names = [name for name in context.scores if scoring.find_scorer(name).of_image]
    pairs = [each.pair for each in answered if each.pair]
    if not names or not pairs:
        return list(answered)
    others = others_of([*known, *(each.row for each in answered)])
    rows = await asyncio.gather(*(_score_all(session, replace(pair, others=others), names) for pair in pairs))
    more = {pair.pair_id: scores for pair, scores in zip(pairs, rows, strict=True)}
    return [replace(each, scores={**each.scores, **more.get(each.row["pair_id"], {})}) for each in answered]


async def score_pair(session: ImageSession, row: Row, name: str, known: Mapping[str, Row]) -> Row:
    """Measure one score of a pair that was made earlier; return its row of SCORES.

    Args:
        session: The image's session.
        row: Of PAIRS.
        name: Of the score.
        known: The image's pairs by their id, among them the one that the question goes on from.
    """
    pair, meter = pair_of(session.prompts, row, known), Meter(session.engine)
    if scoring.find_scorer(name).from_logprobs:
        reply = await _with_logprobs(replace(session, engine=meter), pair.turn, row["answer"])
        pair = replace(pair, reply=reply)
    return await scoring.score(name, session, pair, meter)


def pair_of(prompts: Prompts, row: Mapping[str, Any], known: Mapping[str, Row]) -> Pair:
    """Return the pair of a row of PAIRS; `known` has the pairs of its image by their id."""
    before = known.get(row.get("follows") or "")
    turn = Turn(
        Question(row["question"], tuple(row["options"] or ()), evidence=row.get("evidence") or ""),
        prompts.type_of(row["type"]),
        row["form"],
        row["language"],
        earlier_of(before) if before else None,
    )
    return replace(_pair(row, turn, Reply(row["answer"])), others=others_of(known.values()))


def others_of(rows: Iterable[Row]) -> tuple[Earlier, ...]:
    """Return the pairs among some rows of PAIRS as other pairs of the image see them."""
    return tuple(earlier_of(row) for row in rows if row["outcome"] == "pair")


def earlier_of(row: Mapping[str, Any]) -> Earlier:
    """Return a pair as a further question sees it: of multiple choice with the words of the chosen option."""
    options = dict(zip(LETTERS, row["options"] or (), strict=False))
    return Earlier(row["pair_id"], row["question"], options.get(letter_of(row["answer"]) or "", row["answer"]))


async def _answer(session: ImageSession, asked: AskedQuestion, context: ConversationContext) -> Answered:
    """Answer a question and measure its scores, but those that compare the pairs of an image."""
    kind = session.prompts.type_of(asked.assignment.type)
    if asked.failure or asked.question is None:
        return Answered(pair_row(asked, kind, None))
    assignment = asked.assignment
    turn = Turn(asked.question, kind, assignment.form, assignment.language, asked.earlier)
    screened = await _screen(session, asked, turn, context.gate)
    if failure := _gate_failure(kind, screened, context.gate):
        return Answered(_with_costs(pair_row(replace(asked, failure=failure), kind, None), screened))
    reply = await session.answer(turn, seed=sampling_seed(session.seed, assignment))
    reply = chosen(reply) if assignment.form == "choice" else reply
    failure = failure_of(reply, "the answer", limit_of(turn))
    if failure is None and not reply.text.strip():
        failure = Failure("empty_answer", reply.detail or "")
    row = pair_row(replace(asked, failure=failure), kind, reply)
    if failure:
        return Answered(_with_costs(row, screened))
    names = [name for name in context.scores if name not in screened and not scoring.find_scorer(name).of_image]
    reply = await _as_measured(session, turn, reply, names)
    pair = _pair(row, turn, reply)
    return Answered(row, pair, {**screened, **await _score_all(session, pair, names)})


async def rated(session: ImageSession, row: Row, pair: Pair, names: Sequence[str]) -> dict[str, Row]:
    """Measure scores of a pair whose answer was just given; return their rows of SCORES by name.

    Args:
        session: The image's session, on the engine that answered.
        row: Of PAIRS.
        pair: The pair, with the reply, and with the other pairs of its image.
        names: Of the scores.
    """
    reply = await _as_measured(session, pair.turn, pair.reply, names)
    others = tuple(other for other in pair.others if other.pair_id != row["reasked"])
    return await _score_all(session, replace(pair, reply=reply, others=others), names)


async def _as_measured(session: ImageSession, turn: Turn, reply: Reply, names: Sequence[str]) -> Reply:
    """Return an answer with the log-probabilities that scores read; those of one that was worked out are of no use."""
    if reply.reasoning and any(scoring.find_scorer(name).from_logprobs for name in names):
        return await _with_logprobs(session, turn, reply.text)
    return reply


async def _screen(
    session: ImageSession, asked: AskedQuestion, turn: Turn, gate: Mapping[str, Threshold]
) -> dict[str, Row]:
    """Measure the scores of a question that decide whether it is answered; return their rows of SCORES by name."""
    assignment = asked.assignment
    ids = pair_id(assignment.assignment_id, assignment.recipe, assignment.attempt), assignment.assignment_id
    pair = Pair(*ids, turn.type, turn.form, turn.language, turn.question, Reply(""), turn.earlier)
    return await _score_all(
        session, pair, [name for name, limit in gate.items() if limit.applies_to(turn.type.path, turn.form)]
    )


def _gate_failure(kind: InstructionType, screened: Mapping[str, Row], gate: Mapping[str, Threshold]) -> Failure | None:
    """Return why a question is not answered; one whose score could not be measured is, but not one of a negative."""
    for name, row in screened.items():
        of_negative = name == UNANSWERABLE_SCORE and is_unanswerable(kind.path)
        if row["value"] is None and of_negative:
            return Failure(score_failure(row["reason"]) or "unparsable", f"{name}: {row['reason']}")
        if row["value"] is not None and (fault := gate[name].fault(row["value"])):
            return Failure("answerable" if of_negative else "gated", f"{name} {fault}")
    return None


async def _score_all(session: ImageSession, pair: Pair, names: Sequence[str]) -> dict[str, Row]:
    rows = await asyncio.gather(*(scoring.score(name, session, pair) for name in names))
    return dict(zip(names, rows, strict=True))


def _with_costs(row: Row, scores: Mapping[str, Row]) -> Row:
    """Return a pairs row that has the tokens of scores too, which have no rows of their own without a pair."""
    return {**row, **{name: add_tokens(row[name], *(score[name] for score in scores.values())) for name in TOKENS}}


def chosen(reply: Reply) -> Reply:
    """Return a reply to multiple choice as its letter, which is what the turn asks for; one without stays whole.

    What comes behind the letter may be cut off without harm, where it cannot say that it is another.
    """
    letter = letter_of(reply.text, is_cut_off=reply.finish == "length")
    if reply.failure or letter is None or letter == reply.text:
        return reply
    finish = "stop" if reply.finish == "length" else reply.finish
    return replace(reply, text=letter, whole=reply.text, finish=finish)


async def _with_logprobs(session: ImageSession, turn: Turn, answer: str) -> Reply:
    """Return an answer with its log-probabilities, or with the reason why there are none."""
    if "given" not in session.engine.facts.capabilities:
        why = "the engine cannot score a given text; pairs have this score only if it is made with them"
        return Reply(answer, detail=why)
    given = await session.generate(Request("given", answer_text(session.prompts, turn), 1, given=answer))
    return Reply(answer, failure=given.failure, detail=given.detail, logprobs=given.logprobs)


def _pair(row: Mapping[str, Any], turn: Turn, reply: Reply) -> Pair:
    ids = row["pair_id"], row["assignment_id"]
    return Pair(*ids, turn.type, turn.form, turn.language, turn.question, reply, turn.earlier)


def _constraint(kind: InstructionType | None, question: Question | None) -> str | None:
    """Return what the request of a pair asks of the form of its answer, as JSON; None where it asks nothing of it."""
    found = kind.constraints.get(question.text) if kind and question else None
    return found.model_dump_json(exclude_defaults=True) if found else None


def pair_row(asked: AskedQuestion, kind: InstructionType | None, answer: Reply | None) -> Row:
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
        "partner": assignment.partner,
        "outcome": "failed" if failure else "pair",
        "reason": failure.reason if failure else None,
        "detail": (failure.detail or None) if failure else None,
        "recipe": assignment.recipe,
        "attempt": assignment.attempt,
        "question": question.text if question else None,
        "options": list(question.options) if question and question.options else None,
        "key": asked.key,
        "truth": kind.truth if kind else None,
        "constraint": _constraint(kind, question),
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
        "reasked_for": None,
        "reasked": None,
        "reasked_answer": None,
    }
