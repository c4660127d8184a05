"""Commands that give the samples of a run to others: in another form, or on the Hugging Face hub."""

import json
from typing import Annotated

import typer

from synthgen.cli.options import JsonOption, OnFolder
from synthgen.cli.runs import FolderArgument
from synthgen.console import show_text

app = typer.Typer()

# For help alone, which imports no table; a test compares them.
EXPORT_FORMS = (
    "llava, sharegpt, llamafactory, ms-swift, trl, trl-turns, finevision, webdataset, vlmevalkit, lmms-eval, csv"
)


@app.command(cls=OnFolder)
def export(
    out: FolderArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new folder for the export.")],
    form: Annotated[str, typer.Option("--to", metavar="FORM", help=f"The form: {EXPORT_FORMS}.")],
    as_json: JsonOption = False,
) -> None:
    """Write the samples of a run in the form that another trainer or evaluation reads. Start it again to continue."""
    from synthgen.commands import export as exporting
    from synthgen.commands.open import open_run_folder

    record = exporting.export(open_run_folder(out), target, form)
    show_text(json.dumps(vars(record)) if as_json else exporting.text(record, target))


@app.command(cls=OnFolder)
def push(
    out: FolderArgument,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The data set on the Hugging Face hub.")],
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A name for this version, for example v1.")] = None,
    branch: Annotated[str, typer.Option(metavar="BRANCH", help="Made where it does not exist.")] = "main",
    is_private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the shards of a run a data set on the Hugging Face hub, with the token in HF_TOKEN alone."""
    from synthgen.commands import push as pushing
    from synthgen.commands.open import open_run_folder

    pushed = pushing.push(open_run_folder(out), pushing.PushRequest(repo, branch, tag, is_private))
    show_text(json.dumps(vars(pushed)) if as_json else pushing.text(pushed))
