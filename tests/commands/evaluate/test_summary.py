"""The numbers of an evaluation, and what the report says of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.evaluate.replies import Evaluation
from synthgen.commands.evaluate.report import report
from synthgen.commands.evaluate.summary import summarize
from synthgen.engines import ModelName, Reply, Request
from tests.fixtures.evaluating import COLOURS, ask, colour_row, evaluation_of, results, shown, write_questions


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Return an evaluation of 24 images with a question each, half of them of multiple choice."""
    rows = [
        colour_row(
            COLOURS[number % 4],
            number,
            type="attribute/colour" if number % 2 else "scene/colour",
            tags=["animal/cat"] if number < 6 else ["animal/dog"],
            **({"options": list(COLOURS)} if number % 2 else {}),
        )
        for number in range(24)
    ]
    return evaluation_of(write_questions(tmp_path, rows), tmp_path / "out")


def sees(request: Request) -> str:
    colour = shown(request)
    return next((line[0] for line in request.text.splitlines() if line.endswith(f". {colour}")), colour)


def half_blind(request: Request) -> str:
    """Answer as a model that sees red and blue alone."""
    return sees(request) if shown(request) in ("red", "blue", "none") else "red"


def summary_of(*evaluations: Evaluation) -> dict[str, Any]:
    found = summarize(evaluations, [results(each)[1] for each in evaluations])
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found))
    return found


def group(summary: dict[str, Any], by: str, name: str = "") -> dict[str, Any]:
    (found,) = (each for each in summary["groups"] if (each["by"], each["name"]) == (by, name))
    return dict(found)


def test_every_group_of_questions_has_its_share(evaluation: Evaluation) -> None:
    ask(evaluation, half_blind)
    found = summary_of(evaluation)
    assert {each["by"] for each in found["groups"]} == {"all", "kind", "type", "tag"}
    every, cats = group(found, "all"), group(found, "tag", "animal/cat")
    assert (every["items"], every["images"], every["models"][0]["right"]) == (24, 24, 0.5)
    assert cats["items"] == 6 and group(found, "kind", "choice")["items"] == 12
    low, high = every["models"][0]["interval"]
    assert low < 0.5 < high and 0.3 < high - low < 0.5


def test_controls_say_what_the_image_adds(evaluation: Evaluation) -> None:
    ask(evaluation, sees)
    controls = summary_of(evaluation)["controls"][0]
    assert controls["blind"]["right"] == 0 and controls["blind"]["gain"] == 1.0
    assert controls["blind"]["interval"] == (1.0, 1.0) and 0 < controls["swapped"]["gain"] < 1


def test_multiple_choice_has_its_check_of_rotations(evaluation: Evaluation) -> None:
    ask(evaluation, lambda request: "A" if "A. " in request.text else "red")
    check = summary_of(evaluation)["shift_check"][0]
    assert (check["items"], check["right"], check["unparsed"]) == (12, 0.0, 0)
    assert check["bias"][0]["of_all"] == pytest.approx(1875) and check["bias"][0]["letters"] == (48, 0, 0, 0)


def test_two_models_are_compared_on_the_same_images(evaluation: Evaluation) -> None:
    other = replace(evaluation, name="half", model=ModelName("half", "r"))
    ask(evaluation, sees)
    ask(other, half_blind)
    found = summary_of(evaluation, other)
    difference = group(found, "all")["difference"]
    assert difference["right"] == 0.5 and difference["better"] == 1.0 and difference["items"] == 24
    low, high = difference["interval"]
    assert 0.2 < low < 0.5 < high < 0.8
    text = report(found)
    assert "m against half" in text and "+50.0" in text


def test_a_model_is_no_better_than_itself(evaluation: Evaluation) -> None:
    same = replace(evaluation, name="same", model=ModelName("same", "r"))
    ask(evaluation, half_blind)
    ask(same, half_blind)
    difference = group(summary_of(evaluation, same), "all")["difference"]
    assert (difference["right"], difference["interval"], difference["better"]) == (0.0, (0.0, 0.0), 0.5)


def test_one_image_says_nothing_of_which_model_is_better(tmp_path: Path) -> None:
    rows = [colour_row("green", 0, type="rare"), *(colour_row("red", number, type="often") for number in range(9))]
    first = evaluation_of(write_questions(tmp_path, rows), tmp_path / "out")
    second = replace(first, name="half", model=ModelName("half", "r"))
    ask(first, sees)
    ask(second, half_blind)
    difference = group(summary_of(first, second), "type", "rare")["difference"]
    assert difference["right"] == 1.0 and difference["interval"] is None and difference["better"] is None


def test_a_question_whose_call_failed_counts_for_neither_model(evaluation: Evaluation) -> None:
    other = replace(evaluation, name="fails", model=ModelName("fails", "r"))
    ask(evaluation, sees)
    ask(other, lambda request: Reply("", "error", "call_failed", "no") if shown(request) == "red" else sees(request))
    found = summary_of(evaluation, other)
    every = group(found, "all")
    assert every["difference"]["items"] == 18 and every["difference"]["right"] == 0.0
    assert every["models"][1]["pending"] == 6 and every["models"][1]["right"] == 1.0
    assert "6 questions have no result: calls failed, and the same command makes them again" in report(found)


def test_the_report_has_a_line_a_group_and_escapes_names_from_files(tmp_path: Path) -> None:
    rows = [colour_row("red", type="a\x1b[31m"), colour_row("blue", type="b")]
    odd = evaluation_of(write_questions(tmp_path, rows), tmp_path / "out")
    ask(odd, sees)
    text = report(summary_of(odd))
    assert "\x1b" not in text and "2 questions about 2 images" in text
    assert "all" in text and "type b" in text and "without the image" in text


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    source = write_questions(tmp_path, [colour_row("red"), colour_row("blue"), colour_row("green", answer="")])
    odd = evaluation_of(source, tmp_path / "out")
    ask(odd, sees)
    assert "2 questions about 2 images; 1 left out (1 no_answer)" in report(summary_of(odd))
