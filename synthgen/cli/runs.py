"""The commands on a run: make one, look at it, mend it, train on it.

Comes in: the images, a pipeline and an output folder, or the folder alone. Goes out: what the stages write there, and a funnel on
stdout. What the folder says of itself decides; options only choose and limit.
"""

import json
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from synthgen.cli.options import (
    JsonOption,
    ModelOption,
    OnFolder,
    OwnPipelineOption,
    SetOption,
    document_of,
    folder_in,
    job_of,
    say,
)
from synthgen.errors import UserMistake

app = typer.Typer()

Stage = Literal["tag", "plan", "generate", "select", "pack"]

OutOption = Annotated[str, typer.Option("--out", help="Output folder: a path, s3://… or gs://…")]
SourceArgument = Annotated[
    str | None, typer.Argument(help="Images: a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE.")
]
FolderArgument = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The output folder of a run: a path, s3://… or gs://…")
]


@app.command()
def run(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
    first: Annotated[Stage, typer.Option("--from", help="The first stage to run.")] = "tag",
    last: Annotated[Stage, typer.Option("--until", help="The last stage to run.")] = "pack",
    limit: Annotated[int | None, typer.Option(help="List at most so many objects.", min=1)] = None,
    update: Annotated[bool, typer.Option("--update", help="Recompute what changed settings touch.")] = False,
    replan: Annotated[bool, typer.Option("--replan", help="Like --update, and draw the whole plan anew.")] = False,
) -> None:
    """Run the pipeline, from images to shards. Start it again to continue or to add what is new."""
    from synthgen import run as runner
    from synthgen.commands import samples
    from synthgen.job import funnel
    from synthgen.job.request import RunRequest

    which = runner.StageRange(first, last, update or replan, replan)
    job, objects = job_of(
        "run", replace(RunRequest.typed(pipeline, source, model, settings), limit=limit), out, looks=which.lists
    )
    done = runner.run(job, which, objects)
    if not done:
        say("nothing to do: everything listed has been done")
    if last == "pack" and (told := funnel.nothing_kept(job.out)):
        say(told)
    print(funnel.text(job.out, is_over=True))
    if done:
        leaves = job.texts.taxonomy.tree.leaves
        print(samples.tags(job.out, job.pipeline.tag.taggers, leaves) if last == "tag" else samples.text(job.out))


@app.command()
def plan(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
    profile: Annotated[int | None, typer.Option(help="Measure the engine on so many images first.", min=1)] = None,
    budget: Annotated[
        str | None, typer.Option(help="Find the plan.share that 12h (GPU-hours), 3e6tokens or 500USD pay for.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what an edit adds to and takes from the committed plan.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would ask and what it would cost, without asking. Images that are named are tagged first."""
    from synthgen import run as runner
    from synthgen.commands import plan as forecaster
    from synthgen.job.request import RunRequest

    job, objects = job_of("plan", RunRequest.typed(pipeline, source, model, settings), out, looks=bool(source))
    if source:
        say("the images are tagged first, as `synth run --until tag` does")
        runner.run(job, runner.StageRange(last="tag"), objects)
    found = forecaster.forecast(job, forecaster.EstimateRequest(profile, budget, diff))
    print(json.dumps(forecaster.as_json(found)) if as_json else forecaster.text(found))


@app.command(cls=OnFolder)
def status(
    out: FolderArgument,
    reason: Annotated[
        str | None, typer.Option(help="List the rows that fell out for this reason, as the table names it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Of these rows, list at most so many (20).", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a run is, from its output folder alone; or what fell out for a reason."""
    from synthgen.job import funnel
    from synthgen.store.folder import open_folder

    folder = open_folder(out)
    if limit is not None and reason is None:
        raise UserMistake("--limit is of the rows that --reason lists; name a reason")
    if reason is not None:
        _list_dropped(folder, reason, limit or 20, as_json)
    elif as_json:
        print(json.dumps(funnel.as_json(folder)))
    else:
        print(funnel.text(folder))


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
        list[str] | None, typer.Option("--partition", help="All rows of this one, as 3-generated/e001-00002.")
    ] = None,
) -> None:
    """Do failed rows or damaged partitions again, with the settings of the folder; then everything that follows from them."""
    from synthgen import run as runner
    from synthgen.commands import repair as redoer
    from synthgen.commands import retry as why
    from synthgen.job import funnel, job
    from synthgen.store import Lease
    from synthgen.store.folder import open_folder
    from synthgen.tables import RETRIED_REASONS

    named = why.checked(reasons or ())
    folder = open_folder(out)
    opened = job.reopen(folder)
    if partitions:
        with Lease.take(folder) as lease:
            redoer.redo(folder, partitions, lease)
    wanted = named if named or partitions else frozenset(RETRIED_REASONS)
    unfit = why.nothing_fits(folder, wanted) if wanted else None
    # What a damaged listing held may have to be looked for in the source; nothing else of a retry looks there for more.
    grows = any(name.startswith("0-listed/") for name in partitions or ())
    runner.run(opened, runner.StageRange(retry=wanted, grows=grows))
    if unfit:
        say(unfit)
    if told := funnel.nothing_kept(folder):
        say(told)
    print(funnel.text(folder, is_over=True))


@app.command(cls=OnFolder)
def purge(
    out: FolderArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Object or image ids, uris or file names; none finishes a killed purge."),
    ] = None,
) -> None:
    """Take images out of a folder, with all that came of them, for good."""
    from synthgen.commands import purge as purger
    from synthgen.console import pluralize
    from synthgen.job import job
    from synthgen.store.folder import open_folder

    done = purger.purge(job.reopen(open_folder(out)), names or [])
    gone = ", ".join([pluralize(done.images, "image"), *(pluralize(count, name) for name, count in done.rows.items())])
    objects, partitions, files = (
        pluralize(done.objects, "object"),
        pluralize(done.partitions, "partition"),
        pluralize(done.files, "file"),
    )
    print(f"{objects} purged from {partitions}: {gone}; {files} that held them deleted")


@app.command(cls=OnFolder)
def gc(out: FolderArgument) -> None:
    """Delete leftovers of killed runs, and files that later results replaced."""
    from synthgen.console import pluralize
    from synthgen.job import run_record
    from synthgen.job.funnel import FOLDERS
    from synthgen.store import Lease
    from synthgen.store.folder import open_folder
    from synthgen.store.gc import collect_garbage

    folder = open_folder(out)
    if run_record.record(folder) is None:
        raise UserMistake(f"{folder.url}: holds no synth run")
    with Lease.take(folder) as lease:
        deleted = collect_garbage(folder, FOLDERS, lease)
    print(f"{pluralize(deleted.files, 'file')} deleted, {deleted.bytes / 1e6:,.1f} MB")


@app.command()
def train(
    shards: Annotated[str, typer.Argument(help="A run's output folder, or a folder of shards.")],
    model: Annotated[str, typer.Option("--model", help="The model to start from: a hub name or a folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where the tuned model goes.")],
    pipeline: OwnPipelineOption = None,
    settings: SetOption = None,
) -> None:
    """Fine-tune a vision-language model on a run's shards."""
    from synthgen import train as trainer
    from synthgen.config import library
    from synthgen.config.pipeline import Pipeline
    from synthgen.job.request import RunRequest

    _, document = document_of(RunRequest.typed(pipeline, None, None, settings), folder_in(shards), ("train",))
    print(trainer.train(shards, model, out, library.check(document, Pipeline).train))


def _list_dropped(folder: Any, reason: str, limit: int, as_json: bool) -> None:
    from synthgen.commands import dropped
    from synthgen.job import run_record
    from synthgen.stages.pack import redact

    root = redact.root_of(run_record.source(folder).uri)
    below = partial(redact.uri, root=root) if root else str
    found = dropped.find_dropped(folder, reason)
    for row in islice(found.rows, limit):
        print(json.dumps(vars(row), ensure_ascii=False) if as_json else dropped.text(row, below))
    if found.count > limit:
        told = f"… and {found.count - limit:,} more"
        say(told) if as_json else print(told)  # JSON lines are for a program
    elif not found.count:
        say(f"nothing fell out for {reason} here")
