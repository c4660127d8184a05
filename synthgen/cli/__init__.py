"""The command line: arguments and help, nothing else.

A command calls the module that does it and prints its result on stdout; messages go to stderr. Exit status: 0 done,
1 failed, 2 a mistake that the user can fix, 129, 130 or 143 stopped by a signal. Heavy imports stand inside the
commands, so that help answers at once. Files describe a run; flags only choose and limit it.
"""

from functools import partial
from typing import Annotated

import typer

from synthgen import __version__
from synthgen.cli import imports, library, models, repairs, results, runs
from synthgen.cli.door import run_command
from synthgen.cli.usage import Commands, run_app

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(runs.app)
app.add_typer(repairs.app)
app.add_typer(imports.app)
app.add_typer(results.app)
app.add_typer(models.app)
app.add_typer(library.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"synthgen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn a bucket of images into multimodal instruction data: tag, plan, generate, select, pack, train."""


def main() -> None:
    """Run the `synth` command."""
    run_command(partial(run_app, app))
