"""Runs with nothing to ask start no engine, runs with nothing usable fail, and stages without a model need none."""

from pathlib import Path

import pytest

from tests.fixtures.runs import pairs, run, synth
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workers_here")
ENGINE = """from pathlib import Path

from synthgen.engines.scripted import ScriptedEngine


class Engine(ScriptedEngine):
    def __init__(self, name, settings):
        with Path("{folder}/started.txt").open("a") as file:
            file.write("x")
        super().__init__(name, settings)
"""


@pytest.fixture
def engine(workspace: Path) -> tuple[str, str]:
    """Return the setting of an engine that leaves a mark in started.txt each time it is started."""
    write(workspace / "marked.py", ENGINE.format(folder=workspace))
    return "--set", "generate.engine={kind: scripted, script: 'marked:Engine', gpus: 0}"


def starts(workspace: Path) -> int:
    file = workspace / "started.txt"
    return len(file.read_text()) if file.exists() else 0


def test_a_run_whose_images_are_all_quarantined_fails_and_starts_no_engine(
    workspace: Path, engine: tuple[str, str]
) -> None:
    (workspace / "photos").mkdir(exist_ok=True)
    for number in range(3):
        (workspace / "photos" / f"{number}.jpg").write_text("no image")
    for _ in range(2):  # a run with nothing left to do has nothing to show either
        done = run("out", *engine, check=False)
        assert done.returncode == 1 and starts(workspace) == 1, "the check of a new folder starts it once"
        assert done.stderr.splitlines()[-1] == (
            "synth: 0 pairs were kept: nothing came out of tag, mostly for quarantined.not_an_image (3 of 3 objects); "
            f"`synth status {workspace}/out --reason quarantined.not_an_image` lists them"
        )
    done = run("other", *engine, "--until", "tag", check=False)
    assert (done.returncode, done.stderr.splitlines()[-1][:44]) == (1, "synth: nothing came out of tag, mostly for q")


def test_a_retry_with_nothing_to_ask_starts_no_engine(workspace: Path, engine: tuple[str, str]) -> None:
    make_images(workspace / "photos", 3)
    broken = workspace / "photos" / "broken.jpg"
    broken.write_text("no image")
    run("out", *engine)
    before, made = starts(workspace), pairs(workspace / "out")
    assert before > 0
    synth("retry", "out")
    synth("retry", "out", "--reason", "not_an_image")
    assert starts(workspace) == before and pairs(workspace / "out") == made


def test_images_that_a_retry_brings_back_are_asked(workspace: Path, engine: tuple[str, str]) -> None:
    """Partitions with nothing to ask come before one with something; all are done."""
    make_images(workspace / "photos", 4)
    run("out", *engine, "--set", "images.max_pixels=100", check=False)
    run("out", *engine, "--set", "images.max_pixels=100000", check=False)
    assert starts(workspace) == 1, "the check of a new folder starts it once"
    synth("retry", "out", "--reason", "too_many_pixels")
    assert len(pairs(workspace / "out")) == 4 * 3 and starts(workspace) > 1


def test_stages_that_ask_no_model_run_without_one(workspace: Path) -> None:
    make_images(workspace / "photos", 3)
    missing = ("--model", "nowhere/at-all", "--set", "generate.engine={kind: vllm}")
    refused = run("out", *missing, check=False)
    assert refused.returncode == 2 and "generate.model" in refused.stderr.splitlines()[-1]
    done = run("out", *missing, "--until", "plan")
    assert "; this command does not need that model, and goes on" in done.stderr
    planned = synth("plan", "--out", "out")
    assert "questions" in planned.stdout
