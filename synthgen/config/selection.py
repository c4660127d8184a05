"""Settings of pipelines about which pairs are kept: ranges of scores, ranks, quotas and the balance of answers."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from synthgen.config.deduplication import (
    DecontaminateConfig,
    NearAnswersConfig,
    NearQuestionsConfig,
    PhrasesConfig,
    SemanticConfig,
)
from synthgen.config.fields import AnswerForm, Expressions, Uri
from synthgen.config.library import Section
from synthgen.config.taxonomy import matches
from synthgen.config.where import Where
from synthgen.tables import ANSWER_FORMS

Group = Literal["type", "form", "language"]
PLAIN_SELECTION = "select"  # in place of the name of a view: the settings without one


def _check_function_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that the functions can be told apart in reasons, which have the name behind the colon."""
    known: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
            raise ValueError(f"'{name}' is not a function; name it as module:function")
        other = known.setdefault(name.partition(":")[2], name)
        if other != name:
            raise ValueError(f"{other} and {name} would have the same reasons; give one of them another name")
    return names


def _check_view_name(name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"'{name}' is not the name of a view; use letters, digits, - and _")
    if name == PLAIN_SELECTION:
        raise ValueError(f"'{name}' stands for the settings without a view; give the view another name")
    return name


Functions = Annotated[tuple[str, ...], AfterValidator(_check_function_names)]
ViewName = Annotated[str, AfterValidator(_check_view_name)]


class Threshold(Section):
    """The range of a score in which pairs are kept."""

    min: float | None = None
    max: float | None = None
    forms: tuple[AnswerForm, ...] = ANSWER_FORMS  # the answer forms that it applies to
    types: tuple[str, ...] = ("**",)  # patterns of the instruction types that it applies to

    @model_validator(mode="after")
    def _check_order(self) -> "Threshold":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no pair could be kept")
        return self

    def applies_to(self, path: str | None, form: str | None) -> bool:
        """Return whether it applies to pairs of a type and an answer form."""
        return form in self.forms and any(fits(pattern, path) for pattern in self.types)

    def fault(self, value: float) -> str | None:
        """Return how a value is outside the range, or None."""
        if self.min is not None and value < self.min:
            return f"{value:.3g} is below {self.min:g}"
        return f"{value:.3g} is above {self.max:g}" if self.max is not None and value > self.max else None


class KeepRule(Threshold):
    """The range of a score, and the share of the lowest values that is dropped in each group of pairs."""

    drop: float | None = Field(default=None, gt=0, lt=1)
    within: tuple[Group, ...] = ("type", "form")  # what the pairs of a group share; []: the whole set is one


class Quota(Section):
    """The most pairs that are kept of a pattern: a number, or a share of the kept pairs."""

    most: int | None = Field(default=None, ge=0)
    share: float | None = Field(default=None, gt=0, lt=1)
    by: str | None = None  # the score by which the best are kept; then the ids decide

    @model_validator(mode="after")
    def _check_one(self) -> "Quota":
        if (self.most is None) == (self.share is None):
            raise ValueError("give either most, a number of pairs, or share, a part of the kept pairs")
        return self


class Quotas(Section):
    """The most pairs of patterns of types, answer forms, languages and tags of images; each has one or more."""

    types: Mapping[str, Quota] = Field(default_factory=dict)
    forms: Mapping[AnswerForm, Quota] = Field(default_factory=dict)
    languages: Mapping[str, Quota] = Field(default_factory=dict)
    tags: Mapping[str, Quota] = Field(default_factory=dict, max_length=64)  # a bit of a 64-bit number each

    def all(self) -> list[tuple[str, str, Quota]]:
        """Return every quota as (kind, pattern, quota) in the order in which they count: kinds as here, then names."""
        kinds = {"type": self.types, "form": self.forms, "language": self.languages, "tag": self.tags}
        return [(kind, pattern, quotas[pattern]) for kind, quotas in kinds.items() for pattern in sorted(quotas)]


class AnswerBalance(Section):
    """How many answers that say yes are kept for each that says no, or the other way round."""

    ratio: float = Field(default=1.0, ge=1)  # most of the commoner answer for each of the rarer
    within: tuple[Group, ...] = ("type",)  # each group is balanced by itself; []: all pairs of the pattern are one
    by: str | None = None  # the score by which the best are kept; then the ids decide


def fits(pattern: str, path: str | None) -> bool:
    """Return whether a pattern of types fits a type; `**` also fits none."""
    return pattern == "**" or (path is not None and matches(pattern, path))


class SelectConfig(Section):
    """Stage 4, select: which pairs are kept."""

    keep: Mapping[str, KeepRule] = Field(default_factory=dict)  # score, or PASS.SCORE -> range, share of the lowest
    min_question_characters: int = Field(default=6, ge=0)
    max_answer_characters: int = Field(default=8000, gt=0)
    forbidden: Expressions = ()  # regular expressions that no question or answer may match
    languages: tuple[str, ...] = ()  # of pairs that are kept; all where none is named
    where: Where | None = None  # the licences and sources of images whose pairs are kept
    functions: Functions = ()  # module:function, of your own; each says what it drops
    # Jaccard similarity of questions on one image that drops the second; 1: equal only; null: none is dropped.
    near_questions: float | None = Field(default=0.8, ge=0, le=1)
    # Most differing bits of the hashes of two images of which the same question and answer is kept once.
    same_pair: int | None = Field(default=None, ge=0, le=16)
    # Of two questions on one image with the same short answer, the share of words that both have and that drops one.
    same_answer: float | None = Field(default=None, gt=0, le=1)
    same_question: int | None = Field(default=None, gt=0)  # most pairs with the same question in the whole data set
    global_questions: NearQuestionsConfig | None = None  # near questions of the whole set
    global_answers: NearAnswersConfig | None = None  # near answers of the whole set
    semantic: SemanticConfig | None = None  # texts of the whole set that mean nearly the same, by their embeddings
    phrases: PhrasesConfig | None = None  # questions that share the phrase of a template
    survivor: str | None = None  # score by which one of several duplicates is kept, the higher; then the id decides
    earlier_first: bool = True  # what an earlier selection decided on comes first, whatever its score
    against: tuple[Uri, ...] = ()  # output folders whose kept pairs come before all of this run
    decontaminate: DecontaminateConfig | None = None  # benchmark sets that no pair may come from
    balance: Mapping[str, AnswerBalance] = Field(default_factory=dict)  # type pattern -> of yes and no
    letters: float | None = Field(default=None, ge=1)  # most pairs with a letter of choice for each with the rarest
    quotas: Quotas = Quotas()

    @property
    def scores(self) -> list[tuple[str, str]]:
        """The scores that it reads, each with the place below `select` that names it."""
        by = [(f"balance.{pattern}.by", rule.by) for pattern, rule in self.balance.items()]
        by += [(f"quotas.{kind}s.{pattern}.by", quota.by) for kind, pattern, quota in self.quotas.all()]
        by += [("survivor", self.survivor)]
        return [*(("keep", name) for name in self.keep), *((place, name) for place, name in by if name)]
