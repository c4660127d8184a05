"""Commands on a run: make one, plan one, see how far it is, choose what it keeps."""

import json
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Annotated, Any

import typer

from synthgen.cli.options import (
    EventsOption,
    FolderArgument,
    JsonOption,
    ModelOption,
    OnFolder,
    OnSource,
    OutOption,
    OwnPipelineOption,
    QuietOption,
    SetOption,
    ViewOption,
    look_of,
)
from synthgen.cli.outcome import show_run
from synthgen.console import looking, note, seen_by, show_text
from synthgen.errors import UserMistake

app = typer.Typer()

STAGE_NAMES = "tag, plan, generate, score, select, pack"  # for help alone, which imports no table; a test compares them

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="Images: a folder, a glob, s3://…, Parquet files, tars, manifest:FILE or urls:FILE."
    ),
]


@app.command(cls=OnSource)
def run(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help=f"The first stage to run: {STAGE_NAMES}.")] = "",
    last: Annotated[str, typer.Option("--until", metavar="STAGE", help="The last stage to run.")] = "",
    view: ViewOption = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="List at most this many objects.", min=1)] = None,
    update: Annotated[bool, typer.Option("--update", help="Recompute what changed settings touch.")] = False,
    replan: Annotated[bool, typer.Option("--replan", help="Like --update, and draw the whole plan again.")] = False,
    quiet: QuietOption = False,
    as_json: EventsOption = False,
) -> None:
    """Run the pipeline, from images to shards. Start it again to continue or to add what is new."""
    from synthgen import run as runner
    from synthgen.job.request import RunRequest
    from synthgen.tables import stage_names

    names = stage_names()
    which = runner.StageRange(
        first or names[0], last or names[-1], "redraw" if replan else "edit" if update else "growth"
    )
    request = replace(RunRequest.typed(pipeline, source, model, settings, view), limit=limit)
    with looking(look_of(quiet, as_json)):
        _run(request, out, which, as_json)


def _run(request: Any, out: str, which: Any, as_json: bool) -> None:
    """Run the stages of a range, and show what came of it."""
    from synthgen import run as runner
    from synthgen.commands.open import open_run
    from synthgen.commands.plan import PlanPrice
    from synthgen.commands.repair import finish_repair

    is_update = which.change != "growth"
    opened = open_run("run", request, out, which.lists, needed=which.with_models, is_update=is_update)
    finish_repair(opened.folder)
    with seen_by(PlanPrice(opened.folder, opened.job)):
        done = runner.run(opened.folder, opened.job, opened.request, which, opened.objects)
    show_run(opened.folder, opened.job, which.last, done, as_json)


@app.command(cls=OnSource)
def plan(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
    profile: Annotated[
        int | None, typer.Option(metavar="N", help="Measure the engine on this many images first.", min=1)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="BUDGET", help="Find the plan.share that 12h (GPU-hours), 3e6tokens or 500USD pay for."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what an edit adds to and takes from the committed plan.")
    ] = False,
    student: Annotated[
        str | None,
        typer.Option(
            "--from-student",
            metavar="TUNED",
            help="Ask more of what this training still has to learn; shows what that adds and takes.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --from-student: write the mapping that does so under this name."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would ask and what it would cost, without asking. Images that are named are tagged first."""
    from synthgen import run as runner
    from synthgen.commands import plan as planner
    from synthgen.commands.open import open_run
    from synthgen.job.request import RunRequest

    if name and not student:
        raise UserMistake(f"--name {name}: works only with --from-student, whose mapping it names")
    diff = diff or student is not None
    request = RunRequest.typed(pipeline, source, model, settings)
    needed = () if profile is None else runner.StageRange().with_models
    # An edit is looked for in the files that names mean, as an update takes them.
    is_of_edit = diff and pipeline is None
    opened = open_run("plan", request, out, bool(source), needed=needed, is_update=is_of_edit)
    if source:
        note("the images are tagged first, as `synth run --until tag` does")
        runner.run(opened.folder, opened.job, opened.request, runner.StageRange(last="tag"), opened.objects)
    steering = planner.steer(opened.folder, opened.job, student, name) if student else None
    job = steering.job if steering else opened.job
    forecast = planner.forecast(opened.folder, job, planner.EstimateRequest(profile, budget, diff))
    show_text(json.dumps(planner.as_json(forecast, steering)) if as_json else planner.text(forecast, steering))
    if steering:
        note(planner.advice(steering, out))


@app.command(cls=OnFolder)
def status(
    out: FolderArgument,
    reason: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="List the rows that were dropped for this reason, as the table names it."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="List at most this many of these rows (default: 20).", min=1)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a run is, from its output folder alone; or what was dropped for a reason."""
    from synthgen.commands.open import open_run_folder
    from synthgen.commands.status import as_json as status_json
    from synthgen.commands.status import text as status_text

    folder = open_run_folder(out)
    if limit is not None and reason is None:
        raise UserMistake("--limit works only with --reason: it limits the rows that --reason lists")
    if reason is not None:
        _list_dropped(folder, reason, limit or 20, as_json)
    elif as_json:
        show_text(json.dumps(status_json(folder)))
    else:
        show_text(status_text(folder))


@app.command(cls=OnFolder)
def select(
    out: FolderArgument,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="SCORE=VALUES",
            help="Count with other thresholds, as answer=3.5,4,4.5 or answer.drop=0.1,0.2; may be repeated.",
        ),
    ] = None,
    view: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from this view; default: the folder's current one.")
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the pairs of each type that other thresholds, or all views, would keep; nothing is written."""
    from synthgen.commands import select as trials
    from synthgen.commands.open import document_of, open_run_folder
    from synthgen.job import resolve
    from synthgen.job.request import RunRequest

    folder = open_run_folder(out)
    _, document = document_of(RunRequest.typed(None, None, None, settings), folder, out)
    pipeline = resolve.load(document)[0]
    columns = trials.columns_for(pipeline, view, what_if or [])
    found = trials.count(folder, columns, document.home, pipeline.images)
    show_text(json.dumps(trials.as_json(columns, found)) if as_json else trials.text(columns, found))


def _list_dropped(folder: Any, reason: str, limit: int, as_json: bool) -> None:
    from synthgen.commands import dropped
    from synthgen.job import run_record
    from synthgen.stages.pack import redact

    root = redact.root_of(run_record.source_of(run_record.record_of(folder)))
    shown = partial(redact.uri, root=root) if root else str
    found = dropped.find_dropped(folder, reason)
    for row in islice(found.rows, limit):
        show_text(json.dumps(vars(row), ensure_ascii=False) if as_json else dropped.text(row, shown))
    if found.count > limit:
        rest = f"… and {found.count - limit:,} more"
        note(rest) if as_json else show_text(rest)  # JSON lines are for a program
    elif not found.count:
        note(f"nothing was dropped for {reason} here")
