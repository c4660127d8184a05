"""`synth status --reason` lists every row that `synth status` counts, and reads no more than it shows."""

import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen import cli
from synthgen.commands import status
from synthgen.commands.dropped import Dropped, find_dropped, text
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.job.funnel import funnels, nothing_kept
from synthgen.stages.pack import redact
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import (
    ASSIGNMENTS,
    DECISIONS,
    GENERATE,
    IMAGES,
    LEFT_OUT,
    LIST,
    OBJECTS,
    PACK,
    PAIRS,
    PLAN,
    PLANNED_IMAGES,
    SCORES,
    SELECT,
    TAG,
    UNPACKED,
    StageSpec,
    changed_counts,
    count_tagged,
    table,
)
from tests.fixtures.rows import describe_run

Row = dict[str, Any]
Tables = dict[str, pa.Table]
Counts = dict[str, int]
FIRST = "e001-00000"
REPLACED = "its pair was replaced since; select has not run again"


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    """Return a folder of two partitions, in which rows were dropped at every stage."""
    folder = Folder(str(tmp_path / "out"))
    (tmp_path / "photos").mkdir()
    folder.create("run.json", b'{"format": 1}')
    record = {"pipeline": {"source": {"uri": "photos"}}, "shape": {}, "started_in": str(tmp_path)}
    folder.child("frozen").create("000001.json", json.dumps(record).encode())
    with Lease.take(folder) as lease:
        for number in (0, 1):
            _partition(folder, lease, number, str(tmp_path / "photos"))
        rows = [{"image_id": "i0-3", "sample_id": "s", "turns": 2, "reason": "changed", "detail": "other bytes"}]
        counts = {"turns": 1, "samples": 1, "changed": 2}
        _commit(folder, lease, PACK, {"unpacked": table(rows, UNPACKED)}, counts)
    return folder


def _commit(
    out: Folder,
    lease: Lease,
    spec: StageSpec,
    tables: Tables,
    counts: Counts,
    partition: str = FIRST,
    revision: int = 1,
) -> None:
    stage = StageFolder(out, spec)
    files = {name: stage.write(name, partition, revision, rows) for name, rows in tables.items()}
    parts = {name: TablePart((file,), "f") for name, file in files.items()}
    stage.commit(Receipt(partition, revision, parts, counts), lease)


def _partition(out: Folder, lease: Lease, number: int, photos: str) -> None:
    """Commit four objects: a corrupt one, a copy, one with a declined question, one with two dropped pairs."""
    ids = [f"o{number}-{object_number}" for object_number in range(4)]
    objects: list[Row] = [{"object_id": name, "uri": f"{photos}/{number}/{name}.jpg"} for name in ids]
    objects[3]["row"] = 7
    images: list[Row] = [{"object_id": name, "outcome": "tagged"} for name in ids]
    images[0] |= {"outcome": "quarantined", "reason": "corrupt", "detail": "broken\ndata stream"}
    planned: list[Row] = [
        {**row, "outcome": "planned", "image_id": row["object_id"].replace("o", "i")} for row in objects[1:]
    ]
    planned[0] |= {"outcome": "same_bytes", "same_as": ids[2]}
    assignments: list[Row] = [
        {"assignment_id": f"a{number}-{ordinal}", "object_id": ids[2 if ordinal < 2 else 3], "type": "counting"}
        for ordinal in range(4)
    ]
    reply = {"outcome": "pair", "question": "How many?", "answer": "2"}
    pairs: list[Row] = [{**row, **reply, "pair_id": f"p{row['assignment_id']}"} for row in assignments]
    nothing = dict.fromkeys(("pair_id", "question", "answer"))
    pairs[0] |= {**nothing, "outcome": "failed", "reason": "declined", "detail": "nothing to count"}
    scores: list[Row] = [{"pair_id": row["pair_id"], "value": 1.5} for row in pairs[2:]]
    decisions: list[Row] = [
        {"pair_id": row["pair_id"], "assignment_id": row["assignment_id"], "reason": reason}
        for row, reason in zip(pairs[2:], ("score:answer", "rule:echo"), strict=True)
    ]
    planned_tables = {
        "images": table(planned, PLANNED_IMAGES),
        "assignments": table([{**row, "retired": at == 1} for at, row in enumerate(assignments)], ASSIGNMENTS),
    }
    unscored = [
        {"pair_id": pairs[2]["pair_id"], "value": 0.5},
        {"pair_id": pairs[3]["pair_id"], "reason": "call_failed"},
    ]
    generated = {
        "pairs": table([pairs[0], *pairs[2:]], PAIRS),
        "scores/answer": table(scores, SCORES),
        "scores/likelihood": table(unscored, SCORES),
    }
    stages: list[tuple[StageSpec, Tables, Counts]] = [
        (LIST, {"objects": table(objects, OBJECTS)}, {"listed": 4}),
        (TAG, {"images": table(images, IMAGES)}, {"tagged": 3, "quarantined.corrupt": 1}),
        (PLAN, planned_tables, {"planned": 2, "same_bytes": 1, "assigned": 3, "retired": 1}),
        (GENERATE, generated, {"pair": 2, "failed.declined": 1, "retired": 1, "unscored.call_failed": 1}),
        (SELECT, {"decisions": table(decisions, DECISIONS)}, {"score:answer": 1, "rule:echo": 1}),
    ]
    for spec, tables, counts in stages:
        _commit(out, lease, spec, tables, counts, f"e001-{number:05d}")


def lines(out: Folder, reason: str) -> list[str]:
    folder = RunFolder(out)
    root = redact.root_of(run_record.source_of(run_record.record_of(folder)))
    return [text(row, partial(redact.uri, root=root)) for row in find_dropped(folder, reason).rows]


def synth(*words: str) -> None:
    cli.app([*words], standalone_mode=False)


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("corrupt", "0/o0-0.jpg  quarantined.corrupt  broken data stream"),
        ("quarantined", "0/o0-0.jpg  quarantined.corrupt  broken data stream"),
        ("same_bytes", "0/o0-1.jpg  same_bytes  object o0-2 stands for it"),
        ("failed.declined", "0/o0-2.jpg  counting  failed.declined  nothing to count"),
        ("retired", "0/o0-2.jpg  counting  retired  retired before it was asked"),
        ("score:answer", "0/o0-3.jpg row 7  counting: How many?  score:answer  1.5: 2"),
        ("rule", "0/o0-3.jpg row 7  counting: How many?  rule:echo  2"),
        (
            "call_failed",
            "0/o0-3.jpg row 7  counting: How many?  unscored.call_failed  likelihood: call_failed",
        ),
        ("changed", "0/o0-3.jpg row 7  changed  other bytes"),
    ],
)
def test_a_reason_lists_its_rows_with_their_object_and_detail(out: Folder, reason: str, line: str) -> None:
    assert lines(out, reason)[0] == line


def test_scores_that_a_failure_prevented_are_listed_and_counted_with_their_partition(out: Folder) -> None:
    for reason in ("call_failed", "unscored.call_failed"):
        found = find_dropped(RunFolder(out), reason)
        assert [row.object_id for row in found.rows] == ["o0-3", "o1-3"] and found.count == 2


def test_every_row_that_is_counted_is_listed(out: Folder) -> None:
    listed = 0
    for funnel in funnels(RunFolder(out)):
        for reason, count in funnel.dropped.items():
            dropped = find_dropped(RunFolder(out), reason)
            rows = list(dropped.rows)
            expected = 1 if funnel.stage == "pack" else count  # which counts the turns of a sample
            assert count and len(rows) == dropped.count == expected
            assert {(row.stage, row.reason) for row in rows} == {(funnel.stage, reason)}
            listed += len(rows)
    assert listed == 13, "6 reasons in both partitions, and a sample that was not packed"


@pytest.fixture
def sidecars(out: Folder) -> Folder:
    """Return the folder with tags that were left out: two images for one reason, one of them for a second one too."""
    details = {"o0-1": "side: no sidecar", "o0-2": "side: no such tag: 'x'; bad score: 9 of 'cat'; other: no sidecar"}
    images = [{"object_id": f"o0-{number}", "outcome": "tagged", "reason": None} for number in range(4)]
    rows: list[Row] = [{**image, "detail": details.get(str(image["object_id"]))} for image in images]
    changes = changed_counts({"tagged": 3, "quarantined.corrupt": 1}, count_tagged(rows))
    with Lease.take(out) as lease:
        _commit(out, lease, TAG, {"images": table(rows, IMAGES)}, changes, revision=2)
    return out


def test_the_images_of_which_tags_were_left_out_are_listed_by_reason_with_their_detail(sidecars: Folder) -> None:
    both = "side: no such tag: 'x'; bad score: 9 of 'cat'; other: no sidecar"
    assert lines(sidecars, "no_sidecar") == [
        "0/o0-1.jpg  left_out.no_sidecar  side: no sidecar",
        f"0/o0-2.jpg  left_out.no_sidecar  {both}",
    ]
    assert lines(sidecars, "left_out.bad_score") == [f"0/o0-2.jpg  left_out.bad_score  {both}"]
    counts = status.as_json(RunFolder(sidecars))["left_out"]
    assert counts["reasons"] == {"no_sidecar": 2, "no_such_tag": 1, "bad_score": 1}
    for reason, count in counts["reasons"].items():
        found = find_dropped(RunFolder(sidecars), reason)
        assert found.count == len(list(found.rows)) == count


def test_all_images_of_which_tags_were_left_out_are_listed_once(sidecars: Folder) -> None:
    found = find_dropped(RunFolder(sidecars), "left_out")
    assert [row.object_id for row in found.rows] == ["o0-1", "o0-2"] and found.count == 2


def test_a_reason_for_tags_that_were_left_out_is_known_where_no_image_has_it(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for reason in (*LEFT_OUT, "left_out"):
        synth("status", out.url, "--reason", reason)
        assert capsys.readouterr() == ("", f"nothing was dropped for {reason} here\n")


def test_a_decision_whose_pair_was_replaced_since_says_so(out: Folder) -> None:
    replacement = {
        "assignment_id": "a0-2",
        "object_id": "o0-3",
        "type": "counting",
        "outcome": "pair",
        "pair_id": "new",
        "question": "And now?",
    }
    with Lease.take(out) as lease:
        _commit(out, lease, GENERATE, {"pairs": table([replacement], PAIRS)}, {}, revision=2)
    assert lines(out, "score") == [
        f"0/o0-3.jpg row 7  counting  score:answer  {REPLACED}",
        "1/o1-3.jpg row 7  counting: How many?  score:answer  1.5: 2",
    ]
    with Lease.take(out) as lease:
        RunFolder(out).empty(GENERATE, FIRST, lease)
    assert lines(out, "score")[0] == f"object unknown  score:answer  {REPLACED}"
    assert find_dropped(RunFolder(out), "score").count == 2


def test_the_reply_of_the_model_is_shortened_in_a_line_and_whole_in_json(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "1. How many?\n" + "Sorry, no more. " * 40
    failed = {"object_id": "o0-2", "type": "counting", "outcome": "failed"}
    asked = {**failed, "question": "How many?", "raw_question": "1. How many?"}
    rows = [
        {**failed, "assignment_id": "x0", "reason": "too_few_questions", "raw_question": long},
        {**asked, "assignment_id": "x1", "reason": "empty_answer", "raw_answer": "-"},
        {**asked, "assignment_id": "x2", "reason": "empty_answer", "raw_answer": ""},
    ]
    with Lease.take(out) as lease:
        counts = {"failed.too_few_questions": 1, "failed.empty_answer": 2}
        _commit(out, lease, GENERATE, {"pairs": table(rows, PAIRS)}, counts, revision=2)
    start = " ".join(long.split())[:200]
    reply = f"reply: {start}… ({len(long)} characters, whole with --json)"
    assert lines(out, "too_few_questions") == [f"0/o0-2.jpg  counting  failed.too_few_questions  {reply}"]
    empty = "0/o0-2.jpg  counting: How many?  failed.empty_answer"
    assert lines(out, "empty_answer") == [f"{empty}  reply: -", empty]
    synth("status", out.url, "--reason", "too_few_questions", "--json")
    assert json.loads(capsys.readouterr().out)["reply"] == long


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("corupt", "corrupt"),
        ("quarantine", "quarantined"),
        ("score:anwser", "score:answer"),
        ("poisn", "poison"),
    ],
)
def test_an_unknown_reason_is_refused_with_the_nearest_one(out: Folder, typed: str, near: str) -> None:
    with pytest.raises(UserMistake) as caught:
        find_dropped(RunFolder(out), typed)
    assert str(caught.value) == f"--reason {typed}: nothing was dropped for that here; did you mean '{near}'?"


def test_a_known_reason_may_have_no_rows(out: Folder) -> None:
    assert find_dropped(RunFolder(out), "poison").count == 0


def test_partitions_are_read_only_as_far_as_rows_are_taken(out: Folder) -> None:
    dropped = find_dropped(RunFolder(out), "corrupt")
    files = list(Path(out.path, "1-tagged", "images").glob("e001-00001.*"))
    assert files
    for file in files:
        file.unlink()
    assert isinstance(next(dropped.rows), Dropped) and dropped.count == 2


def test_the_command_lists_some_rows_and_counts_the_others(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    synth("status", out.url, "--reason", "corrupt", "--limit", "1")
    first = "0/o0-0.jpg  quarantined.corrupt  broken data stream"
    assert capsys.readouterr().out.splitlines() == [first, "… and 1 more"]
    synth("status", out.url, "--reason", "declined", "--limit", "1", "--json")
    printed = capsys.readouterr()
    [row] = [json.loads(line) for line in printed.out.splitlines()]
    assert row["uri"].endswith("/photos/0/o0-2.jpg")
    assert (row["type"], row["detail"]) == ("counting", "nothing to count")
    assert printed.err == "… and 1 more\n"
    synth("status", out.url, "--reason", "corrupt")
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(UserMistake, match="--limit works only with --reason"):
        synth("status", out.url, "--limit", "3")


def test_status_says_whether_a_run_is_at_work(out: Folder) -> None:
    idle = status.as_json(RunFolder(out))
    assert idle["at_work"] is None and idle["stages"][0]["stage"] == "tag"
    assert status.text(RunFolder(out)).splitlines()[-1].startswith("no run is at work here")
    assert f"`synth status {out.url} --reason quarantined." in status.text(RunFolder(out))
    with Lease.take(out):
        at_work = status.as_json(RunFolder(out))["at_work"]
        assert (at_work["pid"], at_work["host"]) == (os.getpid(), socket.gethostname())
        assert 0 <= at_work["beat_age_seconds"] < 10
        line = f"a run is at work here: process {os.getpid()} on {socket.gethostname()}, renewed 0 s ago"
        assert line in status.text(RunFolder(out))


def test_status_reports_an_update_that_was_cut_short(out: Folder) -> None:
    """While a run is at work, it is the update that this run makes."""
    assert status.as_json(RunFolder(out))["unfinished"] == {} and "cut short" not in status.text(RunFolder(out))
    for stage, change in (("generate", "edit"), ("tag", "edit"), ("plan", "redraw")):
        run_record.start_change(RunFolder(out), stage, change)
    line = "an update of tag, plan, generate was cut short; the next run finishes it"
    assert status.as_json(RunFolder(out))["unfinished"] == {"tag": "edit", "plan": "redraw", "generate": "edit"}
    assert line in status.text(RunFolder(out)).splitlines()
    assert line in status.text(RunFolder(out), is_over=True).splitlines()
    with Lease.take(out):
        assert "cut short" not in status.text(RunFolder(out)) and status.as_json(RunFolder(out))["unfinished"]
    run_record.start_change(RunFolder(out), "purge", "edit")
    last = status.text(RunFolder(out)).splitlines()[-1]
    assert last == f"a purge was cut short here; finish it with: synth purge {out.url}"
    assert status.as_json(RunFolder(out))["unfinished"]["purge"] == "edit"


def test_a_folder_in_which_no_pair_was_kept_says_why_in_a_line(out: Folder, tmp_path: Path) -> None:
    assert nothing_kept(RunFolder(out)) is None
    with Lease.take(out) as lease:
        _commit(out, lease, PACK, {}, {"turns": -1, "samples": -1}, revision=2)
        _commit(out, lease, SELECT, {}, {"rule:echo": 1, "score:answer": -1}, revision=2)
    assert nothing_kept(RunFolder(out)) == (
        "0 pairs were kept: nothing came out of select, mostly for rule:echo (3 of 4 pairs); "
        f"`synth status {out.url} --reason rule:echo` lists them"
    )
    with Lease.take(out) as lease:
        _commit(out, lease, SELECT, {}, {"rule:echo": -2}, revision=3)
        _commit(out, lease, GENERATE, {}, {"pair": -3, "failed.cut_off": 5}, revision=2)
    assert nothing_kept(RunFolder(out)) == (
        "0 pairs were kept: nothing came out of select, mostly for rule:echo (1 of 1 pairs), after most was lost in "
        f"generate, mostly for failed.cut_off (5 of 8 assignments); `synth status {out.url} --reason failed.cut_off` "
        "lists them"
    )
    empty = Folder(str(tmp_path / "empty"))
    describe_run(empty)
    assert nothing_kept(RunFolder(empty)) == "0 pairs were kept: tag had nothing to work on"


def test_what_is_still_to_be_taken_out_is_counted_and_never_negative(out: Folder) -> None:
    before = funnels(RunFolder(out))[-1]
    with Lease.take(out) as lease:
        _commit(out, lease, PACK, {}, {"turns": 2}, revision=2)
    pack = funnels(RunFolder(out))[-1]
    assert (pack.pending, pack.superseded, pack.is_settled) == (0, before.superseded + 2, False)
    lines = status.text(RunFolder(out)).splitlines()
    assert f"pack: still to be taken out of what it wrote: {pack.superseded} pairs kept" in lines
    assert not any("-" in word for line in lines if line.startswith("pack ") for word in line.split())
    assert lines[-1].endswith(f"`synth run --out {out.url}` continues with what is pending")
