"""The blind test: is the question answered as well without the image?"""

import asyncio
from dataclasses import replace

from synthgen.config.replies.thoughts import without_markup
from synthgen.config.turns import with_options
from synthgen.engines import Reply
from synthgen.stages.generate.measures.further_answers import (
    IN_WORDS,
    NO_LETTER,
    choice_failure,
    chosen_each,
    chosen_option,
    rotated,
)
from synthgen.stages.generate.measures.judges import same_answer
from synthgen.stages.generate.measures.scorer import Pair, Score, prompt_request
from synthgen.stages.generate.session import ImageSession, failure_of
from synthgen.stages.generate.similarity import decisive_part, normalize, similarity

ROTATIONS = 4  # orders of the options in which a guess is made, at most


async def blind(session: ImageSession, pair: Pair) -> Score:
    """Return how unlike the answer is to an answer without the image: near 0, the image was not needed.

    Words are compared exactly, because "left" and "right" share all others with each other. Multiple choice is guessed
    in several orders of its options, as one guess in four is right. Of sentences a judge says whether they agree, where
    the pack has `judge.same`; else the words that they share count.
    """
    if pair.form == "choice" and len(pair.question.options) > 1:
        return await _blind_choice(session, pair)
    reply = await _guess(session, pair, with_options(pair.question.text, pair.question.options))
    if failure := failure_of(reply, "the blind answer"):
        return Score(None, str(failure))
    if pair.form in IN_WORDS:
        is_same = _said(reply.text, pair.form) == _said(pair.reply.text, pair.form)
        return Score(1.0 - is_same, detail={"answer": reply.text})
    if not _has_judge(session):
        alike = similarity(pair.reply.text, reply.text, pair.form)
        return Score(1.0 - alike, detail={"answer": reply.text, "by": "words"})
    judged = await same_answer(session, pair, reply.text)
    if judged.value is None:
        return judged
    return Score(1.0 - judged.value, detail={"answer": reply.text, "by": "judge"})


async def _blind_choice(session: ImageSession, pair: Pair) -> Score:
    """Return the share of blind guesses, each with the options in another order, that choose another option."""
    chosen = chosen_option(pair.reply.text, pair.question.options)
    if chosen is None:
        return Score(None, NO_LETTER)
    orders = rotated(pair.question.options)[:ROTATIONS]
    questions = [with_options(pair.question.text, order) for order in orders]
    replies = await asyncio.gather(*(_guess(session, pair, question) for question in questions))
    if failure := choice_failure(replies, "the blind answer"):
        return Score(None, str(failure))
    said = chosen_each(replies, orders)
    return Score(1.0 - said.count(chosen) / len(said), detail={"guesses": said})


async def _guess(session: ImageSession, pair: Pair, question: str) -> Reply:
    reply = await session.generate_blind(prompt_request(session, pair, "blind", purpose="answer", question=question))
    return replace(reply, text=without_markup(reply.text))


def _said(text: str, form: str) -> str:
    return normalize(decisive_part(text, form))


def _has_judge(session: ImageSession) -> bool:
    is_served = "labels" in session.engine.facts.capabilities
    return is_served and session.prompts.pack.score_prompt("judge.same") is not None
