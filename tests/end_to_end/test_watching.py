"""What a run tells a program: its events from the first to the last, and nothing else on stdout."""

import json
from pathlib import Path
from typing import Any

import pytest

from synthgen import cli
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("ray_running")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict[str, Any]], str]:
    """Run a command in this process; return its events and what it printed on stderr."""
    capsys.readouterr()
    cli.app(["run", *words], standalone_mode=False)
    output = capsys.readouterr()
    return [json.loads(line) for line in output.out.splitlines()], output.err


def test_a_run_tells_all_that_happens_and_ends_with_its_status_and_report(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(workspace / "photos", 40)
    events, errors = run(capsys, "photos", "--out", "out", "--pipeline", "small", "--json")
    assert errors == ""
    names = [event["event"] for event in events]
    assert (names[0], names[-2], names[-1]) == ("note", "progress", "result") or names[0] == "run_started"
    assert names.count("run_started") == names.count("run_ended") == 1
    started = next(event for event in events if event["event"] == "run_started")
    assert started["stages"] == ["list", "tag", "plan", "generate", "select", "pack"]
    for stage in started["stages"]:
        own = [event["event"] for event in events if event.get("stage") == stage]
        assert own[0] == "stage_started" and own.count("stage_ended") == 1 and "committed" in own, stage
    done = [event for event in events if event["event"] == "task_done"]
    committed = {(event["stage"], event["partition"]) for event in events if event["event"] == "committed"}
    assert {(event["stage"], event["partition"]) for event in done} <= committed
    assert {event["worker"] for event in done} == {"tag-1", "generate-1", "pack-1"}
    last = [event for event in events if event["event"] == "progress" and event.get("stage") == "generate"][-1]
    pairs = next(each["passed"] for each in events[-1]["status"]["stages"] if each["stage"] == "generate")
    assert last["phase"] == "end" and last["counters"]["pairs"] == pairs, "the last counters are whole"
    assert last["counters"]["calls"] >= pairs and last["acceptance"] == 1.0
    assert Path(events[-1]["report"]).is_file()

    again, errors = run(capsys, "--out", "out", "--json")
    assert errors == "" and not [event for event in again if event["event"] == "committed"]
    assert again[-1]["status"] == events[-1]["status"]

    capsys.readouterr()
    cli.app(["run", "--out", "out", "--quiet"], standalone_mode=False)
    output = capsys.readouterr()
    assert output.err == "" and "pack" in output.out and output.out.rstrip().endswith("report.html")


def test_two_ways_to_look_at_once_are_a_mistake(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["run", "--out", "out"], ["retry", "out"], ["reask", "out"]):
        with pytest.raises(Exception, match="--quiet and --json: choose one"):
            cli.app([*words, "--quiet", "--json"], standalone_mode=False)
