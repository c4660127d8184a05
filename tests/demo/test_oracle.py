"""The oracle: true answers are true, near misses false, junk unreadable; a sentence is true if all its claims are."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import truth
from demo.ground_truth import qa_pairs
from demo.oracle import judge, judge_negative
from demo.question_fit import mismatch
from demo.question_parser import parse_question, question_type
from demo.question_templates import TYPES
from demo.world import Bar, Scene, Sign, Thing, sample
from tests.fixtures.workspace import ROOT

scenes = st.builds(sample, st.integers(0, 10**6), st.integers(0, 10**6))
TWO_CATS = Scene(
    0, 0, "sign", "beach",
    (Thing("cat", None, 0, 0, 0, 40), Thing("cat", None, 1, 48, 0, 40),
     Thing("star", "red", 6, 0, 96, 40), Thing("drum", None, 8, 96, 96, 40)),
    Sign("STOP", 1, 20, 60, 34, "dark"),
)  # fmt: skip
CHART = Scene(0, 1, "chart", None, bars=(Bar("red", 3, 20, 50), Bar("blue", 7, 60, 90), Bar("green", 1, 100, 130)))


@given(scenes)
def test_right_answers_are_true_and_near_misses_are_false(scene: Scene) -> None:
    for pair in qa_pairs(scene, random.Random(scene.index)):
        for wording in range(3):
            question = pair.question(wording)
            assert question_type(question) == pair.type
            for right in (pair.answer, pair.sentence(), f" {pair.answer}."):
                assert judge(scene, question, right).value == "true", (question, right)
            for wrong in pair.distractors:
                assert judge(scene, question, wrong).value == "false", (question, wrong)
                assert judge(scene, question, pair.sentence(wrong)).value == "false", (question, wrong)


@given(scenes, st.text(max_size=40))
def test_junk_is_unreadable(scene: Scene, junk: str) -> None:
    if parse_question(junk) is None:
        assert judge(scene, junk, "yes").value == "unreadable"
    if not any(character.isalnum() for character in junk):
        question = "How many bars are there?" if scene.bars else "How many things are there?"
        assert judge(scene, question, junk).value == "unreadable"


def test_all_types_occur() -> None:
    types = {pair.type for i in range(60) for pair in qa_pairs(sample(3, i), random.Random(i))}
    assert types == set(TYPES)


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("How many cats are there?", "2", "true"),
        ("How many cats are there?", "There are 2 cats.", "true"),
        ("How many cats are there?", "There are 2 dogs.", "false"),  # answers another question
        ("How many animals can you see?", "2", "true"),  # a wording that is never taught
        ("How many things are there?", "3", "false"),
        ("How many unicorns are there?", "0", "unreadable"),
        ("Where is the cat?", "top left", "false"),  # there are two
        ("Where is the star?", "The star is in the bottom left.", "true"),
        ("Is the star to the left of the drum?", "Yes, the star is left of the drum.", "true"),
        ("Is the star left of the drum?", "Yes, the star is not left of the drum.", "false"),
        ("Are there more cats than drums?", "yes", "true"),
        ("What is in the middle left?", "nothing", "false"),  # the sign is there
        ("What is in the top right?", "nothing", "true"),
        ("What is in the bottom left?", "a star", "true"),
        ("What is in the bottom left?", "a blue star", "false"),
        ("What word is written?", "STOP", "true"),
        ("What word is written?", "SHOP", "false"),
        ("What number is written?", "12", "false"),
        ("What is the use of life?", "42", "unreadable"),
        ("Describe the picture.", "The beach with the sign STOP and 2 cats, a red star and a drum.", "true"),
        ("Describe the picture.", "The beach with the sign STOP and 2 cats.", "true"),  # every claim holds
        ("Describe the picture.", "The beach with the sign STOP and 2 cats and a blue star.", "false"),
        ("Describe the picture.", "A lovely day out.", "false"),
    ],
)
def test_scene_verdicts(question: str, answer: str, value: str) -> None:
    verdict = judge(TWO_CATS, question, answer)
    assert verdict.value == value, verdict.reason
    assert verdict.reason


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What is the value of the blue bar?", "7", "true"),
        ("How tall is the blue bar?", "The blue bar has the value 7.", "true"),
        ("What is the value of the white bar?", "7", "false"),
        ("Which bar is the tallest?", "blue", "true"),
        ("Which bar is the shortest?", "The shortest bar is green.", "true"),
        ("How much taller is the blue bar than the red bar?", "4", "true"),
        ("Take the red bar from the blue bar.", "4", "true"),
        ("How much taller is the red bar than the blue bar?", "4", "false"),
        ("Add the red bar and the green bar.", "4", "true"),
        ("Where is this?", "beach", "false"),
        ("Describe the picture.", "A chart with 3 bars: red 3, blue 7 and green 1.", "true"),
        ("Describe the picture.", "A chart with 3 bars: red 3, blue 7 and green 2.", "false"),
    ],
)
def test_chart_verdicts(question: str, answer: str, value: str) -> None:
    assert judge(CHART, question, answer).value == value


def test_the_oracle_says_why_a_question_does_not_fit() -> None:
    query = parse_question("Where is the cat?")
    assert query is not None
    assert mismatch(TWO_CATS, query) == "2 things are a cat"
    query = parse_question("What is the value of the red bar?")
    assert query is not None
    assert mismatch(TWO_CATS, query) == "there is no chart"


def test_the_share_of_true_pairs_is_reported_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {
        "counting": Counter(generated=8, true=6, kept=4, kept_true=4),
        "existence": Counter(generated=2, true=0, kept=1),
    }
    truth.report(counts, {}, 12)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "true: 80.0% of the 5 accepted pairs, 60.0% of the 10 that were generated"


def test_a_folder_in_which_nothing_was_selected_is_a_mistake(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.truth", str(tmp_path / "nothing")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert result.returncode == 2 and not result.stdout
    assert "no pair of a run was selected there; make it with: synth run --pipeline demo" in result.stderr


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Where is the whale?", "That is not in the picture.", "true"),
        ("What number is written?", "The picture does not show that.", "true"),
        ("What is the value of the red bar?", "This cannot be told from the picture.", "true"),
        ("Where is the drum?", "That is not in the picture.", "false"),
        ("What word is written?", "The picture does not show that.", "false"),
        ("Where is the whale?", "In the top left.", "false"),
        ("Whence the whale?", "That is not in the picture.", "unreadable"),
    ],
)
def test_a_negative_is_true_if_the_scene_does_not_answer_and_the_answer_says_no_more(
    question: str, answer: str, value: str
) -> None:
    assert judge_negative(TWO_CATS, question, answer).value == value


@given(scenes)
def test_no_question_that_a_scene_answers_is_a_right_negative(scene: Scene) -> None:
    for pair in qa_pairs(scene, random.Random(scene.index)):
        assert judge_negative(scene, pair.question(0), "That is not in the picture.").value == "false"
