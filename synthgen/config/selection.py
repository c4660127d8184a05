"""Settings of pipelines about which pairs are kept: ranges of scores, ranks, quotas and the balance of answers."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from synthgen.config.fields import AnswerForm
from synthgen.config.library import Section
from synthgen.config.taxonomy import matches
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
