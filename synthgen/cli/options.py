"""What the commands of the command line share: from what was typed to a pipeline.

Comes in: words and options. Goes out: a Pipeline, or one line that says what to type instead. Heavy imports stand inside, as
everywhere here.
"""

import re
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from synthgen.errors import UserMistake, nearest

PipelineOption = Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline by name, or a .yaml file.")]
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
                raise UserMistake(f"{self.name} takes its folder without --out: {shlex.join(['synth', str(self.name), *right])}")
        return super().parse_args(ctx, args)


def pipeline_of(pipeline: str, model: str | None, settings: list[str] | None) -> Any:
    """The pipeline that was named, for a command that reads no images of its own."""
    from synthgen import config

    return config.load(pipeline, overrides(None, model, settings))


def overrides(source: str | None, model: str | None, settings: list[str] | None) -> list[str]:
    """The settings that replace those of the pipeline, those with an option of their own last."""
    named = [f"source.uri={_quoted(source)}"] if source else []
    named += [f"generate.model={_quoted(model)}"] if model else []
    return [*(settings or []), *named]


def _quoted(text: str) -> str:
    """A text in YAML's double quotes; what YAML does not take as it is, as bytes of a name that are not UTF-8, is escaped."""
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text) + '"'


def say(text: str) -> None:
    """To stderr, at once: stdout is for results."""
    print(text, file=sys.stderr, flush=True)
