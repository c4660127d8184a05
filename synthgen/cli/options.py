"""Options and arguments that several commands share. Heavy imports stand inside functions, so that help is quick."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from synthgen.errors import UserMistake, nearest

PipelineOption = Annotated[
    str, typer.Option("--pipeline", "-p", metavar="NAME", help="A pipeline by name, or a .yaml file.")
]
OwnPipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="NAME",
        help="A pipeline by name, or a .yaml file; default: the pipeline of the folder's last run, else everyday.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting, for example plan.per_image=3."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="Replace generate.model: a hub name or a folder.")
]
OutOption = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Output folder: a path, s3://… or gs://…")]
FolderArgument = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The output folder of a run: a path, s3://… or gs://…")
]
ViewOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Select with this view of the pipeline from now on; `select` stands for none of them."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress and no notes: only the result, and what goes wrong.")
]
EventsOption = Annotated[
    bool, typer.Option("--json", help="Print what happens as JSON, one event a line, and the result as the last one.")
]


KINDS = ("pipeline", "mapping", "mixture", "recipe", "tagger", "taxonomy", "prompts", "family")


def look_of(quiet: bool, as_json: bool) -> Literal["terminal", "quiet", "json"]:
    """Return how a command shows what happens. Raises UserMistake for two ways at once."""
    if quiet and as_json:
        raise UserMistake("--quiet and --json: choose one; events are for a program, which can leave out what it likes")
    return "quiet" if quiet else "json" if as_json else "terminal"


class OnSource(TyperCommand):
    """A command on a source, with --out; a second argument is probably the folder that --out should name."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a second one is a mistake that shows the right line."""
        rest = super().parse_args(ctx, args)
        if rest and ctx.params.get("out"):
            raise UserMistake(f"{self.name} takes one SOURCE, and got {shlex.join(rest)} too; put a glob in quotes")
        if rest:
            source, out = str(ctx.params.get("source")), rest[0]
            right = shlex.join(["synth", str(self.name), source, "--out", out])
            raise UserMistake(f"{self.name} takes its output folder with --out: {right}")
        return rest


class OnFolder(TyperCommand):
    """A command on the folder of a run, which is its first argument.

    Only commands that also read a source have --out.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a folder after --out is a mistake that shows the right line."""
        for at, word in enumerate(args):
            if word == "--out" or word.startswith("--out="):
                named = [word.removeprefix("--out=")] if "=" in word else args[at + 1 : at + 2]
                others = [*args[:at], *args[at + 2 - ("=" in word) :]]
                raise UserMistake(self._without_out(named, others))
        return super().parse_args(ctx, args)

    def _without_out(self, named: list[str], others: list[str]) -> str:
        """Return the message for a command with --out: what it named, and the right line.

        Where the folder stands already and one more place is wanted, --out named that place.
        """
        places = [each for each in self.params if each.param_type_name == "argument"]
        has_target = len(places) > 1 and places[1].nargs == 1 and any(not word.startswith("-") for word in others)
        what, right = ("target", [*others, *(named or ["TARGET"])]) if has_target else ("folder", [])
        right = right or [*(named or ["FOLDER"]), *others]
        return f"{self.name} takes its {what} without --out: {shlex.join(['synth', str(self.name), *right])}"


def pipeline_of(pipeline: str, model: str | None, settings: list[str] | None) -> Any:
    """Return the pipeline that was named, for a command without an output folder."""
    from synthgen.config import pipeline as pipelines
    from synthgen.job.request import RunRequest

    return pipelines.load(pipeline, RunRequest.typed(pipeline, None, model, settings).settings)


def expanded(path: Path) -> Path:
    """Return a path with its `~` replaced, which a shell leaves alone in `--out=~/tuned`."""
    from synthgen.store.patterns import expand_home
    from synthgen.store.remote import path_errors

    with path_errors(str(path)):
        return expand_home(str(path))


def folder_in(place: str) -> str:
    """Return a place that may be the output folder of a run; "" if it names files. What exists is no pattern."""
    from synthgen.store.patterns import expand_home
    from synthgen.store.remote import path_errors

    with path_errors(place):
        path = None if "://" in place else expand_home(place)
        if path is not None and path.exists():
            return place if path.is_dir() else ""
    return "" if "*" in place or place.endswith((".parquet", ".json", ".jsonl")) else place


def kind_of(typed: str) -> str:
    """Return a kind of definition file as it was typed. Raises UserMistake if there is none of that name."""
    if typed not in KINDS:
        raise UserMistake(f"kind '{typed}' is unknown: {nearest(typed, KINDS)}")
    return typed
