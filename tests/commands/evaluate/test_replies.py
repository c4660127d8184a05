"""What a model is asked, what is kept of it, and what is asked again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.commands.evaluate.replies import BLIND, SEEN, SWAPPED, Evaluation
from synthgen.commands.evaluate.worker import EvaluationWorker
from synthgen.config.engine import EngineConfig
from synthgen.engines import EngineDied, ModelName, Reply, Request
from synthgen.tables import image_id
from tests.fixtures.evaluating import (
    COLOURS,
    Function,
    ask,
    colour_row,
    evaluation_of,
    picture,
    results,
    shown,
    with_settings,
    write_questions,
)


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Return an evaluation of four images, each with a question in words and one of multiple choice."""
    rows = [colour_row(colour) for colour in COLOURS]
    rows += [colour_row(colour, id=f"choice-{colour}", options=list(COLOURS), answer=colour) for colour in COLOURS]
    return evaluation_of(write_questions(tmp_path, rows), tmp_path / "out")


def sees(request: Request) -> str:
    """Answer as a model that sees: the colour, or the letter of the option that it is."""
    for line in request.text.splitlines():
        if line.endswith(f". {shown(request)}"):
            return line[0]
    return shown(request)


def test_a_question_is_asked_in_every_rotation_and_once_for_each_control(evaluation: Evaluation) -> None:
    calls = Counter(
        (call.variant, call.rotation) for task, _ in evaluation.tasks() for call in evaluation.pending(task)
    )
    assert calls == {(SEEN, 0): 8, (SEEN, 1): 4, (SEEN, 2): 4, (SEEN, 3): 4, (BLIND, 0): 8, (SWAPPED, 0): 8}
    assert len(ask(evaluation, sees)) == 36


def test_a_model_that_sees_is_right_and_its_controls_are_not(evaluation: Evaluation) -> None:
    ask(evaluation, sees)
    rows, items = results(evaluation)
    assert len(rows) == 36 and len(items) == 8
    assert all(item.right and item.plain and not item.unparsed for item in items)
    assert not any(item.controls[variant] for item in items for variant in (BLIND, SWAPPED))
    swapped = [row for row in rows if row["variant"] == SWAPPED]
    assert all(row["partner"] not in (None, row["image_id"]) for row in swapped)
    assert all(row["prompt"] and row["revision"] == "r1" for row in rows)


def test_a_model_that_takes_a_place_is_right_in_one_order_and_not_under_rotation(evaluation: Evaluation) -> None:
    ask(evaluation, lambda request: "A")
    _, items = results(evaluation)
    choices = [item for item in items if item.question.options]
    assert [item.plain for item in choices].count(True) == 1 and not any(item.right for item in choices)
    assert all(item.said == ("A",) * 4 for item in choices)


def test_what_is_answered_is_never_asked_again(evaluation: Evaluation) -> None:
    assert len(ask(evaluation, sees)) == 36
    assert not list(evaluation.tasks()) and not ask(evaluation, sees)


def test_calls_that_failed_are_made_again_and_no_other(evaluation: Evaluation) -> None:
    def fails(request: Request) -> str | Reply:
        return Reply("", "error", "call_failed", "no") if shown(request) == "red" else sees(request)

    ask(evaluation, fails)
    _, items = results(evaluation)
    reds = [item for item in items if item.question.answers[0] in ("red", "A")]
    assert [item.right for item in reds] == [None, None]  # neither right nor wrong
    again = ask(evaluation, sees)
    assert {shown(request) for request in again} == {"red"}
    assert all(item.right for item in results(evaluation)[1])


def test_more_controls_ask_only_what_is_missing(evaluation: Evaluation) -> None:
    ask(with_settings(evaluation, controls=(), rotations=False), sees)
    more = ask(evaluation, sees)
    assert len(more) == 36 - 8


def test_another_tolerance_asks_nothing_and_another_wording_asks_anew(evaluation: Evaluation) -> None:
    ask(evaluation, sees)
    assert not list(with_settings(evaluation, tolerance=0.5).tasks())
    assert sum(count for _, count in with_settings(evaluation, wording="bare").tasks()) == 36
    assert sum(count for _, count in replace(evaluation, model=ModelName("m", "r2")).tasks()) == 36


def test_images_that_a_model_was_tuned_on_are_not_asked_about(evaluation: Evaluation) -> None:
    red = image_id(picture("red"))
    without = replace(evaluation, seen=frozenset({red}))
    asked = ask(with_settings(without, controls=()), sees)
    assert {shown(request) for request in asked} == {"blue", "green", "grey"}
    assert len(results(with_settings(without, controls=()))[1]) == 6


def test_a_reply_that_names_no_option_is_counted_and_not_guessed(evaluation: Evaluation) -> None:
    ask(evaluation, lambda request: "I cannot tell")
    rows, items = results(evaluation)
    choices = [item for item in items if item.question.options]
    assert all(item.unparsed == 4 and item.right is False and item.said == (None,) * 4 for item in choices)
    assert {row["parsed"] for row in rows if row["options"]} == {None}


def test_a_withheld_reply_is_wrong_and_a_failed_call_is_not(evaluation: Evaluation) -> None:
    ask(evaluation, lambda request: Reply("", "content_filter"))
    assert {item.right for item in results(evaluation)[1]} == {False}


def test_the_blind_control_has_no_image_and_the_others_have_the_key_of_theirs(evaluation: Evaluation) -> None:
    asked = ask(evaluation, sees)
    blind = [request for request in asked if request.image is None]
    assert len(blind) == 8 and all(request.image_key is None for request in blind)
    keys = {request.image_key: shown(request) for request in asked if request.image is not None}
    assert len(keys) == 4 and all(
        key and key.startswith(image_id(picture(colour))[:32]) for key, colour in keys.items()
    )


def test_an_exception_of_an_engine_costs_its_calls_alone(evaluation: Evaluation) -> None:
    def breaks(request: Request) -> str:
        if shown(request) == "red":
            raise ValueError("odd")
        return sees(request)

    ask(evaluation, breaks)
    rows, items = results(evaluation)
    assert {row["reason"] for row in rows if row["right"] is None} == {"code_failed"}
    assert sum(item.right is None for item in items) == 2


def test_an_engine_that_died_ends_the_task(evaluation: Evaluation) -> None:
    def dies(request: Request) -> str:
        raise EngineDied("gone")

    with pytest.raises(EngineDied):
        ask(evaluation, dies)
    assert not evaluation.replies.log().partitions


def test_the_image_that_kills_its_worker_is_put_on_record(evaluation: Evaluation) -> None:
    ((task, _),) = evaluation.tasks()
    red = image_id(picture("red"))
    worker = EvaluationWorker(evaluation, Function(sees, []))
    poison = replace(task, only=(red,), poison=True, why="it died")
    import asyncio

    receipt = asyncio.run(worker.do(poison))
    worker.close()
    assert receipt is not None and receipt.counts == {"failed": 9}


def test_a_worker_that_is_drained_gives_its_task_back(evaluation: Evaluation) -> None:
    ((task, _),) = evaluation.tasks()
    worker = EvaluationWorker(evaluation, Function(sees, []))
    worker.drain()
    import asyncio

    assert asyncio.run(worker.do(task)) is None
    worker.close()


def test_one_image_at_a_time_gives_the_same_replies(evaluation: Evaluation) -> None:
    narrow = replace(evaluation, engine=EngineConfig(kind="scripted", in_flight=1))
    ask(narrow, sees)
    assert not list(evaluation.tasks())


def test_a_single_image_has_no_other_to_be_swapped_with(tmp_path: Path) -> None:
    alone = evaluation_of(write_questions(tmp_path, [colour_row("red")]), tmp_path / "out")
    assert [request.image is None for request in ask(alone, sees)].count(True) == 1
    assert set(results(alone)[1][0].controls) == {BLIND}
