"""What the commands of the command line share: from what was typed to a pipeline.

Comes in: words and options. Goes out: a Pipeline or a Job, or one line that says what to type instead. Heavy imports stand inside, as
everywhere here.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from synthgen.errors import UserMistake, nearest

PipelineOption = Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline by name, or a .yaml file.")]
OwnPipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline", "-p", help="A pipeline by name, or a .yaml file; without one as the folder was last started."
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Replace one setting: section.key=value.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Replace generate.model: a hub name or a folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Commands(TyperGroup):
    """All commands. A word that is none of those that it could be is one line with the nearest, like any other name."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was typed."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            found = re.search(r"(['\"])(.*)\1 is not one of (.*)", error.message)
            if not found or not error.param:
                raise
            known = re.findall(r"'(.*?)'", found[3])
            raise UserMistake(f"{error.param.opts[0]} '{found[2]}' is unknown: {nearest(found[2], known)}") from error


class OnFolder(TyperCommand):
    """A command on what a run has made: its folder comes first. Only what also reads a source tells the two apart by --out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for at, word in enumerate(args):
            if word == "--out" or word.startswith("--out="):
                named = [word.removeprefix("--out=")] if "=" in word else args[at + 1 : at + 2]
                right = [*(named or ["FOLDER"]), *args[:at], *args[at + 2 - ("=" in word) :]]
                raise UserMistake(
                    f"{self.name} takes its folder without --out: {shlex.join(['synth', str(self.name), *right])}"
                )
        return super().parse_args(ctx, args)


def pipeline_of(pipeline: str, model: str | None, settings: list[str] | None) -> Any:
    """The pipeline that was named, for a command that has no output folder."""
    from synthgen.config import pipeline as pipelines
    from synthgen.job.request import RunRequest

    return pipelines.load(pipeline, RunRequest.typed(pipeline, None, model, settings).settings)


def folder_in(place: str) -> str:
    """A place that may be the output folder of a run; "" if it names files."""
    is_file = (
        "*" in place
        or place.endswith((".parquet", ".json", ".jsonl"))
        or ("://" not in place and Path(place).is_file())
    )
    return "" if is_file else place


def job_of(command: str, line: Any, out: str, looks: bool) -> tuple[Any, Any]:
    """The job, and the listing of its source, begun, if it `looks` there: the model may be far away, and is asked for last."""
    from synthgen.job import job, resolve
    from synthgen.store.folder import open_folder

    line, document = document_of(line, out)
    images = "the images (a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE)"
    missing = [] if document.at(("source", "uri")) else [images]
    example = f"for example: synth {command} photos --out {out or 'data'}"
    if missing and out:
        raise UserMistake(f"{out}: holds no synth run, and the line does not name {images}; {example}")
    if not out:
        raise UserMistake(f"missing: {', and '.join([*missing, '--out, the folder for the results'])}; {example}")
    loaded, found = resolve.load(document)
    objects = _begun(document, loaded.source) if looks else None
    opened = job.open_job(open_folder(out), loaded, found, line)
    for notice in resolve.notices(line.name, loaded, found):
        say(notice)
    return opened, objects


def document_of(line: Any, out: str, sections: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """The line with what it leaves out, and its pipeline's document; whatever the folder, if there is one, adds to the line is told.
    Of its settings only those of some `sections` count, where these are named."""
    from synthgen.config import pipeline as pipelines
    from synthgen.job import request as lines
    from synthgen.job import run_record
    from synthgen.store.folder import open_folder

    if not out:
        return line, pipelines.read(line.name, line.settings)
    record = run_record.record(open_folder(out)) or {}
    before = lines.RunRequest.of(record)
    whole, told = lines.meant(line, before.about(sections) if sections else before, out, record.get("started_in", ""))
    if told:
        say(told)
    return whole, lines.read(whole, record, out)


def _begun(document: Any, named: Any) -> Any:
    """The listing of the source, begun; what is wrong with one that the pipeline's file names is told with that line."""
    from synthgen.ingest import sources

    place = ("source", "uri")
    try:
        return sources.open_listing(named)
    except UserMistake as mistake:
        if isinstance(document.lines.get(place), int):
            raise UserMistake(f"{document.where(place)}: source.uri: {mistake}") from mistake
        raise


def say(text: str) -> None:
    """To stderr, at once: stdout is for results."""
    print(text, file=sys.stderr, flush=True)
