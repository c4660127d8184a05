"""The student of the demo knows what it was taught and little else, and the proof counts right answers by type."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demo import proof
from demo.draw import draw
from demo.evaluate import answer_calls, judge_replies
from demo.gold_shards import write_shards
from demo.inference import Call, NanoVLM
from demo.make_student import LAYERS, TAUGHT
from demo.oracle import judge
from demo.question_templates import TYPES
from demo.world import HELD_OUT_SEED, sample
from tests.fixtures.workspace import ROOT

STUDENT = ROOT / "demo" / "models" / "nano-student"


def test_gold_shards_hold_true_answers_of_the_wanted_types(tmp_path: Path) -> None:
    write_shards(tmp_path, 5, 12, ("caption", "counting", "background"), 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_shards(tmp_path, 5, 12, ("caption", "counting", "background"), 2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    rows = pq.read_table(tmp_path / "train-00000.parquet").to_pylist()
    assert len(rows) == 12 and {name for row in rows for name in row["types"]} == {"caption", "counting", "background"}
    for number, row in enumerate(rows):
        texts = [message["content"][-1]["text"] for message in row["messages"]]
        assert len(texts) == 2 * len(row["types"]) == 2 * len(row["pair_ids"]) <= 4
        for asked, answer in zip(texts[::2], texts[1::2], strict=True):
            assert judge(sample(5, number), asked.partition(" Answer ")[0], answer).value == "true"


def test_the_student_answers_what_it_was_taught_and_little_else() -> None:
    scenes = [sample(HELD_OUT_SEED, proof.FIRST + number) for number in range(12)]
    calls, questions = answer_calls(scenes, 6)
    right = judge_replies(calls, questions, NanoVLM(STUDENT).reply(calls, max_tokens=24))
    taught = [hit for hit, call in zip(right, calls, strict=True) if call.type in ("picture_kind", "background")]
    others = [hit for hit, call in zip(right, calls, strict=True) if call.type not in TAUGHT]
    assert sum(taught) > 0.9 * len(taught) and sum(others) < 0.4 * len(others)


def test_the_student_is_smaller_than_its_teacher() -> None:
    sizes = [(STUDENT.parent / name / "model.safetensors").stat().st_size for name in ("nano-student", "nano-vlm")]
    assert sizes[0] < sizes[1] and LAYERS < 5


def test_the_proof_counts_right_answers_by_type_before_and_after() -> None:
    scene = sample(HELD_OUT_SEED, 0)
    calls = [Call(scene, draw(scene), "", "short", type_) for type_ in ("counting", "caption", "counting")]
    table = proof.by_type(calls, [False, True, True], [True, True, True])
    assert table == {"caption": (1.0, 1.0, 1), "counting": (0.5, 1.0, 2), "all": (pytest.approx(2 / 3), 1.0, 3)}
    assert list(table)[:-1] == sorted(list(table)[:-1], key=TYPES.index)
