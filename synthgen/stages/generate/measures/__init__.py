"""The scores: a measure of a pair each, and the table `SCORERS`, from which other code derives all else.

scorer.py says what a score is; the other modules hold the measures.
"""

from collections.abc import Mapping

from synthgen.config.generation import UNANSWERABLE_SCORE
from synthgen.stages.generate.measures.blind import blind
from synthgen.stages.generate.measures.further_answers import (
    agreement,
    commonest,
    consistency,
    other_form,
    paraphrase,
    shift_check,
)
from synthgen.stages.generate.measures.judges import (
    QUESTION_CHECKS,
    coherence,
    fits,
    grade,
    injection,
    judge_answer,
    judge_question,
    judge_unanswerable,
    p_true,
    p_yes,
    question_checks,
)
from synthgen.stages.generate.measures.likelihoods import image_gain, likelihood, weakest_token
from synthgen.stages.generate.measures.scorer import Pair, Score, Scorer, prompt_for, prompt_request

__all__ = ["SCORERS", "Pair", "Score", "Scorer", "commonest", "grade", "p_yes", "prompt_for", "prompt_request"]

# Variables of a prompt that is rendered before the answer is known.
OF_QUESTION = ("question", "type", "language", "previous")
SAMPLES = ("agree_temperature", "agree_samples", "agree_forms")
INFINITY = float("inf")

SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("likelihood", likelihood, from_logprobs=True),
        Scorer("weakest_token", weakest_token, from_logprobs=True),
        Scorer("agreement", agreement, sampling=SAMPLES, negatives="never"),
        Scorer("consistency", consistency, ("labels",), ("judge.same",), sampling=SAMPLES),
        Scorer("paraphrase", paraphrase, prompts=("paraphrase",), negatives="never"),
        Scorer(
            "other_form",
            other_form,
            ("labels",),
            ("judge.same",),
            forms=("short", "choice", "brief", "detailed"),
            negatives="never",
        ),
        Scorer("shift_check", shift_check, forms=("choice",)),
        Scorer(
            "image_gain",
            image_gain,
            ("given",),
            asks_answers=False,
            negatives="never",
            version=2,
            low=-INFINITY,
            high=INFINITY,
        ),
        Scorer(
            "blind",
            blind,
            prompts=("blind",),
            also=("judge.same",),
            asks_answers=False,
            negatives="never",
            version=2,
        ),
        Scorer(
            "question",
            judge_question,
            ("labels",),
            ("judge.question",),
            variables=OF_QUESTION,
            of_question=True,
            asks_answers=False,
            negatives="never",
            low=1.0,
            high=None,
        ),
        Scorer(
            "question_checks",
            question_checks,
            ("labels",),
            tuple(f"judge.{name}" for name in QUESTION_CHECKS),
            variables=OF_QUESTION,
            of_question=True,
            asks_answers=False,
            negatives="never",
        ),
        Scorer(
            "fits",
            fits,
            ("labels",),
            ("judge.fits",),
            variables=(*OF_QUESTION, "evidence"),
            of_question=True,
            asks_answers=False,
            negatives="never",
        ),
        Scorer(
            UNANSWERABLE_SCORE,
            judge_unanswerable,
            ("labels",),
            ("judge.answerable",),
            variables=OF_QUESTION,
            of_question=True,
            asks_answers=False,
            negatives="only",
        ),
        Scorer("answer", judge_answer, ("labels",), ("judge.answer",), asks_answers=False, low=1.0, high=None),
        Scorer("p_true", p_true, ("labels",), ("judge.p_true",), asks_answers=False),
        Scorer(
            "coherence", coherence, ("labels",), ("judge.contradicts",), asks_answers=False, of_image=True, version=2
        ),
        Scorer("injection", injection, ("labels",), ("judge.obeys_image",), asks_answers=False, version=2),
    )
}
