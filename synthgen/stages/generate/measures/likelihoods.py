"""Scores from the log-probabilities of the answer."""

import math

from synthgen.config.turns import turn_text
from synthgen.engines import Reply, Request
from synthgen.stages.generate.measures.scorer import Pair, Score, mean
from synthgen.stages.generate.session import ImageSession, failure_of


async def likelihood(session: ImageSession, pair: Pair) -> Score:
    """Return the geometric mean of the answer's token probabilities; makes no call.

    `loss` in the detail is the mean negative log-probability in nats, and null if a token has no probability at all. In
    a scoring pass it is the cross-model loss by which Infinity-MM filters its synthetic data (arXiv 2410.18558).
    """
    if missing := _without_logprobs(pair.reply):
        return missing
    logprobs, loss = pair.reply.logprobs, -mean(pair.reply.logprobs)
    detail = {"tokens": len(logprobs), "worst": math.exp(min(logprobs)), "loss": loss if math.isfinite(loss) else None}
    return Score(math.exp(-loss), detail=detail)


async def weakest_token(session: ImageSession, pair: Pair) -> Score:
    """Return the least of the answer's token probabilities; makes no call.

    The mean of a long answer hides one name or number that was guessed, and the least does not.
    """
    return _without_logprobs(pair.reply) or Score(math.exp(min(pair.reply.logprobs)))


async def image_gain(session: ImageSession, pair: Pair) -> Score:
    """Return the mean gain in log-probability of an answer token from seeing the image, in nats.

    Both calls show the question as a training sample does, with and without the image, under the system text of blind
    calls: an instruction that allows for "it cannot be told" would make every other answer unlikely without the image,
    right or wrong.
    """
    question, language = pair.question, pair.language
    text = turn_text(session.prompts, pair.form, question.text, question.options, language, pair.pair_id)
    request = Request("given", text, 1, given=pair.reply.text)
    seen, unseen = await session.generate_neutral(request), await session.generate_blind(request)
    for reply, name in ((seen, "the call with the image"), (unseen, "the blind call")):
        if failure := failure_of(reply, name):
            return Score(None, str(failure))
    # The last token ends the reply and is not part of the answer.
    with_image, without = seen.logprobs[:-1], unseen.logprobs[:-1]
    if not with_image or not without:
        return Score(None, "the engine gave no log-probabilities of the answer with and without the image")
    gain = mean(with_image) - mean(without)
    return Score(gain, detail={"with": mean(with_image), "without": mean(without)})


def _without_logprobs(reply: Reply) -> Score | None:
    """Return the score of a reply that has no log-probabilities; None if it has them."""
    if failure := failure_of(reply, "the answer"):
        return Score(None, str(failure))
    return None if reply.logprobs else Score(None, reply.detail or "the engine gave no log-probabilities")
