"""The table of scores. A `Scorer` holds all that differs between scores; other code derives from it.

A score is measured here and judged in the select stage, because thresholds are changed more often than scores are
measured. Measures run inside the image's conversation, while the engine's caches still hold the image.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config.entry_points import added, load
from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import SCORE_VARIABLES, JudgePrompt, PackFile
from synthgen.engines import Capability, EngineDied
from synthgen.errors import Failure, UserMistake, nearest, one_line
from synthgen.stages.generate import measures
from synthgen.stages.generate.measures import Pair, Score
from synthgen.stages.generate.session import ImageSession

ENTRY_POINTS = "synthgen.scores"  # the group in which installed packages offer a Scorer by its name
NAME = re.compile(r"[a-z][a-z0-9_]*")
PROMPT_KEY = re.compile(r"paraphrase|blind|judge\.[a-z][a-z0-9_]*")


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


SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("likelihood", measures.likelihood, from_logprobs=True),
        Scorer("agreement", measures.agreement, sampling=("agree_temperature", "agree_samples")),
        Scorer("paraphrase", measures.paraphrase, prompts=("paraphrase",)),
        Scorer(
            "image_gain",
            measures.image_gain,
            needs=("given",),
            from_logprobs=True,
            low=float("-inf"),
            high=float("inf"),
        ),
        Scorer(
            "question",
            measures.judge_question,
            needs=("labels",),
            prompts=("judge.question",),
            variables=("question", "type", "language"),  # a question is graded before its answer is known
            low=1.0,
            high=None,
        ),
        Scorer("answer", measures.judge_answer, needs=("labels",), prompts=("judge.answer",), low=1.0, high=None),
        Scorer("blind", measures.blind, prompts=("blind",)),
    )
}


def find_scorer(name: str) -> Scorer:
    """Return the score of that name, from the table or else from an installed package.

    Raises:
        UserMistake: There is no such score, or the package that offers it cannot be loaded.
    """
    if name in SCORERS:
        return SCORERS[name]
    point = added(ENTRY_POINTS).get(name)
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
    ours = [scorer for scorer in SCORERS.values() if key in scorer.prompts]
    return ours or [scorer for scorer in all_scorers() if key in scorer.prompts]


def score_settings(name: str, pack: PackFile, sampling: SamplingConfig) -> Any:
    """Return what changes the values of a score beyond the pair itself, as JSON values.

    The score's fingerprint is a hash of it: if it changes by a byte, all values in existing folders are stale.
    """
    scorer = find_scorer(name)
    settings = sampling.model_dump(mode="json", include=set(scorer.sampling))
    prompts = [prompt for key in scorer.prompts if (prompt := pack.score_prompt(key))]
    texts = [pack.system, *(prompt.model_dump(mode="json") for prompt in prompts)] if prompts else []
    if not settings:
        return texts
    return [*texts, settings] if texts else settings


async def score(name: str, session: ImageSession, pair: Pair) -> dict[str, Any]:
    """Measure one score of a pair; return its row of `3-generated/scores`."""
    scorer = find_scorer(name)
    if missing := scorer.missing_prompts(session.prompts.pack):
        why = f"prompt pack '{session.prompts.name}' has no prompt {', '.join(missing)}"
        return score_row(pair.pair_id, pair.assignment_id, Score(None, why))
    try:
        return score_row(pair.pair_id, pair.assignment_id, await scorer.measure(session, pair))
    except (EngineDied, MemoryError):
        raise
    except Exception as error:
        if name in SCORERS:
            raise
        failure = Failure("score_failed", one_line(error))
        return score_row(pair.pair_id, pair.assignment_id, Score(None, str(failure)))


def score_row(pair_id: str, assignment_id: str, score: Score) -> dict[str, Any]:
    """Return the row of SCORES that a score of a pair becomes."""
    return {
        "pair_id": pair_id,
        "assignment_id": assignment_id,
        "value": None if score.value is None else float(score.value),
        "reason": score.reason,
        "detail": json.dumps(score.detail, ensure_ascii=False) if score.detail else None,
        "output_tokens": score.output_tokens,
    }
