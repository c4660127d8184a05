"""Parquet of questions with short answers, and the task file by which lmms-eval finds them."""

import glob
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import yaml

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.forms.trl import images_of
from synthgen.commands.export.layouts import ParquetParts
from synthgen.commands.export.sample import Sample
from synthgen.stages.pack.schema import IMAGE, with_features

GRADED = ("short", "choice")  # forms whose answers an exact match can grade
TEXTS = ("id", "question", "answer", "type", "form", "language")


def _schema(facts: Facts) -> pa.Schema:
    return with_features([("image", IMAGE), *((name, pa.string()) for name in TEXTS)])


def _rows(sample: Sample, part: Part) -> Iterator[dict[str, Any]]:
    for turn in sample.turns:
        if part.single_question(turn, sample) is None:
            continue
        if turn.form not in GRADED:
            part.leave_out(turn.pair_id, "sentences")
        else:
            part.count("data")
            yield {
                "image": images_of(sample)[0],
                "id": turn.pair_id,
                "question": turn.question,
                "answer": turn.answer,
                "type": turn.type,
                "form": turn.form,
                "language": turn.language,
            }


def _others(facts: Facts) -> Mapping[str, str]:
    task = {
        "task": facts.name,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": f"{glob.escape(facts.place)}/data/test-*.parquet"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": "image",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 32, "temperature": 0, "do_sample": False},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": True,
            }
        ],
        "metadata": [{"version": 1.0}],
    }
    return {f"{facts.name}.yaml": yaml.safe_dump(task, sort_keys=False, allow_unicode=True)}


LMMS_EVAL = Form(
    "lmms-eval",
    "Parquet with `image`, `question` and `answer`, and the task file `NAME.yaml`",
    "lmms-eval",
    "This form evaluates and trains nothing. The questions were written by a model: what it gets wrong, the evaluation "
    "gets wrong. Answers are compared as they are, but for case and punctuation, so only short answers and multiple "
    "choice are written. The task file has the path of this folder; change it there when you move the folder.\n\n"
    "```\npython -m lmms_eval --include_path TARGET --tasks NAME --model …\n```",
    ParquetParts("test", _schema, _rows),
    "inside",
    ignores_exif=False,
    needs_pairs=True,
    others=_others,
)
