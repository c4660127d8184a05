"""What an output folder was last made with: its latest `frozen/` record, the one way to read it.

Comes in: an output folder. Goes out: the record (the pipeline, what shaped each table, the folder that the run was started in), or
parts of it. Names in it may be relative to where the run was started, so a source is spelled out in full here.
"""

import json
from pathlib import Path
from typing import Any

from synthgen.config import Pipeline, Source
from synthgen.errors import UserMistake
from synthgen.source.place import PROTOCOL
from synthgen.source.urls import PREFIX
from synthgen.store import Folder

FORMAT = 1


def record(out: Folder) -> Any:
    """The latest record; {} if the run was killed before it stored one; None if no synth run made the folder."""
    if "run.json" not in out.names(".json"):
        return None
    version = json.loads(out.read("run.json"))["format"]
    if version != FORMAT:
        raise UserMistake(f"{out.url}: has format {version}; this synth reads format {FORMAT}; use another folder")
    folder = out.child("frozen")
    names = folder.names(".json")
    return json.loads(folder.read(names[-1])) if names else {}


def made(out: Folder) -> Any:
    """The latest record of a folder that must have one."""
    found = record(out)
    if not found:
        raise UserMistake(f"{out.url}: holds no synth run")
    return found


def pipeline(out: Folder) -> Pipeline:
    """The pipeline, as it was given."""
    return Pipeline.model_validate(made(out)["pipeline"])


def source(out: Folder) -> Source:
    """Where the images were looked for, spelled so that it leads there from any working folder."""
    last = made(out)
    found, home = Source.model_validate(last["pipeline"]["source"]), last["started_in"]
    uri = found.uri or ""
    before, path = (PREFIX, uri.removeprefix(PREFIX)) if uri.startswith(PREFIX) else ("", uri)
    if not path or PROTOCOL.match(path):
        return found
    return found.model_copy(update={"uri": f"{before}{Path(home) / Path(path).expanduser()}"})
