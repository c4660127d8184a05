"""A forecast as a table for a terminal, and as JSON.

Tokens, hours and money are shown only where the engine was measured and questions are still to ask.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.commands.plan import steering
from synthgen.commands.plan.estimate import Forecast
from synthgen.commands.plan.pass_pricing import PassEstimate, order_of
from synthgen.commands.plan.pricing import Usage, hours, money, price_of
from synthgen.config.engine import EngineConfig
from synthgen.config.generation import GenerateConfig
from synthgen.console import pluralize
from synthgen.engines.kinds import gpus_of, kind_of
from synthgen.stages.generate import Profile
from synthgen.stages.plan.dry_run import NO_RULE
from synthgen.stages.spending import has_price

HEAD = "instruction type"
CHANGES = ("added", "retired", "kept")


def text(forecast: Forecast, steered: steering.Steering | None = None) -> str:
    """Return the forecast for a terminal; without a profile, the questions alone."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(forecast.counts.outcomes.items()))
    lines = [steering.text(steered)] if steered else []
    lines += [f"note: {note}" for note in forecast.notes]
    lines += [f"images: {outcomes}", "", *_table(forecast), "", *_duration(forecast)]
    if forecast.passes:
        lines += ["", *_pass_lines(forecast)]
    if forecast.counts.rules:
        lines += ["", *_difference(forecast.counts.rules)]
    return "\n".join(lines)


def _table(forecast: Forecast) -> Iterator[str]:
    width = max([len(HEAD), *(len(estimate.type) for estimate in forecast.types)])
    has_usage = forecast.profile is not None and forecast.to_ask > 0

    def line(name: str, planned: int, to_ask: int, measured: int, usages: tuple[Usage | None, Usage | None]) -> str:
        questions = f"{name:<{width}} {planned:>11,} {to_ask:>11,}"
        return f"{questions} {measured:>8,} {_figures(forecast, *usages)}" if has_usage else questions

    head = f"{HEAD:<{width}} {'questions':>11} {'to ask':>11}"
    yield f"{head} {'measured':>8} {_usage_head(forecast)}" if has_usage else head
    for estimate in forecast.types:
        usages = estimate.usage, estimate.asking
        yield line(estimate.type, estimate.planned, estimate.to_ask, estimate.measured, usages)
    planned = sum(estimate.planned for estimate in forecast.types)
    measured = len(forecast.profile.questions) if forecast.profile else 0
    yield line("all", planned, forecast.to_ask, measured, (forecast.total, forecast.total_asking))


def _usage_head(forecast: Forecast) -> str:
    generate = forecast.job.pipeline.generate
    price, engines = price_of(generate), (generate.asker.engine, generate.answerer.engine)
    unit = "GPU-hours" if all(map(gpus_of, engines)) else "engine hours"
    currency = f" {price.currency:>10}" if has_price(price) else ""
    return f"{'tokens in':>13} {'cached':>7} {'tokens out':>13} {unit:>12}{currency}"


def _figures(forecast: Forecast, answering: Usage | None, asking: Usage | None) -> str:
    """Return the figures of a line; of two models their sums, each part at its own price."""
    generate = forecast.job.pipeline.generate
    usage = Usage.total(filter(None, (answering, asking)))
    cached = usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
    tokens = f"{usage.prompt_tokens:>13,.0f} {cached:>7.0%} {usage.output_tokens:>13,.0f}"
    cost = f" {_money(generate, answering, asking):>10,.2f}" if has_price(price_of(generate)) else ""
    return f"{tokens} {_hours(generate, answering, asking):>12,.3f}{cost}"


def _hours(generate: GenerateConfig, answering: Usage | None, asking: Usage | None) -> float:
    parts = (generate.answerer, answering), (generate.asker, asking)
    return sum(hours(usage, gpus_of(part.engine)) for part, usage in parts if usage)


def _money(generate: GenerateConfig, answering: Usage | None, asking: Usage | None) -> float:
    parts = (generate.answerer, answering), (generate.asker, asking)
    return sum(money(usage, part.price, gpus_of(part.engine)) for part, usage in parts if usage)


def _duration(forecast: Forecast) -> Iterator[str]:
    """Yield how long a run takes, and how sure this is."""
    generate, profile = forecast.job.pipeline.generate, forecast.profile
    if forecast.types and not forecast.to_ask:
        yield "nothing is left to ask: every planned question has an outcome"
        return
    if generate.is_split:
        yield _pass("first", "asks", generate.asker, forecast.total_asking if forecast.asking else None)
        yield _pass("then", "answers and scores", generate.answerer, forecast.total if profile else None)
    if profile is None:
        yield "no profile of this engine: `--profile 32` on this command measures the usage of questions on 32 images"
        return
    if forecast.asking:
        yield from _measured(forecast.asking, generate.asker.engine, forecast.total_asking, "asking: ")
    label = "answering: " if forecast.asking else ""
    yield from _measured(profile, generate.answerer.engine, forecast.total, label)


def _pass(when: str, does: str, part: GenerateConfig, usage: Usage | None) -> str:
    """Return the line of one of two passes: its model, its engines, and what it takes where that was measured."""
    gpus = gpus_of(part.engine)
    place = f"{pluralize(part.engine.replicas, 'engine')} ({kind_of(part.engine).name})"
    place += f" on {gpus * part.engine.replicas:g} GPU{'' if gpus * part.engine.replicas == 1 else 's'}" if gpus else ""
    line = f"{when} {part.model} {does}, {place}"
    if usage is None:
        return line
    cost = f", {money(usage, part.price, gpus):,.2f} {part.price.currency}" if has_price(part.price) else ""
    tokens = f"{usage.prompt_tokens:,.0f} tokens in, {usage.output_tokens:,.0f} out"
    return f"{line}: {tokens}, {hours(usage, gpus):,.3f} {'GPU-hours' if gpus else 'engine hours'}{cost}"


def _measured(
    profile: Profile, engine: EngineConfig, usage: Usage, label: str, noun: str = "question"
) -> Iterator[str]:
    """Yield how long an engine takes, and what that was estimated from."""
    seconds = usage.seconds / engine.replicas
    yield label + (
        f"{seconds:,.0f} s with {pluralize(engine.replicas, 'engine')}, after {profile.start_seconds:.0f} s to start; "
        f"estimated from {pluralize(profile.images, 'image')}, {pluralize(len(profile.questions), noun)}, "
        f"{pluralize(profile.calls, 'call')} in {profile.seconds:.1f} s"
    )
    if profile.images < profile.room:
        yield (
            f"note: {pluralize(profile.images, 'image')} cannot fill this engine, which takes {profile.room} at once: "
            "a run takes fewer hours; profile more images"
        )


def _pass_lines(forecast: Forecast) -> Iterator[str]:
    """Yield what each scoring pass takes, which of them run side by side, and the money of everything together."""
    pending = [estimate for estimate in forecast.passes if estimate.pairs]
    for estimate in forecast.passes:
        judge, part = estimate.judge, estimate.judge.settings
        if not estimate.pairs:
            yield f"pass {judge.name}: every pair is scored"
            continue
        does = f"scores {_how_many(estimate)} by {', '.join(judge.scores)}"
        yield _pass(f"pass {judge.name}:", does, part, estimate.usage)
        if estimate.profile and estimate.usage:
            yield from _measured(estimate.profile, part.engine, estimate.usage, f"{judge.name}: ", "pair")
        else:
            yield f"no profile of this pass: `--profile 32` on this command measures what '{judge.name}' takes"
    if len(pending) > 1:
        yield order_of(forecast.job, [estimate.judge.name for estimate in pending])
    price = price_of(forecast.job.pipeline.generate)
    if all(estimate.usage for estimate in pending) and any(map(_pass_money, pending)):
        yield f"questions and passes together: {_all_money(forecast):,.2f} {price.currency}"


def _how_many(estimate: PassEstimate) -> str:
    """Return how many pairs a pass scores, in words."""
    after = estimate.judge.after
    if after is None:
        return f"at most {pluralize(estimate.pairs, 'pair')}"
    whose = f"those that {after.score} leaves open"
    if estimate.open_share is None:
        return f"at most {pluralize(estimate.pairs, 'pair')}, {whose} (how many is not known yet),"
    return f"about {estimate.pairs:,} of {pluralize(estimate.of, 'pair')}, {whose},"


def _pass_money(estimate: PassEstimate) -> float:
    part = estimate.judge.settings
    return money(estimate.usage or Usage(), part.price, gpus_of(part.engine))


def _all_money(forecast: Forecast) -> float:
    generate = forecast.job.pipeline.generate
    return _money(generate, forecast.total, forecast.total_asking) + sum(map(_pass_money, forecast.passes))


def _difference(rules: Mapping[str, Mapping[tuple[str, str], int]]) -> Iterator[str]:
    """Yield a line for each type and rule that gains or loses, one for all others, and the sums."""
    touched = sorted({*rules["added"], *rules["retired"]})
    unchanged = [count for key, count in rules["kept"].items() if key not in touched]
    others = f"… {pluralize(len(unchanged), 'other')}, unchanged" if touched else f"all {len(unchanged):,}, unchanged"
    width = max([len(HEAD), len(others), *(len(path) for path, _ in touched)])
    yield f"{'changes by type':<{width}} {'added':>9} {'retired':>9} {'kept':>9}  rule"
    for path, rule in touched:
        counts = " ".join(f"{rules[change].get((path, rule), 0):>9,}" for change in CHANGES)
        yield f"{path:<{width}} {counts}  {'no rule asks it any more' if rule == NO_RULE else rule}"
    if unchanged:
        yield f"{others:<{width}} {0:>9,} {0:>9,} {sum(unchanged):>9,}"
    counts = " ".join(f"{sum(rules[change].values()):>9,}" for change in CHANGES)
    yield f"{'all':<{width}} {counts}"


def as_json(forecast: Forecast, steered: steering.Steering | None = None) -> dict[str, Any]:
    """Return the forecast under names; tokens and seconds are of the questions to ask."""
    total_usage = forecast.total if forecast.profile else None
    report: dict[str, Any] = {
        "notes": list(forecast.notes),
        "images": dict(forecast.counts.outcomes),
        "share": forecast.job.pipeline.plan.share,
        "types": [
            {
                "type": estimate.type,
                "questions": estimate.planned,
                "to_ask": estimate.to_ask,
                "measured": estimate.measured,
                **_named_usage(forecast, estimate.usage, estimate.asking),
            }
            for estimate in forecast.types
        ],
        "total": {
            "questions": sum(estimate.planned for estimate in forecast.types),
            "to_ask": forecast.to_ask,
            **_named_usage(forecast, total_usage, forecast.total_asking if forecast.asking else None),
        },
    }
    if steered:
        report["student"] = steering.as_json(steered)
    if forecast.passes:
        report["passes"] = [
            {
                "pass": estimate.judge.name,
                "model": estimate.judge.model.model,
                "scores": list(estimate.judge.scores),
                "pairs": estimate.pairs,
                **({"of": estimate.of, "open_share": estimate.open_share} if estimate.judge.after else {}),
                **(_pass_numbers(estimate, estimate.usage) if estimate.usage else {}),
            }
            for estimate in forecast.passes
        ]
        if all(estimate.usage for estimate in forecast.passes):
            report["total_with_passes"] = {"money": round(_all_money(forecast), 4)}
    for name, profile in (("profile", forecast.profile), ("asking_profile", forecast.asking)):
        if profile:
            hidden = ("questions", "values")
            report[name] = {key: value for key, value in vars(profile).items() if key not in hidden}
    if rules := forecast.counts.rules:
        keys = sorted({key for counts in rules.values() for key in counts})
        report["difference"] = [
            {"type": path, "rule": rule or None} | {change: rules[change].get((path, rule), 0) for change in rules}
            for path, rule in keys
        ]
    return report


def _named_usage(forecast: Forecast, usage: Usage | None, asking: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    generate = forecast.job.pipeline.generate
    both = Usage.total(filter(None, (usage, asking)))
    named = _numbers(both, _hours(generate, usage, asking), _money(generate, usage, asking))
    if asking is None:
        return named
    alone = _numbers(asking, _hours(generate, None, asking), _money(generate, None, asking))
    return {**named, "of_asking": alone}


def _pass_numbers(estimate: PassEstimate, usage: Usage) -> dict[str, Any]:
    return _numbers(usage, hours(usage, gpus_of(estimate.judge.settings.engine)), _pass_money(estimate))


def _numbers(usage: Usage, gpu_hours: float, cost: float) -> dict[str, Any]:
    return {
        "prompt_tokens": round(usage.prompt_tokens),
        "cached_tokens": round(usage.cached_tokens),
        "output_tokens": round(usage.output_tokens),
        "engine_seconds": round(usage.seconds, 3),
        "gpu_hours": round(gpu_hours, 6),
        "money": round(cost, 4),
    }
