"""What a score is: a `Scorer` says how it is measured and what it needs, a measure returns a `Score` of a `Pair`."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthgen.config.families import InstructionType
from synthgen.config.prompt_file import JudgePrompt, PackFile
from synthgen.config.prompt_pack import SCORE_VARIABLES, Prompts
from synthgen.config.replies import Question
from synthgen.config.templates import render
from synthgen.config.turns import with_options
from synthgen.engines import Capability, Purpose, Reply, Request
from synthgen.stages.generate.session import Earlier, ImageSession, Turn
from synthgen.tables import ANSWER_FORMS

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
    others: tuple[Earlier, ...] = ()  # the other pairs of its image, as far as they are known when it is measured

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

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a Score has either a value or a reason why it has none")


@dataclass(frozen=True)
class Scorer:
    """A score: its measure, its range, and what it needs from the engine, the prompt pack and the settings.

    Attributes:
        name: In `generate.scores`, in `select.keep` and as a folder in `3-generated/scores`.
        measure: Returns a Score without a value if a call fails or its reply cannot be used; it never uses half a
            reply. It is called only if the pack has its prompts and its pair has one of its forms.
        needs: Of the engine; with "labels", its prompts below `judge` have labels.
        prompts: Keys of the pack: `paraphrase`, `blind` or `judge.NAME`.
        also: Keys of the pack that it uses where they are there.
        variables: That its prompts below `judge` may use.
        sampling: Keys of `generate.sampling` that change its values.
        forms: The answer forms that it says anything about.
        from_logprobs: Whether it is computed from the log-probabilities of the answer.
        asks_answers: Whether its calls may have the pack's prompts of answers; a judge's do not.
        of_question: Whether it needs no answer, so that `generate.gate` may use it.
        negatives: Whether it says anything of negatives, whose questions their image cannot answer: as of other
            pairs ("too"), of them alone ("only"), or of all pairs but them ("never").
        of_image: Whether it compares the pair with others of its image, so that it is measured when all are known.
        version: Raised when the measure changes, which makes earlier values stale.
        low: The least value.
        high: The greatest value; None is the number of labels of its prompt.
    """

    name: str
    measure: Callable[[ImageSession, Pair], Awaitable[Score]]
    needs: tuple[Capability, ...] = ()
    prompts: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    variables: tuple[str, ...] = SCORE_VARIABLES
    sampling: tuple[str, ...] = ()
    forms: tuple[str, ...] = ANSWER_FORMS
    from_logprobs: bool = False
    asks_answers: bool = True
    of_question: bool = False
    of_image: bool = False
    negatives: Literal["too", "only", "never"] = "too"
    version: int = 1
    low: float = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a score's name is lower-case letters, digits and _, not {self.name!r}")
        for key in (*self.prompts, *self.also):
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


def prompt_request(session: ImageSession, pair: Pair, key: str, *, purpose: Purpose = "judge", **texts: str) -> Request:
    """Render a score's prompt for a pair.

    Args:
        session: The image's session.
        pair: The pair to measure.
        key: The prompt's place in the pack, such as `judge.answer`; the scorer lists it in `prompts`.
        purpose: What the call is for.
        texts: Variables of the template that differ from the pair's own: `question` (by default with its options, one
            lettered line each), `answer`, `statement` (by default the answer), `other` and `evidence` (by default
            empty).

    Returns:
        A request for one token with the probabilities of the prompt's labels, or for text if the prompt has no labels.
    """
    return prompt_for(session.prompts, pair, key, purpose=purpose, **texts)


def prompt_for(prompts: Prompts, pair: Pair, key: str, *, purpose: Purpose = "judge", **texts: str) -> Request:
    """Render a score's prompt for a pair, as `prompt_request` does, where no engine runs."""
    prompt = prompts.pack.score_prompt(key)
    assert prompt, f"pack '{prompts.name}' has no prompt {key}"
    own = {
        "question": with_options(pair.question.text, pair.question.options),
        "answer": pair.reply.text,
        "statement": pair.reply.text,
        "other": "",
        "evidence": "",
    }
    previous = pair.earlier.previous if pair.earlier else None
    text = render(prompt.text, type=pair.type, language=pair.language, previous=previous, **(own | texts))
    if isinstance(prompt, JudgePrompt):
        return Request(purpose, text, 1, labels=prompt.labels)
    return Request(purpose, text, prompt.max_tokens)


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return sum(values) / len(values)
