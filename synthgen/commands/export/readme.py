"""The README.md of an export: what it holds, and how to train on it."""

from synthgen import __version__
from synthgen.commands.export.form import REASONS, Facts, Form
from synthgen.commands.export.record import ExportRecord

CARD, LEFT_OUT = "CARD.md", "left_out.jsonl"


def readme(form: Form, facts: Facts, record: ExportRecord) -> str:
    """Return the text of the README of a finished export."""
    counts = record.counts
    sections = [
        f"# {counts['samples']:,} samples with {counts['turns']:,} questions and answers, for {form.reader}",
        f"Form: {form.about.replace('NAME', facts.name)}. Made by `synth export --to {form.name}` of synthgen "
        f"{__version__}. `{CARD}` is the card of the data set: models, licence, contents.",
        f"## Use\n{settings_of(form, facts)}",
    ]
    if record.left_out:
        rows = [f"| {count:,} | `{reason}` | {REASONS[reason]} |" for reason, count in record.left_out.items()]
        table = "\n".join(["| how many | reason | |", "| --- | --- | --- |", *rows])
        sections.append(f"## Left out\nSamples or questions by id are in `{LEFT_OUT}`.\n\n{table}")
    return "\n\n".join(sections) + "\n"


def settings_of(form: Form, facts: Facts) -> str:
    """Return how an export in a form is used."""
    text = form.settings.replace("NAME", facts.name).replace("LAST", f"{facts.parts - 1:06d}")
    return f"`TARGET` is this folder. {text}"
