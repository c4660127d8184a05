"""`synth learn`: whatever form the seed has, it teaches the same; what the file says, and mistakes in one line."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen import cli
from synthgen.commands.learn import TfidfSettings, learn
from synthgen.commands.learn.records import Fields, Row, row_of
from synthgen.errors import UserMistake
from tests.fixtures.seeds import COUNTING, FORMS, READING, order, seed_rows, strongest, weights_of, write_seed
from tests.fixtures.workspace import write

# --- what a seed may look like ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "name"), [("llava", "s.json"), ("sharegpt", "s.jsonl"), ("trl", "s.parquet"), ("finevision", "s.parquet")]
)
def test_every_form_of_seed_teaches_the_same(workspace: Path, form: str, name: str) -> None:
    seed = write_seed(workspace / "seed" / name, seed_rows(form))
    path, report = learn(order(seed))
    assert path == Path("pipelines/mappings/learned.yaml")
    weights = weights_of(path)
    assert strongest(weights, "document") == READING
    assert strongest(weights, "animal") == COUNTING
    assert f"{name}: 24 rows, 24 learned from, 0 left out" in report[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_question_of_every_form_is_read_without_the_mark_of_the_image(form: str) -> None:
    row = row_of("s:1", 0, json.loads(json.dumps(FORMS[form](0, "How many?"), default=lambda data: "bytes")), Fields())
    assert isinstance(row, Row)
    assert [(turn.question, turn.answer) for turn in row.turns] == [("How many?", "Yes.")]


def test_a_run_is_a_seed_too_by_its_committed_shards(workspace: Path) -> None:
    """Only what a commit names counts: a file that lies in the folder beside them is not read."""
    from synthgen.store import Lease, Receipt, Stage, TablePart
    from synthgen.store.folder import open_folder

    out = open_folder(str(workspace / "out"))
    out.create("run.json", b"{}")
    stage = Stage(out, "5-shards")
    rows = seed_rows("trl")
    kept = stage.write("data", "e01-00000", 1, pa.Table.from_pylist(rows))
    stage.write("data", "e01-00001", 1, pa.Table.from_pylist(rows))
    with Lease.take(out) as lease:
        stage.commit(Receipt("e01-00000", 1, {"data": TablePart((kept,), "x", True)}, {}, {}), lease, 1)
    _, report = learn(order(workspace / "out"))
    assert "24 rows, 24 learned from" in report[0]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    first, second = (learn(order(seed, name=name))[0].read_text() for name in ("one", "two"))
    assert first == second


def test_the_file_says_where_it_comes_from_and_extends_what_it_is_told_to(workspace: Path) -> None:
    path, _ = learn(order(write_seed(workspace / "s.json", seed_rows("llava")), extends="small"))
    text = path.read_text()
    assert "# Seed        s.json: 1 file" in text and "# Rows        24 of 24" in text
    assert "extends: small" in text
    assert weights_of(path)["document/**"]  # the rule of the mapping that it extends


def test_words_of_the_seed_cannot_leave_the_comment_that_they_stand_in(workspace: Path) -> None:
    seed = workspace / "s\nrules: []\x1b[2J.json"
    path, report = learn(order(write_seed(seed, seed_rows("llava"))))
    assert weights_of(path)
    assert "\x1b" not in path.read_text() + "".join(report)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_never_overwritten(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    mine = write(workspace / "pipelines/mappings/mine.yaml", "mine")
    with pytest.raises(UserMistake, match=r"mine.yaml: already exists; choose another name"):
        learn(order(seed, name="mine"))
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "Not A Name"}, "is not a valid file name"),
        ({"extends": "smal"}, "--extends smal: no such mapping: did you mean 'small'"),
        ({"name": "small2", "extends": "small2"}, "cannot extend itself"),
        ({"types_column": "typs"}, "--types-column typs: the seed has no such field: did you mean 'types'"),
        ({"tags_column": "nope"}, "--tags-column nope: the seed has no such field"),
        ({"types_file": Path("gone.json")}, "gone.json: cannot be read"),
        (
            {"settings": TfidfSettings(min_support=1000)},
            "; not learned, in fewer than 1,000 rows (learn.min_support): ",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(workspace: Path, more: dict[str, Any], said: str) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    with pytest.raises(UserMistake) as caught:
        learn(order(seed, **more))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list((workspace / "pipelines/mappings").glob("learned*"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", "{ torn", "is not JSON"),
        ("s.json", "{}", "is JSON, but no list of rows"),
        ("s.parquet", "no", "is not a Parquet file"),
        ("s.csv", "a,b", "is not a seed; known forms"),
        ("empty/x.txt", "", "no seed here"),
    ],
)
def test_a_seed_that_is_none_is_one_line(workspace: Path, name: str, text: str, said: str) -> None:
    path = write(workspace / name, text)
    with pytest.raises(UserMistake) as caught:
        learn(order(path.parent if "/" in name else path))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_prints_a_report_and_the_file_and_exits_2_on_a_mistake(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seed(workspace / "s.json", seed_rows("llava"))
    arguments = ["synth", "learn", "s.json", "--name", "mine", "--pipeline", "small", "--set", "learn.min_support=2"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "pipelines/mappings/mine.yaml"
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr().err.splitlines()
    assert (
        done.value.code == 2
        and len(said) == 1
        and said[0].startswith("synth: pipelines/mappings/mine.yaml: already exists")
    )
