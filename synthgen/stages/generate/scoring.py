"""Finds scores, in the table of `measures` and in installed packages, and measures them.

A score is measured here and judged in the select stage, because thresholds are changed more often than scores are
measured. Measures run inside the image's conversation, while the engine's caches still hold the image.
"""

import json
from dataclasses import replace
from typing import Any

from synthgen.config.engine import SamplingConfig
from synthgen.config.entry_points import added, load, offered
from synthgen.config.families import is_unanswerable
from synthgen.config.prompt_file import PackFile, SystemTexts
from synthgen.engines import JOB_ERRORS
from synthgen.engines.recorder import Meter
from synthgen.errors import Failure, UserMistake, describe_error, nearest, one_line
from synthgen.stages.generate.measures import SCORERS, Pair, Score, Scorer
from synthgen.stages.generate.session import ImageSession
from synthgen.tables import ANSWER_FORMS, NOT_APPLICABLE

LARGEST = 3.4e38  # value, about the largest float32
LONGEST_REASON = 600  # characters; a failure's detail has up to 500
ENTRY_POINTS = "synthgen.scores"  # the group in which installed packages offer a Scorer by its name


def find_scorer(name: str) -> Scorer:
    """Return the score of that name, from the table or else from an installed package.

    Raises:
        UserMistake: There is no such score or more than one, or the package that offers it cannot be loaded.
    """
    point = offered(ENTRY_POINTS, name, "score", name in SCORERS)
    if name in SCORERS:
        return SCORERS[name]
    if point is None:
        raise UserMistake(f"'{name}' is not a score: {nearest(name, scorer_names())}")

    def is_expected(loaded: object) -> bool:
        return isinstance(loaded, Scorer) and loaded.name == name

    scorer: Scorer = load(point, "score", f"a Scorer named '{name}'", is_expected)
    return scorer


def is_score(name: str) -> bool:
    """Return whether the table or an installed package has a score of that name; packages are not loaded."""
    return name in scorer_names()


def scorer_names() -> list[str]:
    """Return the names of all scores: those of the table, then those of installed packages."""
    return list(dict.fromkeys([*SCORERS, *added(ENTRY_POINTS)]))


def all_scorers() -> list[Scorer]:
    """Return all scores; a package that cannot be loaded is a UserMistake."""
    return [find_scorer(name) for name in scorer_names()]


def scorers_using(key: str) -> list[Scorer]:
    """Return the scores that use a prompt of the pack; packages are loaded only where none of the table does."""
    ours = [scorer for scorer in SCORERS.values() if key in (*scorer.prompts, *scorer.also)]
    return ours or [scorer for scorer in all_scorers() if key in (*scorer.prompts, *scorer.also)]


def score_settings(name: str, pack: PackFile, sampling: SamplingConfig) -> Any:
    """Return what changes the values of a score beyond the pair itself, as JSON values.

    The score's fingerprint is a hash of it: if it changes by a byte, all values in existing folders are stale.
    """
    scorer = find_scorer(name)
    settings = sampling.model_dump(mode="json", include=set(scorer.sampling))
    if sampling.agree_forms == ANSWER_FORMS:
        settings.pop("agree_forms", None)  # it came later, and changes nothing so
    prompts = [prompt for key in (*scorer.prompts, *scorer.also) if (prompt := pack.score_prompt(key))]
    texts = [_system(pack), *(prompt.model_dump(mode="json") for prompt in prompts)] if prompts else []
    version = [{"version": scorer.version}] if scorer.version > 1 else []
    if not settings:
        return [*texts, *version]
    return [*texts, settings, *version] if texts or version else settings


def pass_settings(name: str, pack: PackFile, sampling: SamplingConfig) -> Any:
    """Return what changes the values of a score beyond the pair, where another model measures it than the one it is of.

    The system texts, and the prompts and the sampling of answers, are no part of such a pair. So the first count here,
    and the others where the score has any.
    """
    own = [score_settings(name, pack, sampling), _system(pack)]
    if not find_scorer(name).asks_answers:
        return own
    answers = {
        form: prompt.model_dump(mode="json", include={"text", "max_tokens"}) for form, prompt in pack.answer.items()
    }
    reasoning = pack.reasoning.model_dump(mode="json") if pack.reasoning else None
    sampled = sampling.model_dump(mode="json", include={"answer_temperature", "top_p"})
    return [*own, answers, reasoning, sampled]


def call_keys(name: str) -> tuple[str, ...]:
    """Return the keys of the pack whose prompts the calls of a score have: `judge.NAME`, or whole sections."""
    scorer = find_scorer(name)
    return (*scorer.prompts, *scorer.also, *(("answer", "reasoning") if scorer.asks_answers else ()))


def _system(pack: PackFile) -> Any:
    """Return the system texts that the calls of scores can have, as JSON values."""
    if not isinstance(pack.system, SystemTexts):
        return pack.system
    return pack.system.model_dump(mode="json", exclude={"ask"})


async def score(name: str, session: ImageSession, pair: Pair, meter: Meter | None = None) -> dict[str, Any]:
    """Measure one score of a pair; return its row of `3-generated/scores`.

    Args:
        name: Of the score.
        session: The image's session.
        pair: The pair.
        meter: The session's engine with the calls that were made for this score already.
    """
    scorer, meter = find_scorer(name), meter or Meter(session.engine)
    ids = pair.pair_id, pair.assignment_id
    if pair.form not in _forms(scorer, session.sampling):
        return score_row(*ids, Score(None, f"{NOT_APPLICABLE} to the form '{pair.form}'"), meter)
    if why := _not_of_negatives(scorer, session, pair):
        return score_row(*ids, Score(None, f"{NOT_APPLICABLE} to {why}"), meter)
    if missing := scorer.missing_prompts(session.prompts.pack):
        why = f"prompt pack '{session.prompts.name}' has no prompt {', '.join(missing)}"
        return score_row(*ids, Score(None, why), meter)
    try:
        return score_row(*ids, await scorer.measure(replace(session, engine=meter), pair), meter)
    except JOB_ERRORS:
        raise
    except (Exception, SystemExit) as error:
        failure = Failure("score_failed", describe_error(error))
        return score_row(*ids, Score(None, str(failure)), meter)


def _forms(scorer: Scorer, sampling: SamplingConfig) -> tuple[str, ...]:
    """Return the answer forms that a score is measured for; of further samples those that the pipeline names."""
    return sampling.agree_forms if "agree_forms" in scorer.sampling else scorer.forms


def _not_of_negatives(scorer: Scorer, session: ImageSession, pair: Pair) -> str | None:
    """Return what a score says nothing of, if the pair is that: a negative, or none."""
    is_negative, prompt = is_unanswerable(pair.type.path), session.prompts.pack.unanswerable
    if scorer.negatives == ("never" if is_negative else "only"):
        return "questions that are of another image" if is_negative else "questions that are of their own image"
    is_reply = is_negative and prompt is not None and pair.language in prompt.replies
    return "a reply of the prompt pack" if is_reply and scorer.from_logprobs else None


def score_row(pair_id: str, assignment_id: str, score: Score, meter: Meter | None = None) -> dict[str, Any]:
    """Return the row of SCORES that a score of a pair becomes.

    Args:
        pair_id: Of the pair.
        assignment_id: Of the pair.
        score: What the measure returned.
        meter: The engine that it called; None if it called none.

    Raises:
        ValueError: The value is no finite number, or the detail is none that JSON can hold.
        TypeError: So.
    """
    if not isinstance(score, Score):
        raise TypeError(f"the measure returned {type(score).__name__}, not a Score")
    value = None if score.value is None else float(score.value)
    if value is not None and not abs(value) <= LARGEST:  # NaN compares as False
        raise ValueError(f"the value is {value}, which is not a number that can be stored")
    return {
        "pair_id": pair_id,
        "assignment_id": assignment_id,
        "value": value,
        "reason": None if score.reason is None else one_line(str(score.reason), LONGEST_REASON),
        "detail": _json(score.detail) if score.detail else None,
        "calls": meter.calls if meter else 0,
        "prompt_tokens": meter.prompt_tokens if meter else 0,
        "cached_tokens": meter.cached_tokens if meter else 0,
        "output_tokens": meter.output_tokens if meter else 0,
    }


def _json(detail: Any) -> str:
    text = json.dumps(detail, ensure_ascii=False, allow_nan=False)
    text.encode()  # no table holds half of a surrogate pair
    return text
