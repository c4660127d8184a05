"""What the line of a command says of the job: a pipeline, and settings that replace some of its own.

Comes in: what was typed, and an output folder. Goes out: a Line that says everything, and the pipeline's document. A folder goes on as
it was last started: whoever types `synth run --out data` means the pipeline, the images, the model and the settings that data were
begun with, and never those of another pipeline. The pipeline's file is read anew, so an edit of it is noticed. A line that names a
pipeline says all itself.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from synthgen import config, frozen
from synthgen.config import Source
from synthgen.errors import UserMistake
from synthgen.store import Folder
from synthgen.strict import Document

USUAL = "everyday"  # the pipeline of a new folder whose first line names none
SOURCE, MODEL = "source.uri", "generate.model"


@dataclass(frozen=True)
class Line:
    """A pipeline by name or path, none if the line names none, and `section.key=value` settings, the later the stronger."""

    pipeline: str | None = None
    settings: tuple[str, ...] = ()

    @staticmethod
    def typed(pipeline: str | None, source: str | None, model: str | None, settings: Sequence[str] | None) -> "Line":
        """A line as it was typed; images and model, which have words of their own, replace what a setting says of them."""
        named = [f"{key}={_quoted(value)}" for key, value in ((SOURCE, source), (MODEL, model)) if value]
        return Line(pipeline, (*(settings or ()), *named))

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Line":
        """The line that a folder was last started with, by the folder's record; an empty one if it has none."""
        said = record.get("started_with", {})
        return Line(said.get("pipeline"), tuple(said.get("settings", ())))

    def with_(self, added: "Line") -> "Line":
        """The line together with what it leaves out."""
        return Line(self.pipeline or added.pipeline or USUAL, (*added.settings, *self.settings))

    @property
    def name(self) -> str:
        """The pipeline that is meant."""
        return self.pipeline or USUAL

    def words(self) -> str:
        """The line as it could be typed."""
        named, rest = [], ["--pipeline", self.name]
        for setting in self.settings:
            key, _, value = setting.partition("=")
            if key == SOURCE:
                named = [str(yaml.safe_load(value))]
            else:
                rest += ["--model", str(yaml.safe_load(value))] if key == MODEL else ["--set", setting]
        return config.unsigned(shlex.join([*named, *rest]))

    def in_full(self, home: Path, is_folder: bool) -> "Line":
        """The same, to be read in another working folder: paths from the root. `is_folder`: whether the model is one."""
        is_path = self.pipeline and self.pipeline.endswith(".yaml")
        pipeline = str(home / Path(self.name).expanduser()) if is_path else self.pipeline
        return Line(pipeline, tuple(_in_full(setting, home, is_folder) for setting in self.settings))


def left_out(line: Line, out: Folder, section: str = "") -> Line:
    """What a line leaves out and the folder was last started with; of its settings those of a section, if one is named."""
    before = Line.of(frozen.record(out) or {})
    if line.pipeline or not before.pipeline:
        return Line()
    kept = (one for one in before.settings if one.startswith(section) and not any(_is_within(one, other) for other in line.settings))
    return Line(before.pipeline, tuple(kept))


def read(line: Line, out: Folder) -> Document:
    """The pipeline's document with the line's settings; the folder's images, where neither names any."""
    record = frozen.record(out) or {}
    try:
        document = config.read(line.name, line.settings)
    except UserMistake as mistake:
        if line.pipeline == Line.of(record).pipeline and (home := record["started_in"]) != str(Path.cwd()):
            raise UserMistake(f"{mistake}; {out.url} was last started with it in {home}") from mistake
        raise
    if not document.at(("source", "uri")) and record:
        return config.read(line.name, (*line.settings, f"{SOURCE}={_quoted(frozen.source(out).uri or '')}"))
    return document


def _is_within(setting: str, other: str) -> bool:
    """Whether what a setting replaces is replaced by another one as well."""
    key, of_other = setting.partition("=")[0], other.partition("=")[0]
    return f"{key}.".startswith(f"{of_other}.")


def _in_full(setting: str, home: Path, is_folder: bool) -> str:
    key, _, value = setting.partition("=")
    if key == SOURCE:
        return f"{key}={_quoted(frozen.in_full(Source(uri=yaml.safe_load(value)), home).uri or '')}"
    return f"{key}={_quoted(str(home / Path(yaml.safe_load(value)).expanduser()))}" if key == MODEL and is_folder else setting


def _quoted(text: str) -> str:
    """A text in YAML's double quotes; what YAML does not take as it is, as bytes of a name that are not UTF-8, is escaped."""
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text) + '"'
