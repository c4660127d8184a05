"""Commands on data that others made: import an instruction set, mix several into one."""

import json
from typing import Annotated

import typer

from synthgen.cli.options import JsonOption, OnSource, OutOption, OwnPipelineOption, SetOption
from synthgen.cli.outcome import show_run
from synthgen.cli.runs import STAGE_NAMES
from synthgen.console import show_text

app = typer.Typer()

# For help alone, which imports no table; a test compares them.
SET_FORMS = (
    "llava, llava-onevision, sharegpt, llamafactory, ms-swift, trl, trl-turns, finevision, cauldron, webdataset, "
    "webdataset-llava"
)


@app.command("import", cls=OnSource)
def import_(
    place: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="An instruction set: a file of JSON, JSON lines or Parquet, a tar, or a folder of them."
        ),
    ],
    out: OutOption = "",
    form: Annotated[
        str | None, typer.Option(metavar="FORM", help=f"The form of its rows, if it is not recognised: {SET_FORMS}.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where the paths of its images start; default: the folder of the set."),
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="The licence of rows that state none.")
    ] = None,
    pipeline: OwnPipelineOption = None,
    settings: SetOption = None,
    last: Annotated[
        str, typer.Option("--until", metavar="STAGE", help=f"The last stage to run: {STAGE_NAMES}.")
    ] = "pack",
    limit: Annotated[int | None, typer.Option(metavar="N", help="Read at most this many rows.", min=1)] = None,
    update: Annotated[bool, typer.Option("--update", help="Recompute what changed settings touch.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import an instruction set: check its rows, select and pack them as those of a run. Start it again to continue."""
    from dataclasses import replace

    from synthgen import run as runner
    from synthgen.commands import importing
    from synthgen.commands.open import open_run
    from synthgen.commands.repair import finish_repair
    from synthgen.tables import stage_names

    which = runner.StageRange(stage_names()[0], last, "edit" if update else "growth")
    typed = importing.ImportRequest(place, form, root, license_name, pipeline, settings or ())
    request = replace(importing.run_request(typed, out), limit=limit)
    opened = open_run("import", request, out, which.lists, needed=which.with_models, is_update=update)
    finish_repair(opened.folder)
    done = runner.run(opened.folder, opened.job, opened.request, which, opened.objects)
    report = importing.report_of(opened.folder)
    if as_json:
        show_text(json.dumps(vars(report)))
        return
    show_text(importing.text(report))
    show_run(opened.folder, opened.job, which.last, done)


@app.command()
def mix(
    mixture: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A mixture by name, as `synth list mixture` prints it, or a .yaml file."),
    ],
    out: OutOption = "",
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be taken of each set, and why not the rest.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Mix runs and imported sets into one data set, by weights and quotas. Start it again to continue."""
    from synthgen.commands import mix as mixing

    mixed = mixing.mix(mixture, out, is_dry=is_dry)
    show_text(json.dumps(mixing.as_json(mixed)) if as_json else mixing.text(mixed))
