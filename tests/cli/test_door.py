"""Whatever goes wrong in a command is one line on stderr and an exit status, never a traceback."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from synthgen.cli import door
from synthgen.cli.usage import run_app
from synthgen.errors import Damaged, LeaseHeld, NothingUsable, Stopped, SynthError, UserMistake

Raises = Callable[[], object]


def raising(error: BaseException) -> Raises:
    def command() -> object:
        raise error

    return command


def left(command: Raises, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit status of a command that fails, and what it printed to stderr."""
    with pytest.raises(SystemExit) as caught:
        door.run_command(command)
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SynthError("a"), 1),
        (Damaged("b"), 1),
        (NothingUsable("c"), 1),
        (UserMistake("d"), 2),
        (LeaseHeld("e"), 2),
        (Stopped(15), 143),
    ],
)
def test_an_expected_error_is_its_own_line(error: SynthError, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert left(raising(error), capsys) == (status, f"synth: {error}\n")


@pytest.mark.parametrize("number", door.ADVICE)
def test_an_error_of_the_disk_names_the_file_and_what_to_do(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = left(raising(OSError(number, os.strerror(number), "data/x.pt")), capsys)
    assert (status, text) == (1, f"synth: data/x.pt: {os.strerror(number)}; {door.ADVICE[number]}\n")


def test_what_nobody_foresaw_is_one_line_and_a_file_with_the_details(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["synth", "status", "secret-folder"])
    status, text = left(raising(KeyError("half\ud800")), capsys)
    [file] = tmp_path.iterdir()
    assert status == 1 and text.count("\n") == 1 and str(file) in text
    assert text.startswith("synth: KeyError: 'half\\ud800' (test_door.py:")
    details = file.read_text()
    assert details.startswith("synth status\nsynthgen ") and "Traceback" in details and "secret" not in details


def test_details_that_cannot_be_written_are_no_second_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    status, text = left(raising(ZeroDivisionError("x")), capsys)
    assert status == 1 and text.count("\n") == 1 and "details could not be written" in text


@given(st.text(), st.sampled_from([ValueError, OSError, RuntimeError, AssertionError, RecursionError, MemoryError]))
def test_any_error_is_one_line(message: str, kind: type[Exception]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        line = door._disk_error(kind(message)) or door._unforeseen(kind_raised(kind, message))
    assert len(line.splitlines()) == 1 and line.isprintable()


def kind_raised(kind: type[Exception], message: str) -> Exception:
    """Return an error that has a traceback."""
    try:
        raise kind(message)
    except kind as error:
        return error


# --- commands as users start them -------------------------------------------------------------------------------------


def synth(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "synthgen", *arguments]
    return subprocess.run(
        command, capture_output=True, timeout=60, check=False, cwd=cwd, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("arguments", [["list"], ["status", "/nowhere"], ["check", "-p", "everyday"]])
def test_in_a_deleted_working_folder_every_command_says_so(arguments: list[str], tmp_path: Path) -> None:
    script = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -m synthgen {' '.join(arguments)}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "synth: the working folder cannot be read (No such file or directory); change into another one\n"
    )


def test_a_terminal_that_cannot_show_a_character_gets_its_number(workspace: Path) -> None:
    done = synth("show", "taxonomy", "small", cwd=workspace, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"\\u2500" in done.stdout


def test_a_user_without_a_home_and_without_a_name_can_work(tmp_path: Path) -> None:
    script = """
import pwd, sys
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from synthgen.cli import main
sys.argv = ["synth", *sys.argv[1:]]
main()
"""
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME", "LNAME")}
    for arguments, status, text in (
        (["doctor"], 0, ""),
        (["status", "~/nothing"], 2, f"{tempfile.gettempdir()}/nothing"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
            env=bare,
        )
        assert done.returncode == status and "Traceback" not in done.stderr and text in done.stderr


def test_help_has_a_short_option_and_one_name_however_it_is_started() -> None:
    for option in ("-h", "--help"):
        assert synth(option).stdout.startswith(b"Usage: synth [OPTIONS]")
    assert synth("run", "-h").stdout.startswith(b"Usage: synth run [OPTIONS]")


def test_help_shows_the_whole_summary_of_each_command() -> None:
    for columns in ("60", "80", "200"):
        shown = " ".join(synth("-h", COLUMNS=columns).stdout.decode().partition("Commands:")[2].split())
        assert "..." not in shown
        assert "what it would cost, without asking. status Show how far a run is" in shown


def test_a_question_without_an_answer_ends_the_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()
    app.command()(lambda: typer.confirm("delete?"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(""))
        patch.setattr(sys, "argv", ["synth"])
        status, text = left(lambda: run_app(app), capsys)
    assert (status, text.splitlines()[-1]) == (1, "synth: a question was left without an answer, so nothing was done")
