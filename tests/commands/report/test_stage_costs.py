"""GPU-hours and money by stage: the time that engines are held, and tokens of each model at its own price."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands import report
from synthgen.commands.report.costs import PAIRS, Cost, seconds_at_work
from synthgen.commands.report.stage_costs import StageCost, seconds_held, stage_costs
from synthgen.config.pipeline import Pipeline
from synthgen.store import Commit, CommitLog, Folder, Receipt, RunFolder
from synthgen.tables import ASK, GENERATE, PLAN, SCORE, SELECT, STAGES, StageSpec
from tests.fixtures.reports import PIPELINE, write_run

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
VLLM = {"kind": "vllm", "gpus": 2, "replicas": 3}
PRICE = {"gpu_hour": 2.0}
GENERATING = {"model": "big", "prompts": "everyday", "engine": VLLM, "price": PRICE, "scores": []}
SERVED = {
    "model": "served",
    "scores": ["answer"],
    "engine": {"kind": "endpoint", "urls": ["http://127.0.0.1:1/v1"]},
    "price": {"prompt_million": 1.0, "cached_million": 0.5, "output_million": 4.0},
}


def folder_of(*commits: tuple[StageSpec, str, int, int]) -> RunFolder:
    """Return a run with a commit for each (stage, partition, term, second of a minute)."""
    logs: dict[str, dict[str, list[Commit]]] = {spec.folder: {} for spec in STAGES}
    for number, (spec, partition, term, second) in enumerate(commits):
        receipt = Receipt(partition, number + 1, {})
        commit = Commit(receipt, term, (NEW_YEAR + timedelta(seconds=second)).isoformat(), "digest")
        logs[spec.folder].setdefault(partition, []).append(commit)
    known = {name: CommitLog({key: tuple(each) for key, each in log.items()}) for name, log in logs.items()}
    return RunFolder(Folder("nowhere"), known)


def pipeline_of(**sections: Any) -> Pipeline:
    return Pipeline.model_validate({**PIPELINE, "select": {}, "generate": GENERATING, **sections})


def test_passes_side_by_side_are_held_for_the_whole_time_each_and_pauses_count_for_none() -> None:
    folder = folder_of(
        *((PLAN, "a", 1, 0), (GENERATE, "a", 1, 100), (GENERATE, "b", 1, 150)),
        *((SCORE, "a.first", 1, 160), (SCORE, "a.second", 1, 170), (SCORE, "b.first", 1, 200), (SELECT, "a", 1, 205)),
        *((PLAN, "b", 2, 1000), (GENERATE, "c", 2, 1010)),
    )
    held = seconds_held(folder)
    assert held["generate"] == 150 + 10 and held["select"] == 5
    assert (held["score: first"], held["score: second"]) == (50, 20)
    assert seconds_at_work(folder)["score"] == 50, "on the clock they share the time"


def costs_of(folder: RunFolder, pipeline: Pipeline, asked: Cost = Cost()) -> Sequence[StageCost]:  # noqa: B008
    costs = {
        PAIRS: Cost(10, None, 1_000_000, 500_000, 100_000, 5.0),
        "score likelihood": Cost(10, 0, 0, 0, 0),
        "score judge.answer": Cost(10, 10, 2_000_000, 1_000_000, 10_000),
    }
    return stage_costs(folder, pipeline, costs, asked)


def test_a_stage_costs_its_gpus_for_as_long_as_they_are_held_and_its_tokens() -> None:
    folder = folder_of((PLAN, "a", 1, 0), (GENERATE, "a", 1, 1800), (SCORE, "a.judge", 1, 2400))
    generating, judging = costs_of(folder, pipeline_of(score={"judge": SERVED}))
    assert (generating.stage, generating.model, generating.engines, generating.gpus) == ("generate", "big", 3, 2)
    assert generating.hours == pytest.approx(0.5 * 3 * 2) and generating.money == pytest.approx(6.0)
    assert generating.cost.prompt_tokens == 1_000_000
    assert (judging.stage, judging.gpus, judging.currency) == ("score: judge", 0, "USD")
    assert judging.money == pytest.approx(1_000_000 * 1e-6 + 1_000_000 * 0.5e-6 + 10_000 * 4e-6)


def test_tokens_of_asking_are_those_of_the_model_that_asks() -> None:
    folder = folder_of((PLAN, "a", 1, 0), (ASK, "a", 1, 60), (GENERATE, "a", 1, 120))
    pipeline = pipeline_of(generate={**GENERATING, "ask": {"model": "small"}})
    asking, answering = costs_of(folder, pipeline, Cost(10, None, 300_000, 100_000, 40_000, 1.0))
    assert (asking.stage, asking.model, asking.cost.output_tokens) == ("ask", "small", 40_000)
    assert (answering.cost.prompt_tokens, answering.cost.cached_tokens) == (700_000, 400_000)
    assert answering.cost.output_tokens == 60_000 and answering.seconds == asking.seconds == 60


def test_without_a_price_there_is_no_money_and_what_did_not_run_has_no_row() -> None:
    folder = folder_of((PLAN, "a", 1, 0), (GENERATE, "a", 1, 3600))
    (generating,) = costs_of(folder, pipeline_of(generate={**GENERATING, "price": {}}, score={"judge": SERVED}))
    assert generating.money is None and generating.hours == 6


def test_the_page_has_the_table_of_stages(tmp_path: Path) -> None:
    folder = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")
    text = Path(report.write_report(folder, has_pictures=False)).read_text(encoding="utf-8")
    table = text.partition("GPU-hours and money")[2].partition("</table>")[0]
    assert '<th scope="row">generate</th><td>none</td>' in table and "names no price" in text
