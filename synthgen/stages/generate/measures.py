"""The scores: a measure of a pair each, and the table `SCORERS` at the end, from which other code derives all else.

A measure returns a `Score` without a value if a call fails or its reply cannot be used; it never uses half a reply. It
is called only if the prompt pack has the prompts that its `Scorer` names.
"""

import asyncio
import math
import re
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config.families import InstructionType
from synthgen.config.prompt_file import JudgePrompt, PackFile
from synthgen.config.prompt_pack import SCORE_VARIABLES
from synthgen.config.replies import Question
from synthgen.config.templates import render
from synthgen.engines import Capability, Purpose, Reply, Request, add_tokens
from synthgen.stages.generate.session import Earlier, ImageSession, Turn, answer_text, failure_of
from synthgen.stages.generate.similarity import similarity
from synthgen.tables import draw

QUOTED = 100  # characters of a judgement that is none
LEAST_MASS = 0.5  # probability of all labels of a judge together; below it, the rest decides what they say
NAME = re.compile(r"[a-z][a-z0-9_]*")
PROMPT_KEY = re.compile(r"paraphrase|blind|judge\.[a-z][a-z0-9_]*")


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
    earlier: Earlier | None = None  # the pair that its question goes on from

    @property
    def turn(self) -> Turn:
        """The question, its form and its language."""
        return Turn(self.question, self.type, self.form, self.language, self.earlier)


@dataclass(frozen=True)
class Score:
    """A value, or else the reason why there is none; `detail` records the parts of the value."""

    value: float | None
    reason: str | None = None
    detail: Mapping[str, Any] | None = None
    output_tokens: int | None = 0  # of the calls made for it; None where an engine did not count them

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a Score has either a value or a reason why it has none")


@dataclass(frozen=True)
class Scorer:
    """A score: its measure, its range, and what it needs from the engine, the prompt pack and the settings."""

    name: str  # in `generate.scores`, in `select.keep` and as a folder in `3-generated/scores`
    measure: Callable[[ImageSession, Pair], Awaitable[Score]]
    needs: tuple[Capability, ...] = ()  # of the engine; with "labels", its prompts below `judge` have labels
    prompts: tuple[str, ...] = ()  # keys of the pack: `paraphrase`, `blind` or `judge.NAME`
    variables: tuple[str, ...] = SCORE_VARIABLES  # that its prompts below `judge` may use
    sampling: tuple[str, ...] = ()  # keys of `generate.sampling` that change its values
    from_logprobs: bool = False  # computed from the log-probabilities of the answer
    asks_answers: bool = True  # its calls may have the pack's prompts of answers; a judge's do not
    low: float = 0.0
    high: float | None = 1.0  # None: the number of labels of its prompt

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a score's name is lower-case letters, digits and _, not {self.name!r}")
        for key in self.prompts:
            if not PROMPT_KEY.fullmatch(key):
                raise ValueError(f"a prompt of score '{self.name}' is paraphrase, blind or judge.NAME, not {key!r}")
        has_labels = "labels" in self.needs and any(key.startswith("judge.") for key in self.prompts)
        if self.high is None and not has_labels:
            raise ValueError(f"score '{self.name}' has no highest value and no judge prompt whose labels give it one")

    def missing_prompts(self, pack: PackFile) -> list[str]:
        """Return the keys of its prompts that a pack does not have."""
        return [key for key in self.prompts if pack.score_prompt(key) is None]

    def bounds(self, pack: PackFile) -> tuple[float, float]:
        """Return its least and greatest value with the prompts of a pack."""
        if self.high is not None:
            return self.low, self.high
        prompts = [pack.score_prompt(key) for key in self.prompts]
        return self.low, max(len(prompt.labels) for prompt in prompts if isinstance(prompt, JudgePrompt))


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
    """Return the geometric mean of the answer's token probabilities; makes no call.

    `loss` in the detail is the mean negative log-probability in nats, and null if a token has no probability at all. In
    a scoring pass it is the cross-model loss by which Infinity-MM filters its synthetic data (arXiv 2410.18558).
    """
    if missing := _without_logprobs(pair.reply):
        return missing
    logprobs, loss = pair.reply.logprobs, -_mean(pair.reply.logprobs)
    detail = {"tokens": len(logprobs), "worst": math.exp(min(logprobs)), "loss": loss if math.isfinite(loss) else None}
    return Score(math.exp(-loss), detail=detail)


async def agreement(session: ImageSession, pair: Pair) -> Score:
    """Return the mean similarity of the answer to further samples (self-consistency, arXiv 2203.11171)."""
    settings = session.sampling
    seeds = [
        int(draw(session.seed, "agree", pair.pair_id, str(number)) * 2**31) for number in range(settings.agree_samples)
    ]
    replies = await asyncio.gather(
        *(session.answer(pair.turn, seed=seed, temperature=settings.agree_temperature) for seed in seeds)
    )
    # The pair's answer was not cut off, so a sample that was is another answer and is compared as it stands.
    for reply in replies:
        failure = failure_of(reply, "a sample")
        if failure and failure.reason != "cut_off":
            return Score(None, str(failure))
    return Score(
        _mean([similarity(pair.reply.text, reply.text, pair.form) for reply in replies]),
        detail={"samples": [reply.text for reply in replies]},
        output_tokens=add_tokens(*(reply.output_tokens for reply in replies)),
    )


async def paraphrase(session: ImageSession, pair: Pair) -> Score:
    """Return the similarity of the answer to the answer of the paraphrased question."""
    request = prompt_request(session, pair, "paraphrase", purpose="paraphrase", question=pair.question.text)
    paraphrased = await session.generate(request)
    if failure := failure_of(paraphrased, "the paraphrase"):
        return Score(None, str(failure))
    if not paraphrased.text:
        return Score(None, "the paraphrase is empty")
    turn = replace(pair.turn, question=replace(pair.question, text=paraphrased.text))
    answer = await session.answer(turn, seed=0)
    if failure := failure_of(answer, "the answer to the paraphrase"):
        return Score(None, str(failure))
    return Score(
        similarity(pair.reply.text, answer.text, pair.form),
        detail={"question": turn.question.text, "answer": answer.text},
        output_tokens=add_tokens(paraphrased.output_tokens, answer.output_tokens),
    )


async def image_gain(session: ImageSession, pair: Pair) -> Score:
    """Return the mean gain in log-probability of an answer token from seeing the image, in nats."""
    if missing := _without_logprobs(pair.reply):
        return missing
    text = answer_text(session.prompts, pair.turn)
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
    if mass < LEAST_MASS:
        why = f"its labels have {mass:.2g} of the probability; the judge replied {reply.text[:QUOTED]!r}"
        return Score(None, reply.detail or why, {"mass": mass}, output_tokens=1)
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


SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("likelihood", likelihood, from_logprobs=True),
        Scorer("agreement", agreement, sampling=("agree_temperature", "agree_samples")),
        Scorer("paraphrase", paraphrase, prompts=("paraphrase",)),
        Scorer(
            "image_gain",
            image_gain,
            needs=("given",),
            from_logprobs=True,
            low=float("-inf"),
            high=float("inf"),
        ),
        Scorer(
            "question",
            judge_question,
            needs=("labels",),
            prompts=("judge.question",),
            variables=("question", "type", "language"),  # a question is graded before its answer is known
            asks_answers=False,
            low=1.0,
            high=None,
        ),
        Scorer(
            "answer",
            judge_answer,
            needs=("labels",),
            prompts=("judge.answer",),
            asks_answers=False,
            low=1.0,
            high=None,
        ),
        Scorer("blind", blind, prompts=("blind",), asks_answers=False),
    )
}
