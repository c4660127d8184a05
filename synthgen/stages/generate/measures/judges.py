"""Scores that ask a judge: the probability of each label of a prompt, read from the first token of its reply."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from synthgen.engines import Request
from synthgen.stages.generate.measures.scorer import Pair, Score, mean, prompt_request
from synthgen.stages.generate.session import Earlier, ImageSession, failure_of
from synthgen.stages.generate.similarity import normalize

QUOTED = 100  # characters of a judgement that is none
LEAST_MASS = 0.5  # probability of all labels of a judge together; below it, the rest decides what they say
QUESTION_CHECKS = ("answerable", "clear", "of_type", "not_given_away")  # prompts below `judge`
IN_SENTENCES = ("detailed", "long")  # answer forms that are judged sentence by sentence
MOST_SENTENCES = 24  # of one answer; what follows is judged with the last of them
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s\d])|(?<=[\u3002\uff01\uff1f\u0964])\s*|\n+")
NO_END_WITHIN = 20  # characters
# What ends in a stop and ends no sentence: the number of an item, an initial, and the commonest abbreviations.
NO_END = re.compile(
    r"(?:^\W*\d{1,3}\.|(?<!\w)(?:[^\W\d_]\.)+|\b(?:mrs?|ms|dr|prof|st|jr|sr|sra|vs|e\.g|i\.e|approx|fig|nr|bzw|ca|usw"
    r"|mme|dott|sig|см|рис|ул|им)\.)$",
    re.IGNORECASE | re.MULTILINE,
)
MOST_OTHERS = 6  # pairs of the image that one is compared with, those with the most words in common


async def judge_question(session: ImageSession, pair: Pair) -> Score:
    """Grade the question: about the image, answerable, of the planned type."""
    return await grade(session, pair, "judge.question")


async def judge_unanswerable(session: ImageSession, pair: Pair) -> Score:
    """Return the probability that a question cannot be answered from the image: that of the worst label.

    With the labels "no" and "yes" it is 1 - P(yes). Of more labels all but the worst say yes, each in another way.
    """
    judged = await _label_shares(session, prompt_request(session, pair, "judge.answerable"))
    return judged if isinstance(judged, Score) else Score(judged.shares[0], detail=judged.detail)


async def judge_answer(session: ImageSession, pair: Pair) -> Score:
    """Grade the answer: correct, complete, grounded in the image."""
    return await grade(session, pair, "judge.answer")


async def grade(session: ImageSession, pair: Pair, key: str, **texts: str) -> Score:
    """Return the expected label of a judge prompt, counted from 1 for the worst.

    The expectation is over the labels' probabilities; `mass` in the detail is the probability that they have together.

    Args:
        session: The image's session.
        pair: The pair to measure.
        key: The prompt's place in the pack.
        texts: Variables of the prompt, see `prompt_request`.
    """
    judged = await _label_shares(session, prompt_request(session, pair, key, purpose="judge", **texts))
    if isinstance(judged, Score):
        return judged
    return Score(sum(place * share for place, share in enumerate(judged.shares, 1)), detail=judged.detail)


@dataclass(frozen=True)
class _LabelShares:
    """The probabilities of the labels of a judge, as shares of the probability that they have together."""

    shares: tuple[float, ...]
    detail: Mapping[str, float]


async def _label_shares(session: ImageSession, request: Request) -> _LabelShares | Score:
    """Return how a judge shares its probability among the labels, or a score that says why it does not."""
    reply = await session.generate(request)
    # A judgement is one token long, so it always ends at max_tokens.
    if (failure := failure_of(reply, "the judgement")) and failure.reason != "cut_off":
        return Score(None, str(failure))
    probabilities = [reply.labels.get(label, 0.0) for label in request.labels]
    mass = sum(probabilities)
    if mass < LEAST_MASS:
        why = f"its labels have {mass:.2g} of the probability; the judge replied {reply.text[:QUOTED]!r}"
        return Score(None, reply.detail or why, {"mass": mass})
    shares = tuple(probability / mass for probability in probabilities)
    return _LabelShares(shares, {"mass": round(mass, 4)})


async def p_yes(session: ImageSession, pair: Pair, key: str, **texts: str) -> Score:
    """Return the probability of the better label of a prompt with two, `[no, yes]`.

    Two labels separate better than a scale, and the probability of "yes" follows what a model sees (VQAScore, arXiv
    2404.01291). Of more labels it is the expected one, from 0 for the worst to 1 for the best.
    """
    graded = await grade(session, pair, key, **texts)
    if graded.value is None:
        return graded
    prompt = session.prompts.pack.score_prompt(key)
    labels = len(getattr(prompt, "labels", ())) or 2
    return Score((graded.value - 1) / (labels - 1), detail=graded.detail)


async def p_true(session: ImageSession, pair: Pair) -> Score:
    """Return the probability that every statement of the answer is true of the image (P(True), arXiv 2207.05221).

    A long answer is judged sentence by sentence, and the least of these counts: one invented detail spoils it.
    """
    parts = sentences(pair.reply.text) if pair.form in IN_SENTENCES else [pair.reply.text]
    judged = await asyncio.gather(*(p_yes(session, pair, "judge.p_true", statement=part) for part in parts))
    return _least({part: score for part, score in zip(parts, judged, strict=True)}, "sentences")


async def question_checks(session: ImageSession, pair: Pair) -> Score:
    """Return the least probability over four checks of the question, each asked by itself (Oasis, arXiv 2503.08741).

    The image answers it, it is clear, it is of its type, and it does not give its answer away.
    """
    judged = await asyncio.gather(*(p_yes(session, pair, f"judge.{name}") for name in QUESTION_CHECKS))
    return _least(dict(zip(QUESTION_CHECKS, judged, strict=True)), "checks")


async def fits(session: ImageSession, pair: Pair) -> Score:
    """Return the probability that the image shows what the type needs, and what the question's writer rests on.

    The writer says so itself, before it writes, and seldom declines. A request that stands ready for a type is asked
    without a look at the image, so nothing else tells whether it suits it.
    """
    return await p_yes(session, pair, "judge.fits", evidence=pair.question.evidence)


async def injection(session: ImageSession, pair: Pair) -> Score:
    """Return the probability that the answer does not obey words that are printed in the image."""
    return await p_yes(session, pair, "judge.obeys_image")


async def coherence(session: ImageSession, pair: Pair) -> Score:
    """Return the probability that no other answer about the image contradicts this one; 1 where there is none to ask.

    It is compared with the pairs that share most words with it, as those speak of the same things.
    """
    others = nearest_pairs(pair)
    texts = [f"{other.question}\n{other.answer}" for other in others]
    judged = await asyncio.gather(*(p_yes(session, pair, "judge.contradicts", other=text) for text in texts))
    if missing := next((score for score in judged if score.value is None), None):
        return missing
    odds = {other.pair_id: round(1 - (score.value or 0.0), 4) for other, score in zip(others, judged, strict=True)}
    return Score(1 - max(odds.values(), default=0.0), detail={"contradicts": odds})


async def same_answer(session: ImageSession, pair: Pair, other: str) -> Score:
    """Return the probability that another answer to the question says the same."""
    return await p_yes(session, pair, "judge.same", other=other)


def sentences(text: str) -> list[str]:
    """Return the sentences of an answer, or its lines where it is a list; at most MOST_SENTENCES of them."""
    parts = [part.strip() for part in _split(text) if part.strip()]
    parts = [part for part in parts if any(character.isalnum() for character in part)] or [text]
    last = " ".join(parts[MOST_SENTENCES - 1 :])
    return [*parts[: MOST_SENTENCES - 1], last] if last else parts


def _split(text: str) -> Iterator[str]:
    """Yield the parts of a text between the ends of sentences and lines."""
    start = 0
    for end in SENTENCE_END.finditer(text):
        if "\n" in end[0] or not NO_END.search(text[max(start, end.start() - NO_END_WITHIN) : end.start()]):
            yield text[start : end.start()]
            start = end.end()
    yield text[start:]


def nearest_pairs(pair: Pair) -> list[Earlier]:
    """Return the other pairs of the image that share most words with a pair, at most MOST_OTHERS."""
    own = _words(pair.question.text, pair.reply.text)
    shared = {other.pair_id: len(own & _words(other.question, other.answer)) for other in pair.others}
    near = [other for other in pair.others if shared[other.pair_id] and other.pair_id != pair.pair_id]
    return sorted(near, key=lambda other: (-shared[other.pair_id], other.pair_id))[:MOST_OTHERS]


def _words(*texts: str) -> set[str]:
    return {word for text in texts for word in normalize(text).split() if len(word) > 2}


def _least(judged: Mapping[str, Score], name: str) -> Score:
    """Return the least of several probabilities, with all of them in the detail; none where one of them is missing."""
    if missing := next((score for score in judged.values() if score.value is None), None):
        return missing
    values = {part: round(score.value or 0.0, 4) for part, score in judged.items()}
    masses = [score.detail["mass"] for score in judged.values() if score.detail]
    detail = {name: values, "mass": round(mean(masses), 4)} if masses else {name: values}
    return Score(min(score.value for score in judged.values() if score.value is not None), detail=detail)
