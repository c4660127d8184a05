"""What engines cost while they work: the price of a pipeline applied to what workers have counted."""

from collections.abc import Mapping

from synthgen.config.engine import PriceConfig
from synthgen.config.generation import GenerateConfig
from synthgen.console import Cost, Spending
from synthgen.engines.kinds import gpus_of

GPU_HOURS = "GPU-hours"  # the unit where no price is configured


def money(price: PriceConfig, counters: Mapping[str, float], hours: float) -> float:
    """Return the cost of tokens and hours in the currency of a price.

    Args:
        price: By the hour, by the token, or both.
        counters: Tokens under `prompt_tokens`, `cached_tokens` (which are among them) and `output_tokens`.
        hours: GPU-hours, or hours of an engine that has no GPU.
    """
    cached = counters.get("cached_tokens", 0.0)
    by_token = (
        max(0.0, counters.get("prompt_tokens", 0.0) - cached) * price.prompt_million
        + cached * price.cached_million
        + counters.get("output_tokens", 0.0) * price.output_million
    )
    return hours * price.gpu_hour + by_token / 1e6


def has_price(price: PriceConfig) -> bool:
    """Whether a pipeline names any price."""
    return any((price.gpu_hour, price.prompt_million, price.cached_million, price.output_million))


def cost_of(part: GenerateConfig, counters: Mapping[str, float], seconds: float) -> Cost | None:
    """Return the cost of one model in money, or in GPU-hours without a price; None where neither is known.

    Args:
        part: The settings of the model that works.
        counters: See `money`.
        seconds: Of its engine, of all replicas together.
    """
    gpus = gpus_of(part.engine)
    hours = seconds / 3600 * (gpus or 1.0)
    if has_price(part.price):
        return Cost(money(part.price, counters, hours), part.price.currency)
    return Cost(hours, GPU_HOURS) if gpus else None


def spending(part: GenerateConfig) -> Spending:
    """Return the function that says what the workers of a model have cost by what they counted."""
    return lambda counters: cost_of(part, counters, counters.get("worker_seconds", 0.0))
