"""The turns of shards as questions, and what is no question of its own."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.commands.evaluate.from_shards import read_shards
from synthgen.commands.evaluate.question import CHOICE, TEXT, ImageQuestions, Question
from synthgen.commands.evaluate.question_set import open_source
from synthgen.commands.usable import UseCounts
from synthgen.stages.pack.schema import sample_schema
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import DECISIONS, SELECT, table
from tests.fixtures.evaluating import picture
from tests.fixtures.rows import describe_run

CHOICES = "Which colour?\nA. blue\nB. red\nReply with a letter."
Turn = tuple[str, str, str, str]  # id, form, question, answer


def sample(*turns: Turn, image: bytes | None = None, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for _, _, asked, answered in turns
        for role, text in (("user", asked), ("assistant", answered))
    ]
    return {
        **dict.fromkeys(sample_schema(()).names),
        "images": [{"bytes": picture("red") if image is None else image, "path": None}],
        "messages": messages,
        "image_id": "photo",
        "pair_ids": [turn[0] for turn in turns],
        "types": ["attribute/colour" for _ in turns],
        "forms": [turn[1] for turn in turns],
        "languages": ["English" for _ in turns],
        "tags": [{"path": "animal/cat", "score": 1.0, "tagger": "t"}],
    } | more


def read(
    folder: Path, *samples: dict[str, Any], follows: dict[str, str] | None = None
) -> tuple[list[Question], UseCounts]:
    """Write samples as a shard, of a run where `follows` says which pairs go on from which, and read them."""
    path = folder / "5-shards" / "data" / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(samples), schema=sample_schema(())), path)
    run = None
    if follows is not None:
        out = Folder(str(folder))
        describe_run(out)
        rows = [{"pair_id": pair, "kept": True, "follows": before} for pair, before in follows.items()]
        stage = StageFolder(out, SELECT)
        with Lease.take(out) as lease:
            file = stage.write("decisions", "e001-00000", 1, table(rows, DECISIONS))
            stage.commit(Receipt("e001-00000", 1, {"decisions": TablePart((file,), "f")}), lease)
        run = RunFolder(out)
    counts = UseCounts()
    items: list[ImageQuestions] = list(read_shards(open_source(str(path)).files, run, counts))
    return [question for item in items for question in item.questions], counts


def test_turns_keep_the_words_that_a_training_saw(tmp_path: Path) -> None:
    turns = [("p1", "short", "What is it? Answer shortly.", "a cat"), ("p2", "choice", CHOICES, "B")]
    questions, counts = read(tmp_path, sample(*turns), follows={})
    assert [question.prompt for question in questions] == ["What is it? Answer shortly.", CHOICES]
    first, second = questions
    assert (first.question_id, first.kind, first.answers, first.type) == ("p1", TEXT, ("a cat",), "attribute/colour")
    assert (second.kind, second.question, second.options, second.answers) == (
        CHOICE, "Which colour?", ("blue", "red"), ("B",),
    )  # fmt: skip
    assert first.image_id == "photo" and first.tags == ("animal/cat",) and counts.used == 2


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (("p", "points", "Where?", "[]"), "places"),
        (("p", "choice", "Which colour?", "B"), "no_options"),
        (("p", "short", "", "a cat"), "no_question"),
        (("p", "short", "What?", ""), "no_answer"),
    ],
)
def test_a_turn_that_cannot_be_asked_is_counted_with_its_reason(tmp_path: Path, turn: Turn, reason: str) -> None:
    questions, counts = read(tmp_path, sample(turn), follows={})
    assert not questions and dict(counts.left_out) == {reason: 1}


def test_a_pair_that_goes_on_from_another_is_not_asked_alone(tmp_path: Path) -> None:
    turns = [("p1", "short", "What is it?", "a cat"), ("p2", "short", "And its colour?", "red")]
    questions, counts = read(tmp_path, sample(*turns), follows={"p2": "p1"})
    assert [question.question_id for question in questions] == ["p1"] and dict(counts.left_out) == {"follow_up": 1}


def test_without_its_run_only_the_first_turn_of_a_conversation_counts(tmp_path: Path) -> None:
    turns = [("p1", "short", "What is it?", "a cat"), ("p2", "short", "And its colour?", "red")]
    questions, counts = read(tmp_path, sample(*turns))
    assert [question.question_id for question in questions] == ["p1"] and dict(counts.left_out) == {"later_turn": 1}


def test_a_question_that_the_image_cannot_answer_is_left_out(tmp_path: Path) -> None:
    turn = ("p", "short", "What does the sign say?", "There is no sign.")
    questions, counts = read(tmp_path, sample(turn, types=["unanswerable/ocr/sign"]), follows={})
    assert not questions and dict(counts.left_out) == {"unanswerable": 1}


def test_a_sample_without_an_image_or_with_broken_messages_costs_itself_alone(tmp_path: Path) -> None:
    good = ("p", "short", "What?", "a cat")
    questions, counts = read(tmp_path, sample(good, images=[]), sample(good, messages=[]), sample(good), follows={})
    assert len(questions) == 1 and dict(counts.left_out) == {"images_do_not_match": 1, "no_image": 1}


def test_a_b_in_a_sentence_is_no_choice(tmp_path: Path) -> None:
    turn = ("p", "", "Which of these?\nA. blue\nC. red", "C")
    questions, _ = read(tmp_path, sample(turn, forms=None), follows={})
    assert questions[0].kind == TEXT
