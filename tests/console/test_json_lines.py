"""Events for machines: one object a line, the schema of the page that documents it, and the ways to look at a run."""

import json
import logging
import re
from dataclasses import fields
from typing import get_args

import pytest

from synthgen.console import (
    LOGGER,
    GpuState,
    JsonLines,
    Look,
    Measures,
    Sample,
    WorkerStatus,
    looking,
    note,
    only,
    tell,
)
from synthgen.console.events import (
    Committed,
    Event,
    Progress,
    RunStarted,
    StageStarted,
    TaskDone,
    Workers,
    as_json,
    name_of,
)
from tests.fixtures.workspace import ROOT

PAGE = (ROOT / "docs/watching.md").read_text(encoding="utf-8")


def lines_of(*events: Event) -> list[dict[str, object]]:
    """Return the objects that events become."""
    written: list[str] = []
    with only(JsonLines(written.append)):
        for event in events:
            tell(event)
    return [json.loads(line) for line in written]


def test_each_line_has_the_time_the_run_and_the_stage_and_the_partition_and_worker_where_there_is_one() -> None:
    committed, done = Committed("tag", "e001-00000", 1, {"tagged": 3}), TaskDone("tag", "tag-1", "e001-00000", 1.25)
    lines = lines_of(RunStarted("s3://bucket/data", ("tag",), "0"), StageStarted("tag"), committed, done)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("at"))) for line in lines)
    assert {line["run"] for line in lines} == {"data"}
    place = {"run": "data", "stage": "tag", "partition": "e001-00000"}
    assert lines[2] == {**place, "event": "committed", "revision": 1, "counts": {"tagged": 3}}
    assert lines[3] == {**place, "event": "task_done", "worker": "tag-1", "seconds": 1.25}


def test_what_comes_twice_a_second_is_thinned_out_and_the_ends_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    written: list[str] = []
    view = JsonLines(written.append)
    view.see(Progress("tag", "start", 0, 99, "image"))
    for step in range(60):
        now[0] = step / 2
        view.see(Progress("tag", "going", step, 99, "image"))
        view.see(Workers("tag", ()))
    view.see(Progress("tag", "end", 99, 99, "image"))
    names = [json.loads(line)["event"] for line in written]
    assert (names.count("progress"), names.count("workers")) == (8, 6)


def test_measures_stand_beside_the_progress_and_what_is_not_known_is_left_out() -> None:
    measures = Measures(counters={"pairs": 3.0}, acceptance=2 / 3)
    assert as_json(Progress("generate", "going", 3, 9, "assignment", measures=measures)) == {
        "event": "progress", "stage": "generate", "phase": "going", "done": 3, "total": 9, "unit": "assignment",
        "is_bound": False, "rate": 0.0, "seconds": 0.0, "counters": {"pairs": 3.0}, "acceptance": 0.6667,
    }  # fmt: skip


def test_workers_have_their_gpus_and_the_last_pair() -> None:
    worker = WorkerStatus("generate-1", "at work", 2.0, in_flight=8, gpus=(GpuState(0.9, 10, 20),))
    [line] = lines_of(Workers("generate", (worker,), Sample("What?", "That.", "t", "a.png")))
    assert line["workers"] == [
        {
            "worker": "generate-1", "state": "at work", "seconds": 2.0, "tasks": 0, "in_flight": 8,
            "gpus": [{"busy": 0.9, "used": 10, "memory": 20}],
        }
    ]  # fmt: skip
    assert line["last"] == {"question": "What?", "answer": "That.", "type": "t", "image": "a.png"}


def test_the_page_has_every_event_with_every_field_and_no_other() -> None:
    table = PAGE.partition("## Events")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (.+?) \|", table, re.MULTILINE))
    wanted = {}
    for event in get_args(Event):
        names = [each.name for each in fields(event)]
        names += [each.name for each in fields(Measures)] if "measures" in names else []
        wanted[name_of(event)] = {name for name in names if name != "measures"}
    assert {name: set(re.findall(r"`([a-z_]+)`", text)) for name, text in documented.items()} == wanted


def test_as_json_notes_are_events_on_stdout_and_what_goes_wrong_is_on_stderr_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with looking("json"):
        note("a note")
        LOGGER.error("broken", extra={"worker": "tag-1"})
        tell(Progress("tag", "start", 0, 99, "image"))
    note("after it")
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [(line["event"], line.get("text"), line.get("level"), line.get("worker")) for line in lines] == [
        ("note", "a note", "info", None),
        ("note", "broken", "error", "tag-1"),
        ("progress", None, None, None),
    ]
    assert output.err.splitlines() == ["broken", "after it"]


def test_quiet_leaves_out_notes_and_progress_and_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with looking("quiet"):
        note("a note")
        logging.getLogger("synthgen.run").warning("beware")
        tell(Progress("tag", "start", 0, 99, "image"))
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "beware\n")


@pytest.mark.parametrize("look", get_args(Look))
def test_every_look_ends_with_its_block_however_that_ends(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), looking(look):
        raise ValueError
    note("a note")
    assert capsys.readouterr().err == "a note\n"


def test_an_event_with_what_a_terminal_obeys_is_escaped_and_stays_the_same_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with looking("json"):
        note("a\x1b[2Jb\u202e東")
    shown = capsys.readouterr().out
    assert shown.strip().isprintable() and "東" in shown and json.loads(shown)["text"] == "a\x1b[2Jb\u202e東"
