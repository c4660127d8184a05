"""Commands on a run: make one, see how far it is, choose what it keeps, repair it."""

import json
import sys
from collections.abc import Sequence
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
from synthgen.console import looking, note, seen_by, show_text, tell
from synthgen.console.events import Result
from synthgen.errors import NothingUsable, UserMistake

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


@app.command(cls=OnFolder)
def reask(
    out: FolderArgument,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the section reask, such as reask.samples=5."),
    ] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Say which pairs and what it takes; ask nothing.")] = False,
    quiet: QuietOption = False,
    as_json: EventsOption = False,
) -> None:
    """Ask dropped pairs again along the stronger path of the section reask, then score, select and pack."""
    from synthgen.commands import reask as asking_again
    from synthgen.commands.open import open_run_folder
    from synthgen.job.job import reopen

    look = look_of(quiet, as_json)
    folder = open_run_folder(out)
    job = asking_again.with_settings(asking_again.with_own_section(reopen(folder), folder), settings or ())
    if is_dry:
        print("\n".join(asking_again.forecast(folder, job)))
        return
    with looking(look):
        asking_again.reask(folder, job)
        _show_result(folder, "", as_json)


@app.command(cls=OnFolder)
def retry(
    out: FolderArgument,
    reasons: Annotated[
        list[str] | None,
        typer.Option(
            "--reason",
            help="Only rows that failed for this reason, as status prints it; failed or quarantined: for any of these.",
        ),
    ] = None,
    partitions: Annotated[
        list[str] | None,
        typer.Option("--partition", help="Redo all rows of this partition, for example 3-generated/e001-00002."),
    ] = None,
    quiet: QuietOption = False,
    as_json: EventsOption = False,
) -> None:
    """Do failed rows or damaged partitions again, with the settings of the folder; then everything that follows."""
    with looking(look_of(quiet, as_json)):
        _retry(out, reasons or (), partitions or (), as_json)


def _retry(out: str, reasons: Sequence[str], partitions: Sequence[str], as_json: bool) -> None:
    """Do failed rows or damaged partitions again, then what follows, and show what came of it."""
    from synthgen import run as runner
    from synthgen.commands.open import open_run_folder
    from synthgen.commands.repair import finish_repair, repair
    from synthgen.commands.retry import nothing_to_retry, parse_reasons
    from synthgen.job import funnel, run_record
    from synthgen.job.job import reopen
    from synthgen.job.request import RunRequest
    from synthgen.tables import LIST, RETRIED_REASONS

    named = parse_reasons(reasons)
    folder = open_run_folder(out)
    job = reopen(folder)
    repaired = {*finish_repair(folder), *partitions}
    if partitions:
        with folder.lease() as lease:
            repair(folder, partitions, lease)
    wanted = named if named or partitions else frozenset(RETRIED_REASONS)
    nothing_failed = nothing_to_retry(folder, wanted) if wanted else None
    # The objects of a damaged listing may have to be looked for in the source; nothing else of a retry lists it.
    grows = any(name.startswith(f"{LIST.folder}/") for name in repaired)
    request = RunRequest.of(run_record.record_of(folder))
    stages = runner.StageRange(retry=frozenset() if nothing_failed else wanted, grows=grows)
    done = runner.run(folder, job, request, stages)
    if nothing_failed:
        note(nothing_failed)
    _show_result(folder, "", as_json, is_changed=bool(done))
    if message := funnel.nothing_kept(folder):
        raise NothingUsable(message)


@app.command(cls=OnFolder)
def purge(
    out: FolderArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="Object or image ids, uris or file names; without an ID, finish a purge that was killed."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; nothing is written.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting, as on a terminal.")] = False,
) -> None:
    """Delete images and everything made from them from an output folder."""
    from synthgen.commands.open import open_run_folder
    from synthgen.commands.purge import purge as purge_images
    from synthgen.commands.purge_models import model_lines
    from synthgen.commands.purge_preview import preview_purge
    from synthgen.console import pluralize
    from synthgen.job.job import reopen

    folder = open_run_folder(out)
    job = reopen(folder, needed=())
    if dry_run:
        preview = preview_purge(folder, job, names or [])
        show_text("\n".join([*preview.lines(), *model_lines(folder, preview.images), "dry run: nothing was written"]))
        return
    if names and not yes and sys.stdin.isatty():
        _ask_before_purge(preview_purge(folder, job, names))
    done = purge_images(folder, job, names or [])
    gone = ", ".join([pluralize(done.images, "image"), *(pluralize(count, name) for name, count in done.rows.items())])
    objects, partitions, files = (
        pluralize(done.objects, "object"),
        pluralize(done.partitions, "partition"),
        pluralize(done.files, "file"),
    )
    print(f"{objects} purged from {partitions}: {gone}; {files} that held them deleted")
    for line in model_lines(folder, done.image_ids):
        show_text(line)
    _show_report(folder)


@app.command(cls=OnFolder)
def gc(out: FolderArgument) -> None:
    """Delete leftovers of killed runs, and files that later results replaced."""
    from synthgen.commands.open import open_run_folder
    from synthgen.console import pluralize
    from synthgen.job import run_record
    from synthgen.store.gc import collect_garbage

    folder = open_run_folder(out)
    run_record.check_is_run(folder)
    with folder.lease() as lease:
        deleted = collect_garbage(folder, lease)
    print(f"{pluralize(deleted.files, 'file')} deleted, {deleted.bytes / 1e6:,.1f} MB")


def show_run(folder: Any, job: Any, last: str, done: int, as_json: bool = False) -> None:
    """Show what a run that is over has made, up to its last stage.

    Raises:
        NothingUsable: Nothing came out of it.
    """
    from synthgen.commands import samples
    from synthgen.job import funnel
    from synthgen.tables import PACK, TAG

    if not done:
        note("nothing to do: everything listed has been done")
    message, shown = funnel.nothing_kept(folder, last), ""
    if done and not message and not as_json:
        of_tags = (job.pipeline.tag.taggers, job.definitions.taxonomy.tree.leaves)
        shown = samples.tags(folder, *of_tags) if last == TAG.typed else samples.text(folder)
    _show_result(folder, shown, as_json, is_changed=bool(done), has_report=last == PACK.typed)
    if message:
        raise NothingUsable(message)


def _show_result(folder: Any, samples: str, as_json: bool, *, is_changed: bool = True, has_report: bool = True) -> None:
    """Show what came of a run that is over: the funnel, some samples, and where the report is; or all as an event."""
    from synthgen.commands import status

    if as_json:
        tell(Result(status.as_json(folder), _write_report(folder, is_changed=is_changed) if has_report else None))
        return
    show_text(status.text(folder, is_over=True))
    if samples:
        show_text(samples)
    if has_report:
        _show_report(folder, is_changed=is_changed)


def _show_report(folder: Any, *, is_changed: bool = True) -> None:
    """Write the report of a run that is over, and say where it is; without one, a note has said why."""
    if place := _write_report(folder, is_changed=is_changed):
        show_text(f"report: {place}")


def _write_report(folder: Any, *, is_changed: bool) -> str | None:
    from synthgen.commands.report import write_after_run

    place: str | None = write_after_run(folder, is_changed=is_changed)
    return place


def _ask_before_purge(preview: Any) -> None:
    """Show what would go, and leave unless the user agrees."""
    *lines, total = preview.lines()
    for line in lines:
        note(line)
    if preview.objects and not typer.confirm(f"{total}; delete?", err=True):
        note("nothing was deleted")
        raise typer.Exit(1)


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
