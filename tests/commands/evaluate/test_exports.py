"""The forms of other harnesses, read as those read them."""

import base64
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml
from PIL import Image

from synthgen.commands.evaluate import lmms_eval, vlmevalkit
from synthgen.commands.evaluate.replies import Evaluation
from synthgen.engines import Request
from synthgen.store import Folder
from tests.fixtures.evaluating import COLOURS, ask, colour_row, evaluation_of, results, shown, write_questions

ODD = ("None", "007", "1.50", "True", "NA", "a\tb", 'says "no"', "two\nlines")


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Return an evaluation with answers, among them options that pandas would read as no text."""
    rows: list[dict[str, Any]] = [colour_row(colour) for colour in COLOURS]
    rows += [
        colour_row(COLOURS[number % 4], id=f"odd{number}", question="Which?", options=["plain", text, "3"], answer="B")
        for number, text in enumerate(ODD)
    ]
    rows += [
        colour_row("red", id="wrong", question="What is the name of it?", answer="Tom"),
        colour_row("red", id="number", answer="20", kind="number"),
        colour_row("red", id="all", options=list(COLOURS), answer="AC", type="a/b"),
        colour_row("blue", id="places", options=["left", "right", "Both A and B"], answer="A", type="a/b"),
    ]
    found = evaluation_of(write_questions(tmp_path, rows), tmp_path / "out")
    ask(found, says)
    return found


def says(request: Request) -> str:
    """Answer multiple choice right in its own order and under half of the rotations, and words by the image."""
    lines = [line for line in request.text.splitlines() if line[1:3] == ". "]
    if not lines:
        return "The number is 21." if "number" in request.text else shown(request)
    return "AC" if "More than one" in request.text else "B" if "plain" in lines[0] else "A"


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the TSV files of a folder, read with the defaults of pandas as VLMEvalKit does."""
    for path in sorted(folder.rglob("*.tsv")):
        yield path.name, pd.read_csv(path, sep="\t")


def image_of(table: pd.DataFrame, cell: str) -> bytes:
    """Return the image of a row: base64, or the index of another row, as VLMEvalKit resolves it."""
    by_index = {str(index): image for index, image in zip(table["index"], table["image"], strict=True)}
    held = by_index[cell] if len(cell) <= 64 else cell
    assert len(held) > 64
    return base64.b64decode(held)


def test_vlmevalkit_reads_every_option_as_it_is(evaluation: Evaluation, tmp_path: Path) -> None:
    vlmevalkit.export(evaluation.questions, [evaluation], Folder(str(tmp_path / "kit")), "synth_set")
    found = dict(tables(tmp_path / "kit"))
    plain, circular = found["synth_set.tsv"], found["synth_set_circular.tsv"]
    expected = {question.question_id: question for question in evaluation.questions.all()}
    choices = [question for question in expected.values() if question.kind == "choice"]
    assert len(plain) == len(choices) == 9 and len(circular) == 8 * 3 + 1
    for question, row in zip(choices, plain.to_dict("records"), strict=True):
        cells = [str(row[letter]).lstrip("\N{NO-BREAK SPACE}") for letter in "ABC"]
        assert tuple(cells) == question.options and row["answer"] == question.answers[0]
        assert Image.open(io.BytesIO(image_of(plain, str(row["image"])))).size[0] == 32
    assert plain["index"].dtype == "int64" and set(plain["split"]) == {"test"}


def test_a_circular_copy_is_a_rotation_of_its_question(evaluation: Evaluation, tmp_path: Path) -> None:
    vlmevalkit.export(evaluation.questions, [evaluation], Folder(str(tmp_path / "kit")), "synth_set")
    circular = dict(tables(tmp_path / "kit"))["synth_set_circular.tsv"]
    for index, copies in circular.groupby(circular["index"] % 10**6):
        rows = copies.sort_values("index").to_dict("records")
        assert [row["index"] for row in rows] == [index + number * 10**6 for number in range(len(rows))]
        assert len({row[row["answer"]] for row in rows}) == 1  # the right option is the same one
        assert len({tuple(str(row[letter]) for letter in "ABC") for row in rows}) == len(rows)


def test_predictions_are_judged_as_here(evaluation: Evaluation, tmp_path: Path) -> None:
    """All rotations right is one hit, as VLMEvalKit's circular evaluation counts."""
    written = vlmevalkit.export(evaluation.questions, [evaluation], Folder(str(tmp_path / "kit")), "synth_set")
    found = dict(tables(tmp_path / "kit"))
    (name,) = (name for name in written if name.endswith("_circular.tsv") and name.startswith("predictions/"))
    predictions = found[name.partition("/")[2]]
    hits = predictions.groupby("g_index").apply(lambda rows: (rows["prediction"] == rows["answer"]).all())
    here = [item.right for item in results(evaluation)[1] if item.question.kind == "choice"]
    assert sorted(hits.tolist()) == sorted(bool(right) for right in here)
    assert set(predictions["index"]) == set(found["synth_set_circular.tsv"]["index"])


def test_what_vlmevalkit_does_not_judge_is_apart(evaluation: Evaluation, tmp_path: Path) -> None:
    written = vlmevalkit.export(evaluation.questions, [], Folder(str(tmp_path / "kit")), "synth_set")
    assert written == ["synth_set.tsv", "synth_set_circular.tsv", "synth_set_vqa.tsv"]
    vqa = dict(tables(tmp_path / "kit"))["synth_set_vqa.tsv"]
    assert set(vqa["category"]) == {"text", "number", "a/b"}


def load_functions(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("task_functions", folder / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TaskLoader(yaml.SafeLoader):
    """A loader that takes the functions of a task by name, as lmms-eval's does."""


TaskLoader.add_constructor("!function", lambda loader, node: f"!{loader.construct_scalar(node)}")  # type: ignore[arg-type]


def test_lmms_eval_finds_the_data_and_judges_the_replies_as_here(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "lmms" / "synth_set"
    lmms_eval.export(evaluation.questions, [evaluation], Folder(str(folder)), evaluation.settings)
    task = yaml.load((folder / "synth_set.yaml").read_text(), TaskLoader)
    assert task["task"] == "synth_set" and task["cluster_key"] == "image_id"
    data = datasets.load_dataset(
        task["dataset_path"], **task["dataset_kwargs"], split="test", cache_dir=str(tmp_path / "cache")
    )
    functions = load_functions(folder)
    (samples,) = folder.glob("*_samples_synth_set.jsonl")
    ours = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert [sample["doc_id"] for sample in ours] == list(range(len(data))) and len(data) == 16
    for sample in ours:
        doc = data[sample["doc_id"]]
        assert functions.doc_to_text(doc) == sample["input"] and functions.doc_to_target(doc) == sample["target"]
        (image,) = functions.doc_to_visual(doc)
        assert image.mode == "RGB"
        judged = functions.process_results(doc, sample["filtered_resps"])["score"]
        assert judged == {"score": sample["score"], "image_id": sample["image_id"]}, (doc, sample)
    assert {sample["score"] for sample in ours} == {0.0, 1.0}
    assert functions.aggregate([{"score": 1.0}, {"score": 0.0}]) == 0.5


def test_only_one_key_of_a_sample_says_score(evaluation: Evaluation, tmp_path: Path) -> None:
    """lmms-eval takes the first key that does, whatever it is."""
    folder = tmp_path / "synth_set"
    lmms_eval.export(evaluation.questions, [evaluation], Folder(str(folder)), evaluation.settings)
    (samples,) = folder.glob("*_samples_synth_set.jsonl")
    keys = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])
    assert [key for key in keys if "score" in key.lower()] == ["score"]
