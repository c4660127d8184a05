"""A forecast as a table for a terminal, and as JSON.

Comes in: a Forecast. Goes out: lines with every type that is planned, the dearest first, and their sums; or the same numbers
under names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.commands.plan.estimate import Forecast
from synthgen.commands.plan.pricing import Use, hours, is_set, money
from synthgen.engines.kinds import gpus_of
from synthgen.stages.plan.dry_run import NO_RULE


def text(forecast: Forecast) -> str:
    """The forecast for a terminal; without a profile, questions alone."""
    lines = [f"note: {note}" for note in forecast.notes]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(forecast.counts.outcomes.items()))
    lines += [f"images: {outcomes}", "", *_table(forecast), "", _told(forecast)]
    if forecast.counts.rules:
        lines += ["", *_difference(forecast.counts.rules)]
    return "\n".join(lines)


def _table(forecast: Forecast) -> Iterator[str]:
    width = max([len("instruction type"), *(len(line.type) for line in forecast.lines)])
    head = f"{'instruction type':<{width}} {'questions':>11} {'to ask':>11}"
    if forecast.profile is None or not forecast.to_ask:
        yield head
        for line in forecast.lines:
            yield f"{line.type:<{width}} {line.planned:>11,} {line.to_ask:>11,}"
    else:
        yield f"{head} {'measured':>8} {'tokens in':>13} {'cached':>7} {'tokens out':>13} {_unit(forecast):>12}{_currency(forecast)}"
        for line in forecast.lines:
            yield f"{line.type:<{width}} {line.planned:>11,} {line.to_ask:>11,} {line.measured:>8,} {_figures(forecast, line.use or Use())}"
    planned, to_ask = (sum(getattr(line, name) for line in forecast.lines) for name in ("planned", "to_ask"))
    total = f"{'all':<{width}} {planned:>11,} {to_ask:>11,}"
    yield (
        total
        if forecast.profile is None or not forecast.to_ask
        else f"{total} {len(forecast.profile.questions):>8,} {_figures(forecast, forecast.total)}"
    )


def _figures(forecast: Forecast, use: Use) -> str:
    generate = forecast.job.pipeline.generate
    cached = use.cached_tokens / use.prompt_tokens if use.prompt_tokens else 0.0
    gpus = gpus_of(generate.engine)
    cost = f" {money(use, generate.price, gpus):>10,.2f}" if is_set(generate.price) else ""
    return f"{use.prompt_tokens:>13,.0f} {cached:>7.0%} {use.output_tokens:>13,.0f} {hours(use, gpus):>12,.3f}{cost}"


def _told(forecast: Forecast) -> str:
    """How sure this is, and how long it takes."""
    profile, engine = forecast.profile, forecast.job.pipeline.generate.engine
    if forecast.lines and not forecast.to_ask:
        return "nothing is left to ask: every planned question has an outcome"
    if profile is None:
        return "no profile of this engine: `--profile 32` on this line measures what questions take on 32 images"
    seconds = forecast.total.seconds / engine.replicas
    measured = (
        f"{profile.images} images, {len(profile.questions)} questions, {profile.calls} calls in {profile.seconds:.1f} s"
    )
    told = f"{seconds:,.0f} s with {engine.replicas} engine(s), after {profile.start_seconds:.0f} s to start; reckoned from {measured}"
    if profile.images >= profile.room:
        return told
    return (
        f"{told}\nnote: {profile.images} images do not fill this engine, which takes {profile.room} at once: "
        "hours are fewer; profile more"
    )


def _unit(forecast: Forecast) -> str:
    return "GPU-hours" if gpus_of(forecast.job.pipeline.generate.engine) else "engine hours"


def _currency(forecast: Forecast) -> str:
    """The head of the column of money, where a price is set."""
    price = forecast.job.pipeline.generate.price
    return f" {price.currency:>10}" if is_set(price) else ""


def _difference(rules: Mapping[str, Mapping[tuple[str, str], int]]) -> Iterator[str]:
    """A line for each type and rule that gains or loses, one for those that are left as they are, and their sums."""
    touched = sorted({*rules["added"], *rules["gone"]})
    unchanged = [count for key, count in rules["kept"].items() if key not in touched]
    others = f"… {len(unchanged):,} more, unchanged"
    width = max([len("instruction type"), len(others), *(len(path) for path, _ in touched)])
    yield f"{'beside the plan':<{width}} {'added':>9} {'gone':>9} {'kept':>9}  rule"
    for path, rule in touched:
        counts = " ".join(f"{rules[name].get((path, rule), 0):>9,}" for name in ("added", "gone", "kept"))
        yield f"{path:<{width}} {counts}  {_rule(rule)}"
    if unchanged:
        yield f"{others:<{width}} {0:>9,} {0:>9,} {sum(unchanged):>9,}"
    counts = " ".join(f"{sum(rules[name].values()):>9,}" for name in ("added", "gone", "kept"))
    yield f"{'all':<{width}} {counts}"


def _rule(rule: str) -> str:
    return "no rule asks it any more" if rule == NO_RULE else rule


def as_json(forecast: Forecast) -> dict[str, Any]:
    """The forecast under names; tokens and seconds are of what is still to be asked."""
    found: dict[str, Any] = {"notes": list(forecast.notes), "images": dict(forecast.counts.outcomes)}
    found["share"] = forecast.job.pipeline.plan.share
    found["types"] = [
        {
            "type": line.type,
            "questions": line.planned,
            "to_ask": line.to_ask,
            "measured": line.measured,
            **_named(forecast, line.use),
        }
        for line in forecast.lines
    ]
    sums = {"questions": sum(line.planned for line in forecast.lines), "to_ask": forecast.to_ask}
    found["total"] = sums | _named(forecast, forecast.total if forecast.profile else None)
    if profile := forecast.profile:
        found["profile"] = {name: value for name, value in vars(profile).items() if name != "questions"}
    if rules := forecast.counts.rules:
        touched = sorted({key for counts in rules.values() for key in counts})
        found["difference"] = [
            {"type": path, "rule": rule or None} | {name: rules[name].get((path, rule), 0) for name in rules}
            for path, rule in touched
        ]
    return found


def _named(forecast: Forecast, use: Use | None) -> dict[str, float]:
    if use is None:
        return {}
    generate = forecast.job.pipeline.generate
    return {
        "prompt_tokens": round(use.prompt_tokens),
        "cached_tokens": round(use.cached_tokens),
        "output_tokens": round(use.output_tokens),
        "engine_seconds": round(use.seconds, 3),
        "gpu_hours": round(hours(use, gpus_of(generate.engine)), 6),
        "money": round(money(use, generate.price, gpus_of(generate.engine)), 4),
    }
