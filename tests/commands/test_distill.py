"""`synth distill` fits a judge to grades or to labels of people, measures it on other images, and a pass can use it."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen import cli
from synthgen.commands.audit.labels import Label, add_label, new_label
from synthgen.commands.distill import DistillRequest, command, distill
from synthgen.commands.distill.graded import Lesson, _of_judge, _of_people
from synthgen.config import pipeline, prompt_pack
from synthgen.errors import UserMistake
from synthgen.job.job import open_job
from synthgen.stages.contract import Job
from synthgen.stages.generate.scoring import find_scorer
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE
from tests.fixtures.rows import rows_of
from tests.fixtures.runs import run
from tests.fixtures.tagging import clip_model, write_tagger
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write, write_definition_files

# An engine that grades by the words of an answer, as a large judge might.
GOOD = ("red", "blue", "green", "yes", "cat", "tree", "boat")
GRADER = f"""
from dataclasses import replace

from synthgen.engines.scripted import ScriptedEngine


class Grader(ScriptedEngine):
    async def generate(self, request):
        reply = await super().generate(request)
        if not request.labels:
            return reply
        good = any(word in request.text.split()[-1] for word in {GOOD})
        best, worst = request.labels[-1], request.labels[0]
        return replace(reply, labels={{**dict.fromkeys(request.labels, 0.0), (best if good else worst): 1.0}})
"""
FIVE = DEFINITION_FILES["prompts/small.yaml"].replace(
    '{{ answer }}", labels: ["1", "2", "3"]', '{{ answer }}", labels: ["1", "2", "3", "4", "5"]'
)


@pytest.fixture(scope="module")
def made(workers_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the small pipeline over forty images, tagged by a tiny CLIP and graded by the words of the answers."""
    folder = write_definition_files(tmp_path_factory.mktemp("graded"))
    with contextlib.chdir(folder):
        clip_model(folder / "clip")
        write_tagger("engine: open_clip\nmodel: clip\nthreshold: 0.000001\n", "tiny")
        write(folder / "grader.py", GRADER)
        make_images(folder / "photos", 40)
        write(folder / "prompts" / "five.yaml", FIVE)
        engine = "{kind: 'grader:Grader', gpus: 0}"
        second = "score.second={model: two, prompts: five, scores: [answer]}"
        settings = (
            "tag.tagger=tiny",
            f"generate.engine={engine}",
            "generate.scores=[answer]",
            "select.keep={}",
            second,
        )
        run("out", *(word for setting in settings for word in ("--set", setting)))
    return folder


@pytest.fixture
def graded(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(made)
    yield made
    write(made / "prompts" / "five.yaml", FIVE)
    for label in (made / "out/audit").glob("*"):
        label.unlink()


def label_pairs(folder: Path, unsure: int = 0) -> int:
    """Have two people label every pair by the words of its answer, the first some as unsure; return the pairs."""
    pairs = [row for row in rows_of(Folder(str(folder / "out")), GENERATE, "pairs") if row["outcome"] == "pair"]
    run_folder = RunFolder(Folder(str(folder / "out")))
    for number, row in enumerate(pairs):
        is_right = any(word in row["answer"] for word in GOOD)
        add_label(run_folder, new_label(row["pair_id"], "right" if is_right else "wrong", None, "ada"))
        if number < unsure:
            add_label(run_folder, new_label(row["pair_id"], "unsure", None, "ada"))
    return len(pairs)


def test_a_judge_is_fitted_and_measured_on_images_that_were_left_out(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = tmp_path / "small-judge"
    words = ["distill", "out", "--score", "answer", "--out", str(judge), "--json"]
    cli.app(words, standalone_mode=False)
    measured = json.loads(capsys.readouterr().out)
    assert measured["rank correlation"] > 0.5 and measured["F1"] > measured["F1 of saying yes"]
    pairs = sum(row["outcome"] == "pair" for row in rows_of(Folder(str(graded / "out")), GENERATE, "pairs"))
    assert measured["pairs"] == pairs, "of few pairs each is left out once"
    assert measured["ROC area"] > 0.7 and sum(part[2] for part in measured["calibration"]) == pairs
    record = json.loads((judge / "distilled.json").read_text())
    assert record["score"] == "answer" and record["labels"] == ["1", "2", "3"] and record["measured"] == measured
    with pytest.raises(UserMistake, match="exists already"):
        distill(DistillRequest("out", "answer", judge))


def test_of_many_pairs_a_fifth_of_the_images_is_left_out(
    graded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = distill(DistillRequest("out", "answer", tmp_path / "few")).measured["pairs"]
    monkeypatch.setattr(command, "FEW", 10)
    assert 0 < distill(DistillRequest("out", "answer", tmp_path / "many")).measured["pairs"] < few / 2


def test_labels_of_people_are_learnt_in_place_of_grades(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = label_pairs(graded, unsure=3)
    add_label(RunFolder(Folder(str(graded / "out"))), new_label("f" * 32, "right", None, "ada"))
    words = ["distill", "out", "--score", "p_true", "--labels", "--out", str(tmp_path / "people")]
    cli.app(words, standalone_mode=False)
    told = capsys.readouterr()
    record = json.loads((tmp_path / "people" / "distilled.json").read_text())
    assert record["score"] == "p_true" and record["labels"] == ["no", "yes"]
    assert record["measured"]["pairs"] == pairs - 3 and record["measured"]["ROC area"] > 0.7
    assert f"{pairs + 1} pairs, {pairs - 3} used, 4 left out" in told.err
    assert "3 people are unsure" in told.err and "1 labelled, and no pair any more" in told.err
    assert '"after": {"score": "small.p_true"}' in told.out and "calibration" in told.out


def test_too_few_labels_or_labels_that_are_all_the_same_are_refused(graded: Path, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="has 0 graded pairs with an embedding; 50 are needed"):
        distill(DistillRequest("out", "p_true", tmp_path / "none", labels=True))
    pairs = [row for row in rows_of(Folder(str(graded / "out")), GENERATE, "pairs") if row["outcome"] == "pair"]
    for row in pairs:
        add_label(RunFolder(Folder(str(graded / "out"))), new_label(row["pair_id"], "right", None, "ada"))
    with pytest.raises(UserMistake, match=r"all \d+ grades are 1, so there is nothing to learn"):
        distill(DistillRequest("out", "p_true", tmp_path / "same", labels=True))


def test_the_grades_of_a_pass_are_read_by_the_scale_of_its_own_prompts(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "judge")
    cli.app(["distill", "out", "--score", "second.answer", "--out", out, "--threshold", "4"], standalone_mode=False)
    told = capsys.readouterr().out
    assert json.loads((tmp_path / "judge" / "distilled.json").read_text())["labels"] == ["1", "2", "3", "4", "5"]
    assert '"scores": ["answer"], "prompts": "five"}' in told
    write(graded / "prompts" / "five.yaml", DEFINITION_FILES["prompts/small.yaml"])  # 5 is no longer on the scale
    with pytest.raises(UserMistake, match=r"all \d+ grades are 1, so there is nothing to learn"):
        distill(DistillRequest("out", "second.answer", tmp_path / "other"))
    assert "its grade is off the scale of the prompt" in capsys.readouterr().err


def test_what_cannot_be_distilled_is_refused_in_one_line(
    graded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "read_graded", lambda *given: pytest.fail("grades are read before that"))
    other, cases = (
        tmp_path / "other",
        {
            "likelihood": "only scores with one judge prompt can be distilled",
            "question": "no pair has the score 'question'; add it to generate.scores",
            "second.question": "no pair has the score 'second.question'; add it to score.second.scores",
        },
    )
    for score, message in cases.items():
        with pytest.raises(UserMistake, match=message):
            distill(DistillRequest("out", score, other))
    with pytest.raises(UserMistake, match="--threshold 9: 'answer' goes from 1 to 3"):
        distill(DistillRequest("out", "answer", other, threshold=9))
    monkeypatch.setattr(command, "ClipTaggerFile", int)
    with pytest.raises(UserMistake, match="the run has no embeddings of its images: tag it with an open_clip tagger"):
        distill(DistillRequest("out", "answer", other))
    assert not other.exists()


def test_a_run_is_refused_that_asks_a_small_judge_for_what_it_did_not_learn(graded: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    distill(DistillRequest("out", "answer", judge))

    def open_with(score: str, prompts: str) -> Job:
        small = f"score.small={{model: {judge}, engine: {{kind: distilled}}, scores: [{score}], prompts: {prompts}}}"
        return open_job(Folder(str(tmp_path / "new")), pipeline.load("small", ["source.uri=photos", small]))

    write(
        graded / "prompts/worded.yaml",
        DEFINITION_FILES["prompts/small.yaml"].replace('"Rate {{ question }} {{', '"Grade {{'),
    )
    for score, prompts, message in (
        ("question", "small", f"score.small.scores: 'question': the small judge {judge} grades 'answer' alone"),
        (
            "answer",
            "five",
            f"the small judge {judge} learnt the labels 1, 2, 3, and those of the prompt are 1, 2, 3, 4, 5",
        ),
        (
            "answer",
            "worded",
            f"the small judge {judge} learnt by another wording of judge.answer; name the prompt pack",
        ),
    ):
        with pytest.raises(UserMistake, match=re.escape(message)):
            open_with(score, prompts)
    assert open_with("answer", "small").passes[0].model.revision.startswith("files:")


def test_a_judge_has_its_name_only_when_it_is_whole(
    graded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            distill(DistillRequest("out", "answer", tmp_path / "judge"))
    assert not (tmp_path / "judge").exists()
    distill(DistillRequest("out", "answer", tmp_path / "judge"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("judge")] == ["judge"]


def test_a_long_answer_is_learnt_as_its_judge_has_it_sentence_by_sentence(workspace: Path) -> None:
    prompts = prompt_pack.load("small")
    row = {"pair_id": "p", "type": "coarse/scene", "form": "detailed", "answer": "A cat sits there. It is green."}
    detail = json.dumps({"sentences": {"A cat sits there.": 0.9, "It is green.": 0.2}})
    lesson = Lesson("p_true", find_scorer("p_true"), prompts)
    assert _of_judge(lesson, row, {"value": 0.2, "detail": detail}) == {"A cat sits there.": 0.9, "It is green.": 0.2}
    assert _of_judge(lesson, row, {"value": 0.2, "detail": None}) == {row["answer"]: 0.2}
    assert _of_judge(lesson, {**row, "type": "gone"}, {"value": 0.2, "detail": detail}) == "its type is gone"
    people = Lesson("p_true", find_scorer("p_true"), prompts, is_of_people=True)
    right, wrong, unsure = (Label("p", label, None, label, "") for label in ("right", "wrong", "unsure"))
    assert _of_people(people, row, [right]) == "people label its sentences together, and the score has each by itself"
    short = {**row, "form": "short", "answer": "A cat."}
    assert _of_people(people, short, [right, right, wrong]) == {"A cat.": 1.0}
    assert _of_people(people, short, [right, wrong]) == _of_people(people, short, [unsure]) == "people are unsure"
    graded = Lesson("answer", find_scorer("answer"), prompts, is_of_people=True)
    assert _of_people(graded, row, [wrong]) == {row["answer"]: 1.0}, "the least grade of three"
