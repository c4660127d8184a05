"""A CSV file with a row for each turn, for eyes, spreadsheets and pandas."""

from collections.abc import Iterator, Mapping

from synthgen.commands.export.form import Facts, Form, Part
from synthgen.commands.export.forms.vlmevalkit import table_row
from synthgen.commands.export.layouts import TextFile, TextFiles
from synthgen.commands.export.sample import Sample

FILE = "data.csv"
COLUMNS = ("id", "turn", "image", "question", "answer", "type", "form", "language", "license", "image_id", "pair_id")


def _files(facts: Facts) -> Mapping[str, TextFile]:
    return {FILE: TextFile(table_row([*COLUMNS, *facts.scores], ",") + "\n")}


def _rows(sample: Sample, part: Part) -> Iterator[tuple[str, str]]:
    for number, turn in enumerate(sample.turns):
        part.count(FILE)
        cells = (
            *(sample.id, number + 1, " ".join(sample.paths), turn.question, turn.answer, turn.type, turn.form),
            *(turn.language, sample.row["license"], sample.image_id, turn.pair_id),
            *(turn.scores.get(name) for name in part.facts.scores),
        )
        yield FILE, table_row(cells, ",")


CSV = Form(
    "csv",
    "one CSV file with a row for each turn, images beside it",
    "spreadsheets, pandas and people",
    "This form is for looking at data; no trainer reads it. Texts are as the model wrote them: a spreadsheet takes one "
    "that begins with `=` for a formula, so import the columns as text.",
    TextFiles(_files, _rows),
    "beside",
)
