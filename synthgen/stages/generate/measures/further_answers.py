"""Scores that let the model answer again and compare: other samples, other wordings, forms and orders of options."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from synthgen.config.replies import LETTERS, Question, letter_of
from synthgen.config.replies.thoughts import without_markup
from synthgen.engines import Reply
from synthgen.errors import Failure
from synthgen.stages.generate.measures.judges import same_answer
from synthgen.stages.generate.measures.scorer import Pair, Score, mean, prompt_request
from synthgen.stages.generate.session import ImageSession, failure_of
from synthgen.stages.generate.similarity import decisive_part, normalize, similarity
from synthgen.tables import draw

IN_WORDS = ("short", "choice", "text", "points", "boxes")  # forms whose answers are compared word by word
ALIKE = 0.5  # probability, or word overlap, from which on two answers say the same
NO_LETTER = "the answer is not the letter of an option"
OTHER_FORM = {"short": "detailed", "choice": "detailed", "brief": "short", "detailed": "short"}


async def agreement(session: ImageSession, pair: Pair) -> Score:
    """Return the mean similarity of the answer to further samples (self-consistency, arXiv 2203.11171)."""
    replies = await _samples(session, pair)
    if isinstance(replies, Failure):
        return Score(None, str(replies))
    alike = [similarity(pair.reply.text, reply.text, pair.form) for reply in replies]
    return Score(mean(alike), detail={"samples": [reply.text for reply in replies]})


async def consistency(session: ImageSession, pair: Pair) -> Score:
    """Return the share of further samples that say the same as the answer.

    All answers are sorted into clusters of one meaning each (semantic entropy, arXiv 2302.09664), by their words where
    they are words, else by a judge. The detail has the sizes of the clusters, the answer's own first, and the entropy
    in nats.
    """
    replies = await _samples(session, pair)
    if isinstance(replies, Failure):
        return Score(None, str(replies))
    clusters = await _sorted(session, pair, [pair.reply.text, *(reply.text for reply in replies)])
    if isinstance(clusters, Score):
        return clusters
    sizes = [len(cluster) for cluster in clusters]
    shares = [size / sum(sizes) for size in sizes]
    entropy = -sum(share * math.log(share) for share in shares)
    detail = {"sizes": sizes, "entropy": round(entropy, 4), "meanings": [cluster[0] for cluster in clusters]}
    return Score((sizes[0] - 1) / len(replies), detail=detail)


async def commonest(session: ImageSession, pair: Pair, texts: Sequence[str]) -> int | Score:
    """Return the place of the first of the answers that most of some answers agree with; a Score if a call failed.

    Where the pack has no prompt `judge.same`, or the engine gives no probabilities of labels, answers in sentences are
    of one meaning only if they have the same words.
    """
    has_judge = session.prompts.pack.score_prompt("judge.same") is not None
    is_judged = has_judge and "labels" in session.engine.facts.capabilities
    clusters = await _sorted(session, pair, texts, is_judged=is_judged)
    if isinstance(clusters, Score):
        return clusters
    return texts.index(max(clusters, key=len)[0])


async def paraphrase(session: ImageSession, pair: Pair) -> Score:
    """Return the similarity of the answer to the answer of the paraphrased question."""
    request = prompt_request(session, pair, "paraphrase", purpose="paraphrase", question=pair.question.text)
    paraphrased = await session.generate(request)
    if failure := failure_of(paraphrased, "the paraphrase"):
        return Score(None, str(failure))
    if not paraphrased.text:
        return Score(None, "the paraphrase is empty")
    turn = replace(pair.turn, question=replace(pair.question, text=without_markup(paraphrased.text)))
    answer = await session.answer(turn, seed=0)
    if failure := failure_of(answer, "the answer to the paraphrase"):
        return Score(None, str(failure))
    return Score(
        similarity(pair.reply.text, answer.text, pair.form),
        detail={"question": turn.question.text, "answer": answer.text},
    )


async def other_form(session: ImageSession, pair: Pair) -> Score:
    """Return whether the same question, answered in another form, has the same answer.

    A short answer is compared with the end of one that is worked out, and an answer in sentences with a short one (the
    two must agree in AdaMLLM and MAmmoTH-VL): 1 or 0 by the words, or the probability that a judge gives.
    """
    form = OTHER_FORM[pair.form]
    if form not in session.prompts.pack.answer:
        return Score(None, f"prompt pack '{session.prompts.name}' has no answer prompt for the form '{form}'")
    reply = await session.answer(replace(pair.turn, form=form), seed=0)
    if failure := failure_of(reply, f"the {form} answer"):
        return Score(None, str(failure))
    detail = {"form": form, "answer": reply.text}
    if pair.form == "choice":
        return Score(float(_names_option(pair, reply.text)), detail=detail)
    if pair.form == "short":
        said = decisive_part(reply.text, form).removeprefix("Answer:").strip()
        return Score(similarity(pair.reply.text, said), detail={**detail, "answer": said})
    judged = await same_answer(session, pair, reply.text)
    return judged if judged.value is None else Score(judged.value, detail=detail)


async def shift_check(session: ImageSession, pair: Pair) -> Score:
    """Return the share of rotations of the options in which the model chooses the same one (ShiftCheck, CMMU).

    The pair's own order counts too, so a choice by place alone has 1 / options, and 1 is right under every rotation
    (arXiv 2401.14011).
    """
    options = pair.question.options
    chosen = chosen_option(pair.reply.text, options)
    if chosen is None:
        return Score(None, NO_LETTER)
    rotations = rotated(options)[1:]
    turns = [replace(pair.turn, question=Question(pair.question.text, order)) for order in rotations]
    replies = await asyncio.gather(*(session.answer(turn, seed=0) for turn in turns))
    if failure := choice_failure(replies, "the answer to a rotation"):
        return Score(None, str(failure))
    said = chosen_each(replies, rotations)
    return Score((1 + said.count(chosen)) / len(options), detail={"rotated": said})


def rotated(options: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return every rotation of options, their own order first."""
    return [(*options[shift:], *options[:shift]) for shift in range(len(options))]


def chosen_option(reply: str, options: Sequence[str], is_cut_off: bool = False) -> str | None:
    """Return the option whose letter a reply to multiple choice gives; None if it gives none of theirs."""
    return dict(zip(LETTERS, options, strict=False)).get(letter_of(reply, is_cut_off) or "")


def chosen_each(replies: Sequence[Reply], orders: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the option that each reply chooses, of its own order of them."""
    pairs = zip(replies, orders, strict=True)
    return [chosen_option(reply.text, order, reply.finish == "length") for reply, order in pairs]


def choice_failure(replies: Sequence[Reply], subject: str) -> Failure | None:
    """Return why one of these replies to multiple choice cannot be used; one that was cut off has its letter."""
    failures = [failure_of(reply, subject) for reply in replies]
    return next((failure for failure in failures if failure and failure.reason != "cut_off"), None)


async def _samples(session: ImageSession, pair: Pair) -> list[Reply] | Failure:
    """Return further samples of the answer, or why there are none.

    The pair's answer was not cut off, so a sample that was is another answer and is compared as it stands.
    """
    settings = session.sampling
    numbers = range(settings.agree_samples)
    seeds = [int(draw(session.seed, "agree", pair.pair_id, str(number)) * 2**31) for number in numbers]
    replies = await asyncio.gather(
        *(session.answer(pair.turn, seed=seed, temperature=settings.agree_temperature) for seed in seeds)
    )
    failures = [failure_of(reply, "a sample") for reply in replies]
    return next((failure for failure in failures if failure and failure.reason != "cut_off"), list(replies))


async def _sorted(
    session: ImageSession, pair: Pair, texts: Sequence[str], *, is_judged: bool = True
) -> list[list[str]] | Score:
    """Return answers in clusters of one meaning each, in their order; a Score if a call failed."""
    clusters: list[list[str]] = []
    for text in texts:
        place = await _cluster_of(session, pair, text, clusters, is_judged=is_judged)
        if isinstance(place, Score):
            return place
        if place is None:
            clusters.append([text])
        else:
            clusters[place].append(text)
    return clusters


async def _cluster_of(
    session: ImageSession, pair: Pair, text: str, clusters: Sequence[Sequence[str]], *, is_judged: bool
) -> int | Score | None:
    """Return the place of the cluster whose first answer says the same; None if none does, a Score if a call failed."""
    for place, cluster in enumerate(clusters):
        if _words(cluster[0], pair.form) == _words(text, pair.form):
            return place
        if pair.form in IN_WORDS or not is_judged:
            continue
        judged = await same_answer(session, replace(pair, reply=replace(pair.reply, text=cluster[0])), text)
        if judged.value is None:
            return judged
        if judged.value >= ALIKE:
            return place
    return None


def _words(text: str, form: str) -> str:
    return normalize(decisive_part(text, form))


def _names_option(pair: Pair, text: str) -> bool:
    """Return whether a text ends in the option that the answer chose, by its letter or its words."""
    chosen = chosen_option(pair.reply.text, pair.question.options)
    said = decisive_part(text, "detailed").removeprefix("Answer:").strip()
    if chosen is None:
        return False
    return chosen_option(said, pair.question.options) == chosen or f" {normalize(chosen)} " in f" {normalize(said)} "
