"""The TSV files of VLMEvalKit: one of multiple choice, one of open questions, images inside as base64.

The toolkit knows the two apart by the columns of a whole file. It reads them with pandas, which takes some words for
missing values, so rows with such a cell are left out.
"""

import csv
import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.layouts import TextFile, TextFiles
from synthgen.commands.export.sample import Sample, Turn
from synthgen.config.replies import LETTERS

MISSING = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)  # to pandas
END = "\r\n"  # what it writes is quoted where it holds one of these, and only then
COLUMNS = ("index", "image", "question", "answer", "category", "pair_id")


def table_row(cells: Sequence[object], delimiter: str) -> str:
    """Return a row of a table as text, without the end of its line."""
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, lineterminator=END).writerow(cells)
    return sink.getvalue().removesuffix(END)


def _files(facts: Facts) -> Mapping[str, TextFile]:
    return {
        f"{facts.name}_choice.tsv": TextFile(table_row([*COLUMNS, *LETTERS], "\t") + "\n"),
        f"{facts.name}_open.tsv": TextFile(table_row(COLUMNS, "\t") + "\n"),
    }


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    """Yield the rows of a sample; in each file the first has the image, and the others name that row instead."""
    holders: dict[str, int] = {}
    for turn in sample.turns:
        pair = part.single_question(turn, sample)
        if pair is None:
            continue
        options = list(pair["options"] or ())
        is_choice = bool(options) and turn.answer.strip() in LETTERS[: len(options)]
        asked = pair["question"] if is_choice else turn.question
        if MISSING & {asked, turn.answer, *options}:
            part.leave_out(turn.pair_id, "missing_value")
        else:
            file = f"{part.facts.name}_{'choice' if is_choice else 'open'}.tsv"
            index = part.count(file)
            image: object = holders.get(file) or b64encode(sample.pictures[0].data).decode()
            holders.setdefault(file, index)
            yield file, table_row(_cells(turn, index, image, asked, options if is_choice else None), "\t")


def _cells(turn: Turn, index: int, image: object, asked: str, options: Sequence[str] | None) -> list[object]:
    row = [index, image, asked, turn.answer, turn.type, turn.pair_id]
    return row if options is None else [*row, *options, *[""] * (len(LETTERS) - len(options))]


VLMEVALKIT = Form(
    "vlmevalkit",
    "`NAME_choice.tsv` and `NAME_open.tsv`, a row for each question, images inside",
    "VLMEvalKit",
    "This form evaluates and trains nothing. The questions were written by a model: what it gets wrong, the evaluation "
    "gets wrong. Multiple choice is graded; of open questions the toolkit only collects the predictions. A row has one "
    "question, so those that go on from another are left out.\n\n"
    "```\nLMUData=TARGET python run.py --data NAME_choice --model …\n"
    "LMUData=TARGET python run.py --data NAME_open --mode infer --model …\n```",
    TextFiles(_files, _rows),
    "inside",
    needs_pairs=True,
)
