"""Question files of every form, and each row that is no question with its reason."""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.commands.evaluate.from_files import read_question_file
from synthgen.commands.evaluate.question import CHOICE, FILL, NUMBER, RESPONSE, TEXT, Question
from synthgen.commands.usable import UseCounts
from synthgen.errors import UserMistake
from synthgen.tables import image_id
from tests.fixtures.evaluating import colour_row, picture, write_questions

OPTIONS = ["red", "blue", "green"]


def read(path: Path, max_bytes: int = 10**6) -> tuple[list[Question], UseCounts]:
    counts = UseCounts()
    items = list(read_question_file(str(path), str(path.parent), max_bytes, counts))
    assert all(image_id(item.file) == item.image_id for item in items)
    return [question for item in items for question in item.questions], counts


def one(tmp_path: Path, **row: Any) -> Question | str:
    """Return the question of a row, or the reason for which there is none."""
    questions, counts = read(write_questions(tmp_path, [colour_row("red", **row)]))
    return questions[0] if questions else next(iter(counts.left_out))


def test_rows_about_one_image_come_together_and_keep_their_ids(tmp_path: Path) -> None:
    rows = [colour_row("red"), colour_row("blue"), colour_row("red", id="again", question="Is it red?", answer="yes")]
    questions, counts = read(write_questions(tmp_path, rows))
    assert [question.question_id for question in questions] == ["red0", "again", "blue0"]
    assert [question.source for question in questions][1] == "questions.jsonl:3"
    assert counts.used == 3 and not counts.left_out


@pytest.mark.parametrize(
    ("row", "kind", "answers"),
    [
        ({}, TEXT, ("red",)),
        ({"answer": ["red", "scarlet"]}, TEXT, ("red", "scarlet")),
        ({"answer": 3}, TEXT, ("3",)),
        ({"answer": 3, "kind": "number"}, NUMBER, ("3",)),
        ({"kind": "fill"}, FILL, ("red",)),
        ({"options": OPTIONS, "answer": "B"}, CHOICE, ("B",)),
        ({"options": OPTIONS, "answer": "Green."}, CHOICE, ("C",)),
        ({"options": OPTIONS, "answer": "AC"}, RESPONSE, ("A", "C")),
        ({"options": OPTIONS, "answer": "C, A"}, RESPONSE, ("A", "C")),
        ({"options": OPTIONS, "answer": ["red", "blue"]}, RESPONSE, ("A", "B")),
        ({"options": OPTIONS, "answer": "B", "kind": "response"}, RESPONSE, ("B",)),
        ({"options": ["B", "A"], "answer": "second"}, None, "bad_answer"),
        ({"options": ["B", "A"], "answer": "A"}, None, "ambiguous_answer"),
        ({"options": ["CAB", "bus"], "answer": "CAB"}, CHOICE, ("A",)),
        ({"A": "red", "B": "blue", "answer": "B"}, CHOICE, ("B",)),
    ],
)
def test_the_kind_and_the_answers_follow_from_the_row(tmp_path: Path, row: Any, kind: str | None, answers: Any) -> None:
    found = one(tmp_path, **row)
    assert (found if isinstance(found, str) else (found.kind, found.answers)) == ((kind, answers) if kind else answers)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": " "}, "no_question"),
        ({"question": 3}, "no_question"),
        ({"answer": None}, "no_answer"),
        ({"answer": []}, "no_answer"),
        ({"kind": "essay"}, "unknown_kind"),
        ({"kind": "choice"}, "no_options"),
        ({"kind": "number"}, "bad_answer"),
        ({"kind": "text", "options": OPTIONS}, "bad_options"),
        ({"options": ["red"], "answer": "A"}, "bad_options"),
        ({"options": ["red", "Red"], "answer": "A"}, "bad_options"),
        ({"options": list("123456789"), "answer": "A"}, "bad_options"),
        ({"options": OPTIONS, "answer": "D"}, "bad_answer"),
        ({"options": OPTIONS, "answer": 1}, "bad_answer"),  # a number may count from 0 or 1: nobody says
        ({"options": OPTIONS, "answer": "AB", "kind": "choice"}, "bad_answer"),
        ({"image": "absent.png"}, "no_image"),
        ({"image": "https://a.org/b.png"}, "path_outside"),
        ({"image": "../secret.png"}, "path_outside"),
        ({"image": "/etc/hostname"}, "path_outside"),
        ({"image": "."}, "no_image"),
        ({"image": ["red-0.png", "blue-0.png"]}, "several_images"),
        ({"image": ""}, "no_image"),
    ],
)
def test_a_row_that_is_no_question_is_left_out_with_its_reason(tmp_path: Path, row: Any, reason: str) -> None:
    assert one(tmp_path, **row) == reason


def test_a_row_costs_no_other_and_says_where_it_is(tmp_path: Path) -> None:
    path = write_questions(tmp_path, [colour_row("red"), colour_row("blue")])
    path.write_text("{broken\n[1]\n" + path.read_text() + json.dumps(colour_row("red")) + "\n", encoding="utf-8")
    questions, counts = read(path)
    assert [question.question_id for question in questions] == ["red0", "blue0"]
    assert dict(counts.left_out) == {"not_json": 1, "not_a_row": 1, "same_id": 1}
    assert counts.first["same_id"] == "questions.jsonl:5: another row has the id red0"


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = write_questions(tmp_path, [colour_row("red")])
    assert dict(read(path, 20)[1].left_out) == {"too_many_bytes": 1}


def test_every_form_of_a_file_gives_the_same_questions(tmp_path: Path) -> None:
    rows = [colour_row("red", options=OPTIONS, answer="A", tags=["a", "b"], type="colour"), colour_row("blue")]
    expected = [(each.question_id, each.kind, each.options, each.answers, each.tags, each.type) for each in
                read(write_questions(tmp_path, rows))[0]]  # fmt: skip
    texts = [
        {**row, "options": json.dumps(row.get("options") or []), "tags": ",".join(row.get("tags", ()))} for row in rows
    ]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"same{suffix}").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["id", "image", "question", "answer", "options", "tags", "type"], "", delimiter=delimiter
            )
            writer.writeheader()
            writer.writerows(texts)
    (tmp_path / "same.json").write_text(json.dumps(rows), encoding="utf-8")
    held = [{**row, "image": {"bytes": picture(str(row["answer"]).replace("A", "red")), "path": None}} for row in rows]
    pq.write_table(pa.Table.from_pylist(held), tmp_path / "same.parquet")
    for suffix in (".csv", ".tsv", ".json", ".parquet"):
        found = read(tmp_path / f"same{suffix}")[0]
        assert [
            (each.question_id, each.kind, each.options, each.answers, each.tags, each.type) for each in found
        ] == expected, suffix


def test_a_tsv_of_vlmevalkit_is_read_with_its_shared_images(tmp_path: Path) -> None:
    image = base64.b64encode(picture("red")).decode()
    lines = ["index\timage\tquestion\tA\tB\tanswer\tcategory", f"0\t{image}\tWhich?\tred\tblue\tA\tcolour",
             "1\t0\tWhich not?\tred\tblue\tB\tcolour"]  # fmt: skip
    (tmp_path / "set.tsv").write_text("\n".join(lines), encoding="utf-8")
    questions, counts = read(tmp_path / "set.tsv")
    assert [(each.question_id, each.answers, each.type) for each in questions] == [
        ("0", ("A",), "colour"), ("1", ("B",), "colour"),
    ]  # fmt: skip
    assert len({each.image_id for each in questions}) == 1 and not counts.left_out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.csv", "image,question\na,b", "has no column 'answer' or 'answers'; it has image, question"),
        ("q.json", '{"a": 1}', "is JSON, but not a list of rows"),
        ("q.json", "{}{}", "then name it .jsonl"),
        ("q.parquet", "nothing", "cannot be read"),
        ("q.csv", b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserMistake, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
