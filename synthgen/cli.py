"""The command line: `synth`, thin.

Comes in: what the user typed. Goes out: a call of the module that does it, its result on stdout, its talk on stderr, and an
exit status: 0 done, 1 failed, 2 a mistake that the user can mend, 130 or 143 stopped by a signal. Heavy imports stand inside
the commands, so that help answers at once. Files describe a run; flags only choose and limit it.
"""

import json
import os
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from synthgen import __version__
from synthgen.errors import SynthError, UserMistake
from synthgen.given import OnFolder, overrides, pipeline_of, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Stage = Literal["tag", "plan", "generate", "select", "pack"]
Kind = Literal["pipeline", "mapping", "tagger", "taxonomy", "prompts", "family"]

FindTypes = Literal["text", "model"]

OutOption = Annotated[str, typer.Option("--out", help="Output folder: a path, s3://… or gs://…")]
PipelineOption = Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline by name, or a .yaml file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Replace one setting: section.key=value.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Replace generate.model: a hub name or a folder.")]
SourceArgument = Annotated[str | None, typer.Argument(help="Images: a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FolderArgument = Annotated[str, typer.Argument(metavar="FOLDER", help="The output folder of a run: a path, s3://… or gs://…")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"synthgen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """A bucket of images into multimodal instruction data: tag, plan, generate, select, pack, train."""


@app.command()
def run(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: PipelineOption = "everyday",
    model: ModelOption = None,
    settings: SetOption = None,
    first: Annotated[Stage, typer.Option("--from", help="The first stage to run.")] = "tag",
    last: Annotated[Stage, typer.Option("--until", help="The last stage to run.")] = "pack",
    limit: Annotated[int | None, typer.Option(help="List at most so many objects.", min=1)] = None,
    update: Annotated[bool, typer.Option("--update", help="Recompute what changed settings touch.")] = False,
    replan: Annotated[bool, typer.Option("--replan", help="Like --update, and draw the whole plan anew.")] = False,
) -> None:
    """Run the pipeline, from images to shards. Start it again to continue or to add what is new."""
    from synthgen import config, examples
    from synthgen import run as runner
    from synthgen import status as funnel

    which = runner.Range(first, last, limit, update or replan, replan)
    job, objects = _job("run", config.read(pipeline, overrides(source, model, settings)), out, pipeline, looks=which.lists)
    done = runner.run(job, which, objects)
    if not done:
        say("nothing to do: everything listed has been done")
    if last == "pack" and (told := funnel.nothing_kept(job.out)):
        say(told)
    print(funnel.text(job.out, is_over=True))
    if done:
        leaves = job.texts.taxonomy.tree.leaves
        print(examples.tags(job.out, job.pipeline.tag.taggers, leaves) if last == "tag" else examples.text(job.out))


@app.command(cls=OnFolder)
def retry(
    out: FolderArgument,
    reasons: Annotated[
        list[str] | None,
        typer.Option(
            "--reason", help="Only rows that failed for this reason, as status prints it; failed or quarantined: for any of these."
        ),
    ] = None,
    partitions: Annotated[list[str] | None, typer.Option("--partition", help="All rows of this one, as 3-generated/e001-00002.")] = None,
) -> None:
    """Do failed rows or damaged partitions again, with the settings of the folder; then everything that follows from them."""
    from synthgen import job
    from synthgen import reasons as why
    from synthgen import redo as redoer
    from synthgen import run as runner
    from synthgen import status as funnel
    from synthgen.rows import RETRIED_REASONS
    from synthgen.store import Lease
    from synthgen.store.folder import open_folder

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
    runner.run(opened, runner.Range(retry=wanted, grows=grows))
    if unfit:
        say(unfit)
    if told := funnel.nothing_kept(folder):
        say(told)
    print(funnel.text(folder, is_over=True))


@app.command(cls=OnFolder)
def purge(
    out: FolderArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Object or image ids, uris or file names; none finishes a killed purge.")
    ] = None,
) -> None:
    """Take images out of a folder, with all that came of them, for good."""
    from synthgen import job
    from synthgen import purge as purger
    from synthgen.progress import counted
    from synthgen.store.folder import open_folder

    done = purger.purge(job.reopen(open_folder(out)), names or [])
    gone = ", ".join([counted(done.images, "image"), *(counted(count, name) for name, count in done.rows.items())])
    objects, partitions, files = counted(done.objects, "object"), counted(done.partitions, "partition"), counted(done.files, "file")
    print(f"{objects} purged from {partitions}: {gone}; {files} that held them deleted")


@app.command(cls=OnFolder)
def gc(out: FolderArgument) -> None:
    """Delete leftovers of killed runs, and files that later results replaced."""
    from synthgen.progress import counted
    from synthgen.status import FOLDERS
    from synthgen.store import Lease
    from synthgen.store.folder import open_folder
    from synthgen.store.tidy import tidy

    folder = open_folder(out)
    if "run.json" not in folder.names(".json"):
        raise UserMistake(f"{folder.url}: holds no synth run")
    with Lease.take(folder) as lease:
        deleted = tidy(folder, FOLDERS, lease)
    print(f"{counted(deleted.files, 'file')} deleted, {deleted.bytes / 1e6:,.1f} MB")


@app.command()
def check(pipeline: PipelineOption = "everyday", settings: SetOption = None) -> None:
    """Check a pipeline and every file that it names, without a model; all mistakes at once, and what is hardly meant."""
    from synthgen import config
    from synthgen import texts as loader
    from synthgen.notes import misplaced, notes
    from synthgen.progress import counted

    loaded, texts = loader.load(config.read(pipeline, settings or []))
    for notice in loader.notices(pipeline, loaded, texts):
        say(notice)
    tree, types = texts.taxonomy.tree, texts.prompts.types
    for note in (*notes(tree, texts.rules, types, loaded.plan.forms), *misplaced(loaded.select.keep, texts.prompts.pack)):
        print(note)
    sizes = (
        counted(len(tree.leaves), "leaf tag"),
        counted(len(types), "instruction type"),
        counted(len(texts.rules.lines), "mapping rule"),
    )
    print(f"{pipeline}: {', '.join(sizes)}: no mistakes")


@app.command()
def preview(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    pipeline: PipelineOption = "everyday",
    model: ModelOption = None,
    settings: SetOption = None,
) -> None:
    """Take one image through every stage and print each: tags, rules, types, prompts, replies, scores."""
    from synthgen import preview as previewer

    print(previewer.text(image, pipeline_of(pipeline, model, settings)))


@app.command()
def plan(
    source: SourceArgument = None,
    out: OutOption = "",
    pipeline: PipelineOption = "everyday",
    model: ModelOption = None,
    settings: SetOption = None,
    profile: Annotated[int | None, typer.Option(help="Measure the engine on so many images first.", min=1)] = None,
    budget: Annotated[str | None, typer.Option(help="Find the plan.share that 12h (GPU-hours), 3e6tokens or 500USD pay for.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what an edit adds to and takes from the committed plan.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would ask and what it would cost, without asking. Images that are named are tagged first."""
    from synthgen import config, frozen
    from synthgen import forecast as forecaster
    from synthgen import run as runner
    from synthgen.store.folder import open_folder

    known = source or (frozen.source(open_folder(out)).uri if out else None)
    job, objects = _job("plan", config.read(pipeline, overrides(known, model, settings)), out, pipeline, looks=bool(source))
    if source:
        say("the images are tagged first, as `synth run --until tag` does")
        runner.run(job, runner.Range(last="tag"), objects)
    found = forecaster.forecast(job, forecaster.Wanted(profile, budget, diff))
    print(json.dumps(forecaster.as_json(found)) if as_json else forecaster.text(found))


@app.command(cls=OnFolder)
def status(
    out: FolderArgument,
    reason: Annotated[str | None, typer.Option(help="List the rows that fell out for this reason, as the table names it.")] = None,
    limit: Annotated[int | None, typer.Option(help="Of these rows, list at most so many (20).", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a run is, from its output folder alone; or what fell out for a reason."""
    from synthgen import status as funnel
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


@app.command("list")
def list_(kind: Annotated[Kind | None, typer.Argument(help="A kind of file.")] = None) -> None:
    """List the files on the shelves, yours and ours."""
    from synthgen import shelves

    for one in [kind] if kind else shelves.KINDS:
        for name, path in shelves.names(one).items():
            print(f"{one:<9} {name:<20} {shelves.about(one, path)}")


@app.command()
def show(kind: Kind, name: str) -> None:
    """Print a shelf file: a taxonomy, a family and a mapping as a tree, the others as they are."""
    from synthgen import shelves, trees

    if kind in ("taxonomy", "family", "mapping"):
        print(trees.drawn(kind, name))
    else:
        print(shelves.find(kind, name).read_text(encoding="utf-8"), end="")


@app.command()
def copy(kind: Kind, name: str, new: Annotated[str, typer.Argument(help="The name of your copy.")]) -> None:
    """Copy a shelf file into this folder under a new name, to make it yours."""
    from synthgen import shelves

    target = shelves.vacant(kind, new)
    shelves.write_new(target, shelves.find(kind, name).read_text(encoding="utf-8"))
    print(target)


@app.command()
def learn(
    seed: Annotated[str, typer.Argument(help="LLaVA or ShareGPT JSON, TRL or FineVision Parquet, a folder of them, or a run's output.")],
    name: Annotated[str, typer.Option("--name", help="The name of the new mapping.")],
    pipeline: PipelineOption = "everyday",
    model: ModelOption = None,
    settings: SetOption = None,
    types_column: Annotated[str | None, typer.Option(help="The seed's field of instruction types.")] = None,
    types_file: Annotated[Path | None, typer.Option(help="A JSON file of instruction types by row id.")] = None,
    tags_column: Annotated[str | None, typer.Option(help="The seed's field of tags; without one the tagger finds them.")] = None,
    find_types: Annotated[FindTypes, typer.Option(help="What sorts questions into types where the seed does not.")] = "text",
    images: Annotated[str | None, typer.Option(help="The folder that paths in the seed start from.")] = None,
    extends: Annotated[str | None, typer.Option(help="A mapping that the new one adds to.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most so many rows.", min=1)] = None,
    merge_twins: Annotated[bool, typer.Option("--merge-twins", help="Make types one that differ by name alone.")] = False,
    top_k: Annotated[int, typer.Option(help="Types a tag.", min=1)] = 8,
    temperature: Annotated[float, typer.Option(help="Towards 0 a tag asks its strongest type alone.", min=0.01)] = 1.0,
    min_support: Annotated[int, typer.Option(help="Images from which on a tag and a type count as a pair.", min=1)] = 3,
) -> None:
    """Learn a mapping from a seed set: which instruction types go with which tags."""
    from synthgen import learn as learner

    order = learner.Order(
        seed, name, pipeline_of(pipeline, model, settings), learner.Settings(top_k, temperature, min_support),
        types_column, types_file, tags_column, find_types, images, extends, limit, merge_twins,
    )  # fmt: skip
    target, report = learner.learn(order)
    print("\n".join([*report, str(target)]))


@app.command()
def calibrate(
    labelled: Annotated[str, typer.Argument(help="Images with a JSON file beside each, or Parquet with a column of tags.")],
    tagger: Annotated[str, typer.Option("--tagger", help="The open_clip tagger whose thresholds are fitted.")],
    name: Annotated[str, typer.Option("--name", help="The name of the new tagger.")],
    key: Annotated[str, typer.Option(help="The key or column that holds an image's tags.")] = "tags",
    pipeline: PipelineOption = "everyday",
    settings: SetOption = None,
) -> None:
    """Fit a tagger's thresholds to images whose tags are known; writes a new tagger and says what it gains."""
    from synthgen import calibrate as calibrator

    order = calibrator.Order(labelled, tagger, name, key, pipeline_of(pipeline, None, settings))
    target, report = calibrator.calibrate(order)
    print("\n".join([*report, str(target)]))


@app.command()
def train(
    shards: Annotated[str, typer.Argument(help="A run's output folder, or a folder of shards.")],
    model: Annotated[str, typer.Option("--model", help="The model to start from: a hub name or a folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where the tuned model goes.")],
    pipeline: PipelineOption = "everyday",
    settings: SetOption = None,
) -> None:
    """Fine-tune a vision-language model on a run's shards."""
    from synthgen import train as trainer

    print(trainer.train(shards, model, out, pipeline_of(pipeline, None, settings).train))


@app.command()
def doctor(
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="Look for what this pipeline needs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is missing on this machine, and the command that mends it."""
    from synthgen import doctor as examiner

    findings = examiner.examine(pipeline)
    print(json.dumps([vars(one) for one in findings]) if as_json else examiner.text(findings))
    raise typer.Exit(1 if any(one.level == "missing" for one in findings) else 0)


def main() -> None:
    """The `synth` command; every expected failure is one line on stderr."""
    # A console script does not have the working folder on its path, and module:attribute names live there.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    try:
        app()
    except SynthError as error:
        say(f"synth: {error}")
        raise SystemExit(error.exit_status) from None


def _list_dropped(folder: Any, reason: str, limit: int, as_json: bool) -> None:
    from synthgen import dropped, frozen
    from synthgen.pack import published

    root = published.root_of(frozen.source(folder).uri)
    below = partial(published.uri, root=root) if root else str
    found = dropped.dropped(folder, reason)
    for row in islice(found.rows, limit):
        print(json.dumps(vars(row), ensure_ascii=False) if as_json else dropped.text(row, below))
    if found.count > limit:
        told = f"… and {found.count - limit:,} more"
        say(told) if as_json else print(told)  # JSON lines are for a program
    elif not found.count:
        say(f"nothing fell out for {reason} here")


def _job(command: str, document: Any, out: str, pipeline: str, looks: bool) -> tuple[Any, Any]:
    """The job, and the listing of its source, begun, if it `looks` there: the model may be far away, and is asked for last."""
    from synthgen import job, source, texts
    from synthgen.store.folder import open_folder

    missing = [] if document.at(("source", "uri")) else ["the images (a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE)"]
    missing += [] if out else ["--out, the folder for the results"]
    if missing:
        raise UserMistake(f"missing: {', and '.join(missing)}; for example: synth {command} photos --out data")
    loaded, found = texts.load(document)
    folder = open_folder(out)
    objects = source.begun(loaded.source) if looks else None
    opened = job.open_job(folder, loaded, found)
    for notice in texts.notices(pipeline, loaded, found):
        say(notice)
    return opened, objects


if __name__ == "__main__":
    main()
