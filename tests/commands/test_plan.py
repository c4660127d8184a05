"""The forecasts of `synth plan` come true: counts, differences, budgets; an edit costs only the questions it adds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, fsum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.commands.plan import Forecast
from synthgen.commands.plan import text as report_text
from synthgen.commands.plan.budget import STEPS, UncappedPlan, share_within
from synthgen.commands.plan.counts import QuestionCounts
from synthgen.commands.plan.estimate import TypeEstimate
from synthgen.commands.plan.pricing import Budget, Usage, mean_rates, parse_budget
from synthgen.config import pipeline as pipelines
from synthgen.config.engine import PriceConfig
from synthgen.config.planning import PlanConfig
from synthgen.errors import UserMistake
from synthgen.job import funnel
from synthgen.stages.generate.profiling import Profile, share_costs
from synthgen.stages.plan.quotas import Candidates, DrawnQuestions
from synthgen.store import Folder, RunFolder
from tests.fixtures.runs import assignments, pairs, run, synth
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workers_here")

COUNTING = """
import json
from pathlib import Path
from synthgen.engines.scripted import ScriptedEngine

class Counting(ScriptedEngine):
    async def generate(self, request):
        with (Path(__file__).parent / "calls").open("a") as file:
            file.write(json.dumps([request.purpose, request.image_key]) + "\\n")
        return await super().generate(request)
"""


def plan(*arguments: str) -> Any:
    """Return the JSON of `synth plan` on the folder `out`."""
    return json.loads(synth("plan", "--out", "out", "--pipeline", "small", "--json", *arguments).stdout)


def by_type(rows: Mapping[str, Mapping[str, object]]) -> dict[str, int]:
    return dict(Counter(str(row["type"]) for row in rows.values()))


def assert_done(out: Path) -> None:
    """Assert that nothing remains to do and that retired questions keep their outcome."""
    assert all(stage.is_settled for stage in funnel.funnels(RunFolder(Folder(str(out)))))
    assert set(assignments(out)) <= set(pairs(out))


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text(encoding="utf-8")
    assert old in text
    Path(name).write_text(text.replace(old, new), encoding="utf-8")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_forecast_is_the_plan_that_the_run_then_makes(workspace: Path) -> None:
    make_images(workspace / "photos", 20)
    before = plan("photos")
    assert not (workspace / "out" / "2-planned").exists() and not (workspace / "out" / "3-generated").exists()
    assert before["images"] == {"planned": 20} and before["total"] == {"questions": 60, "to_ask": 60}
    run()
    assert by_type(assignments(workspace / "out")) == {row["type"]: row["questions"] for row in before["types"]}
    after = plan()
    assert after["total"] == {"questions": 60, "to_ask": 0}
    done = plan("--profile", "8")
    assert done["total"] == after["total"] and "profile" not in done and not (workspace / "out" / "profiles").exists()
    assert done["notes"] == ["nothing is left to ask, so nothing is measured"]


def lines_of(setting: str, to_ask: int) -> list[str]:
    """Return the report on a plan of one type, measured on 8 images."""
    pipeline = pipelines.load("small", [setting] if setting else [])
    line = TypeEstimate("coarse/scene", 60, to_ask, 20, Usage(prompt_tokens=500, seconds=3600))
    job: Any = SimpleNamespace(pipeline=pipeline)
    return report_text(Forecast(job, QuestionCounts(), (line,), Profile(8, 24, 4, 1.0, 9.0, ()))).splitlines()


@pytest.mark.parametrize(
    ("setting", "hours", "money"),
    [
        ("", "engine hours", False),
        ("generate.engine={kind: vllm, gpus: 2}", "GPU-hours", False),
        ("generate.engine={kind: vllm, gpus: 0}", "engine hours", False),
        ("generate.engine={kind: endpoint, urls: ['http://x/v1']}", "engine hours", False),
        ("generate.price={gpu_hour: 2, currency: EUR}", "engine hours", True),
    ],
)
def test_hours_are_of_gpus_only_where_the_engine_has_some_and_money_only_where_a_price_is_set(
    workspace: Path, setting: str, hours: str, money: bool
) -> None:
    head, row = lines_of(setting, 40)[2:4]
    assert head.rstrip().removesuffix("EUR").rstrip().endswith(hours) and ("EUR" in head) == money
    assert ("2.00" in row.split()) == money and len(head) == len(row)


def test_without_a_profile_the_report_names_the_option_that_measures_one(workspace: Path) -> None:
    pipeline, line = pipelines.load("small"), TypeEstimate("coarse/scene", 60, 40, 0, None)
    job: Any = SimpleNamespace(pipeline=pipeline, out=Folder(str(workspace / "out")))
    advice = "`--profile 32` on this command measures the usage of questions on 32 images"
    assert (
        report_text(Forecast(job, QuestionCounts(), (line,), None)).splitlines()[-1]
        == f"no profile of this engine: {advice}"
    )


@pytest.mark.parametrize(
    ("untouched", "kept"), [({}, 4), ({("fine/reading", "a"): 5, ("fine/reading", "b"): 1_200}, 1_209)]
)
def test_the_difference_adds_up(workspace: Path, untouched: dict[tuple[str, str], int], kept: int) -> None:
    scene, gone = ("coarse/scene", "mine.yaml:4"), ("coarse/counting", "")
    rules = {
        "added": Counter({scene: 7}),
        "retired": Counter({scene: 1, gone: 2}),
        "kept": Counter({scene: 4, **untouched}),
    }
    job: Any = SimpleNamespace(pipeline=pipelines.load("small"), out=Folder(str(workspace / "out")))
    _, *rows, total = (
        report_text(Forecast(job, QuestionCounts(rules=rules), (), None)).partition("changes by type")[2].splitlines()
    )
    width = len(total) - 30  # three columns of numbers stand behind the names
    columns = [[int(cell.replace(",", "")) for cell in row[width:].split()[:3]] for row in (*rows, total)]
    assert [row[:width].rstrip() for row in rows if "unchanged" in row] == (
        ["… 2 others, unchanged"] if untouched else []
    )
    assert columns[-1] == [sum(column) for column in zip(*columns[:-1], strict=True)] == [7, 3, kept]


def test_where_nothing_is_left_to_ask_no_usage_is_printed(workspace: Path) -> None:
    report = lines_of("", 0)
    assert report[-1] == "nothing is left to ask: every planned question has an outcome"
    assert not [line for line in report if "tokens" in line or "hours" in line]


def test_a_profile_foretells_tokens_and_a_budget_is_kept(workspace: Path) -> None:
    make_images(workspace / "photos", 24)
    forecast = plan("photos", "--profile", "8")
    assert (forecast["profile"]["images"], forecast["profile"]["room"]) == (8, 16) and sum(
        row["measured"] for row in forecast["types"]
    ) == 24
    # The scripted engine reads 100 tokens a call: an ask (some ask for two), an answer and a judgement each.
    assert 200 * 72 < forecast["total"]["prompt_tokens"] <= 300 * 72
    assert forecast["total"]["engine_seconds"] > 0
    assert forecast["total"]["cached_tokens"] == pytest.approx(0.8 * forecast["total"]["prompt_tokens"], abs=1)
    assert plan()["total"] == forecast["total"], "the profile is stored"
    assert "prompt_tokens" not in plan("--set", "generate.sampling.answer_temperature=0.5")["total"], (
        "and is of these settings alone"
    )

    budget = round(0.5 * (forecast["total"]["prompt_tokens"] + forecast["total"]["output_tokens"]))
    trimmed = plan("--budget", f"{budget}tokens")
    assert (
        0.9 * budget < trimmed["total"]["prompt_tokens"] + trimmed["total"]["output_tokens"] <= budget + 1
    )  # two rounded numbers
    refused = synth("plan", "--out", "out", "--pipeline", "small", "--budget", "5tokens", check=False).stderr
    smallest = plan("--budget", refused.partition(" and takes ")[2].partition(";")[0])
    assert all(row["questions"] == 1 for row in smallest["types"]), "what a refusal names suffices"
    whole = {row["type"]: row["questions"] for row in forecast["types"]}
    for row in trimmed["types"]:
        assert row["questions"] == pytest.approx(trimmed["share"] * whole[row["type"]], abs=1), (
            "every type gives its part"
        )
    run("out", "--until", "plan", "--set", f"plan.share={trimmed['share']}")
    assert by_type(assignments(workspace / "out")) == {row["type"]: row["questions"] for row in trimmed["types"]}

    (profile,) = (workspace / "out" / "profiles").iterdir()
    for damaged in ('{"images"', "{}"):
        profile.write_text(damaged)
        done = synth("plan", "--out", "out", "--pipeline", "small", check=False)
        assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(
            "; remove it, and measure it again with `synth plan --profile`"
        )


def test_mistakes_of_the_user_are_one_line(workspace: Path) -> None:
    make_images(workspace / "photos", 3)
    nothing = synth("plan", "--out", "new", "--pipeline", "small", check=False)
    assert nothing.returncode == 2 and "holds no synth run" in nothing.stderr
    plan("photos")
    for arguments, words in {
        ("--budget", "5h"): "no profile of this engine is stored",
        ("--budget", "5parsecs"): "write a number and its unit",
        ("--budget", "5USD"): "no price is known",
        ("--set", "plan.caps={read/**: 3}"): "plan.caps: no instruction type matches 'read/**'",
    }.items():
        done = synth("plan", "--out", "out", "--pipeline", "small", *arguments, check=False)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, arguments


def test_questions_of_another_recipe_are_to_ask_and_scores_that_pairs_lack_are_noted(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    run()
    other = ("--set", "generate.sampling.answer_temperature=0.5")
    edited = plan(*other, "--profile", "2")
    assert edited["total"]["to_ask"] == 18 and edited["total"]["prompt_tokens"] > 18 * 200
    assert edited["notes"] == [
        "18 questions were asked with another model, prompts or settings and count as still to ask; "
        f"`synth run --out {workspace}/out --update` with the same settings asks them again"
    ]
    part = plan(*other, "--budget", f"{edited['total']['prompt_tokens'] // 2}tokens")
    assert 0 < part["share"] < 1 and "is within" in part["notes"][0]

    scored = plan("--set", "generate.scores=[likelihood, answer, question, blind]", "--budget", "5tokens")
    assert scored["total"] == {"questions": 18, "to_ask": 0}
    assert scored["notes"] == [
        "nothing is left to ask, so nothing is measured",
        "existing pairs lack these scores: blind (of 18 pairs), question (of 18 pairs); "
        "their cost is not included in the estimate or the budget",
    ]
    assert plan("--budget", "5tokens")["notes"] == [
        "nothing is left to ask, so nothing is measured and no budget is needed"
    ]
    refused = synth("plan", "--out", "out", "--budget", "5parsecs", check=False)
    assert refused.returncode == 2 and "--budget 5parsecs: write a number and its unit" in refused.stderr
    run("out", *other, "--update")
    assert plan(*other)["total"]["to_ask"] == 0 and plan(*other)["notes"] == []


def test_a_profile_whose_calls_all_fail_is_not_stored_and_one_with_some_failures_says_so(workspace: Path) -> None:
    make_images(workspace / "photos", 12)
    failing = "generate.engine.options.fail="
    done = synth("plan", "photos", "--out", "out", "-p", "small", "--profile", "4", "--set", f"{failing}1", check=False)
    assert done.returncode == 1 and not (workspace / "out" / "profiles").exists()
    assert done.stderr.splitlines()[-1] == (
        "synth: --profile: each of 12 questions failed, the first as call_failed: scripted failure; "
        "nothing was measured; remove the cause and profile again"
    )
    forecast = plan("--profile", "10", "--set", f"{failing}0.3")
    failed, left_out, calls = (forecast["profile"][name] for name in ("failed_calls", "left_out", "calls"))
    assert 0 < left_out < 30 and sum(row["measured"] for row in forecast["types"]) == 30 - left_out
    assert forecast["notes"] == [
        f"{failed} of {calls} calls of the profile failed, and {left_out} questions that they left without a result "
        "are not in it: the forecast may be too low; fix the cause and profile again"
    ]
    # An ask, which may be shared by two questions, and an answer take 100 tokens each; a failed one takes none.
    assert forecast["total"]["prompt_tokens"] >= 150 * 36


# --- edits ------------------------------------------------------------------------------------------------------------


def test_the_edit_loop_asks_what_the_edit_added_and_nothing_else(workspace: Path) -> None:
    """A tag, a type and a rule are added: the forecast difference is the one that is made, and only it costs calls."""
    write(workspace / "counting.py", COUNTING)
    edit("pipelines/small.yaml", "engine: {kind: scripted}", "engine: {kind: 'counting:Counting', gpus: 0}")
    make_images(workspace / "photos", 24, tags=("cat", "red_panda", "invoice", "letter"))
    run()
    old_plan, old_pairs = assignments(workspace / "out"), pairs(workspace / "out")
    take_calls(workspace)

    add_a_tag_with_a_type()
    assert "no mistakes" in synth("check", "--pipeline", "mine").stdout
    [note] = json.loads(synth("plan", "--out", "out", "--pipeline", "mine", "--json").stdout)["notes"]
    assert (
        f"tag them again with `synth run --out {workspace}/out --until tag --update` and the same settings" in note
        and take_calls(workspace) == []
    )
    synth("run", "photos", "--out", "out", "--pipeline", "mine", "--until", "tag", "--update")
    assert take_calls(workspace) == []
    forecast = json.loads(synth("plan", "--out", "out", "--pipeline", "mine", "--diff", "--json").stdout)["difference"]
    assert take_calls(workspace) == [] and assignments(workspace / "out") == old_plan
    synth("run", "photos", "--out", "out", "--pipeline", "mine", "--update")
    assert_done(workspace / "out")

    new_plan, new_pairs = assignments(workspace / "out"), pairs(workspace / "out")
    added, gone = set(new_plan) - set(old_plan), set(old_plan) - set(new_plan)
    assert {row["type"] for key, row in new_plan.items() if key in added} == {"sums/totals"}
    assert (
        sum(row["added"] for row in forecast) == len(added) > 0
        and sum(row["retired"] for row in forecast) == len(gone) > 0
    )
    assert {row["rule"].rpartition("/")[2] for row in forecast if row["added"]} == {"mine.yaml:4"}
    assert all(new_pairs[key] == old_pairs[key] for key in set(new_plan) & set(old_plan)), (
        "what was not touched is as it was"
    )
    made = take_calls(workspace)
    assert sum(purpose == "answer" for purpose, _ in made) == len(added), "one answer for each question that was added"
    images = {str(row["image_id"])[:32] for key, row in new_plan.items() if key in added}
    assert {str(key).rpartition("-")[0] for _, key in made} == images


def add_a_tag_with_a_type() -> None:
    """Copy the pipeline and add a tag, a type and a rule, as in docs/editing.md."""
    synth("copy", "pipeline", "small", "mine")
    edit("pipelines/mine.yaml", "mapping: small", "mapping: mine")
    rule = "rules:\n  - {tags: document/invoice, ask: {sums/totals: 9}}\n"
    write(Path("pipelines/mappings/mine.yaml"), "about: mine\nextends: small\n" + rule)
    edit(
        "taggers/taxonomies/small.yaml", "      letter: a message\n", "      letter: a message\n      receipt: a slip\n"
    )
    leaf = "      totals: {about: sums, needs: sums, forms: [short], examples: ['How much?', 'What is due?']}\n"
    edit("prompts/families/small.yaml", "  fine:\n", f"  sums:\n    about: sums\n    types:\n{leaf}  fine:\n")


def take_calls(workspace: Path) -> list[tuple[str, str | None]]:
    """Return the calls since the last time, and forget them."""
    file = workspace / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.write_text("")
    return [tuple(json.loads(line)) for line in lines]


def test_the_questions_of_a_removed_type_are_retired(workspace: Path) -> None:
    make_images(workspace / "photos", 9)
    run()
    edit("pipelines/mappings/small.yaml", "coarse/**", "coarse/scene")
    leaf = (
        "      counting: {about: how many, needs: things, forms: [short, choice], examples: ['How many?', 'Count?']}\n"
    )
    edit("prompts/families/small.yaml", leaf.replace("'", '"'), "")
    run("out", "--update")
    assert_done(workspace / "out")
    assert set(by_type(assignments(workspace / "out"))) == {"coarse/scene", "fine/reading"}


def test_an_edit_that_reached_only_the_plan_is_noticed_by_the_next_run(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    run()
    edit("prompts/small.yaml", "Brief.", "Be brief.")
    run("out", "--until", "plan", "--update")
    stopped = run(check=False)
    assert stopped.returncode == 2 and "answer.brief." in stopped.stderr and " of the prompts was " in stopped.stderr


def test_another_seed_draws_everything_again_and_needs_replan(workspace: Path) -> None:
    make_images(workspace / "photos", 12)
    run("out", "--until", "plan")
    before = set(assignments(workspace / "out"))
    stopped = run("out", "--until", "plan", "--set", "plan.seed=1", "--update", check=False)
    assert stopped.returncode == 2 and "run with --replan" in stopped.stderr
    run("out", "--until", "plan", "--set", "plan.seed=1", "--replan")
    after = set(assignments(workspace / "out"))
    assert len(after) == len(before) and len(after & before) < 0.8 * len(before)


# --- prices -----------------------------------------------------------------------------------------------------------


def test_a_kind_that_was_measured_often_keeps_its_mean_and_others_are_drawn_to_that_of_their_form() -> None:
    often, once = [(("a", "short"), Usage(output_tokens=10))] * 100, [(("b", "short"), Usage(output_tokens=50))]
    rates = mean_rates([*often, *once, (("a", "long"), Usage(output_tokens=99))])
    assert rates.of(("a", "short")).output_tokens == pytest.approx(10, abs=0.1)
    assert 10 < rates.of(("b", "short")).output_tokens < 25, "one measurement is little"
    assert rates.of(("never", "short")).output_tokens == rates.forms["short"].output_tokens
    assert rates.of(("never", "seen")).output_tokens == rates.all.output_tokens
    assert (rates.measured(("a", "short")), rates.measured(("never", "short"))) == (100, 0)


QUESTIONS = st.lists(
    st.tuples(
        st.sampled_from("abcdefg"), st.sampled_from([0.1, 1.0, 7.0]), st.sampled_from(["new", "planned", "asked"])
    ),
    min_size=1,
    max_size=200,
)


def spent(questions: Sequence[tuple[str, float, str]], keys: Sequence[float], share: float) -> float:
    """Return the cost of the share of each type that has the smallest keys, planned questions first."""
    costs = []
    for path in {own for own, _, _ in questions}:
        mine = sorted(
            (state == "new", key, 0.0 if state == "asked" else cost)
            for (own, cost, state), key in zip(questions, keys, strict=True)
            if own == path
        )
        costs += [cost for _, _, cost in mine[: ceil(share * len(mine))]]
    return fsum(costs)


@given(QUESTIONS, st.integers(0, 2**32 - 1), st.floats(0.01, 300))
def test_a_budget_gets_the_largest_share_that_it_pays_for(
    questions: Sequence[tuple[str, float, str]], seed: int, budget: float
) -> None:
    keys = np.random.default_rng(seed).random(len(questions))
    places = np.array(["abcdefg".index(path) for path, _, _ in questions], np.int16)
    is_planned = np.array([state != "new" for _, _, state in questions])
    costs = np.array([0.0 if state == "asked" else cost for _, cost, state in questions])
    uncapped = UncappedPlan(Candidates(tuple("abcdefg"), DrawnQuestions(places, keys, is_planned), {}), costs)
    share = share_within(uncapped, PlanConfig(mapping="any"), budget)
    if share is None:
        assert spent(questions, keys.tolist(), 1 / STEPS) > budget - 1e-9
    else:
        assert spent(questions, keys.tolist(), share) <= budget + 1e-9
        assert share == 1 or spent(questions, keys.tolist(), share + 1 / STEPS) > budget - 1e-9


def test_budgets_are_parsed_with_their_unit() -> None:
    price = PriceConfig(currency="EUR", gpu_hour=2)
    assert [parse_budget(text, price).unit for text in ("12h", "3e6tokens", "500 EUR", "0.5eur")] == [
        "hours",
        "tokens",
        "money",
        "money",
    ]
    assert parse_budget("3e6tokens", price).amount == 3e6
    assert parse_budget("9EUR", price).spent(Usage(seconds=3600), price, gpus=4) == 8
    assert parse_budget("9h", price).spent(Usage(seconds=1800), price, gpus=0) == 0.5, (
        "without a GPU the engine's hours count"
    )
    assert [Budget(1, unit).spell(12.00001, price) for unit in ("hours", "tokens", "money")] == [
        "12.0001h",
        "13tokens",
        "12.0001EUR",
    ]
    for text in ("12", "h", "-3h", "0h", "1.2.3h", "9USD"):
        with pytest.raises(UserMistake, match="write a number and its unit"):
            parse_budget(text, price)


COSTS = st.integers(0, 500)
ROW = st.fixed_dictionaries(
    {
        "type": st.just("a"), "form": st.just("short"), "outcome": st.sampled_from(["pair", "pair", "failed"]),
        "prompt_tokens": COSTS, "cached_tokens": COSTS, "output_tokens": COSTS, "seconds": st.floats(0, 9),
    }
)  # fmt: skip


@given(st.lists(ROW, min_size=1, max_size=8), COSTS)
def test_the_costs_of_questions_add_up_to_the_measured_totals(rows: list[dict[str, Any]], more: int) -> None:
    rows[0]["outcome"] = "pair"
    totals = {
        name: float(sum(row[name] for row in rows) + more)
        for name in ("prompt_tokens", "cached_tokens", "output_tokens")
    }
    costs = share_costs(rows, totals, 7.0)
    for name, total in totals.items():
        assert sum(getattr(cost, name) for cost in costs) == pytest.approx(total)
    assert sum(cost.seconds for cost in costs) == pytest.approx(7.0)
