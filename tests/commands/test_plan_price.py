"""The plan's price beside a run: that of a stage's engine by its profile, told when the stage begins."""

from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from synthgen.commands.plan import PlanPrice, profiles
from synthgen.commands.plan.profiles import Profiles
from synthgen.config.engine import EngineConfig, PriceConfig
from synthgen.console import Cost, Event, only, tell
from synthgen.console.events import Planned, Progress
from synthgen.errors import Damaged
from synthgen.stages.generate import Profile, QuestionCost
from synthgen.stages.spending import GPU_HOURS, cost_of
from synthgen.tables import PLAN

ROWS = pa.table({"type": ["a", "a", "b", "b"], "form": ["short"] * 4})
QUESTIONS = (QuestionCost("a", "short", 100, 60, 10, 1.0), QuestionCost("b", "short", 300, 60, 30, 3.0))
PROFILE = Profile(2, 4, 8, 1.0, 4.0, QUESTIONS * 40)  # often enough that its own mean is nearly all that counts


def model(**price: float) -> Any:
    """Return the settings of a model with a price, on two GPUs."""
    return SimpleNamespace(engine=EngineConfig(kind="vllm", gpus=2), price=PriceConfig(**cast(Any, price)))


def told(part: Any, monkeypatch: pytest.MonkeyPatch, *events: Event, profile: Any = PROFILE) -> list[Planned]:
    """Return what is told of the price of a plan of four questions, two of each of two types."""

    def load(_: object) -> Profiles | None:
        if isinstance(profile, Exception):
            raise profile
        return Profiles(profile) if profile else None

    monkeypatch.setattr(profiles, "load", load)
    folder = SimpleNamespace(
        log=lambda spec: SimpleNamespace(partitions=["p0"] if spec == PLAN else []), table=lambda *_: ROWS
    )
    generate = SimpleNamespace(asker=part, answerer=part)
    job = SimpleNamespace(pipeline=SimpleNamespace(generate=generate), passes=())
    seen: list[Event] = []
    with only(SimpleNamespace(see=seen.append), PlanPrice(cast(Any, folder), cast(Any, job))):
        for event in events:
            tell(event)
    return [event for event in seen if isinstance(event, Planned)]


START = Progress("generate", "start", 0, 400, "assignment")


def test_a_stage_costs_what_its_questions_took_times_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    (planned,) = told(model(prompt_million=10.0, output_million=100.0), monkeypatch, START)
    tokens = 400 * ((200 - 60) * 10 + 20 * 100) / 1e6  # by the mean of the two types
    assert planned.stage == "generate" and planned.cost.unit == "USD"
    assert planned.cost.spent == pytest.approx(tokens, rel=0.02)
    (planned,) = told(model(), monkeypatch, START)
    assert planned.cost.unit == GPU_HOURS and planned.cost.spent == pytest.approx(400 * 2 * 2 / 3600, rel=0.02)


def test_only_the_start_of_a_stage_with_a_profile_has_a_price(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    going, tagging = Progress("generate", "going", 1, 4, "x"), Progress("tag", "start", 0, 4, "image")
    assert not told(model(), monkeypatch, going, tagging)
    assert not told(model(), monkeypatch, START, profile=None)
    assert not told(model(), monkeypatch, START, profile=Damaged("x.json: is not a profile"))
    assert "x.json: is not a profile" in capsys.readouterr().err, "a run does not need its price"


def test_what_was_spent_is_tokens_and_hours_by_the_price_else_gpu_hours_and_nothing_without_a_gpu() -> None:
    counters = {"prompt_tokens": 1e6, "cached_tokens": 4e5, "output_tokens": 1e5}
    priced = model(gpu_hour=2.0, prompt_million=1.0, cached_million=0.5, output_million=10.0)
    cost = cost_of(priced, counters, 1800.0)
    assert cost and cost.unit == "USD" and cost.spent == pytest.approx(2.0 + 0.6 + 0.2 + 1.0)
    assert cost_of(model(), counters, 1800.0) == Cost(1.0, GPU_HOURS)
    served = SimpleNamespace(engine=EngineConfig(kind="scripted"), price=PriceConfig())
    assert cost_of(cast(Any, served), counters, 1800.0) is None
