"""What `synth status --reason` lists: every row that `synth status` counts, with what it is of; read no further than asked."""

import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen import cli
from synthgen.commands.dropped import Dropped, find_dropped, text
from synthgen.errors import UserMistake
from synthgen.job import funnel as status
from synthgen.job import run_record
from synthgen.stages.pack import redact
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import (
    ASSIGNMENTS,
    DECISIONS,
    GENERATE,
    IMAGES,
    OBJECTS,
    PAIRS,
    PLANNED_IMAGES,
    SCORES,
    UNPACKED,
    stage_at,
    table,
)

Rows = list[dict[str, Any]]


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    """A folder of two partitions, in which something fell out at every stage."""
    folder = Folder(str(tmp_path / "out"))
    (tmp_path / "photos").mkdir()
    folder.create("run.json", b'{"format": 1}')
    pipeline = {"source": {"uri": "photos"}}
    folder.child("frozen").create(
        "000001.json", json.dumps({"pipeline": pipeline, "shape": {}, "started_in": str(tmp_path)}).encode()
    )
    with Lease.take(folder) as lease:
        for number in (0, 1):
            _partition(folder, lease, number, str(tmp_path / "photos"))
        rows = [{"image_id": "i0-3", "sample_id": "s", "turns": 2, "reason": "changed", "detail": "other bytes"}]
        _commit(
            folder, lease, "5-shards", 0, {"unpacked": table(rows, UNPACKED)}, {"turns": 1, "samples": 1, "changed": 2}
        )
    return folder


def _commit(
    out: Folder,
    lease: Lease,
    stage: str,
    number: int,
    tables: dict[str, pa.Table],
    counts: dict[str, int],
    revision: int = 1,
) -> None:
    one, name = StageFolder(out, stage_at(stage)), f"e001-{number:05d}"
    parts = {key: TablePart((one.write(key, name, revision, rows),), "f") for key, rows in tables.items()}
    one.commit(Receipt(name, revision, parts, counts), lease, 1)


def _partition(out: Folder, lease: Lease, number: int, photos: str) -> None:
    """Four objects: one is corrupt, one a copy, one is asked in vain, one has two pairs, of which none is kept."""
    ids = [f"o{number}-{one}" for one in range(4)]
    objects: Rows = [{"object_id": one, "uri": f"{photos}/{number}/{one}.jpg"} for one in ids]
    objects[3]["row"] = 7
    images: Rows = [{"object_id": one, "outcome": "tagged"} for one in ids]
    images[0] |= {"outcome": "quarantined", "reason": "corrupt", "detail": "broken\ndata stream"}
    planned: Rows = [
        {**one, "outcome": "planned", "image_id": one["object_id"].replace("o", "i")} for one in objects[1:]
    ]
    planned[0] |= {"outcome": "same_bytes", "same_as": ids[2]}
    asked: Rows = [
        {"assignment_id": f"a{number}-{one}", "object_id": ids[2 + (one > 1)], "type": "counting"} for one in range(4)
    ]
    said = {"outcome": "pair", "question": "How many?", "answer": "2"}
    pairs: Rows = [{**one, **said, "pair_id": f"p{one['assignment_id']}"} for one in asked]
    pairs[0] |= {
        "outcome": "failed",
        "reason": "declined",
        "pair_id": None,
        "question": None,
        "answer": None,
        "detail": "nothing to count",
    }
    scores: Rows = [{"pair_id": one["pair_id"], "value": 1.5} for one in pairs[2:]]
    reasons = {2: "score:answer", 3: "rule:echo"}
    decisions: Rows = [
        {**{key: pairs[at][key] for key in ("pair_id", "assignment_id")}, "reason": why} for at, why in reasons.items()
    ]
    stages: list[tuple[str, dict[str, pa.Table], dict[str, int]]] = [
        ("0-listed", {"objects": table(objects, OBJECTS)}, {"listed": 4}),
        ("1-tagged", {"images": table(images, IMAGES)}, {"tagged": 3, "quarantined.corrupt": 1}),
        (
            "2-planned",
            {
                "images": table(planned, PLANNED_IMAGES),
                "assignments": table([{**one, "retired": at == 1} for at, one in enumerate(asked)], ASSIGNMENTS),
            },
            {"planned": 2, "same_bytes": 1, "assigned": 3, "retired": 1},
        ),
        (
            "3-generated",
            {"pairs": table([pairs[0], *pairs[2:]], PAIRS), "scores/answer": table(scores, SCORES)},
            {"pair": 2, "failed.declined": 1, "retired": 1},
        ),
        ("4-selected", {"decisions": table(decisions, DECISIONS)}, {"score:answer": 1, "rule:echo": 1}),
    ]
    for stage, tables, counts in stages:
        _commit(out, lease, stage, number, tables, counts)


def lines(out: Folder, reason: str) -> list[str]:
    below = partial(redact.uri, root=redact.root_of(run_record.source(out).uri))
    return [text(row, below) for row in find_dropped(out, reason).rows]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("corrupt", "0/o0-0.jpg  quarantined.corrupt  broken data stream"),
        ("quarantined", "0/o0-0.jpg  quarantined.corrupt  broken data stream"),
        ("same_bytes", "0/o0-1.jpg  same_bytes  object o0-2 stands for it"),
        ("failed.declined", "0/o0-2.jpg  counting  failed.declined  nothing to count"),
        ("retired", "0/o0-2.jpg  counting  retired  taken back before it was asked"),
        ("score:answer", "0/o0-3.jpg row 7  counting: How many?  score:answer  1.5: 2"),
        ("rule", "0/o0-3.jpg row 7  counting: How many?  rule:echo  2"),
        ("changed", "0/o0-3.jpg row 7  changed  other bytes"),
    ],
)
def test_a_reason_lists_what_it_is_of_and_the_detail(out: Folder, reason: str, line: str) -> None:
    assert lines(out, reason)[0] == line


def test_every_row_that_is_counted_is_listed(out: Folder) -> None:
    for funnel in status.funnels(out):
        for reason, count in funnel.fell.items():
            found = find_dropped(out, reason)
            assert len(rows := list(found.rows)) == found.count == (1 if funnel.stage == "pack" else count) and count
            assert {(row.stage, row.reason) for row in rows} == {(funnel.stage, reason)}


def test_a_decision_whose_pair_was_replaced_since_is_listed_as_that(out: Folder) -> None:
    again = {
        "assignment_id": "a0-2",
        "object_id": "o0-3",
        "type": "counting",
        "outcome": "pair",
        "pair_id": "new",
        "question": "And now?",
    }
    with Lease.take(out) as lease:
        _commit(out, lease, "3-generated", 0, {"pairs": table([again], PAIRS)}, {}, revision=2)
    told = "0/o0-3.jpg row 7  counting  score:answer  its pair was replaced since; select has not run again"
    assert lines(out, "score") == [told, "1/o1-3.jpg row 7  counting: How many?  score:answer  1.5: 2"]
    with Lease.take(out) as lease:
        StageFolder(out, GENERATE).empty("e001-00000", lease)
    assert (
        lines(out, "score")[0] == "object unknown  score:answer  its pair was replaced since; select has not run again"
    )
    assert find_dropped(out, "score").count == 2


def test_what_the_model_replied_is_shown_shortened_and_whole_as_json(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "1. How many?\n" + "Sorry, no more. " * 40
    said = {"object_id": "o0-2", "type": "counting", "outcome": "failed"}
    asked = {**said, "question": "How many?", "raw_question": "1. How many?"}
    failed = [
        {**said, "assignment_id": "x0", "reason": "too_few_questions", "raw_question": long},
        {**asked, "assignment_id": "x1", "reason": "empty_answer", "raw_answer": "-"},
        {**asked, "assignment_id": "x2", "reason": "empty_answer", "raw_answer": ""},
    ]
    with Lease.take(out) as lease:
        counts = {"failed.too_few_questions": 1, "failed.empty_answer": 2}
        _commit(out, lease, "3-generated", 0, {"pairs": table(failed, PAIRS)}, counts, revision=2)
    shown = " ".join(long.split())[:200]
    line = (
        f"0/o0-2.jpg  counting  failed.too_few_questions  reply: {shown}… ({len(long)} characters, whole with --json)"
    )
    assert lines(out, "too_few_questions") == [line]
    told = "0/o0-2.jpg  counting: How many?  failed.empty_answer"
    assert lines(out, "empty_answer") == [f"{told}  reply: -", told]
    cli.app(["status", out.url, "--reason", "too_few_questions", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["reply"] == long


def test_an_unknown_reason_comes_with_the_nearest_and_a_known_one_may_have_no_rows(out: Folder) -> None:
    for typed, near in (
        ("corupt", "corrupt"),
        ("quarantine", "quarantined"),
        ("score:anwser", "score:answer"),
        ("poisn", "poison"),
    ):
        with pytest.raises(UserMistake) as caught:
            find_dropped(out, typed)
        assert str(caught.value) == f"--reason {typed}: nothing fell out for that here; did you mean '{near}'?"
    assert find_dropped(out, "poison").count == 0


def test_only_the_partitions_that_are_asked_for_are_read(out: Folder) -> None:
    found = find_dropped(out, "corrupt")
    for file in Path(out.path, "1-tagged", "images").glob("e001-00001.*"):
        file.unlink()
    assert isinstance(next(found.rows), Dropped) and found.count == 2


def test_the_command_lists_some_and_counts_the_others(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["status", out.url, "--reason", "corrupt", "--limit", "1"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines() == [
        "0/o0-0.jpg  quarantined.corrupt  broken data stream",
        "… and 1 more",
    ]
    cli.app(["status", out.url, "--reason", "declined", "--limit", "1", "--json"], standalone_mode=False)
    told = capsys.readouterr()
    [row] = [json.loads(line) for line in told.out.splitlines()]
    assert (
        row["uri"].endswith("/photos/0/o0-2.jpg") and row["type"] == "counting" and row["detail"] == "nothing to count"
    )
    assert told.err == "… and 1 more\n"
    cli.app(["status", out.url, "--reason", "corrupt"], standalone_mode=False)
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(UserMistake, match="--limit is of the rows that --reason lists"):
        cli.app(["status", out.url, "--limit", "3"], standalone_mode=False)


def test_status_says_whether_a_run_is_at_work(out: Folder) -> None:
    assert status.as_json(out)["at_work"] is None and status.as_json(out)["stages"][0]["stage"] == "tag"
    assert status.text(out).splitlines()[-1].startswith("no run is at work here")
    with Lease.take(out):
        at_work = status.as_json(out)["at_work"]
        assert (at_work["pid"], at_work["host"]) == (os.getpid(), socket.gethostname()) and 0 <= at_work[
            "beat_age_seconds"
        ] < 10
        assert (
            f"a run is at work here: process {os.getpid()} on {socket.gethostname()}, renewed 0 s ago"
            in status.text(out)
        )


def test_status_tells_of_an_update_that_was_cut_short(out: Folder) -> None:
    """While a run is at work, it is what that run is about."""
    assert status.as_json(out)["unfinished"] == {} and "cut short" not in status.text(out)
    for stage, change in (("generate", "edit"), ("tag", "edit"), ("plan", "redraw")):
        run_record.begun(out, stage, change)
    told = "an update of tag, plan, generate was cut short; the next run finishes it"
    assert status.as_json(out)["unfinished"] == {"tag": "edit", "plan": "redraw", "generate": "edit"}
    assert told in status.text(out).splitlines() and told in status.text(out, is_over=True).splitlines()
    with Lease.take(out):
        assert "cut short" not in status.text(out) and status.as_json(out)["unfinished"]
    run_record.begun(out, "purge", "edit")
    assert status.text(out).splitlines()[-1] == f"a purge was cut short here; finish it with: synth purge {out.url}"
    assert status.as_json(out)["unfinished"]["purge"] == "edit"


def test_a_folder_in_which_no_pair_was_kept_says_why_in_a_line(out: Folder, tmp_path: Path) -> None:
    assert status.nothing_kept(out) is None
    _commit_all(out, "5-shards", {"turns": -1, "samples": -1})
    assert status.nothing_kept(out) == (
        "0 pairs were kept: nothing came out of select, mostly for rule:echo (3 of 4 pairs); "
        f"`synth status {out.url} --reason rule:echo` lists them"
    )
    empty = Folder(str(tmp_path / "empty"))
    empty.create("run.json", b"{}")
    assert status.nothing_kept(empty) == "0 pairs were kept: tag had nothing to work on"


def _commit_all(out: Folder, stage: str, counts: dict[str, int]) -> None:
    """Changes counts: the shards', and one more pair against a rule than against a threshold."""
    with Lease.take(out) as lease:
        for name, change in ((stage, counts), ("4-selected", {"rule:echo": 1, "score:answer": -1})):
            StageFolder(out, stage_at(name)).commit(Receipt("e001-00000", 2, {}, change), lease, 1)
