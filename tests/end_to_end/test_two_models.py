"""Two models: one asks in a first pass, another answers in a second, and the rows are those of one pass.

The runs are real processes with real Ray; both models are scripts. A kill is SIGKILL of the whole process group.
"""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthgen.tables import ASK, GENERATE, image_id
from tests.fixtures.runs import Rows, funnel_of, kill_once, opened, pairs, rows, run, start, synth
from tests.fixtures.workspace import make_images, write_definition_files

SLOW = ("--set", "generate.engine.options={seconds: 0.02, decline: 0.1, fail: 0.05}")
# The same script on an engine of its own: another engine, and yet another model.
TWICE = (
    *SLOW,
    "--set",
    "generate.ask={model: none, engine: {kind: scripted, in_flight: 3, "
    "options: {seconds: 0.02, decline: 0.1, fail: 0.05}}}",
)
OTHER = (*SLOW, "--set", "generate.ask={model: other}")
OF_MODELS = ("model", "revision", "ask_model", "ask_revision", "ask_attempt", "seconds")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with images, one run by one model in `one` and one by two in `two`."""
    folder = write_definition_files(tmp_path_factory.mktemp("models"))
    make_images(folder / "photos", 40)
    with contextlib.chdir(folder):
        run("one", *SLOW)
        run("two", *OTHER)
    return folder


def content(out: Path, table: str = "pairs") -> dict[str, dict[str, Any]]:
    """Return the rows of generate without the columns about models and time."""
    spec = ASK if table == "questions" else GENERATE
    return {
        key: {name: value for name, value in row.items() if name not in OF_MODELS}
        for key, row in rows(out, spec, table).items()
    }


def texts(out: Path) -> dict[str, tuple[Any, ...]]:
    """Return what the models wrote for each assignment."""
    columns = ("outcome", "reason", "question", "options", "key", "answer", "raw_question", "output_tokens")
    return {key: tuple(row[name] for name in columns) for key, row in rows(out, GENERATE, "pairs").items()}


def test_two_passes_of_one_script_make_the_rows_of_one_pass(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    run("twice", *TWICE)
    adds_up_in_two(made / "twice")
    assert content(made / "twice") == content(made / "one")
    assert not (made / "one" / "3-asked").exists(), "one model needs no table of questions"
    for name in ("likelihood", "answer"):
        assert rows(made / "twice", GENERATE, f"scores/{name}") == rows(made / "one", GENERATE, f"scores/{name}")
    models = {(row["model"], row["ask_model"]) for row in rows(made / "twice", GENERATE, "pairs").values()}
    assert models == {("none", None)}, "the same model is named once"


def adds_up_in_two(out: Path) -> None:
    """Assert that both passes are done, and that their outcomes add up."""
    asked, generated = funnel_of(out, "ask"), funnel_of(out, "generate")
    assert asked.pending == generated.pending == 0
    assert asked.received == generated.received == len(pairs(out)) == len(rows(out, ASK, "questions"))
    declined = Counter(row["reason"] for row in rows(out, ASK, "questions").values() if row["reason"])
    assert declined and {f"failed.{reason}": count for reason, count in declined.items()} == dict(asked.dropped)


def test_rows_and_the_card_name_both_models(made: Path) -> None:
    adds_up_in_two(made / "two")
    found = rows(made / "two", GENERATE, "pairs")
    assert {(row["model"], row["ask_model"], row["ask_revision"]) for row in found.values()} == {
        ("none", "other", "scripted")
    }
    assert {row["model"] for row in rows(made / "two", ASK, "questions").values()} == {"other"}
    assert texts(made / "two") == texts(made / "one"), "the script is the same"
    assert not {row["recipe"] for row in found.values()} & {row["recipe"] for row in content(made / "one").values()}
    card = (made / "two" / "5-shards" / "README.md").read_text()
    assert "| Model | none |" in card and "| Asked by | other |" in card
    assert (
        "ask" in synth("status", str(made / "two")).stdout and "ask " not in synth("status", str(made / "one")).stdout
    )


@pytest.mark.parametrize("stage", ["3-asked", "3-generated"])
def test_a_run_killed_in_either_pass_ends_with_the_same_rows(
    made: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    out = made / f"killed-in-{stage}"
    process = start("run", "photos", "--out", out.name, "--pipeline", "small", *OTHER)
    kill_once(process, lambda: list((out / stage).rglob("*.parquet")))
    run(out.name, *OTHER)
    adds_up_in_two(out)
    assert content(out, "questions") == content(made / "two", "questions")
    assert content(out) == content(made / "two")


def test_another_model_that_answers_keeps_the_questions(workspace: Path) -> None:
    make_images(workspace / "photos", 12)
    run("out", *OTHER)
    before, commits = rows(workspace / "out", ASK, "questions"), commit_names(workspace / "out")
    stopped = run("out", *OTHER, "--model", "newer", check=False)
    assert stopped.returncode == 1 and "generate.model" in stopped.stderr
    run("out", *OTHER, "--model", "newer", "--update")
    assert rows(workspace / "out", ASK, "questions") == before and commit_names(workspace / "out") == commits
    after = rows(workspace / "out", GENERATE, "pairs")
    assert {(row["model"], row["ask_model"]) for row in after.values()} == {("newer", "other")}
    run("out", *SLOW, "--model", "newer", "--set", "generate.ask={model: third}", "--update")
    assert {row["model"] for row in rows(workspace / "out", ASK, "questions").values()} == {"third"}
    assert {row["ask_model"] for row in rows(workspace / "out", GENERATE, "pairs").values()} == {"third"}


def commit_names(out: Path) -> set[str]:
    """Return the commits of the pass that asks."""
    return {commit.name for commits in opened(out).log(ASK).partitions.values() for commit in commits}


def test_a_failure_is_retried_in_the_pass_that_it_came_from(workspace: Path) -> None:
    make_images(workspace / "photos", 24)
    failing = ("--set", "generate.ask={model: other, engine: {kind: scripted, options: {fail: 0.3}}}")
    run("out", *failing)
    failed = failed_questions(workspace / "out")
    assert failed and failed <= failed_pairs(workspace / "out")
    mended = "generate.ask={model: other, engine: {kind: scripted}}"
    run("out", "--set", mended)
    assert failed_pairs(workspace / "out") == failed, "a plain run tries nothing again"
    synth("retry", "out", "--reason", "call_failed")
    assert not failed_questions(workspace / "out") and not failed_pairs(workspace / "out")
    attempts = {key: row["ask_attempt"] for key, row in rows(workspace / "out", GENERATE, "pairs").items()}
    assert {key for key, attempt in attempts.items() if attempt} == failed
    adds_up_after(workspace / "out")


def adds_up_after(out: Path) -> None:
    """Assert that nothing is pending in either pass."""
    assert funnel_of(out, "ask").pending == funnel_of(out, "generate").pending == 0


def failed_questions(out: Path) -> set[str]:
    return {key for key, row in rows(out, ASK, "questions").items() if row["reason"]}


def failed_pairs(out: Path) -> set[str]:
    return {key for key, row in rows(out, GENERATE, "pairs").items() if row["reason"]}


def test_an_image_that_kills_the_engine_that_asks_costs_its_own_rows(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 12)
    poison = image_id(photos[5].read_bytes())[:32]
    run("out", "--set", f"generate.ask={{model: other, engine: {{kind: scripted, options: {{exit_on: {poison}}}}}}}")
    for spec, table in ((ASK, "questions"), (GENERATE, "pairs")):
        reasons = Counter(row["reason"] for row in rows(workspace / "out", spec, table).values())
        assert reasons == {None: 33, "poison": 3}


def test_a_purge_takes_questions_too_and_a_damaged_file_of_questions_costs_its_rows(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 12)
    run("out", "--set", "generate.ask={model: other}")
    gone = image_id(photos[3].read_bytes())
    synth("purge", "out", "0003.png")
    assert gone not in {row["image_id"] for row in rows(workspace / "out", ASK, "questions").values()}
    adds_up_after(workspace / "out")
    before = texts(workspace / "out")
    [partition] = opened(workspace / "out").log(ASK).partitions
    for file in (workspace / "out" / "3-asked" / "questions").iterdir():
        file.write_bytes(b"damaged")
    synth("retry", "out", "--partition", f"3-asked/{partition}")
    adds_up_after(workspace / "out")
    assert texts(workspace / "out") == before and funnel_of(workspace / "out", "ask").passed == len(before)


def test_a_model_that_has_nothing_to_do_is_refused_on_the_command_line(workspace: Path) -> None:
    make_images(workspace / "photos", 3)
    both = ("--set", "generate.ask={model: a}", "--set", "generate.answer={model: b}")
    stopped = run("out", *both, "--model", "c", check=False)
    assert stopped.returncode != 0 and "--model names generate.model, which does nothing here" in stopped.stderr
    run("out", *both)
    found: Rows = rows(workspace / "out", GENERATE, "pairs")
    assert {(row["model"], row["ask_model"]) for row in found.values()} == {("b", "a")}
    status = json.loads(synth("status", "out", "--json").stdout)["stages"]
    assert [stage["stage"] for stage in status] == ["tag", "plan", "ask", "generate", "select", "pack"]


def test_a_plan_prices_both_parts_and_says_their_order(workspace: Path) -> None:
    make_images(workspace / "photos", 16)
    prices = (
        *("--set", "generate.ask={model: other, price: {output_million: 5}, engine: {kind: scripted}}"),
        *("--set", "generate.price={prompt_million: 2}"),
    )
    plan = ("plan", "photos", "--out", "out", "-p", "small", *prices)
    lines = synth(*plan).stdout.splitlines()
    assert "first other asks, 1 engine (scripted)" in lines
    assert "then none answers and scores, 1 engine (scripted)" in lines
    text = synth(*plan, "--profile", "6").stdout
    assert [line.partition(":")[0] for line in text.splitlines() if line.startswith(("asking", "answering"))] == [
        "asking",
        "answering",
    ]
    total = json.loads(synth(*plan, "--json").stdout)["total"]
    asking = total["of_asking"]
    assert 0 < asking["prompt_tokens"] < total["prompt_tokens"] and asking["output_tokens"] > 0
    answering = total["prompt_tokens"] - asking["prompt_tokens"]
    # The script reads 100 tokens a call, of which 80 are cached: an answer and a judgement a question.
    assert answering == pytest.approx(200 * 48, rel=0.05)
    assert total["money"] == pytest.approx((asking["output_tokens"] * 5 + 0.2 * answering * 2) / 1e6, abs=1e-4)
    budget = total["prompt_tokens"] + total["output_tokens"]
    half = json.loads(synth(*plan, "--json", "--budget", f"{budget // 2}tokens").stdout)
    assert 0.8 * budget < 2 * (half["total"]["prompt_tokens"] + half["total"]["output_tokens"]) <= budget + 4
    run("out", *prices)
    assert json.loads(synth("plan", "--out", "out", "--json").stdout)["total"] == {"questions": 48, "to_ask": 0}
    again = json.loads(synth("plan", "--out", "out", "--json", "--model", "newer", "--profile", "6").stdout)["total"]
    assert again["to_ask"] == 48 and again["of_asking"]["prompt_tokens"] == 0, "the questions are there"


def test_a_preview_shows_the_calls_of_both_models(workspace: Path) -> None:
    make_images(workspace / "photos", 1)
    shown = synth("preview", "photos/0000.jpg", "-p", "small", "--set", "generate.ask={model: other}").stdout
    purposes = [line.split("]")[0].strip(" [") for line in shown.splitlines() if line.startswith("  [")]
    assert "ask" in purposes and "answer" in purposes and "judge" in purposes
    assert purposes.index("answer") > max(place for place, name in enumerate(purposes) if name == "ask")
    assert "A: " in shown
