"""The cost of questions, estimated from a few measured ones.

A type and answer form that was measured often enough has its own mean. One that was measured seldom or not at all is
drawn towards the mean of its form, and a form that was not measured takes the mean of all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Literal

from synthgen.config.engine import PriceConfig
from synthgen.config.generation import GenerateConfig
from synthgen.errors import UserMistake
from synthgen.stages.generate import Profile

Kind = tuple[str, str]  # instruction type and answer form
PRIOR_QUESTIONS = 4  # the mean of the form weighs as much as so many measured questions

Unit = Literal["hours", "tokens", "money"]


@dataclass(frozen=True)
class Usage:
    """Tokens, and seconds of one engine."""

    prompt_tokens: float = 0.0  # with the cached ones
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0

    def times(self, count: float) -> "Usage":
        """Return the usage of `count` as much."""
        return Usage(*(getattr(self, part.name) * count for part in fields(Usage)))

    @staticmethod
    def total(usages: Iterable["Usage"]) -> "Usage":
        """Return the sum of usages."""
        listed = list(usages)
        return Usage(*(sum(getattr(usage, part.name) for usage in listed) for part in fields(Usage)))


@dataclass(frozen=True)
class Rates:
    """The usage of one question of each kind, as far as it was measured."""

    kinds: Mapping[Kind, tuple[int, Usage]]  # how many were measured, and their mean
    forms: Mapping[str, Usage]
    all: Usage

    def measured(self, kind: Kind) -> int:
        """Return how many questions of a kind were measured."""
        return self.kinds[kind][0] if kind in self.kinds else 0

    def of(self, kind: Kind) -> Usage:
        """Return the expected usage of a question of a kind."""
        form = self.forms.get(kind[1], self.all)
        if kind not in self.kinds:
            return form
        count, mean = self.kinds[kind]
        weight = count / (count + PRIOR_QUESTIONS)
        return Usage.total([mean.times(weight), form.times(1 - weight)])


def mean_rates(measured: Iterable[tuple[Kind, Usage]]) -> Rates:
    """Return the means of measured questions, by kind, by form and over all."""
    kinds: dict[Kind, list[Usage]] = {}
    for kind, usage in measured:
        kinds.setdefault(kind, []).append(usage)
    forms: dict[str, list[Usage]] = {}
    for (_, form), usages in kinds.items():
        forms.setdefault(form, []).extend(usages)
    every = [usage for usages in kinds.values() for usage in usages]
    means = {kind: (len(usages), _mean(usages)) for kind, usages in kinds.items()}
    return Rates(means, {form: _mean(usages) for form, usages in forms.items()}, _mean(every))


def rates_of(profile: Profile | None) -> Rates | None:
    """Return the rates that a profile measured; None without one."""
    if profile is None:
        return None
    return mean_rates(
        (
            (cost.type, cost.form),
            Usage(cost.prompt_tokens, cost.cached_tokens, cost.output_tokens, cost.seconds),
        )
        for cost in profile.questions
    )


def _mean(usages: Sequence[Usage]) -> Usage:
    return Usage.total(usages).times(1 / len(usages)) if usages else Usage()


def price_of(generate: GenerateConfig) -> PriceConfig:
    """Return the price of the model that answers, or else that of the one that asks: which names a currency."""
    answering, asking = generate.answerer.price, generate.asker.price
    return answering if has_price(answering) else asking


def has_price(price: PriceConfig) -> bool:
    """Whether the pipeline names any price."""
    return any((price.gpu_hour, price.prompt_million, price.cached_million, price.output_million))


def hours(usage: Usage, gpus: float) -> float:
    """Return GPU-hours, or hours of the engine where it has no GPU."""
    return usage.seconds / 3600 * (gpus or 1.0)


def money(usage: Usage, price: PriceConfig, gpus: float) -> float:
    """Return the cost in the currency of the price."""
    fresh_tokens = max(0.0, usage.prompt_tokens - usage.cached_tokens)
    by_token = (
        fresh_tokens * price.prompt_million
        + usage.cached_tokens * price.cached_million
        + usage.output_tokens * price.output_million
    )
    return hours(usage, gpus) * price.gpu_hour + by_token / 1e6


@dataclass(frozen=True)
class Budget:
    """The most that may be spent."""

    amount: float
    unit: Unit

    def spent(self, usage: Usage, price: PriceConfig, gpus: float) -> float:
        """Return a usage in the unit of the budget."""
        if self.unit == "hours":
            return hours(usage, gpus)
        return usage.prompt_tokens + usage.output_tokens if self.unit == "tokens" else money(usage, price, gpus)

    def spell(self, amount: float, price: PriceConfig) -> str:
        """Return an amount as a budget is typed, rounded up so that it suffices."""
        if self.unit == "tokens":
            return f"{ceil(amount)}tokens"
        return f"{ceil(amount * 1e4) / 1e4:.4f}{'h' if self.unit == 'hours' else price.currency}"


def parse_budget(text: str, price: PriceConfig) -> Budget:
    """Return a typed budget: `12h`, `3e6tokens` or, in the currency of the price, `500USD`.

    Raises:
        UserMistake: The text is no budget, or is money where no price is known.
    """
    match = re.fullmatch(r"([0-9][0-9_.]*(?:e[0-9]+)?)\s*([A-Za-z-]+)", text.strip())
    units: dict[str, Unit] = {"h": "hours", "tokens": "tokens", price.currency.lower(): "money"}
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    unit = units.get(match[2].lower()) if match else None
    if unit is None or amount <= 0:
        raise UserMistake(
            f"--budget {text}: write a number and its unit: 12h (GPU-hours), 3e6tokens or 500{price.currency}"
        )
    if unit == "money" and not has_price(price):
        raise UserMistake(
            f"--budget {text}: no price is known; set generate.price.gpu_hour (or the prices of tokens) in the pipeline"
        )
    return Budget(amount, unit)
