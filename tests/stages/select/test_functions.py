"""Functions of the user drop pairs with a reason; what goes wrong in one costs the pairs that it goes wrong for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from synthgen.config.planning import PlanConfig
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.errors import UserMistake
from synthgen.run import StageRange, check_compared
from synthgen.stages import select
from synthgen.store import RunFolder
from synthgen.tables import SELECT
from tests.fixtures.selecting import Output, decide, decisions, generate, pair
from tests.fixtures.stage_runs import commit_all, job_with

GOOD = ["What colour is the bus?", "How many dogs are there?", "Who stands at the door?", "Where is the tall lamp?"]
ROWS = [pair(f"image {number}", question) for number, question in enumerate(GOOD)]


def decide_with(
    out: Output, home: Path, code: str, config: SelectConfig | None = None, module: str = "mine"
) -> list[str]:
    """Write a module, run the stage with its function `check`, and return the reasons in the order of ROWS."""
    (home / "mine.py").write_text(code)
    config = config or SelectConfig()
    config = config.model_copy(update={"functions": ("mine:check",)})
    selection = select.prepare(RunFolder(out[0]), config, home)
    commit_all(selection.folder, SELECT, select.decide(selection, selection.todo), out[1])
    reasons = decisions(out)
    return [reasons[row["pair_id"]] for row in ROWS]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder whose modules are forgotten after the test."""
    import sys

    before, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(sys, "path", path)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert before == set(sys.modules)
    return folder


def test_a_function_drops_pairs_by_its_reasons_and_sees_texts_and_scores(out: Output, home: Path) -> None:
    generate(out, "e001-00000", ROWS[:2], {"answer": [1.0, None]})
    generate(out, "e001-00001", ROWS[2:], {"answer": [3.0, 4.0]})
    code = """
def check(pairs):
    rows = pairs.to_pylist()
    assert "raw_answer" not in pairs.column_names
    return ["unsure" if row["score_answer"] is None else "door" if "door" in row["question"] else None for row in rows]
"""
    assert decide_with(out, home, code) == ["kept", "user:check:unsure", "user:check:door", "kept"]


def test_a_function_is_not_asked_of_pairs_that_a_rule_drops_and_before_thresholds(out: Output, home: Path) -> None:
    rows = [{**ROWS[0], "answer": ""}, *ROWS[1:]]
    generate(out, "e001-00000", rows, {"answer": [1.0, 1.0, 3.0, 4.0]})
    code = """
import pyarrow.compute as pc
def check(pairs):
    assert pc.all(pc.not_equal(pairs.column("answer"), "")).as_py()
    return pc.if_else(pc.match_substring(pairs.column("question"), "dogs"), "dogs", None)
"""
    reasons = decide_with(out, home, code, SelectConfig(keep={"answer": KeepRule(min=2)}))
    assert reasons == ["rule:empty_answer", "user:check:dogs", "kept", "kept"]


def test_an_exception_costs_the_pair_that_it_is_raised_for(
    out: Output, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(out, "e001-00000", ROWS)
    code = """
def check(pairs):
    for question in pairs.column("question").to_pylist():
        if "dogs" in question:
            raise ValueError("no dogs here,\\nplease")
    return [None] * pairs.num_rows
"""
    assert decide_with(out, home, code) == ["kept", "user:check:failed", "kept", "kept"]
    (told,) = capsys.readouterr().err.splitlines()
    assert told == (
        "select.functions: check: ValueError: no dogs here, please (mine.py:5); `synth status` counts such pairs"
    )


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("['Too Long!'] * pairs.num_rows", "user:check:bad_reason"),
        ("[True] * pairs.num_rows", "user:check:bad_reason"),
        ("[''] * pairs.num_rows", "user:check:bad_reason"),
        ("['x' * 41] * pairs.num_rows", "user:check:bad_reason"),
        ("['x' * 40] * pairs.num_rows", f"user:check:{'x' * 40}"),
        ("[None] * 5", "user:check:failed"),
        ("None", "user:check:failed"),
        ("exit()", "user:check:failed"),
        ("['failed'] * pairs.num_rows", "user:check:bad_reason"),
        ("['many_reasons'] * pairs.num_rows", "user:check:bad_reason"),
        ("'x' * pairs.num_rows", "user:check:failed"),
        ("{}.fromkeys('abcd')", "user:check:failed"),
        ("['r%d' % n for n in range(pairs.num_rows)]", None),
    ],
)
def test_what_is_no_reason_drops_the_pair_as_such(out: Output, home: Path, result: str, reason: str | None) -> None:
    generate(out, "e001-00000", ROWS)
    reasons = decide_with(out, home, f"def check(pairs):\n    return {result}\n")
    assert reasons == ([reason] * 4 if reason else [f"user:check:r{number}" for number in range(4)])


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("7", "TypeError: returned int, not a list with a reason or None for each pair"),
        ("['x']", "ValueError: returned 1 reasons for 4 pairs"),
        ("['failed'] * pairs.num_rows", "the reason 'failed' is what synth itself says of functions"),
        ("[float('nan')] * pairs.num_rows", "the reason 'nan' is no word of up to 40 small letters"),
    ],
)
def test_the_first_fault_of_a_function_is_told_also_where_halves_of_the_pairs_go_well(
    out: Output, home: Path, capsys: pytest.CaptureFixture[str], result: str, told: str
) -> None:
    generate(out, "e001-00000", ROWS)
    decide_with(out, home, f"def check(pairs):\n    return {result}\n")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"select.functions: check: {told}")


def test_too_many_different_reasons_of_a_function_are_counted_as_one(out: Output, home: Path) -> None:
    rows = [pair(f"image {number}", f"What is thing number {number}?") for number in range(22)]
    code = "def check(pairs):\n    return ['r' + q.split()[-1][:-1] for q in pairs.column('question').to_pylist()]\n"
    (home / "mine.py").write_text(code)
    for count, expected in ((20, 20), (22, 1)):
        generate(out, f"e001-0000{count % 10}", rows[:20] if count == 20 else rows[20:])
        selection = select.prepare(RunFolder(out[0]), SelectConfig(functions=("mine:check",)), home)
        commit_all(selection.folder, SELECT, select.decide(selection, selection.todo), out[1])
        assert len(set(decisions(out).values())) == expected
    assert Counter(decisions(out).values()) == {"user:check:many_reasons": 22}


def test_a_second_function_sees_what_the_first_left(out: Output, home: Path) -> None:
    generate(out, "e001-00000", ROWS)
    (home / "mine.py").write_text(
        "def first(pairs):\n    return ['a' if 'dogs' in q else None for q in pairs.column('question').to_pylist()]\n"
        "def second(pairs):\n    return ['seen'] * pairs.num_rows\n"
    )
    selection = select.prepare(RunFolder(out[0]), SelectConfig(functions=("mine:first", "mine:second")), home)
    commit_all(selection.folder, SELECT, select.decide(selection, selection.todo), out[1])
    assert Counter(decisions(out).values()) == {"user:first:a": 1, "user:second:seen": 3}


def test_an_edit_of_the_file_of_a_function_makes_decisions_pending(out: Output, home: Path) -> None:
    import sys

    generate(out, "e001-00000", ROWS)
    assert set(decide_with(out, home, "def check(pairs):\n    return [None] * pairs.num_rows\n")) == {"kept"}
    config = SelectConfig(functions=("mine:check",))
    assert not select.prepare(RunFolder(out[0]), config, home).todo
    (home / "mine.py").write_text("def check(pairs):\n    return ['no'] * pairs.num_rows\n")
    del sys.modules["mine"]
    assert select.prepare(RunFolder(out[0]), config, home).todo == ["e001-00000"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            None,
            "select.functions: absent:check: cannot import absent (No module named 'absent'); start from",
        ),
        ("x = 1", "select.functions: mine:check: module mine has no 'check'"),
        ("check = 1", "select.functions: mine:check is int, not a function of a table of pairs"),
        ("1/0", "select.functions: mine:check: cannot import mine: ZeroDivisionError: division by zero (mine.py:1)"),
    ],
)
def test_a_function_that_cannot_be_imported_is_a_mistake_of_one_line(
    out: Output, home: Path, code: str | None, message: str
) -> None:
    if code:
        (home / "mine.py").write_text(code)
    with pytest.raises(UserMistake) as caught:
        select.prepare(RunFolder(out[0]), SelectConfig(functions=("mine:check" if code else "absent:check",)), home)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_run_that_selects_imports_functions_before_it_begins(out: Output, home: Path) -> None:
    plan = PlanConfig.model_construct(against=())
    job = replace(job_with(out[0], plan=plan, select=SelectConfig(functions=("absent:check",))), home=home)
    check_compared(job, StageRange(last="tag"))
    with pytest.raises(UserMistake, match=r"select\.functions: absent:check: cannot import absent"):
        check_compared(job, StageRange())


def test_two_functions_of_one_name_are_refused_because_reasons_would_not_tell_them_apart() -> None:
    with pytest.raises(ValidationError, match="a:check and b:check would have the same reasons"):
        SelectConfig(functions=("a:check", "b:check"))


def test_languages_that_are_not_named_are_dropped(out: Output) -> None:
    rows = [{**row, "language": language} for row, language in zip(ROWS[:3], ("English", "French", None), strict=True)]
    rows[1] |= {"question": "De quelle couleur est le bus ?", "answer": "Il est rouge."}
    generate(out, "e001-00000", rows)
    reasons = decide(out, SelectConfig(languages=("English",)))
    assert [reasons[row["pair_id"]] for row in rows] == ["kept", "language", "language"]
