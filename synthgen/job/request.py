"""Run requests: what the user asked for, and what the output folder adds to it.

A folder continues as it was last started: `synth run --out data` means the pipeline, source, model, settings and limit
that `data` was started with. The pipeline's file is read again, so an edit of it is noticed. A request that names a
pipeline replaces everything but the source; what it drops of the earlier request is reported.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from synthgen.config import pipeline as pipelines
from synthgen.config.overrides import redact
from synthgen.config.strict_yaml import Document
from synthgen.errors import UserMistake
from synthgen.ingest.sources import spell_out_uri
from synthgen.ingest.sources.location import spell_out_path
from synthgen.job import run_record
from synthgen.store import Record
from synthgen.store.patterns import expand_home

DEFAULT = "everyday"  # the pipeline of a new folder whose first request names none
SOURCE, MODEL, VIEW = "source.uri", "generate.model", "view"
SOURCES = "source.named"
PART_MODELS = ("generate.ask.model", "generate.answer.model")
PASS_MODEL = re.compile(r"score\.[^.]+\.model")


@dataclass(frozen=True)
class RunRequest:
    """A request for a run; None and () say nothing.

    Attributes:
        pipeline: By name or path.
        settings: `section.key=value`; later ones win.
        limit: Number of objects to list at most.
    """

    pipeline: str | None = None
    settings: tuple[str, ...] = ()
    limit: int | None = None

    @staticmethod
    def typed(
        pipeline: str | None,
        source: str | None,
        model: str | None,
        settings: Sequence[str] | None,
        view: str | None = None,
    ) -> "RunRequest":
        """Return the request of a command line; source, model and view win over settings of the same key."""
        typed = ((SOURCE, source), (MODEL, model), (VIEW, view))
        named = [f"{key}={_quote(value)}" for key, value in typed if value]
        return RunRequest(pipeline, (*(settings or ()), *named))

    @staticmethod
    def of(record: Record) -> "RunRequest":
        """Return the request that a folder was last started with; an empty one if it has none."""
        stored = record["started_with"] if record else {}
        return RunRequest(stored.get("pipeline"), tuple(stored.get("settings", ())), stored.get("limit"))

    @property
    def name(self) -> str:
        """The pipeline asked for."""
        return self.pipeline or DEFAULT

    def record(self) -> dict[str, Any]:
        """Return the request as the run record stores it."""
        return {"pipeline": self.pipeline, "settings": list(self.settings), "limit": self.limit}

    def only(self, sections: Sequence[str]) -> "RunRequest":
        """Return the pipeline with the settings of some sections."""
        return RunRequest(
            self.pipeline, tuple(setting for setting in self.settings if setting.split(".")[0] in sections)
        )

    def without(self, other: "RunRequest") -> "RunRequest":
        """Return the parts of this request that `other` does not override."""
        settings = tuple(
            setting for setting in self.settings if not any(_overrides(later, setting) for later in other.settings)
        )
        limit = self.limit if other.limit is None else None
        return RunRequest(None if other.pipeline else self.pipeline, settings, limit)

    def over(self, other: "RunRequest") -> "RunRequest":
        """Return both requests as one; this one wins."""
        settings = (*other.settings, *self.settings)
        limit = other.limit if self.limit is None else self.limit
        return RunRequest(self.pipeline or other.pipeline, settings, limit)

    def command_line(self) -> str:
        """Return the request as it could be typed, without anything that may be a signature."""
        source, options = list[str](), ["--pipeline", self.pipeline] if self.pipeline else []
        for setting in self.settings:
            key, _, value = setting.partition("=")
            if key == SOURCE:
                source = [str(yaml.safe_load(value))]
            elif key in (MODEL, VIEW):
                options += [f"--{key.rpartition('.')[2]}", str(yaml.safe_load(value))]
            else:
                options += ["--set", setting]
        options += [] if self.limit is None else ["--limit", str(self.limit)]
        return redact(shlex.join([*source, *options]))

    def spell_out(self, home: Path, is_folder: bool) -> "RunRequest":
        """Return the same request for another working folder: relative paths start at the root.

        Args:
            home: The folder that relative paths start from.
            is_folder: Whether the model is a folder.
        """
        is_path = self.pipeline and self.pipeline.endswith(".yaml")
        pipeline = str(home / expand_home(self.name)) if is_path else self.pipeline
        settings = tuple(_spell_out(setting, home, is_folder) for setting in self.settings)
        return replace(self, pipeline=pipeline, settings=settings)


def complete(request: RunRequest, before: RunRequest, out: str, home: str) -> tuple[RunRequest, str | None]:
    """Add to a request what the folder was last started with.

    Args:
        request: As typed.
        before: The last request of the folder.
        out: The folder, for the message.
        home: The working folder of the last request.

    Returns:
        The whole request, and a message on what was added or dropped, if anything was.
    """
    rest = before.without(request)
    if request.pipeline:
        others = tuple(setting for setting in rest.settings if not setting.startswith((f"{SOURCE}=", f"{SOURCES}=")))
        dropped = replace(rest, settings=others)
        if dropped == RunRequest():
            return request, None
        return request, f"the last run of {out} also had {dropped.command_line()}; this command drops it"
    whole = replace(request.over(rest), pipeline=rest.name)
    if rest in (RunRequest(), RunRequest(DEFAULT)):
        return whole, None
    where = "" if home == str(Path.cwd()) else f", started in {home}"
    settings = f"{rest.command_line()} (--pipeline replaces all but the source)"
    return whole, f"using the settings of the last run of {out}{where}: {settings}"


def read(request: RunRequest, record: Record, out: str) -> Document:
    """Return the pipeline's document with the settings of a request.

    Where neither names a source, it has that of the folder `out`, by its record.
    """
    try:
        document = pipelines.read(request.name, request.settings)
    except UserMistake as mistake:
        is_own = request.pipeline == RunRequest.of(record).pipeline
        if is_own and (home := record["started_in"]) != str(Path.cwd()):
            raise UserMistake(f"{mistake}; {out} was last started with it in {home}") from mistake
        raise
    if names_source(document) or not record:
        return document
    known = run_record.source_of(record)
    if known.named:
        given = {name: place.model_dump(mode="json", exclude_defaults=True) for name, place in known.named.items()}
        return pipelines.read(request.name, (*request.settings, f"{SOURCES}={json.dumps(given)}"))
    return pipelines.read(request.name, (*request.settings, f"{SOURCE}={_quote(known.uri)}")) if known.uri else document


def names_source(document: Document) -> bool:
    """Return whether a pipeline says where its images are."""
    return any(document.at(tuple(key.split("."))) for key in (SOURCE, SOURCES))


def _overrides(later: str, setting: str) -> bool:
    """Return whether a later setting replaces everything that `setting` does."""
    key, other = setting.partition("=")[0], later.partition("=")[0]
    return f"{key}.".startswith(f"{other}.")


def _spell_out(setting: str, home: Path, is_folder: bool) -> str:
    key, _, value = setting.partition("=")
    if key.partition(".")[0] == "source":
        given = yaml.safe_load(value)
        spelled = _spell_out_places(key.rpartition(".")[2], given, home)
        return setting if spelled == given else f"{key}={_as_yaml(spelled)}"
    is_part = key in PART_MODELS or PASS_MODEL.fullmatch(key)
    if (key == MODEL and is_folder) or (is_part and (home / expand_home(yaml.safe_load(value))).is_dir()):
        return f"{key}={_quote(str(home / expand_home(yaml.safe_load(value))))}"
    return setting


def _spell_out_places(key: str, value: Any, home: Path) -> Any:
    """Return a setting of the source, or all below a key, with every uri and root spelled in full."""
    if isinstance(value, dict):
        return {name: _spell_out_places(name, each, home) for name, each in value.items()}
    spell_out = {"uri": spell_out_uri, "root": spell_out_path}.get(key)
    return spell_out(value, home) if spell_out and isinstance(value, str) else value


def _as_yaml(value: Any) -> str:
    return _quote(value) if isinstance(value, str) else json.dumps(value)


def _quote(text: str) -> str:
    """Return a text in YAML's double quotes; characters that YAML refuses, as bytes that are not UTF-8, are escaped."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
