"""`synth learn`: every form of seed teaches the same; the file that is written; mistakes in one line."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen import cli
from synthgen.commands.learn import learn
from synthgen.commands.learn.records import Fields, Row, parse_row
from synthgen.errors import UserMistake
from tests.fixtures.rows import describe_run
from tests.fixtures.seeds import COUNTING, FORMS, READING, learn_request, seed_rows, strongest, weights_of, write_seed
from tests.fixtures.workspace import write

# --- what a seed may look like ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "name"), [("llava", "s.json"), ("sharegpt", "s.jsonl"), ("trl", "s.parquet"), ("finevision", "s.parquet")]
)
def test_every_form_of_seed_teaches_the_same(workspace: Path, form: str, name: str) -> None:
    seed = write_seed(workspace / "seed" / name, seed_rows(form))
    path, report = learn(learn_request(seed))
    assert path == Path("pipelines/mappings/learned.yaml")
    weights = weights_of(path)
    assert strongest(weights, "document") == READING
    assert strongest(weights, "animal") == COUNTING
    assert f"{name}: 24 rows, 24 used, 0 left out" in report[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_question_of_every_form_is_read_without_the_mark_of_the_image(form: str) -> None:
    row = parse_row(
        "s:1", 0, json.loads(json.dumps(FORMS[form](0, "How many?"), default=lambda data: "bytes")), Fields()
    )
    assert isinstance(row, Row)
    assert row.questions == ("How many?",)


def test_a_run_is_a_seed_by_its_committed_shards(workspace: Path) -> None:
    """A file beside the shards that no commit names is not read."""
    from synthgen.store import Lease, Receipt, StageFolder, TablePart
    from synthgen.store.opening import open_folder
    from synthgen.tables import PACK

    out = open_folder(str(workspace / "out"))
    describe_run(out)
    stage = StageFolder(out, PACK)
    rows = seed_rows("trl")
    kept = stage.write("data", "e01-00000", 1, pa.Table.from_pylist(rows))
    stage.write("data", "e01-00001", 1, pa.Table.from_pylist(rows))
    with Lease.take(out) as lease:
        stage.commit(Receipt("e01-00000", 1, {"data": TablePart((kept,), "x", True)}), lease)
    _, report = learn(learn_request(workspace / "out"))
    assert "24 rows, 24 used" in report[0]


def test_files_of_another_form_beside_the_seed_are_counted_in_the_report(workspace: Path) -> None:
    write_seed(workspace / "seed/s.jsonl", seed_rows("llava"))
    write(workspace / "seed/more.json", "[]")
    write(workspace / "seed/deep/more.json", "[]")
    _, report = learn(learn_request(workspace / "seed"))
    assert "not read: 2 .json files, because the folder holds .jsonl files" in report


def test_a_run_json_of_another_program_makes_no_run_of_a_folder(workspace: Path) -> None:
    write_seed(workspace / "seed/s.jsonl", seed_rows("llava"))
    write(workspace / "seed/run.json", '{"name": "mine"}')
    assert "24 used" in learn(learn_request(workspace / "seed"))[1][0]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    first, second = (learn(learn_request(seed, name=name))[0].read_text() for name in ("one", "two"))
    assert first == second


def test_the_file_names_its_seed_and_the_mapping_that_it_extends(workspace: Path) -> None:
    path, _ = learn(learn_request(write_seed(workspace / "s.json", seed_rows("llava")), extends="small"))
    text = path.read_text()
    assert "# Seed        s.json: 1 file" in text and "# Rows        24 of 24" in text
    assert "extends: small" in text
    assert weights_of(path)["document/**"]  # the rule of the mapping that it extends


def test_words_of_the_seed_cannot_end_their_comment(workspace: Path) -> None:
    seed = workspace / "s\nrules: []\x1b[2J.json"
    path, report = learn(learn_request(write_seed(seed, seed_rows("llava"))))
    assert weights_of(path)
    assert "\x1b" not in path.read_text() + "".join(report)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_never_overwritten(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    mine = write(workspace / "pipelines/mappings/mine.yaml", "mine")
    with pytest.raises(UserMistake, match=r"mine.yaml: already exists; choose another name"):
        learn(learn_request(seed, name="mine"))
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Not A Name"}, "is not a valid file name"),
        ({"extends": "smal"}, "--extends smal: no such mapping: did you mean 'small'"),
        ({"name": "small2", "extends": "small2"}, "cannot extend itself"),
        ({"types_column": "typs"}, "--types-column typs: the seed has no such field: did you mean 'types'"),
        ({"tags_column": "nope"}, "--tags-column nope: the seed has no such field"),
        ({"types_file": Path("gone.json")}, "gone.json: cannot be read"),
        (
            {"overrides": ["learn.min_support=1000"]},
            "; not learned, in fewer than 1,000 rows (learn.min_support): ",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(workspace: Path, options: dict[str, Any], message: str) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    with pytest.raises(UserMistake) as caught:
        learn(learn_request(seed, **options))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list((workspace / "pipelines/mappings").glob("learned*"))


def test_nothing_learned_names_every_reason(workspace: Path) -> None:
    good = seed_rows("llava")[0]
    bad: list[Any] = ["odd", {**good, "types": None}, {**good, "types": ["x"]}, {**good, "tags": None}]
    bad += [{**good, "tags": ["spaceship"]}]
    seed = write(workspace / "s.jsonl", "".join(json.dumps(row) + "\n" for row in bad) + "{ torn\n")
    with pytest.raises(UserMistake, match=r"^nothing could be learned: ") as caught:
        learn(learn_request(seed))
    for reason in ("not_a_record", "no_types", "unknown_types", "no_tags", "unknown_tags", "not_json"):
        assert f"1 {reason}" in str(caught.value), reason


def test_taggers_that_look_for_tags_in_several_fields_are_refused_unless_one_is_named(workspace: Path) -> None:
    for name in ("one", "two"):
        write(workspace / f"taggers/{name}.yaml", f"about: x\nengine: sidecar\ntaxonomy: small\nkey: {name}\n")
    seed = write_seed(workspace / "s.json", [{**row, "one": ["cat"]} for row in seed_rows("llava")])
    overrides = ["tag.tagger=[one, two]"]
    with pytest.raises(UserMistake, match=r"\('one' in 'one', 'two' in 'two'\); name it by --tags-column"):
        learn(learn_request(seed, overrides=overrides))
    assert "24 used" in learn(learn_request(seed, overrides=overrides, tags_column="tags"))[1][0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "{ torn", "is not JSON"),
        ("s.json", "{}", "is JSON, but not a list of rows"),
        ("s.parquet", "no", "is not a Parquet file"),
        ("s.parquet", f"PAR1{'junk' * 100}\xc8\0\0\0PAR1", "is not a Parquet file"),
        ("s.csv", "a,b", "is not a seed; known forms"),
        ("empty/x.txt", "", "no seed here"),
    ],
)
def test_a_file_that_is_no_seed_is_one_line(workspace: Path, name: str, text: str, message: str) -> None:
    path = write(workspace / name, text)
    with pytest.raises(UserMistake) as caught:
        learn(learn_request(path.parent if "/" in name else path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


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
    lines = capsys.readouterr().err.splitlines()
    assert (
        done.value.code == 2
        and len(lines) == 1
        and lines[0].startswith("synth: pipelines/mappings/mine.yaml: already exists")
    )
