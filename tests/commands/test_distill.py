"""`synth distill` fits a judge to the grades of a run, measures it on other images, and a pass can use it."""

import json
from pathlib import Path

import pytest

from synthgen import cli
from synthgen.commands.distill import DistillRequest, command, distill
from synthgen.errors import UserMistake
from tests.fixtures.runs import run
from tests.fixtures.tagging import clip_model, write_tagger
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write

pytestmark = pytest.mark.usefixtures("ray_running")

# An engine that grades by the words of an answer, as a large judge might.
GRADER = """
from dataclasses import replace

from synthgen.engines.scripted import ScriptedEngine


class Grader(ScriptedEngine):
    async def generate(self, request):
        reply = await super().generate(request)
        if not request.labels:
            return reply
        good = any(word in request.text.split()[-1] for word in ("red", "blue", "green", "yes", "cat", "tree", "boat"))
        best, worst = request.labels[-1], request.labels[0]
        return replace(reply, labels={**dict.fromkeys(request.labels, 0.0), (best if good else worst): 1.0})
"""


@pytest.fixture
def graded(workspace: Path) -> Path:
    """Run the small pipeline over forty images, tagged by a tiny CLIP and graded by the words of the answers."""
    clip_model(workspace / "clip")
    write_tagger("engine: open_clip\nmodel: clip\nthreshold: 0.000001\n", "tiny")
    write(workspace / "grader.py", GRADER)
    make_images(workspace / "photos", 40)
    engine = "{kind: 'grader:Grader', gpus: 0}"
    pack = DEFINITION_FILES["prompts/small.yaml"]
    five = pack.replace('{{ answer }}", labels: ["1", "2", "3"]', '{{ answer }}", labels: ["1", "2", "3", "4", "5"]')
    assert five != pack
    write(workspace / "prompts" / "five.yaml", five)
    second = "score.second={model: two, prompts: five, scores: [answer]}"
    settings = ("tag.tagger=tiny", f"generate.engine={engine}", "generate.scores=[answer]", "select.keep={}", second)
    run("out", *(word for setting in settings for word in ("--set", setting)))
    return workspace


def test_a_judge_is_fitted_and_measured_on_images_that_were_left_out(
    graded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "out", "--score", "answer", "--out", "small-judge", "--json"]
    cli.app(words, standalone_mode=False)
    measured = json.loads(capsys.readouterr().out)
    assert measured["rank correlation"] > 0.5 and measured["F1"] > measured["F1 of saying yes"]
    assert 0 < measured["pairs"] < 120
    record = json.loads((graded / "small-judge" / "distilled.json").read_text())
    assert record["score"] == "answer" and record["labels"] == ["1", "2", "3"] and record["measured"] == measured
    with pytest.raises(UserMistake, match="exists already"):
        distill(DistillRequest("out", "answer", Path("small-judge")))


def test_the_grades_of_a_pass_are_read_by_the_scale_of_its_own_prompts(
    graded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.app(["distill", "out", "--score", "second.answer", "--out", "judge", "--threshold", "4"], standalone_mode=False)
    told = capsys.readouterr().out
    assert json.loads((graded / "judge" / "distilled.json").read_text())["labels"] == ["1", "2", "3", "4", "5"]
    assert '"scores": ["answer"], "prompts": "five"}' in told
    write(graded / "prompts" / "five.yaml", DEFINITION_FILES["prompts/small.yaml"])  # 5 is no longer on the scale
    with pytest.raises(UserMistake, match=r"all \d+ grades are 1, so there is nothing to learn"):
        distill(DistillRequest("out", "second.answer", Path("other")))
    assert "its grade is off the scale of the prompt" in capsys.readouterr().err


def test_what_cannot_be_distilled_is_refused_in_one_line(graded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_read", lambda *given: pytest.fail("grades are read before that"))
    cases = {
        "likelihood": "only scores with one judge prompt can be distilled",
        "question": "no pair has the score 'question'; add it to generate.scores",
        "second.question": "no pair has the score 'second.question'; add it to score.second.scores",
    }
    for score, message in cases.items():
        with pytest.raises(UserMistake, match=message):
            distill(DistillRequest("out", score, Path("other")))
    with pytest.raises(UserMistake, match="--threshold 9: 'answer' goes from 1 to 3"):
        distill(DistillRequest("out", "answer", Path("other"), threshold=9))
    monkeypatch.setattr(command, "ClipTaggerFile", int)
    with pytest.raises(UserMistake, match="the run has no embeddings of its images: tag it with an open_clip tagger"):
        distill(DistillRequest("out", "answer", Path("other")))
    assert not Path("other").exists()
