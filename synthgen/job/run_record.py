"""What an output folder was last made with: its latest `frozen/` record, the one way to read and write it.

Comes in: an output folder. Goes out: the record (the pipeline, what shaped each table, the commits of the hub's models that tag, the
folder that the run was started in, the stages whose update is not finished and whether a purge is not), or parts of it. Names in it
may be relative to where the run was started, so a source is spelled out in full here.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgen.config import library
from synthgen.config.pipeline import Pipeline, SourceConfig
from synthgen.config.strict_yaml import Document
from synthgen.errors import UserMistake
from synthgen.ingest.sources.location import PROTOCOL
from synthgen.ingest.sources.url_list import PREFIX
from synthgen.store import Folder

FORMAT = 1


def record(out: Folder) -> Any:
    """The latest record; {} if the run was killed before it stored one; None if no synth run made the folder."""
    version = _format(out)
    if version is None:
        return None
    if version != FORMAT:
        raise UserMistake(f"{out.url}: has format {version}; this synth reads format {FORMAT}; use another folder")
    folder = out.child("frozen")
    names = folder.names(".json")
    return json.loads(folder.read(names[-1])) if names else {}


def _format(out: Folder) -> int | None:
    """The format that a folder says it has; None if it says none: other programs too write a run.json."""
    if "run.json" not in out.names(".json"):
        return None
    try:
        said = json.loads(out.read("run.json"))
    except (ValueError, RecursionError):
        return None
    version = said.get("format") if isinstance(said, dict) else None
    return version if type(version) is int else None


def write(out: Folder, record: Any) -> None:
    """Puts a record behind those that there are."""
    folder = out.child("frozen")
    number = len(folder.names(".json")) + 1
    folder.create(f"{number:06d}.json", json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())


def begun(out: Folder, what: str, change: str) -> None:
    """Notes that a change is on its way, so that whoever comes after a kill knows that rows are half old and half new."""
    last = made(out)
    write(out, {**last, "unfinished": {**last.get("unfinished", {}), what: change}})


def finished(out: Folder, what: str) -> None:
    """Notes that a change is in all rows; nothing is written if none was on its way."""
    last = made(out)
    left = {name: change for name, change in last.get("unfinished", {}).items() if name != what}
    if left != last.get("unfinished", {}):
        write(out, {**last, "unfinished": left})


def unfinished(out: Folder) -> dict[str, str]:
    """The changes that are not in all rows yet: stage → "edit", or "redraw" of the plan; "purge" → "edit"."""
    found: dict[str, str] = (record(out) or {}).get("unfinished", {})
    return found


def purge_cut_short(out: Folder) -> str | None:
    """What to do where a purge has taken images out of some tables and files and not of others."""
    if "purge" not in unfinished(out):
        return None
    return f"a purge was cut short here; finish it with: synth purge {out.url}"


def made(out: Folder) -> Any:
    """The latest record of a folder that must have one."""
    found = record(out)
    if not found:
        raise UserMistake(f"{out.url}: holds no synth run")
    return found


def pipeline(out: Folder) -> Pipeline:
    """The pipeline, as it was given; a setting that this synth does not take any more is a mistake like one in a file."""
    said_at = f"{out.url}: the pipeline of its last run (another `synth run` replaces it)"
    return library.check(Document(Path(), made(out)["pipeline"], {(): said_at}), Pipeline)


def source(out: Folder) -> SourceConfig:
    """Where the images were looked for, spelled so that it leads there from any working folder."""
    return source_of(made(out))


def source_of(record: Mapping[str, Any]) -> SourceConfig:
    """The same, by a record that is at hand."""
    return in_full(SourceConfig.model_validate(record["pipeline"]["source"]), Path(record["started_in"]))


def in_full(source: SourceConfig, home: Path) -> SourceConfig:
    """The source with its uri spelled in full, so that one place has one spelling: from the root, without a slash at its end."""
    return source.model_copy(update={"uri": uri_in_full(source.uri, home)}) if source.uri else source


def uri_in_full(uri: str, home: Path) -> str:
    """The same of a uri alone."""
    before, path = (PREFIX, uri.removeprefix(PREFIX)) if uri.startswith(PREFIX) else ("", uri)
    if not path:
        return uri
    whole = path.rstrip("/") if PROTOCOL.match(path) else os.path.normpath(home / Path(path).expanduser())
    return f"{before}{whole}"
