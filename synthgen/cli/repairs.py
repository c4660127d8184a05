"""Commands that mend a run: ask again, retry, purge and clean up."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from synthgen.cli.options import EventsOption, FolderArgument, OnFolder, QuietOption, look_of
from synthgen.cli.outcome import show_report, show_result
from synthgen.console import looking, note, show_text
from synthgen.errors import NothingUsable

app = typer.Typer()


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
        show_result(folder, "", as_json)


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
    show_result(folder, "", as_json, is_changed=bool(done))
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
    show_report(folder)


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


def _ask_before_purge(preview: Any) -> None:
    """Show what would go, and leave unless the user agrees."""
    *lines, total = preview.lines()
    for line in lines:
        note(line)
    if preview.objects and not typer.confirm(f"{total}; delete?", err=True):
        note("nothing was deleted")
        raise typer.Exit(1)
