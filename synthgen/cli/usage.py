"""Words that the command line does not take: each mistake is one line, as every other is.

Typer prints a block of usage for these. Its classes of errors are private, so they are told apart by name; an error of
an unknown name keeps typer's own message.
"""

from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperGroup

from synthgen.console import note
from synthgen.errors import SynthError, UserMistake, did_you_mean, one_line

LONGEST_SUMMARY = 300  # characters of a command in the list of all
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    """A group that answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of the first word. Raises UserMistake if there is none."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UserMistake(_unknown("command", one_line(args[0]), self.commands, ctx.command_path))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with the whole first sentence of each; a narrow terminal wraps it."""
        known = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(LONGEST_SUMMARY)) for name, each in known if each])


def run_app(app: Callable[..., Any]) -> None:
    """Run a typer app on the words of the command line.

    Raises:
        UserMistake: It does not take them.
        SynthError: A question was left without an answer.
        SystemExit: The command is over; without a command it is the help that was shown.
    """
    try:
        status = app(prog_name="synth", standalone_mode=False)
    except typer.Abort as error:
        raise SynthError("a question was left without an answer, so nothing was done") from error
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            note(str(error))
            raise SystemExit(2) from None
        raise UserMistake(one_line(usage_fault(error), 500)) from error
    raise SystemExit(status if isinstance(status, int) else 0)


def usage_fault(error: Any) -> str:
    """Return what is wrong, with the nearest known name or the words that the command takes."""
    context, parameter, kind = error.ctx, getattr(error, "param", None), type(error).__name__
    path = context.command_path if context else "synth"
    if kind == "NoSuchOption":
        known = [option for each in context.command.params for option in each.opts] if context else []
        return _of_command(path, _unknown("option", error.option_name, known, path))
    if kind == "MissingParameter" and parameter:
        return _of_command(path, f"{_name(parameter)} is missing ({_help(parameter)}); {_pattern(context)}")
    if kind == "BadParameter" and parameter:
        problem = error.message.partition(", unable")[0].rstrip(".").replace("Input should be", "must be")
        return _of_command(path, f"{_name(parameter)}: {problem.replace('a valid integer', 'a whole number')}")
    message = error.format_message().rstrip(".")
    hint = f"; {_pattern(context)}" if context else ""  # typer knows of no command where an option lacks its value
    return _of_command(path, f"{message[:1].lower()}{message[1:]}{hint}")


def _unknown(what: str, typed: str, known: Iterable[str], path: str) -> str:
    question = did_you_mean(typed, known).rstrip()
    return f"{what} '{typed}' is unknown{f': {question}' if question else ''} (`{path} --help` shows all)"


def _of_command(path: str, fault: str) -> str:
    command = path.removeprefix("synth").strip()
    return f"{command}: {fault}" if command else fault


def _name(parameter: Any) -> str:
    """Return what help calls an option or an argument."""
    is_option = parameter.param_type_name == "option"
    return str(parameter.opts[0] if is_option else parameter.metavar or parameter.name.upper())


def _help(parameter: Any) -> str:
    text = (parameter.help or "").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"


def _pattern(context: Any) -> str:
    """Return how a command is written: its arguments and its required options."""
    words = []
    for parameter in context.command.params:
        if parameter.param_type_name == "argument":
            name = _name(parameter).strip("[]")
            words.append((name if parameter.required else f"[{name}]") + ("…" if parameter.nargs != 1 else ""))
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {parameter.metavar or parameter.name.upper()}")
    return f"write `{' '.join([context.command_path, *words])}`"
