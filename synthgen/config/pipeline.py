"""Pipeline files: their sections in the order of the stages, and `--set` overrides.

Settings that shape rows are part of a table's fingerprint (`_shape` in job/job.py lists them). The others only decide
speed and place (`workers`, `batch`, most of `engine`) and can change between two starts of one run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from synthgen.config import library
from synthgen.config import overrides as overriding
from synthgen.config.engine import EngineConfig, check_one_currency
from synthgen.config.fields import PassName
from synthgen.config.generation import UNANSWERABLE_SCORE, GenerateConfig, PassConfig, ReaskConfig, as_generate
from synthgen.config.library import Section
from synthgen.config.packing import PackConfig
from synthgen.config.planning import LearnConfig, PlanConfig, TagConfig
from synthgen.config.selection import PLAIN_SELECTION, SelectConfig, Threshold, ViewName
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.config.strict_yaml import Document
from synthgen.config.training import EvaluateConfig, TrainConfig
from synthgen.errors import attempt, nearest


class Pipeline(Section):
    """The contents of pipelines/NAME.yaml."""

    about: str
    notice: str | None = None  # printed before every run
    source: SourceConfig = SourceConfig()
    images: ImagesConfig = ImagesConfig()
    tag: TagConfig
    plan: PlanConfig
    generate: GenerateConfig
    score: Mapping[PassName, PassConfig] = Field(default_factory=dict)  # name of a pass -> its model and scores
    select: SelectConfig = SelectConfig()
    views: Mapping[ViewName, SelectConfig] = Field(default_factory=dict)  # name -> what differs from `select`
    view: str | None = None  # the current one
    pack: PackConfig = PackConfig()
    reask: ReaskConfig = ReaskConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    learn: LearnConfig = LearnConfig()

    @model_validator(mode="after")
    def _check_currencies(self) -> "Pipeline":
        check_one_currency([self.generate.answerer.price, *(judge.price for judge in self.passes.values())])
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that the model which answers measures: those of `generate`, and that which verifies negatives."""
        own = self.generate.scores
        return (*own, UNANSWERABLE_SCORE) if self.plan.negatives and UNANSWERABLE_SCORE not in own else own

    @property
    def gate(self) -> dict[str, Threshold]:
        """The ranges of scores in which a question is answered."""
        bound = Threshold(min=self.generate.unanswerable)
        return {**self.generate.gate, **({UNANSWERABLE_SCORE: bound} if self.plan.negatives else {})}

    @property
    def reasker(self) -> GenerateConfig:
        """The section `generate` as it is for the model of `reask`."""
        own, settings = self.generate.answerer, self.reask
        named: dict[str, Any] = {"engine": settings.engine or own.engine, "price": settings.price or own.price}
        if settings.model:
            named |= {"model": settings.model, "revision": settings.revision}
        return own.model_copy(update=named)

    @property
    def parts(self) -> dict[str, GenerateConfig]:
        """The section `generate` as it is for each model, by the section of the file that names the model."""
        own = self.generate
        parts = {"generate.ask": own.asker, "generate.answer": own.answerer} if own.is_split else {}
        passes = {f"score.{name}": judge for name, judge in self.passes.items()}
        return {**(parts or {"generate": own.answerer}), **passes}

    @property
    def passes(self) -> dict[str, GenerateConfig]:
        """The scoring passes by name, each as the section `generate` would be for its model."""
        return {name: as_generate(self.generate, settings) for name, settings in self.score.items()}

    @field_validator("view")
    @classmethod
    def _check_view(cls, name: str | None, info: ValidationInfo) -> str | None:
        known = info.data.get("views", {})
        if name in (None, PLAIN_SELECTION):
            return None
        if name not in known and "views" in info.data:
            raise ValueError(f"no view is called '{name}': {nearest(str(name), known)}")
        return name

    @field_serializer("views")
    def _dump_views(self, views: Mapping[str, SelectConfig]) -> dict[str, Any]:
        """Return the views with the settings that they name alone: the others are those of `select`."""
        return {name: view.model_dump(mode="json", include=view.model_fields_set) for name, view in views.items()}

    @property
    def selection(self) -> SelectConfig:
        """The settings of the current view."""
        return self.selection_of(self.view)

    def selection_of(self, view: str | None) -> SelectConfig:
        """Return the settings of a view: those that it names, each whole, and else those of `select`."""
        if view is None:
            return self.select
        own = self.views[view]
        return self.select.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def second_model(pipeline: Pipeline) -> bool:
    """Return whether another model than the one that asks answers the questions."""
    return pipeline.generate.is_split


def load(name: str, overrides: Sequence[str] = ()) -> Pipeline:
    """Load a pipeline with `section.key=value` overrides.

    Raises:
        Mistakes: Every mistake in its file and in the overrides.
    """
    return library.check(read(name, overrides), Pipeline)


def read(name: str, overrides: Sequence[str] = ()) -> Document:
    """Read a pipeline unchecked; an override that cannot be applied is among the document's faults.

    Raises:
        UserMistake: There is no such file, or overrides name another kind of engine alone, or a model without a part.
    """
    document = library.load("pipeline", name)
    for override in overrides:
        faults = list(document.faults)
        edited = attempt(faults, partial(overriding.with_override, document, override))
        document = edited or replace(document, faults=tuple(faults))
    overriding.check_model_is_used(document, overrides)
    overriding.check_engine_kind(library.load("pipeline", name), document, EngineConfig().kind)
    return document
