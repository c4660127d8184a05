"""`synth plan --from-student` turns what a training has learned into a mapping, and a plan that follows it."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from synthgen.commands.plan.student import read_student
from synthgen.errors import Damaged, UserMistake
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE, SCORES, table
from synthgen.train.record import FORMAT
from tests.fixtures.rows import rows_of
from tests.fixtures.runs import assignments, run, synth
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")
TYPES = ("coarse/counting", "coarse/scene", "fine/reading")
LEARNED = {"coarse/counting": 5.0, "coarse/scene": 0.0, "fine/reading": 0.5}  # nats a token above the teacher


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a working folder with a finished run."""
    folder = write_definition_files(tmp_path_factory.mktemp("student") / "work")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        make_images(folder / "photos", 60)
        run()
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Iterator[Path]:
    """Make a copy of that folder the current one."""
    before = Path.cwd()
    for name in ("pipelines", "tuned"):
        shutil.rmtree(made / name, ignore_errors=True)
    write_definition_files(made)
    shutil.copytree(made / "out", tmp_path / "out")
    os.chdir(made)
    yield made
    shutil.rmtree(made / "out")
    shutil.copytree(tmp_path / "out", made / "out")
    os.chdir(before)


def trained(folder: Path, learned: Mapping[str, float] = LEARNED, **changes: Any) -> Path:
    """Write what a training leaves that is so far above the run's teacher on each pair of a type."""
    tuned, out = folder / "tuned", Folder(str(folder / "out"))
    (tuned / "scores").mkdir(parents=True)
    (tuned / "training.json").write_text(json.dumps({"format": FORMAT, "result": {"steps": 40}}))
    pairs = {row["pair_id"]: row["type"] for row in rows_of(out, GENERATE, "pairs") if row["outcome"] == "pair"}
    rows = []
    for score in rows_of(out, GENERATE, "scores/likelihood"):
        if score["pair_id"] in pairs:
            path, said = pairs[score["pair_id"]], json.loads(score["detail"])
            tokens = 2 * said["tokens"]  # the student's tokenizer cuts finer
            detail = {"type": path, "step": 40, "tokens": tokens, "right": False, **changes}
            loss = said["loss"] * said["tokens"] / tokens + learned.get(path, 0.0)
            rows.append({"pair_id": score["pair_id"], "value": loss, "detail": json.dumps(detail)})
    pq.write_table(table(rows, SCORES), tuned / "scores" / "student_loss.parquet")
    return tuned


def folder_of(work: Path) -> RunFolder:
    return RunFolder(Folder(str(work / "out")))


def by_type(out: Path) -> Counter[str]:
    return Counter(row["type"] for row in assignments(out).values())


def test_the_plan_asks_more_of_what_is_to_be_learned_and_the_record_says_why(work: Path) -> None:
    trained(work)
    before = by_type(work / "out")
    done = synth("plan", "--out", "out", "--from-student", "tuned", "--json", "--name", "steered")
    report = json.loads(done.stdout)
    factors = {each["type"]: each["factor"] for each in report["student"]["types"]}
    assert factors["coarse/counting"] > 1 > factors["coarse/scene"] == pytest.approx(0.5, abs=0.1)
    assert {each["type"]: each["reducible"] for each in report["student"]["types"]} == pytest.approx(LEARNED, abs=1e-4)
    assert "--set plan.mapping=steered --update" in done.stderr
    assert by_type(work / "out") == before, "the plan was drawn before anybody asked for it"
    run("out", "--update", "--set", "plan.mapping=steered", "--until", "plan")
    after = by_type(work / "out")
    assert after["coarse/counting"] > before["coarse/counting"] and after["coarse/scene"] < before["coarse/scene"]
    shown = Counter[str]()
    for line in report["difference"]:
        shown[line["type"]] += line["added"] - line["retired"]
    assert {path: after[path] - before[path] for path in TYPES} == {path: shown[path] for path in TYPES}
    record = folder_of(work).record
    assert record is not None
    (text,) = [text for text in record["shape"]["planned"]["mapping"] if '"student"' in text]
    why = json.loads(text)["student"]
    assert why["steps"] == 40 and why["training"] == str(work / "tuned") and set(why["types"]) == set(TYPES)


def test_a_second_student_takes_the_place_of_the_first(work: Path) -> None:
    tuned = trained(work)
    synth("plan", "--out", "out", "--from-student", "tuned", "--name", "first")
    run("out", "--update", "--set", "plan.mapping=first", "--until", "plan")
    shutil.rmtree(tuned)
    trained(work, {"coarse/scene": 3.0})
    done = synth("plan", "--out", "out", "--from-student", "tuned", "--name", "second")
    assert "nats a token" in done.stdout and "what that" not in done.stderr
    second = yaml.safe_load(Path("pipelines/mappings/second.yaml").read_text())
    assert second["extends"] == "small" and second["rules"][0]["boost"]["coarse/scene"] == pytest.approx(2.0, abs=0.2)


def test_without_a_name_nothing_is_written(work: Path) -> None:
    trained(work)
    done = synth("plan", "--out", "out", "--from-student", "tuned")
    assert "add --name NAME" in done.stderr and sorted(path.name for path in Path("pipelines/mappings").iterdir()) == [
        "small.yaml"
    ]
    done = synth("plan", "--out", "out", "--name", "x", check=False)
    assert done.returncode == 2 and "works only with --from-student" in done.stderr


def test_the_finished_model_says_more_than_its_first_steps(work: Path) -> None:
    tuned = trained(work, step=10)  # all pairs were seen in the first half alone
    with pytest.raises(UserMistake, match="name no pairs"):
        read_student(folder_of(work), str(tuned), TYPES)
    (tuned / "scores" / "student_loss.parquet").rename(tuned / "scores" / "student_loss_after.parquet")
    assert read_student(folder_of(work), str(tuned), TYPES).types.keys() == set(TYPES)
    assert read_student(folder_of(work), str(tuned), TYPES[:1]).types.keys() == set(TYPES[:1])


def test_what_is_no_student_of_the_run_is_refused_in_one_line(work: Path) -> None:
    with pytest.raises(UserMistake, match=r"--from-student nowhere: no training is there"):
        read_student(folder_of(work), "nowhere", TYPES)
    tuned = trained(work)
    with pytest.raises(UserMistake, match=r"name no pairs of these instruction types"):
        read_student(folder_of(work), str(tuned), ["other/type"])
    rows = pq.read_table(tuned / "scores" / "student_loss.parquet").to_pylist()
    strange = [{**row, "pair_id": f"x{number}"} for number, row in enumerate(rows)]
    pq.write_table(table(strange, SCORES), tuned / "scores" / "student_loss.parquet")
    with pytest.raises(UserMistake, match=r"has the score 'likelihood' of none of the \d+ pairs"):
        read_student(folder_of(work), str(tuned), TYPES)
    (tuned / "training.json").write_text(json.dumps({"format": FORMAT, "result": None}))
    with pytest.raises(UserMistake, match=r"is not finished"):
        read_student(folder_of(work), str(tuned), TYPES)
    (tuned / "training.json").write_text("{")
    with pytest.raises(Damaged, match=r"is not the record of a training"):
        read_student(folder_of(work), str(tuned), TYPES)
