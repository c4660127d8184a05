"""The price of scoring passes: what `synth plan` says of each, and that its prices add up."""

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.plan import EstimateRequest, as_json, forecast, pass_pricing, profiles, text
from synthgen.commands.plan.pass_pricing import order_of
from synthgen.stages.generate import GenerateWorker, profiling
from synthgen.stages.score import PassContext, ScoreWorker
from synthgen.stages.score import profiling as score_profiling
from synthgen.store import RunFolder
from tests.fixtures.scoring import ScoredWorld, copy_of, make_pairs

SECOND = "score.second={model: two, scores: [answer, likelihood], price: {prompt_million: 1000, output_million: 7000}}"
THIRD = "score.third={model: three, scores: [agreement], price: {prompt_million: 10}}"
PRICE = "generate.price={prompt_million: 100}"
MORE = "plan.per_image=5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("priced"), 24)


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredWorld:
    monkeypatch.chdir(made)
    return copy_of(made, tmp_path / "out")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Measure in this process; yield the models that were measured, and close what ends with an actor."""
    measured: list[Any] = []
    workers: list[GenerateWorker | ScoreWorker] = []

    def generating(*given: Any) -> GenerateWorker:
        workers.append(worker := GenerateWorker(*given))
        return worker

    def scoring(context: PassContext, engine: Any) -> ScoreWorker:
        measured.append(context.model.model)
        workers.append(worker := ScoreWorker(context, engine))
        return worker

    monkeypatch.setattr(profiling, "GenerateWorker", generating)
    monkeypatch.setattr(score_profiling, "ScoreWorker", scoring)
    for module in (profiles, pass_pricing):
        monkeypatch.setattr(module, "leave_ray", lambda: None)
        monkeypatch.setattr(module, "run_in_actor", lambda measure, task, *_: asyncio.run(measure(task)))
    yield measured
    for worker in workers:
        worker.close()


def plan(world: ScoredWorld, *settings: str, **request: Any) -> dict[str, Any]:
    return as_json(forecast(RunFolder(world.out), world.job(*settings), EstimateRequest(**request)))


def lines(world: ScoredWorld, *settings: str, **request: Any) -> list[str]:
    return text(forecast(RunFolder(world.out), world.job(*settings), EstimateRequest(**request))).splitlines()


def test_a_pass_over_a_finished_folder_is_measured_on_its_pairs_and_priced_exactly(
    world: ScoredWorld, here: list[Any]
) -> None:
    """The script reads 100 tokens a judgement, 80 of them cached, and writes one; 40 a given answer, none cached."""
    pairs = len(world.pairs())
    found = plan(world, SECOND, profile=5)
    assert here == ["two"] and found["total"]["to_ask"] == 0
    (second,) = found["passes"]
    assert (second["pairs"], second["scores"]) == (pairs, ["second.answer", "second.likelihood"])
    assert second["prompt_tokens"] == 140 * pairs and second["cached_tokens"] == 80 * pairs
    assert second["output_tokens"] == pairs
    assert second["money"] == pytest.approx(pairs * ((20 + 40) * 1000 + 7000) / 1e6)
    assert plan(world, SECOND)["passes"] == found["passes"], "the profile is kept"
    assert "prompt_tokens" not in plan(world, SECOND.replace("two", "other"))["passes"][0], "for this model alone"


def test_pairs_that_are_scored_cost_nothing_and_are_not_measured_on(world: ScoredWorld, here: list[Any]) -> None:
    world.run(SECOND)
    found = plan(world, SECOND, THIRD, profile=4)
    assert here == ["three"]
    assert [each["pairs"] for each in found["passes"]] == [0, len(world.pairs())]
    assert "pass second: every pair is scored" in lines(world, SECOND, THIRD)
    fewer = world.run(SECOND, update=True)
    assert not fewer
    more = SECOND.replace("likelihood]", "likelihood, question]")
    assert plan(world, more)["passes"][0]["pairs"] == len(world.pairs()), "a score that was added is to be measured"


def test_the_prices_of_questions_and_passes_add_up(world: ScoredWorld) -> None:
    found = plan(world, PRICE, SECOND, THIRD, MORE, profile=6)
    assert found["total"]["to_ask"] > 0 and found["total"]["money"] > 0
    parts = [each["money"] for each in found["passes"]]
    assert all(parts)
    assert found["total_with_passes"]["money"] == pytest.approx(found["total"]["money"] + sum(parts), abs=3e-4)
    shown = lines(world, PRICE, SECOND, THIRD, MORE)
    assert shown[-1] == f"questions and passes together: {found['total_with_passes']['money']:,.2f} USD"
    existing = len(world.pairs())
    assert [each["pairs"] for each in found["passes"]] == [existing + found["total"]["to_ask"]] * 2


def test_without_a_profile_pairs_are_counted_and_a_line_says_how_to_measure(world: ScoredWorld) -> None:
    found = plan(world, SECOND)
    assert found["passes"][0]["pairs"] == len(world.pairs()) and "total_with_passes" not in found
    assert lines(world, SECOND)[-1] == (
        "no profile of this pass: `--profile 32` on this command measures what 'second' takes"
    )


def test_a_budget_pays_for_the_passes_of_new_pairs_too(world: ScoredWorld) -> None:
    """Twice what a pair takes with its passes pays for about twice the questions; unmeasured passes are named."""
    settings = (SECOND, PRICE, "plan.per_image=5", "generate.sampling.answer_temperature=0.5")
    whole = plan(world, *settings, profile=8)
    money = whole["total_with_passes"]["money"]
    half = plan(world, *settings, budget=f"{money / 2:.4f}USD")
    assert half["total"]["to_ask"] < 0.62 * whole["total"]["to_ask"]
    assert half["total_with_passes"]["money"] <= money / 2 * 1.001
    assert half["total_with_passes"]["money"] > 0.8 * money / 2
    unmeasured = plan(world, *settings, THIRD, budget=f"{money / 2:.4f}USD")
    assert any("not in the budget, as they are not measured: the passes third" in note for note in unmeasured["notes"])


SMALL = "score.small={model: small, scores: [answer], engine: {kind: scripted, options: {junk: 0.3}}}"
LARGE = "score.large={model: large, scores: [answer], after: {score: small.answer}}"


def test_a_pass_that_waits_is_priced_for_the_pairs_that_are_left_open(world: ScoredWorld, here: list[Any]) -> None:
    pairs = len(world.pairs())
    before = plan(world, SMALL, LARGE)["passes"][1]
    assert (before["pairs"], before["of"], before["open_share"]) == (pairs, pairs, None)
    assert any(
        "scores at most" in line and "(how many is not known yet)" in line for line in lines(world, SMALL, LARGE)
    )
    measured = plan(world, SMALL, LARGE, profile=12)["passes"][1]
    assert here == ["small", "large"] and 0 < measured["open_share"] < 1
    assert measured["pairs"] == math.ceil(pairs * measured["open_share"])
    assert measured["prompt_tokens"] == pytest.approx(100 * pairs * measured["open_share"], abs=1)
    world.run(SMALL)
    left = sum(row["value"] is None for row in world.scores("small.answer").values())
    exact = plan(world, SMALL, LARGE)["passes"][1]
    assert (exact["pairs"], exact["of"], exact["open_share"]) == (left, left, left / pairs)
    assert exact["prompt_tokens"] == 100 * left
    more = plan(world, SMALL, LARGE, MORE)
    asked = more["total"]["to_ask"]
    assert more["passes"][1]["pairs"] == math.ceil(left + asked * left / pairs)
    shown = f"scores about {more['passes'][1]['pairs']} of {left + asked} pairs, those that small.answer leaves open,"
    assert any(shown in line for line in lines(world, SMALL, LARGE, MORE))
    world.run(SMALL, LARGE)
    assert [each["pairs"] for each in plan(world, SMALL, LARGE)["passes"]] == [0, 0]
    edited = plan(world, SMALL.replace("small, scores", "other, scores"), LARGE)["passes"]
    assert edited[1]["open_share"] is None, "what another model will leave open is not known"


def test_a_pass_that_waits_never_runs_beside_the_one_it_waits_for(
    world: ScoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, names = world.job(LARGE, SMALL, THIRD), ["large", "small", "third"]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(pass_pricing, "gpu_names", list)
    assert order_of(job, names).endswith("passes run in this order: small and third side by side, then large")
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere")
    assert order_of(job, names).endswith("else one after the other; large waits for small")


def test_the_plan_says_which_passes_run_side_by_side(world: ScoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.job(SECOND, THIRD)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(pass_pricing, "gpu_names", list)
    names = ["second", "third"]
    here = "on this machine (0 GPUs, 2 CPUs) passes run in this order:"
    assert order_of(job, names) == f"{here} second and third side by side"
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert order_of(job, names) == f"{here.replace('2 CPUs', '1 CPU')} second, then third"
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere")
    assert order_of(job, names) == "passes run side by side where Ray has 2 CPUs for them, else one after the other"


def test_two_engines_share_no_gpu_and_the_plan_says_so(world: ScoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = "engine: {kind: 'synthgen.engines.scripted:ScriptedEngine', gpus: 1}"
    settings = [f"score.{name}={{model: {name}, scores: [answer], {engine}}}" for name in ("one", "two")]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for gpus, order in ((["a"], "one, then two"), (["a", "b"], "one and two side by side")):
        monkeypatch.setattr(pass_pricing, "gpu_names", lambda gpus=gpus: gpus)
        assert order_of(world.job(*settings), ["one", "two"]).endswith(f"passes run in this order: {order}")
