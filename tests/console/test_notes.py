"""Notes are log records that the command line prints to stderr; nothing in them reaches the terminal as a command."""

# ruff: noqa: RUF001 (letters of many scripts)

import json
import logging
import subprocess
import sys

import pytest

from synthgen.console import for_terminal, note, print_notes, show_text

LIBRARY_USER = """
import logging, sys
import synthgen
from synthgen.console import LOGGER, StageProgress, note

class Keeper(logging.Handler):
    def emit(self, record):
        print(record.name, record.levelname, record.getMessage())

sys.stderr.isatty = lambda: True
note("before the program asks for notes")
logging.getLogger("synthgen").warning("nor is a warning")
LOGGER.addHandler(Keeper())
LOGGER.setLevel(logging.INFO)
with StageProgress("select", 1, "partition"):
    note("100% done")
"""


def test_a_note_is_printed_bare_on_stderr_and_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(root)
    try:
        print_notes()
        print_notes()
        note("100% of it")
        logging.getLogger("synthgen.ingest").warning("%s; left out", "a file")
    finally:
        logging.getLogger().removeHandler(root)
    output = capsys.readouterr()
    assert output.err.splitlines() == ["100% of it", "a file; left out"] and not output.out


OBEYED = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\r\x00\u2066\U000e0041"


def test_no_result_or_note_has_anything_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    print_notes()
    note(f"a{OBEYED}b")
    show_text(f"a{OBEYED}b\nc")
    output = capsys.readouterr()
    assert output.out == output.err.replace("b\n", "b\nc\n")
    assert output.out.count("\n") == 2 and output.out.replace("\n", "").isprintable()


def test_words_of_all_scripts_are_shown_as_they_are_and_json_stays_the_same() -> None:
    for text in ("東京\u3000タワー", "می\u200cخواهم", "👩\u200d💻", "10\xa0km, 5\u202f%", "a\nb"):
        assert for_terminal(text) == text
    assert json.loads(for_terminal(json.dumps({"reply": OBEYED}, ensure_ascii=False))) == {"reply": OBEYED}


def test_a_program_that_imports_the_package_gets_records_and_nothing_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", LIBRARY_USER], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "synthgen INFO select: 1 partition",
        "synthgen INFO 100% done",
        "synthgen INFO select: 1 of 1 partition",
    ]
