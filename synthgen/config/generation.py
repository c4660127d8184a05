"""Settings of the models that ask, answer, judge and answer again."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from synthgen.config.engine import EngineConfig, PriceConfig, SamplingConfig, check_one_currency
from synthgen.config.fields import Scores
from synthgen.config.library import Section
from synthgen.config.scoring import AfterConfig
from synthgen.config.selection import Threshold
from synthgen.errors import nearest

UNANSWERABLE_SCORE = "unanswerable"  # by which negatives are verified
REASKED = (  # reasons of `select`, or what stands before their colon, that another answer can change
    *("score", "rank", "user", "rule:meta", "rule:loops", "rule:repeats_question", "rule:wrong_language"),
    *("rule:broken_choice", "rule:wrong_key", "rule:broken_places", "rule:not_as_planned", "rule:answer_too_long"),
)


class PartConfig(Section):
    """Another model for one part of stage 3; without an engine or a price of its own it has those of `generate`."""

    model: str
    revision: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None


class GenerateConfig(Section):
    """Stage 3, generate: questions, answers and scores from a model, or from one that asks and one that answers."""

    model: str  # not needed where both `ask` and `answer` name one
    revision: str | None = None
    prompts: str
    engine: EngineConfig = EngineConfig()
    price: PriceConfig = PriceConfig()
    sampling: SamplingConfig = SamplingConfig()
    scores: tuple[str, ...] = ("likelihood",)
    gate: Mapping[str, Threshold] = Field(default_factory=dict)  # score of a question -> range in which it is answered
    unanswerable: float = Field(default=0.7, ge=0, le=1)  # least of this score with which a negative is answered
    ask: PartConfig | None = None  # writes the questions in place of `model`
    answer: PartConfig | None = None  # answers and scores in place of `model`

    @model_validator(mode="before")
    @classmethod
    def _fill_unused_model(cls, values: Any) -> Any:
        """Let the model that answers stand for `model` where another asks, so that `model` itself serves nothing."""
        named = values if isinstance(values, Mapping) else {}
        ask, answer = (named.get(part) for part in ("ask", "answer"))
        if isinstance(ask, Mapping) and isinstance(answer, Mapping) and {"model"} <= ask.keys() & answer.keys():
            return {"model": answer["model"], **named}
        return values

    @model_validator(mode="after")
    def _check_currencies(self) -> "GenerateConfig":
        check_one_currency([self.asker.price, self.answerer.price])
        return self

    @property
    def asker(self) -> "GenerateConfig":
        """This section as it is for the model that asks."""
        return self._of(self.ask)

    @property
    def answerer(self) -> "GenerateConfig":
        """This section as it is for the model that answers and scores."""
        return self._of(self.answer)

    @property
    def is_split(self) -> bool:
        """Whether one engine asks and another answers, each in a pass of its own."""
        ask, answer = self.asker, self.answerer
        return (ask.model, ask.revision, ask.engine) != (answer.model, answer.revision, answer.engine)

    def _of(self, part: PartConfig | None) -> "GenerateConfig":
        if part is None:
            return self.model_copy(update={"ask": None, "answer": None})
        own = {"engine": part.engine or self.engine, "price": part.price or self.price}
        return self.model_copy(
            update={"model": part.model, "revision": part.revision, **own, "ask": None, "answer": None}
        )


class PassConfig(Section):
    """A model that measures scores of pairs that are there; what it does not name is as in `generate`."""

    model: str
    revision: str | None = None
    scores: Scores = Field(min_length=1)
    prompts: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None
    sampling: SamplingConfig | None = None
    after: AfterConfig | None = None  # only pairs that this score leaves open; by default all


class ReaskConfig(Section):
    """`synth reask`, after the stages: another answer, along a stronger path, for pairs that `select` dropped."""

    reasons: tuple[str, ...] = ("score", "rank")  # of `select`; with the name behind the colon, or all of a kind
    model: str | None = None  # by default the one that answers
    revision: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None
    samples: int = Field(default=5, gt=0)  # answers, of which that is taken which most of them give

    @field_validator("reasons")
    @classmethod
    def _check_reasons(cls, reasons: tuple[str, ...]) -> tuple[str, ...]:
        for reason in reasons:
            if not any(reason == known or reason.startswith(f"{known}:") for known in REASKED):
                raise ValueError(f"'{reason}' is no reason that another answer can change: {nearest(reason, REASKED)}")
        return reasons


def as_generate(generate: GenerateConfig, settings: PassConfig) -> GenerateConfig:
    """Return the section `generate` as it is for the model of a pass."""
    inherited = ("prompts", "engine", "price", "sampling")
    named = {name: getattr(settings, name) or getattr(generate, name) for name in inherited}
    own = {"model": settings.model, "revision": settings.revision, "scores": settings.scores}
    return generate.model_copy(update={**named, **own, "ask": None, "answer": None})
