"""The questions and replies in the form of VLMEvalKit: TSV files for its folder LMUData, and predictions to judge.

    NAME.tsv                         multiple choice in the given order
    NAME_circular.tsv                the same under every rotation, which its name makes it judge as one question
    NAME_vqa.tsv                     all other questions; VLMEvalKit asks these and judges none of them
    predictions/MODEL_NAME….tsv      the replies of a model, as its `evaluate` takes them

VLMEvalKit reads a TSV file with the defaults of pandas, which make a number of "007" and nothing of "None": such a cell
gets a no-break space in front, which keeps it text. A circular copy has an index of k million more than its question
and `g_index`, the index of the question.
"""

import base64
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.commands.evaluate.question import CHOICE, LETTERS, WITH_OPTIONS, Question
from synthgen.commands.evaluate.question_set import QuestionSet
from synthgen.commands.evaluate.replies import SEEN, Call, Evaluation
from synthgen.commands.evaluate.wording import is_rotated, options_at, right_at
from synthgen.errors import UserMistake
from synthgen.store import Folder

CIRCULAR_NAMES = ("mmbench", "ccbench", "circular", "mmcr")  # sets with these in their names are judged as circular
COPIES = 10**6  # added to the index of a question for each rotation
COLUMNS = ("index", "image", "question", *LETTERS, "answer", "category", "l2-category", "split")
# What pandas reads as missing, as a number or as a truth value.
READ_OTHERWISE = re.compile(
    r"\s*(?:|#?N/?A(?: N/A)?|<NA>|n/?a|None|[Nn]ull|NULL|-?(?:NaN|nan)|-?1\.#(?:IND|QNAN)|[Tt]rue|TRUE|[Ff]alse|FALSE"
    r"|[-+]?(?:inf|Inf|INF|[Ii]nfinity|INFINITY)|[-+]?[\d.,]+(?:[eE][-+]?\d+)?)\s*"
)
KEPT = "\N{NO-BREAK SPACE}"


def export(questions: QuestionSet, evaluations: Sequence[Evaluation], out: Folder, name: str) -> list[str]:
    """Write the files, and return their names.

    Args:
        questions: All of them.
        evaluations: Whose replies are written as predictions.
        out: The folder of the export.
        name: Of the data set, without any of CIRCULAR_NAMES.
    """
    indices = {question.question_id: index for index, question in enumerate(questions.all())}
    if len(indices) >= COPIES:
        raise UserMistake(f"VLMEvalKit tells circular copies by a million; there are {len(indices):,} questions")
    files = [f"{name}.tsv", f"{name}_circular.tsv", f"{name}_vqa.tsv"]
    for file in files:
        rows = _rows(questions, indices, file.removesuffix(".tsv").removeprefix(name))
        out.write(file, _tsv(COLUMNS, rows))
    written = [file for file in files if not _is_bare(out, file)]
    for evaluation in evaluations:
        for suffix in ("", "_circular"):
            model = re.sub(r"[^\w.-]", "-", evaluation.replies.spec.folder.partition("/")[2])
            written.append(f"predictions/{model}_{name}{suffix}.tsv")
            columns = tuple(column for column in COLUMNS if column != "image")
            rows = _predictions(evaluation, indices, suffix)
            out.write(written[-1], _tsv((*columns, "g_index", "prediction"), rows))
    return written


def _is_bare(out: Folder, file: str) -> bool:
    """Remove a file that has no row, and return whether it had none."""
    is_bare = out.read(file).count(b"\n") < 2
    if is_bare:
        out.remove([file])
    return is_bare


def _rows(questions: QuestionSet, indices: Mapping[str, int], suffix: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file; an image is there once, and later rows name the index of that row."""
    shown: dict[str, int] = {}
    for partition in questions.log.partitions:
        files = questions.files(partition)
        for question in questions.questions(partition):
            if (question.kind == CHOICE) == (suffix == "_vqa"):
                continue
            for rotation in range(_rotations(question, suffix)):
                row = _row(question, indices[question.question_id], rotation)
                first = shown.setdefault(question.image_id, row["index"])
                held = base64.b64encode(files[question.image_id]).decode() if first == row["index"] else str(first)
                yield {**row, "image": held}


def _rotations(question: Question, suffix: str) -> int:
    return len(question.options) if suffix == "_circular" and is_rotated(question) else 1


def _row(question: Question, index: int, rotation: int) -> dict[str, Any]:
    options = options_at(question, rotation) if question.kind in WITH_OPTIONS else ()
    answers = right_at(question, rotation)
    return {
        "index": index + rotation * COPIES,
        "question": _kept(question.question),
        **{letter: _kept(option) for letter, option in zip(LETTERS, options, strict=False)},
        "answer": "".join(answers) if question.kind in WITH_OPTIONS else _kept(answers[0]),
        "category": question.type or question.kind,
        "l2-category": question.type.partition("/")[0] or question.kind,
        "split": "test",
    }


def _predictions(evaluation: Evaluation, indices: Mapping[str, int], suffix: str) -> Iterator[dict[str, Any]]:
    """Yield the replies to multiple choice, with the image, that came."""
    log = evaluation.replies.log()
    for partition in evaluation.questions.log.partitions:
        replies = evaluation.rows(partition, log)
        for call in evaluation.calls(evaluation.questions.questions(partition)):
            row = replies.get(call.reply_id)
            if row is None or row["reason"] or not _is_wanted(call, suffix):
                continue
            index = indices[call.question.question_id]
            said = {"g_index": index, "prediction": _kept(row["reply"] or "")}
            yield {**_row(call.question, index, call.rotation), **said}


def _is_wanted(call: Call, suffix: str) -> bool:
    return call.question.kind == CHOICE and call.variant == SEEN and (suffix == "_circular" or not call.rotation)


def _kept(text: str) -> str:
    """Return a text as pandas gives it back; what it would read as no text gets a no-break space."""
    return f"{KEPT}{text}" if READ_OTHERWISE.fullmatch(text) else text


def _tsv(columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()
