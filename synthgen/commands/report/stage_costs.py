"""What each stage that asks a model cost: how long its engines were held, GPU-hours, tokens and money.

The GPUs are those that the pipeline of the last run gives to its engines, and the prices are those that it names. An
engine costs from the commit before its stage begins to the last commit of the stage, also where it waits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from synthgen.commands.plan.pricing import Usage, hours, money
from synthgen.commands.report.costs import PAIRS, Cost, total_of
from synthgen.config.generation import GenerateConfig
from synthgen.config.pipeline import Pipeline
from synthgen.engines.kinds import gpus_of
from synthgen.stages.pack import redact
from synthgen.stages.spending import has_price
from synthgen.store import RunFolder
from synthgen.tables import ASK, GENERATE, SCORE, STAGES, pass_of_score, split_partition


@dataclass(frozen=True)
class StageCost:
    """What a stage cost.

    Attributes:
        engines: That were held side by side.
        gpus: Of each of them; 0 where they have none.
        seconds: For which they were held.
        hours: GPU-hours of all of them, or hours of engines without a GPU.
        money: None where the pipeline names no price.
    """

    stage: str
    model: str
    engines: int
    gpus: float
    seconds: float
    cost: Cost
    hours: float
    money: float | None
    currency: str


def stage_costs(folder: RunFolder, pipeline: Pipeline, costs: Mapping[str, Cost], asked: Cost) -> list[StageCost]:
    """Return what the stages cost that ask a model.

    Args:
        folder: The run.
        pipeline: Of the last run, with engines and prices.
        costs: Of pairs and of scores, as of `Survey.costs`.
        asked: What the asking calls cost where another model answers; they are part of the costs of pairs.
    """
    held, generate = seconds_held(folder), pipeline.generate
    own = {name: cost for name, cost in costs.items() if name == PAIRS or not pass_of_score(name)}
    parts = [(ASK.name, generate.asker, asked)] if generate.is_split else []
    parts.append((GENERATE.name, generate.answerer, total_of(own).less(asked)))
    for name, settings in pipeline.passes.items():
        of_pass = {each: cost for each, cost in costs.items() if pass_of_score(each.removeprefix("score ")) == name}
        parts.append((pass_label(name), settings, total_of(of_pass)))
    return [_stage_cost(stage, settings, cost, held[stage]) for stage, settings, cost in parts if stage in held]


def pass_label(name: str) -> str:
    """Return what the page calls a scoring pass."""
    return f"{SCORE.name}: {name}"


def _stage_cost(stage: str, settings: GenerateConfig, cost: Cost, seconds: float) -> StageCost:
    engine, price = settings.engine, settings.price
    gpus = gpus_of(engine)
    usage = Usage(cost.prompt_tokens, cost.cached_tokens, cost.output_tokens, seconds * engine.replicas)
    spent = money(usage, price, gpus) if has_price(price) else None
    model = redact.model(settings.model)
    return StageCost(stage, model, engine.replicas, gpus, seconds, cost, hours(usage, gpus), spent, price.currency)


def seconds_held(folder: RunFolder) -> dict[str, float]:
    """Return for how many seconds each stage and each scoring pass was at work, summed over the runs.

    It is at work from the end of what was done before it to its last commit, so passes that work side by side count for
    the whole time each, unlike in `seconds_at_work`. What a run does before its first commit is not known.
    """
    seconds: dict[str, float] = {}
    for spans in _spans(folder).values():
        begin = min(first for first, _ in spans.values())
        for stage, (first, last) in spans.items():
            start = max((end for _, end in spans.values() if end <= first and end < last), default=begin)
            seconds[stage] = seconds.get(stage, 0.0) + (last - start).total_seconds()
    return seconds


def _spans(folder: RunFolder) -> dict[int, dict[str, tuple[datetime, datetime]]]:
    """Return the first and the last commit of each stage in each run."""
    terms: dict[int, dict[str, tuple[datetime, datetime]]] = {}
    for term, at, stage in _commits(folder):
        spans = terms.setdefault(term, {})
        first, last = spans.get(stage, (at, at))
        spans[stage] = min(first, at), max(last, at)
    return terms


def _commits(folder: RunFolder) -> Iterator[tuple[int, datetime, str]]:
    for spec in STAGES:
        for partition, commits in folder.log(spec).partitions.items():
            stage = pass_label(split_partition(partition)[1]) if spec is SCORE else spec.name
            for commit in commits:
                yield commit.term, datetime.fromisoformat(commit.at), stage
