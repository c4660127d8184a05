"""What `synth diff` says is what differs between the tables of two runs, or of one run before and now."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from synthgen.commands.diff import DiffRequest, diff
from synthgen.commands.diff.columns import Columns, read_columns
from synthgen.commands.diff.compare import Compared, answered_otherwise, compare
from synthgen.commands.diff.examples import choose, load
from synthgen.commands.diff.version import as_of, before_last, parse_moment
from synthgen.commands.report.branches import Branches
from synthgen.errors import UserMistake
from synthgen.store import Folder, Receipt, RunFolder, TablePart
from synthgen.store.gc import collect_garbage
from synthgen.tables import GENERATE, SELECT, StageSpec
from tests.fixtures.reports import PARTITIONS, write_run

Row = dict[str, Any]
Edit = Callable[[list[Row]], list[Row]]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run whose numbers are known."""
    return write_run(Folder(str(tmp_path / "before")), tmp_path / "photos")


@pytest.fixture
def other(tmp_path: Path) -> RunFolder:
    """Return the same run in another folder."""
    return write_run(Folder(str(tmp_path / "after")), tmp_path / "photos")


def edit(folder: RunFolder, spec: StageSpec, table: str, change: Edit, partition: str = PARTITIONS[0]) -> RunFolder:
    """Commit a table of a partition anew, and return the run as it is then."""
    with folder.lease() as lease:
        rows = folder.table(spec, partition, table)
        changed = type(rows).from_pylist(change(rows.to_pylist()), schema=rows.schema)
        revision = folder.log(spec).next_revision(partition)
        file = folder.stage(spec).write(table, partition, revision, changed)
        part = TablePart((file,), "edited", replaces=True)
        folder.commit(spec, Receipt(partition, revision, {table: part}), lease)
    return RunFolder(folder.out)


def compared(before: RunFolder, after: RunFolder) -> Compared:
    return compare(read_columns(before), read_columns(after))


def keeping(reason: str) -> Edit:
    """Return an edit that keeps what was dropped for a reason, and drops what was kept."""

    def change(rows: list[Row]) -> list[Row]:
        decided = {"kept": "rule:loops", reason: "kept"}
        return [
            {**row, "reason": (to := decided.get(row["reason"], row["reason"])), "kept": to == "kept"} for row in rows
        ]

    return change


def test_two_copies_of_a_run_are_equal(folder: RunFolder, other: RunFolder) -> None:
    found = compared(folder, other)
    assert found.is_equal and found.same == 24
    assert found.flow == {("kept", "kept"): 6, ("dropped", "dropped"): 18, ("failed", "failed"): 6}
    assert "nothing changed" in diff(folder, other, DiffRequest())
    assert json.loads(diff(folder, other, DiffRequest(as_json=True)))["is_equal"] is True


def test_the_order_of_partitions_does_not_matter(tmp_path: Path, folder: RunFolder) -> None:
    turned = write_run(Folder(str(tmp_path / "turned")), tmp_path / "photos", tuple(reversed(PARTITIONS)))
    assert compared(folder, turned).is_equal


def test_pairs_that_are_kept_and_lost_are_counted_by_their_reasons_types_and_tags(
    folder: RunFolder, other: RunFolder
) -> None:
    after = edit(other, SELECT, "decisions", keeping("score:likelihood"))
    found = compared(folder, after)
    assert found.lost == {("kept", "rule:loops"): 3} and found.won == {("score:likelihood", "kept"): 3}
    assert found.flow["kept", "dropped"] == found.flow["dropped", "kept"] == 3 and not found.is_equal
    changes = {change.name: change.change for change in found.types}
    assert changes == {"coarse/scene": -3, "fine/reading": 3, "fine/counting": 0}
    assert {change.name: change.kept for change in found.tags}["animal"] == (4, 4)
    text = diff(folder, after, DiffRequest())
    assert "        3  kept → rule:loops" in text and "        3  score:likelihood → kept" in text
    columns = read_columns(folder), read_columns(after)
    shown, _ = load((folder, after), columns, choose(*columns, compare(*columns)))
    assert {(each.kind, each.before and each.before.why, each.after and each.after.why) for each in shown} == {
        ("lost", "kept", "rule:loops"),
        ("won", "score:likelihood", "kept"),
    }


def test_an_answer_that_differs_is_shown_beside_the_one_before(folder: RunFolder, other: RunFolder) -> None:
    def again(rows: list[Row]) -> list[Row]:
        first = {**rows[0], "answer": "Something else.", "pair_id": "f" * 32}
        same = {**rows[1], "pair_id": "e" * 32}
        asked = {**rows[2], "question": "And what is this?", "pair_id": "d" * 32}
        return [first, same, asked, *rows[3:]]

    after = edit(other, GENERATE, "pairs", again)
    found = compared(folder, after)
    assert (len(found.answered[0]), found.rewritten, len(found.asked[0]), found.same) == (1, 1, 1, 21)
    text = diff(folder, after, DiffRequest())
    assert "1 question answered otherwise" in text and "1 pair made again, word for word the same" in text
    assert "1 place of the plan with another question" in text
    lines = text.splitlines()
    place = lines.index("Q: What is number 0?   (0 photo.png)")
    assert lines[place + 1 : place + 3] == ["  before: It is 0.", "  after:  Something else."]
    assert "  before: What is number 2?" in lines and "  after:  And what is this?" in lines
    counts = json.loads(diff(folder, after, DiffRequest(as_json=True)))
    assert (counts["answered_otherwise"], counts["asked_otherwise"], counts["rewritten"]) == (1, 1, 1)


def test_questions_that_only_one_run_has_are_absent_from_the_other(folder: RunFolder, other: RunFolder) -> None:
    after = edit(other, GENERATE, "pairs", lambda rows: rows[5:])
    found = compared(folder, after)
    assert {pair: count for pair, count in found.flow.items() if "absent" in pair} == {
        ("kept", "absent"): 1,
        ("dropped", "absent"): 3,
        ("failed", "absent"): 1,
    }
    assert found.lost == {("kept", "absent"): 1}
    back = compared(after, folder)
    assert back.won == {("absent", "kept"): 1} and back.flow["absent", "failed"] == 1


def test_scores_that_moved_are_measured_on_the_pairs_that_both_have(folder: RunFolder, other: RunFolder) -> None:
    def raised(rows: list[Row]) -> list[Row]:
        return [{**rows[0], "value": rows[0]["value"] + 0.5}, {**rows[1], "value": None}, *rows[2:]]

    after = edit(other, GENERATE, "scores/answer", raised)
    (answer,) = (score for score in compared(folder, after).scores if score.name == "answer")
    assert (answer.counts, answer.both, answer.moved) == ((24, 23), 23, 1) and answer.shift == pytest.approx(0.5)
    assert answer.kept_means[0] == 4.0 and answer.kept_means[1] == pytest.approx(4 + 0.5 / 6)
    assert "1 of 23 moved by +0.5" in diff(folder, after, DiffRequest())
    columns = read_columns(folder), read_columns(after)
    shown, _ = load((folder, after), columns, choose(*columns, compare(*columns)))
    assert [(each.kind, each.note) for each in shown] == [("moved", "answer +0.5")]


def test_settings_that_differ_are_named_and_those_of_select_too(folder: RunFolder, other: RunFolder) -> None:
    record = dict(other.record or {})
    shape = {"generated": {"model": ["none", "abc"], "seed": 4}}
    selected = {"keep": {"likelihood": {"min": 0.7}}}
    other.write_record({**record, "shape": shape, "pipeline": {**record["pipeline"], "select": selected}})
    text = diff(folder, RunFolder(other.out), DiffRequest())
    assert "settings: plan.seed is new; select.keep.answer was " in text
    assert "select.keep.likelihood.min was 0.5 and is 0.7" in text


def test_a_run_is_compared_with_what_it_was_before_its_last_command(folder: RunFolder) -> None:
    with pytest.raises(UserMistake, match="was made by one command"):
        diff(folder, None, DiffRequest())
    after = edit(folder, SELECT, "decisions", keeping("score:answer"))
    text = diff(after, None, DiffRequest())
    assert text.startswith(f"before: {folder.out.url} before its last command\nafter:  {folder.out.url} now\n")
    assert "        3  score:answer → kept" in text
    assert compared(before_last(after), after).lost == {("kept", "rule:loops"): 3}


def test_a_run_is_compared_with_what_it_was_at_a_time(folder: RunFolder) -> None:
    now = datetime.now(UTC)
    later = (now + timedelta(hours=1)).isoformat()
    assert "nothing changed" in diff(folder, None, DiffRequest(at=later))
    with pytest.raises(UserMistake, match=r"held nothing at 2001-02-03 04:05 UTC; its first commit is of 20"):
        diff(folder, None, DiffRequest(at="2001-02-03T04:05"))
    with pytest.raises(UserMistake, match=r"--before yesterday: is no time; write a time as"):
        diff(folder, None, DiffRequest(at="yesterday"))
    assert parse_moment("2026-01-01T02:00+02:00") == parse_moment("2026-01-01") == datetime(2026, 1, 1, tzinfo=UTC)
    assert as_of(folder, now + timedelta(hours=1)).log(SELECT) == folder.log(SELECT)


def test_files_that_were_collected_since_are_named_as_the_reason(folder: RunFolder) -> None:
    after = edit(folder, SELECT, "decisions", keeping("score:answer"))
    with after.lease() as lease:
        assert collect_garbage(after, lease).files == 1
    with pytest.raises(UserMistake, match="1 of its files of then were deleted since, by `synth gc` or `synth purge`"):
        diff(RunFolder(folder.out), None, DiffRequest())


def test_what_makes_no_sense_is_a_mistake_in_a_line(tmp_path: Path, folder: RunFolder, other: RunFolder) -> None:
    with pytest.raises(UserMistake, match="--before: is of one run, and two are named"):
        diff(folder, other, DiffRequest(at="2026-01-01"))
    with pytest.raises(UserMistake, match="holds no synth run"):
        diff(folder, RunFolder(Folder(str(tmp_path / "nothing"))), DiffRequest())
    with pytest.raises(UserMistake, match=r"the diff is HTML; give it a name that ends in \.html"):
        diff(folder, other, DiffRequest(html=str(tmp_path / "x.txt")))


def columns_of(rows: list[tuple[int, int]]) -> Columns:
    """Return columns of pairs with these questions and answers."""
    questions, answers = (np.array([row[side] for row in rows], np.uint64) for side in (0, 1))
    names = np.arange(1, len(rows) + 1, dtype=np.uint64)
    codes = np.zeros(len(rows), np.int32)
    return Columns(
        names, names, questions, answers, codes, codes, codes, codes, codes, {}, ["t"], ["kept"], ["p"], Branches()
    )


@example([(1, 1), (1, 2), (2, 1)], [(1, 3), (2, 1), (2, 2)])
@given(*[some.lists(some.tuples(some.integers(1, 4), some.integers(1, 3)), max_size=8)] * 2)
def test_a_question_is_answered_otherwise_where_the_other_run_never_says_what_this_one_says(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    old, new = answered_otherwise(columns_of(before), columns_of(after))
    known = {question for question, _ in after}
    wanted = {question for question, answer in before if question in known and (question, answer) not in after}
    assert sorted(before[row][0] for row in old) == sorted(wanted)
    assert [after[row][0] for row in new] == [before[row][0] for row in old]
