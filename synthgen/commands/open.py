"""Opening a run: from a request and an output folder to a job that is ready, for the command line and for Python."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthgen.config import library
from synthgen.config import pipeline as pipelines
from synthgen.config.pipeline import Pipeline
from synthgen.config.source import SourceConfig
from synthgen.config.strict_yaml import Document
from synthgen.console import note
from synthgen.errors import Damaged, UserMistake
from synthgen.ingest import sources
from synthgen.ingest.sources import Item
from synthgen.job import request as requests
from synthgen.job import resolve, run_record
from synthgen.job.job import WITH_MODELS, open_job
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.store import RunFolder
from synthgen.store.opening import open_folder

SOURCE_KEY = ("source", "uri")
IMAGES = "the images (a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE)"


@dataclass(frozen=True)
class OpenedRun:
    """A run that is ready: its folder, its job, the whole request, and the listing of its source if it has begun."""

    folder: RunFolder
    job: Job
    request: RunRequest
    objects: Iterator[Item] | None = None


def open_run(
    command: str,
    request: RunRequest,
    out: str,
    lists: bool,
    *,
    needed: Container[str] = WITH_MODELS,
    is_update: bool = False,
) -> OpenedRun:
    """Return the run that a request names.

    Args:
        command: The `synth` command, for messages.
        request: As typed; what it leaves out is taken from the folder.
        out: The output folder as typed.
        lists: Whether the listing of the source is started. It comes before the model, which may be far away.
        needed: The stages for which a model that cannot be found is an error, see `open_job`.
        is_update: Whether other settings than those of the folder are accepted, also where nobody knows them any more.

    Raises:
        UserMistake: Something is missing, wrong or cannot be found.
    """
    folder = open_run_folder(out) if out else None
    if folder and is_update and request.pipeline:
        _accept_lost_record(folder)
    elif folder:
        run_record.check_is_no_mixture(folder)
    if folder and is_update and not request.pipeline:
        _check_started_here(folder, out)
    request, document = document_of(request, folder, out)
    missing = [] if requests.names_source(document) else [IMAGES]
    example = f"for example: synth {command} photos --out {out or 'data'}"
    if missing and folder:
        why = "holds no synth run" if folder.record is None else "has no record of its source"
        raise UserMistake(f"{out}: {why}, and no source was given: {IMAGES}; {example}")
    if folder is None:
        raise UserMistake(f"missing: {', and '.join([*missing, '--out, the folder for the results'])}; {example}")
    pipeline, definitions = resolve.load(document)
    objects = _start_listing(document, pipeline.source) if lists else None
    job = open_job(folder.out, pipeline, definitions, folder.record, needed=needed)
    for notice in resolve.notices(request.name, pipeline, definitions):
        note(notice)
    return OpenedRun(folder, job, request, objects)


def _accept_lost_record(folder: RunFolder) -> None:
    """Go on without the record of a folder where it is lost or damaged: an update does again what differs from now."""
    try:
        run_record.check_is_no_mixture(folder)
        run_record.check_whole(folder)
    except Damaged as error:
        folder.forget_record()
        note(f"{str(error).partition(';')[0]}; what was made with other settings than these is done again")


def _check_started_here(folder: RunFolder, out: str) -> None:
    """Raise UserMistake if an edit would be looked for in the definition files of another folder than the run has."""
    home = (folder.record or {}).get("started_in")
    if home and home != str(Path.cwd()):
        raise UserMistake(
            f"{out}: was started in {home}, where names may mean other files; start it there, or name the pipeline "
            "with --pipeline to take the files of this folder"
        )


def open_run_folder(out: str) -> RunFolder:
    """Return the output folder that a user named. Raises UserMistake if it cannot be one."""
    return RunFolder(open_folder(out))


def document_of(
    request: RunRequest, folder: RunFolder | None, out: str, sections: tuple[str, ...] = ()
) -> tuple[RunRequest, Document]:
    """Return the whole request and the document of its pipeline; what the folder adds to the request is reported.

    Args:
        request: As typed.
        folder: The run's folder, or None.
        out: Its name as typed, for messages.
        sections: Where named, only settings of these sections are taken from the folder.
    """
    if folder is None:
        return request, pipelines.read(request.name, request.settings)
    run_record.check_is_no_mixture(folder)
    record = folder.record or {}
    before = RunRequest.of(record)
    known = before.only(sections) if sections else before
    whole, message = requests.complete(request, known, out, record.get("started_in", ""))
    if message:
        note(message)
    return whole, requests.read(whole, record, out)


def pipeline_with_run(request: RunRequest, out: str | None) -> Pipeline:
    """Return the pipeline of a request, for a command that writes nothing; `out` names a run whose settings it takes.

    Raises:
        UserMistake: It has a mistake, or the folder holds no run.
    """
    folder = open_run_folder(out) if out else None
    if folder:
        run_record.check_is_run(folder)
    return library.check(document_of(request, folder, out or "")[1], Pipeline)


def _start_listing(document: Document, source: SourceConfig) -> Iterator[Item]:
    """Start to list the source. A mistake in a source that the pipeline's file names is reported with its line."""
    try:
        return sources.open_listing(source)
    except UserMistake as mistake:
        if isinstance(document.lines.get(SOURCE_KEY), int):
            raise UserMistake(f"{document.where(SOURCE_KEY)}: source.uri: {mistake}") from mistake
        raise
