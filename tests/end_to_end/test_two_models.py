"""Two models in whole runs: one asks in a first pass, another answers in a second.

The runs are real processes with real Ray; both models are scripts. A kill is SIGKILL of the whole process group.
"""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthgen.tables import ASK, GENERATE, image_id
from tests.fixtures.runs import funnel_of, kill_once, rows, run, start, synth, synth_process, words_of_run
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

OTHER = (
    *("--set", "generate.engine.options={seconds: 0.02, decline: 0.1, fail: 0.05}"),
    *("--set", "generate.ask={model: other}"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with images and a run by two models in `two`."""
    folder = write_definition_files(tmp_path_factory.mktemp("models"))
    make_images(folder / "photos", 40)
    with contextlib.chdir(folder):
        run("two", *OTHER)
    return folder


def content(out: Path) -> list[dict[str, dict[str, Any]]]:
    """Return the rows of both passes without their seconds."""
    tables = rows(out, ASK, "questions"), rows(out, GENERATE, "pairs")
    return [{key: {**row, "seconds": 0.0} for key, row in table.items()} for table in tables]


def adds_up_in_two(out: Path) -> None:
    """Assert that both passes are done, and that every question has an outcome."""
    asked, generated = funnel_of(out, "ask"), funnel_of(out, "generate")
    assert asked.pending == generated.pending == 0
    assert asked.received == generated.received == len(rows(out, ASK, "questions")) == len(rows(out, GENERATE, "pairs"))


def test_status_and_the_card_name_both(made: Path) -> None:
    adds_up_in_two(made / "two")
    card = (made / "two" / "5-shards" / "README.md").read_text()
    assert "| Model | none |" in card and "| Asked by | other |" in card
    stages = json.loads(synth("status", str(made / "two"), "--json").stdout)["stages"]
    assert [stage["stage"] for stage in stages] == ["tag", "plan", "ask", "generate", "select", "pack"]


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
    assert content(out) == content(made / "two")


def test_an_image_that_kills_the_engine_that_asks_costs_its_own_rows(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 12)
    poison = image_id(photos[5].read_bytes())[:32]
    deadly = f"generate.ask={{model: other, engine: {{kind: scripted, options: {{exit_on: {poison}}}}}}}"
    synth_process(*words_of_run("out", "--set", deadly))
    for spec, table in ((ASK, "questions"), (GENERATE, "pairs")):
        reasons = Counter(row["reason"] for row in rows(workspace / "out", spec, table).values())
        assert reasons == {None: 33, "poison": 3}


def test_a_preview_shows_the_calls_of_both_models(workspace: Path) -> None:
    make_images(workspace / "photos", 1)
    shown = synth("preview", "photos/0000.jpg", "-p", "small", "--set", "generate.ask={model: other}").stdout
    purposes = [line.split("]")[0].strip(" [") for line in shown.splitlines() if line.startswith("  [")]
    assert "ask" in purposes and "answer" in purposes and "judge" in purposes
    assert purposes.index("answer") > max(place for place, name in enumerate(purposes) if name == "ask")
    assert "A: " in shown
