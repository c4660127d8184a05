"""The measures of a pair, one function per score.

A measure returns a `Score` without a value if a call fails or its reply cannot be used; it never uses half a reply. The
table in scoring.py says which prompts a score needs, and calls its measure only if the pack has them.
"""

import asyncio
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config.families import InstructionType
from synthgen.config.prompt_pack import JudgePrompt, render
from synthgen.config.replies import Question
from synthgen.engines import Purpose, Reply, Request
from synthgen.stages.generate.session import ImageSession, answer_text, failure_of
from synthgen.stages.generate.similarity import similarity
from synthgen.tables import draw


@dataclass(frozen=True)
class Pair:
    """A question and the reply that answers it."""

    pair_id: str
    assignment_id: str
    type: InstructionType
    form: str
    language: str
    question: Question
    reply: Reply


@dataclass(frozen=True)
class Score:
    """A value, or else the reason why there is none; `detail` records the parts of the value."""

    value: float | None
    reason: str | None = None
    detail: Mapping[str, Any] | None = None
    output_tokens: int = 0  # of the calls made for it

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a Score has either a value or a reason why it has none")


def prompt_request(
    session: ImageSession, pair: Pair, key: str, *, purpose: Purpose = "judge", question: str | None = None
) -> Request:
    """Render a score's prompt for a pair.

    Args:
        session: The image's session.
        pair: The pair to measure.
        key: The prompt's place in the pack, such as `judge.answer`; the scorer lists it in `prompts`.
        purpose: What the call is for.
        question: The question as the prompt shows it; by default with its options, one lettered line each.

    Returns:
        A request for one token with the probabilities of the prompt's labels, or for text if the prompt has no labels.
    """
    prompt = session.prompts.pack.score_prompt(key)
    assert prompt, f"pack '{session.prompts.name}' has no prompt {key}"
    text = render(
        prompt.text,
        question=_with_options(pair.question) if question is None else question,
        answer=pair.reply.text,
        type=pair.type,
        language=pair.language,
    )
    if isinstance(prompt, JudgePrompt):
        return Request(purpose, text, 1, labels=prompt.labels)
    return Request(purpose, text, prompt.max_tokens)


async def likelihood(session: ImageSession, pair: Pair) -> Score:
    """Return the geometric mean of the answer's token probabilities; makes no call."""
    if missing := _without_logprobs(pair.reply):
        return missing
    logprobs = pair.reply.logprobs
    return Score(math.exp(_mean(logprobs)), detail={"tokens": len(logprobs), "worst": math.exp(min(logprobs))})


async def agreement(session: ImageSession, pair: Pair) -> Score:
    """Return the mean similarity of the answer to further samples (self-consistency, arXiv 2203.11171)."""
    settings = session.sampling
    seeds = [
        int(draw(session.seed, "agree", pair.pair_id, str(number)) * 2**31) for number in range(settings.agree_samples)
    ]
    replies = await asyncio.gather(
        *(
            session.answer(pair.question, pair.form, pair.language, seed=seed, temperature=settings.agree_temperature)
            for seed in seeds
        )
    )
    # The pair's answer was not cut off, so a sample that was is another answer and is compared as it stands.
    for reply in replies:
        failure = failure_of(reply, "a sample")
        if failure and failure.reason != "cut_off":
            return Score(None, str(failure))
    return Score(
        _mean([similarity(pair.reply.text, reply.text, pair.form) for reply in replies]),
        detail={"samples": [reply.text for reply in replies]},
        output_tokens=sum(reply.output_tokens for reply in replies),
    )


async def paraphrase(session: ImageSession, pair: Pair) -> Score:
    """Return the similarity of the answer to the answer of the paraphrased question."""
    request = prompt_request(session, pair, "paraphrase", purpose="paraphrase", question=pair.question.text)
    paraphrased = await session.generate(request)
    if failure := failure_of(paraphrased, "the paraphrase"):
        return Score(None, str(failure))
    if not paraphrased.text:
        return Score(None, "the paraphrase is empty")
    question = replace(pair.question, text=paraphrased.text)
    answer = await session.answer(question, pair.form, pair.language, seed=0)
    if failure := failure_of(answer, "the answer to the paraphrase"):
        return Score(None, str(failure))
    return Score(
        similarity(pair.reply.text, answer.text, pair.form),
        detail={"question": paraphrased.text, "answer": answer.text},
        output_tokens=paraphrased.output_tokens + answer.output_tokens,
    )


async def image_gain(session: ImageSession, pair: Pair) -> Score:
    """Return the mean gain in log-probability of an answer token from seeing the image, in nats."""
    if missing := _without_logprobs(pair.reply):
        return missing
    text = answer_text(session.prompts, pair.question, pair.form, pair.language)
    blind_reply = await session.generate_blind(Request("given", text, 1, given=pair.reply.text))
    if failure := failure_of(blind_reply, "the blind call"):
        return Score(None, str(failure))
    unseen = blind_reply.logprobs[:-1]  # the last token ends the reply and is not part of the answer
    if not unseen:
        return Score(None, "the engine gave no log-probabilities of the answer without the image")
    seen = pair.reply.logprobs[: len(unseen)]
    return Score(_mean(seen) - _mean(unseen), detail={"with": _mean(seen), "without": _mean(unseen)})


async def blind(session: ImageSession, pair: Pair) -> Score:
    """Return how unlike the answer is to an answer without the image: near 0, the image was not needed."""
    reply = await session.generate_blind(prompt_request(session, pair, "blind", purpose="answer"))
    if failure := failure_of(reply, "the blind answer"):
        return Score(None, str(failure))
    return Score(
        1.0 - similarity(pair.reply.text, reply.text, pair.form),
        detail={"answer": reply.text},
        output_tokens=reply.output_tokens,
    )


async def judge_question(session: ImageSession, pair: Pair) -> Score:
    """Grade the question: about the image, answerable, of the planned type."""
    return await grade(session, pair, "judge.question")


async def judge_answer(session: ImageSession, pair: Pair) -> Score:
    """Grade the answer: correct, complete, grounded in the image."""
    return await grade(session, pair, "judge.answer")


async def grade(session: ImageSession, pair: Pair, key: str) -> Score:
    """Return the expected label of a judge prompt, counted from 1 for the worst.

    The expectation is over the labels' probabilities; `mass` in the detail is the probability that they have together.
    """
    request = prompt_request(session, pair, key)
    reply = await session.generate(request)
    # A judgement is one token long, so it always ends at max_tokens.
    if (failure := failure_of(reply, "the judgement")) and failure.reason != "cut_off":
        return Score(None, str(failure))
    probabilities = [reply.labels.get(label, 0.0) for label in request.labels]
    mass = sum(probabilities)
    if mass <= 0:
        return Score(None, f"the judge replied {reply.text!r}, which is none of its labels")
    expected = sum(place * probability for place, probability in enumerate(probabilities, 1)) / mass
    return Score(expected, detail={"mass": round(mass, 4)}, output_tokens=1)


def _without_logprobs(reply: Reply) -> Score | None:
    """Return the score of a reply that has no log-probabilities; None if it has them."""
    if failure := failure_of(reply, "the answer"):
        return Score(None, str(failure))
    return None if reply.logprobs else Score(None, reply.detail or "the engine gave no log-probabilities")


def _with_options(question: Question) -> str:
    options = zip(string.ascii_uppercase, question.options, strict=False)
    return "\n".join([question.text, *(f"{letter}. {option}" for letter, option in options)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
