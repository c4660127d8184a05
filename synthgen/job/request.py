"""What the line of a command says of the job: a pipeline, settings that replace some of its own, and how much of the source is listed.

Comes in: what was typed, and the record of an output folder. Goes out: a Line that says everything, and the pipeline's document. A
folder goes on as it was last started: whoever types `synth run --out data` means the pipeline, the images, the model, the settings and
the limit that data were begun with, and never those of another pipeline. The pipeline's file is read anew, so an edit of it is
noticed. A line that names a pipeline says all itself but the images; what it leaves out of the line before is told.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from synthgen.config import pipeline as pipelines
from synthgen.config.strict_yaml import Document
from synthgen.errors import UserMistake
from synthgen.job import run_record

USUAL = "everyday"  # the pipeline of a new folder whose first line names none
SOURCE, MODEL = "source.uri", "generate.model"


@dataclass(frozen=True)
class RunRequest:
    """What is said of a job; nothing is said of what is None or empty."""

    pipeline: str | None = None  # by name or path
    settings: tuple[str, ...] = ()  # section.key=value, the later the stronger
    limit: int | None = None  # objects to list

    @staticmethod
    def typed(
        pipeline: str | None, source: str | None, model: str | None, settings: Sequence[str] | None
    ) -> "RunRequest":
        """A line as it was typed; images and model, which have words of their own, replace what a setting says of them."""
        named = [f"{key}={_quoted(value)}" for key, value in ((SOURCE, source), (MODEL, model)) if value]
        return RunRequest(pipeline, (*(settings or ()), *named))

    @staticmethod
    def of(record: Mapping[str, Any]) -> "RunRequest":
        """The line that a folder was last started with, by the folder's record; an empty one if it has none."""
        said = record.get("started_with", {})
        return RunRequest(said.get("pipeline"), tuple(said.get("settings", ())), said.get("limit"))

    @property
    def name(self) -> str:
        """The pipeline that is meant."""
        return self.pipeline or USUAL

    def record(self) -> dict[str, Any]:
        """For the folder's record."""
        return {"pipeline": self.pipeline, "settings": list(self.settings), "limit": self.limit}

    def about(self, sections: Sequence[str]) -> "RunRequest":
        """The pipeline, and of the settings those of some sections."""
        return RunRequest(self.pipeline, tuple(one for one in self.settings if one.split(".")[0] in sections))

    def but(self, other: "RunRequest") -> "RunRequest":
        """What this line says and the other one does not say otherwise."""
        settings = tuple(
            one for one in self.settings if not any(_is_within(one, replaced) for replaced in other.settings)
        )
        return RunRequest(None if other.pipeline else self.pipeline, settings, None if other.limit else self.limit)

    def over(self, other: "RunRequest") -> "RunRequest":
        """Both lines together; where both speak of one thing, this one counts."""
        return RunRequest(self.pipeline or other.pipeline, (*other.settings, *self.settings), self.limit or other.limit)

    def words(self) -> str:
        """The line as it could be typed."""
        named, rest = list[str](), ["--pipeline", self.pipeline] if self.pipeline else []
        for setting in self.settings:
            key, _, value = setting.partition("=")
            if key == SOURCE:
                named = [str(yaml.safe_load(value))]
            else:
                rest += ["--model", str(yaml.safe_load(value))] if key == MODEL else ["--set", setting]
        rest += ["--limit", str(self.limit)] if self.limit else []
        return pipelines.redact(shlex.join([*named, *rest]))

    def in_full(self, home: Path, is_folder: bool) -> "RunRequest":
        """The same, to be read in another working folder: paths from the root. `is_folder`: whether the model is one."""
        is_path = self.pipeline and self.pipeline.endswith(".yaml")
        pipeline = str(home / Path(self.name).expanduser()) if is_path else self.pipeline
        return replace(
            self, pipeline=pipeline, settings=tuple(_in_full(setting, home, is_folder) for setting in self.settings)
        )


def meant(line: RunRequest, before: RunRequest, out: str, home: str) -> tuple[RunRequest, str | None]:
    """The line with what it leaves out, and in words what `out`, started by the line `before` in the folder `home`, adds to it."""
    rest = before.but(line)
    if line.pipeline:
        dropped = replace(rest, settings=tuple(one for one in rest.settings if not one.startswith(f"{SOURCE}=")))
        return (
            line,
            f"{out} was last started with {dropped.words()} too; this line leaves that out"
            if dropped != RunRequest()
            else None,
        )
    whole = replace(line.over(rest), pipeline=rest.name)
    if rest in (RunRequest(), RunRequest(USUAL)):
        return whole, None
    where = "" if home == str(Path.cwd()) else f" in {home}"
    return whole, f"as {out} was last started{where}: {rest.words()} (a line with --pipeline says all itself)"


def read(line: RunRequest, record: Mapping[str, Any], out: str) -> Document:
    """The pipeline's document with the line's settings; with the images of the folder `out`, by its record, where neither names any."""
    try:
        document = pipelines.read(line.name, line.settings)
    except UserMistake as mistake:
        if line.pipeline == RunRequest.of(record).pipeline and (home := record["started_in"]) != str(Path.cwd()):
            raise UserMistake(f"{mistake}; {out} was last started with it in {home}") from mistake
        raise
    known = run_record.source_of(record).uri if record else None
    if known and not document.at(("source", "uri")):
        return pipelines.read(line.name, (*line.settings, f"{SOURCE}={_quoted(known)}"))
    return document


def _is_within(setting: str, other: str) -> bool:
    """Whether what a setting replaces is replaced by another one as well."""
    key, of_other = setting.partition("=")[0], other.partition("=")[0]
    return f"{key}.".startswith(f"{of_other}.")


def _in_full(setting: str, home: Path, is_folder: bool) -> str:
    key, _, value = setting.partition("=")
    if key == SOURCE:
        return f"{key}={_quoted(run_record.uri_in_full(yaml.safe_load(value), home))}"
    return (
        f"{key}={_quoted(str(home / Path(yaml.safe_load(value)).expanduser()))}"
        if key == MODEL and is_folder
        else setting
    )


def _quoted(text: str) -> str:
    """A text in YAML's double quotes; what YAML does not take as it is, as bytes of a name that are not UTF-8, is escaped."""
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text) + '"'
