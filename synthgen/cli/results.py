"""Commands on what a run made: look at it, measure it, and give it to others."""

import json
from typing import Annotated

import typer

from synthgen.cli.options import FolderArgument, JsonOption, OnFolder
from synthgen.console import show_text
from synthgen.errors import NothingUsable

app = typer.Typer()

# For help alone, which imports no table; a test compares them.
EXPORT_FORMS = (
    "llava, sharegpt, llamafactory, ms-swift, trl, trl-turns, finevision, webdataset, vlmevalkit, lmms-eval, csv"
)


@app.command(cls=OnFolder)
def report(
    out: FolderArgument,
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="An .html file to write; default: 5-shards/report.html in the folder."),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Read images again from the source, to show them.")
    ] = True,
) -> None:
    """Write one HTML page on a run: its counts, its scores, what was lost, and pairs to look at."""
    from synthgen.commands import report as reporting
    from synthgen.commands.open import open_run_folder

    show_text(f"report: {reporting.write_report(open_run_folder(out), target, has_pictures=pictures)}")


@app.command(cls=OnFolder)
def browse(
    out: FolderArgument,
    at: Annotated[
        str,
        typer.Option("--at", metavar="PLACE", help="The page to open, as the foot of each page names it."),
    ] = "",
    port: Annotated[int, typer.Option(help="Of the pages on this machine; default: any free one.", min=0)] = 0,
) -> None:
    """Search the pairs, images and tags of a run on local pages, and see how each pair came about."""
    from synthgen.commands import browse as browsing
    from synthgen.commands.open import open_run_folder

    browsing.browse(open_run_folder(out), browsing.BrowseRequest(port, at))


@app.command(cls=OnFolder)
def diff(
    before: FolderArgument,
    after: Annotated[
        str | None,
        typer.Argument(metavar="OTHER", help="The run after; default: the first is compared with what it was."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="TIME",
            help="Of one run: compare it with what it was then (UTC); default: before its last command.",
        ),
    ] = None,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Also write a page with pictures.")] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Read images again from the source, for the page.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two runs, or in a run since: outcomes, texts, types, tags and scores."""
    from synthgen.commands import diff as diffing
    from synthgen.commands.open import open_run_folder

    request = diffing.DiffRequest(at, html, pictures, as_json)
    other = open_run_folder(after) if after is not None else None
    show_text(diffing.diff(open_run_folder(before), other, request))


@app.command(cls=OnFolder)
def audit(
    out: FolderArgument,
    who: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who labels; labels of several people are kept.")
    ] = "",
    pairs: Annotated[
        int, typer.Option(metavar="N", help="Kept pairs to label, of each type in proportion.", min=1)
    ] = 200,
    port: Annotated[int, typer.Option(help="Of the page on this machine; default: any free one.", min=0)] = 0,
    results: Annotated[bool, typer.Option("--results", help="Only print what the labels so far measure.")] = False,
    precision: Annotated[
        float, typer.Option(help="The share of right pairs that proposed thresholds reach.", min=0.01, max=1)
    ] = 0.95,
) -> None:
    """Label a sample of the kept pairs on a local page, and measure with it how true the set and its scores are."""
    from synthgen.commands import audit as auditing
    from synthgen.commands.open import open_run_folder

    folder = open_run_folder(out)
    if not results:
        auditing.audit(folder, auditing.AuditRequest(pairs, who, port))
    show_text(auditing.results_text(folder, precision))


@app.command(cls=OnFolder)
def preferences(
    out: FolderArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new folder for the preferences.")],
    margin: Annotated[
        float,
        typer.Option(
            help="The least difference between the shares of answers that say the chosen and the rejected.",
            min=0.01,
            max=1,
        ),
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Write preferences between kept and rejected answers for DPO, from the samples that scores have taken."""
    from synthgen.commands import preferences as preferring
    from synthgen.commands.open import open_run_folder

    outcomes = preferring.write_preferences(open_run_folder(out), target, margin)
    show_text(json.dumps(outcomes) if as_json else preferring.text(outcomes))
    if preferring.PREFERENCE not in outcomes:
        raise NothingUsable(
            f"{target}: nothing was written, as no pair gives a preference; give a smaller --margin than {margin:g}, "
            "or take more samples (generate.sampling.agree_samples)"
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
