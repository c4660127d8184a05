"""What questions cost: from a few measured ones to all of a plan.

Comes in: measured questions, and how many of each type and answer form are to be asked. Goes out: tokens, hours and money for
each type, and how much of a budget that is. A type and form that was measured often enough speaks for itself; one that was
measured seldom or not at all leans on the mean of its form, and a form that was not measured on the mean of all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil

from synthgen.config.pipeline import PriceConfig
from synthgen.errors import UserMistake

Kind = tuple[str, str]  # instruction type and answer form
LEANS = 4  # measured questions that the mean of the form counts as


@dataclass(frozen=True)
class Use:
    """What something takes: tokens, and seconds of one engine."""

    prompt_tokens: float = 0.0  # cached ones too
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0

    def times(self, count: float) -> "Use":
        """So much of it."""
        return Use(*(getattr(self, one.name) * count for one in fields(Use)))

    @staticmethod
    def total(uses: Iterable["Use"]) -> "Use":
        """All of them together."""
        listed = list(uses)
        return Use(*(sum(getattr(use, one.name) for use in listed) for one in fields(Use)))


@dataclass(frozen=True)
class Rates:
    """What a question of each kind takes, as far as it was measured."""

    kinds: Mapping[Kind, tuple[int, Use]]  # how many were measured, and their mean
    forms: Mapping[str, Use]
    all: Use

    def measured(self, kind: Kind) -> int:
        """How many questions of a kind were measured."""
        return self.kinds[kind][0] if kind in self.kinds else 0

    def of(self, kind: Kind) -> Use:
        """What a question of a kind is expected to take."""
        form = self.forms.get(kind[1], self.all)
        if kind not in self.kinds:
            return form
        count, own = self.kinds[kind]
        return Use.total([own.times(count / (count + LEANS)), form.times(LEANS / (count + LEANS))])


def rates(measured: Iterable[tuple[Kind, Use]]) -> Rates:
    """The means of what was measured."""
    kinds: dict[Kind, list[Use]] = {}
    for kind, use in measured:
        kinds.setdefault(kind, []).append(use)
    forms: dict[str, list[Use]] = {}
    for (_, form), uses in kinds.items():
        forms.setdefault(form, []).extend(uses)
    every = [use for uses in kinds.values() for use in uses]
    means = {kind: (len(uses), _mean(uses)) for kind, uses in kinds.items()}
    return Rates(means, {form: _mean(uses) for form, uses in forms.items()}, _mean(every))


def _mean(uses: Sequence[Use]) -> Use:
    return Use.total(uses).times(1 / len(uses)) if uses else Use()


def is_set(price: PriceConfig) -> bool:
    """Whether the pipeline names any price."""
    return any((price.gpu_hour, price.prompt_million, price.cached_million, price.output_million))


def hours(use: Use, gpus: float) -> float:
    """GPU-hours; hours of the engine where it has no GPU."""
    return use.seconds / 3600 * (gpus or 1.0)


def money(use: Use, price: PriceConfig, gpus: float) -> float:
    """What it costs, in the price's currency."""
    fresh = max(0.0, use.prompt_tokens - use.cached_tokens)
    by_token = (
        fresh * price.prompt_million
        + use.cached_tokens * price.cached_million
        + use.output_tokens * price.output_million
    )
    return hours(use, gpus) * price.gpu_hour + by_token / 1e6


@dataclass(frozen=True)
class Budget:
    """What may be spent at most."""

    amount: float
    unit: str  # "hours", "tokens" or "money"

    def spent(self, use: Use, price: PriceConfig, gpus: float) -> float:
        """How much of what the budget counts something takes."""
        if self.unit == "hours":
            return hours(use, gpus)
        return use.prompt_tokens + use.output_tokens if self.unit == "tokens" else money(use, price, gpus)

    def told(self, amount: float, price: PriceConfig) -> str:
        """An amount as a budget is written, rounded up so that it suffices."""
        if self.unit == "tokens":
            return f"{ceil(amount)}tokens"
        return f"{ceil(amount * 1e4) / 1e4:.4f}{'h' if self.unit == 'hours' else price.currency}"


def read_budget(text: str, price: PriceConfig) -> Budget:
    """`12h`, `3e6tokens` or, in the currency of the price, `500USD`."""
    found = re.fullmatch(r"([0-9][0-9_.]*(?:e[0-9]+)?)\s*([A-Za-z-]+)", text.strip())
    units = {"h": "hours", "tokens": "tokens", price.currency.lower(): "money"}
    try:
        amount = float(found[1]) if found else 0.0
    except ValueError:
        amount = 0.0
    unit = units.get(found[2].lower()) if found else None
    if unit is None or amount <= 0:
        raise UserMistake(
            f"--budget {text}: write a number and its unit: 12h (GPU-hours), 3e6tokens or 500{price.currency}"
        )
    if unit == "money" and not is_set(price):
        raise UserMistake(
            f"--budget {text}: no price is known; say generate.price.gpu_hour (or the prices of tokens) in the pipeline"
        )
    return Budget(amount, unit)
