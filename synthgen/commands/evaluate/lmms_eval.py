"""The questions and replies in the form of lmms-eval: a task with its data, and the samples of a model as its logs.

    NAME.yaml, utils.py        a task, for `--include_path`; its standard errors know that questions share images
    NAME.parquet               the questions, each with its image, in the given order of the options
    MODEL_samples_NAME.jsonl   the replies with a `score`, for `--baseline`

lmms-eval pairs models by `doc_id`, the row of a question in the data, and takes the first key of a sample with "score"
in its name; so no other key has it.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from synthgen.commands.evaluate.items import judged
from synthgen.commands.evaluate.question import CHOICE, RESPONSE
from synthgen.commands.evaluate.question_set import QuestionSet
from synthgen.commands.evaluate.replies import Evaluation
from synthgen.commands.evaluate.wording import prompt_of
from synthgen.config.training import EvaluateConfig
from synthgen.stages.pack.schema import IMAGE, with_features
from synthgen.store import Folder

TEXTS = ("question_id", "image_id", "kind", "type", "prompt", "options", "target")
# It runs where lmms-eval does, without this package; replies are read more strictly than here, and never guessed.
UTILS = '''"""Functions of the task: synth evaluate wrote them."""

import json
import re
import unicodedata

LETTERS = "ABCDEFGH"
FIRST = re.compile(r"[\\s*_`\\"'(\\[{<$]*([A-H])(?:[\\s*_`\\"')\\]}>$.,:;]*$|[.):\\]*\\n])")
SAID = re.compile(r"answer(?: is)?\\s*:?\\s*[*(]*([A-H])\\b")


def doc_to_visual(doc):
    return [doc["image"].convert("RGB")]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return doc["prompt"]


def doc_to_target(doc):
    return json.loads(doc["target"])[0]


def process_results(doc, results):
    return {"score": {"score": float(is_right(doc, results[0])), "image_id": doc["image_id"]}}


def aggregate(results):
    return sum(result["score"] for result in results) / len(results)


def is_right(doc, reply):
    answers = json.loads(doc["target"])
    if doc["kind"] == "choice":
        return chosen(reply, json.loads(doc["options"])) == answers[0]
    if doc["kind"] == "response":
        text = reply.strip()
        is_list = re.fullmatch(r"[A-H](?:(?:[\\s,;/&]|\\band\\b)*[A-H])*[.\\s]*", text)
        return bool(is_list) and "".join(sorted(set(re.findall("[A-H]", text)))) == answers[0]
    if doc["kind"] == "number":
        return any(is_near(reply, answer, doc["tolerance"]) for answer in answers)
    return any(plain(reply) == plain(answer) for answer in answers)


def chosen(reply, options):
    if found := FIRST.match(reply) or SAID.search(reply):
        return found[1]
    words = [LETTERS[place] for place, option in enumerate(options) if plain(option) == plain(reply)]
    return words[0] if len(words) == 1 else None


def is_near(reply, answer, tolerance):
    found = re.findall(r"[-+]?\\d+(?:[.,]\\d+)*", reply)
    if len(found) != 1:
        return False
    return abs(float(found[0].replace(",", "")) - float(answer)) <= tolerance * abs(float(answer))


def plain(text):
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(letter if letter.isalnum() or letter in "+-.%#" else " " for letter in folded)
    words = [word.rstrip(".") for word in kept.split()]
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)
'''


def export(questions: QuestionSet, evaluations: Sequence[Evaluation], out: Folder, settings: EvaluateConfig) -> None:
    """Write the task, its data, and the samples of each model.

    Args:
        questions: All of them.
        evaluations: Whose replies are written as samples.
        out: The folder of the export; its last part is the name of the task.
        settings: Of the evaluation: the wording, the tolerance and the limit of tokens.
    """
    name = out.url.rstrip("/").rpartition("/")[2]
    out.write(f"{name}.parquet", _data(questions, settings))
    out.write("utils.py", UTILS.encode())
    out.write(f"{name}.yaml", _task(name, out.full(f"{name}.parquet"), settings).encode())
    places = {question.question_id: place for place, question in enumerate(questions.all())}
    for evaluation in evaluations:
        model = re.sub(r"[^\w.-]", "-", evaluation.replies.spec.folder.partition("/")[2])
        lines = [json.dumps(sample, ensure_ascii=False) for sample in _samples(evaluation, places)]
        out.write(f"{model}_samples_{name}.jsonl", "".join(f"{line}\n" for line in lines).encode())


def _data(questions: QuestionSet, settings: EvaluateConfig) -> bytes:
    schema = with_features([*((name, pa.string()) for name in TEXTS), ("tolerance", pa.float32()), ("image", IMAGE)])
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for partition in questions.log.partitions:
            files, rows = questions.files(partition), []
            for question in questions.questions(partition):
                letters = question.kind in (CHOICE, RESPONSE)
                target = ["".join(question.answers)] if letters else list(question.answers)
                rows.append(
                    {
                        **{key: getattr(question, key) for key in ("question_id", "image_id", "kind", "type")},
                        "prompt": prompt_of(question, settings.wording),
                        "options": json.dumps(question.options, ensure_ascii=False),
                        "target": json.dumps(target, ensure_ascii=False),
                        "tolerance": settings.tolerance,
                        "image": {"bytes": files[question.image_id], "path": None},
                    }
                )
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return sink.getvalue()


class _Function(str):
    """The name of a function in `utils.py`, as the YAML of lmms-eval has it."""


def _task(name: str, data: str, settings: EvaluateConfig) -> str:
    class Dumper(yaml.SafeDumper):
        """A dumper that knows functions."""

    Dumper.add_representer(_Function, lambda dumper, value: dumper.represent_scalar("!function", f"utils.{value}"))
    task = {
        "task": name,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": data}},
        "test_split": "test",
        "output_type": "generate_until",
        "cluster_key": "image_id",
        "score_key": "score",
        **{key: _Function(key) for key in ("doc_to_visual", "doc_to_text", "doc_to_target", "process_results")},
        "generation_kwargs": {"max_new_tokens": settings.max_tokens, "temperature": 0, "do_sample": False},
        "metric_list": [{"metric": "score", "aggregation": _Function("aggregate"), "higher_is_better": True}],
        "metadata": [{"version": 1.0}],
    }
    return str(yaml.dump(task, Dumper=Dumper, sort_keys=False))


def _samples(evaluation: Evaluation, places: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the samples of a model in the form of lmms-eval's log, in the order of the data."""
    found = []
    for rows, items in judged(evaluation):
        of_item = {item.question.question_id: item for item in items}
        plain = (row for row in rows if row["variant"] == "image" and not row["rotation"] and row["right"] is not None)
        found += [_sample(row, of_item[row["question_id"]].right, places[row["question_id"]]) for row in plain]
    yield from sorted(found, key=lambda sample: sample["doc_id"])


def _sample(row: dict[str, Any], under_rotation: bool | None, place: int) -> dict[str, Any]:
    return {
        "doc_id": place,
        "input": row["prompt"],
        "target": "".join(row["answers"]) if row["kind"] in (CHOICE, RESPONSE) else row["answers"][0],
        "filtered_resps": [row["reply"]],
        "doc_hash": row["question_id"],
        "score": float(row["right"]),
        "image_id": row["image_id"],
        "right_under_rotation": under_rotation,
        **{key: row[key] for key in ("question_id", "kind", "type", "parsed", "relaxed", "overlap")},
    }
