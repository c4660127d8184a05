"""Notes are log records that the command line prints to stderr; without a terminal, progress is notes too."""

# ruff: noqa: RUF001 (letters of many scripts)

import json
import logging
import subprocess
import sys

import pytest

from synthgen import console
from synthgen.console import (
    Loading,
    Rate,
    StageProgress,
    for_terminal,
    generation_note,
    note,
    pluralize,
    print_notes,
    show_text,
    tagging_note,
)

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


def test_a_count_of_one_is_singular_and_every_other_is_plural(capsys: pytest.CaptureFixture[str]) -> None:
    assert [pluralize(count, "image") for count in (0, 1, 2, 1200)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,200 images",
    ]
    with StageProgress("select", 1, "partition"):
        pass
    with StageProgress("tag", 2, "image"):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "select: 1 partition",
        "select: 1 of 1 partition",
        "tag: 2 images",
        "tag: 2 of 2 images",
    ]


def test_where_the_total_is_a_bound_the_last_line_counts_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("generate", 287, "assignment", is_bound=True) as bar:
        bar.add(5)
        bar.add(3)
    with StageProgress("generate", 0, "assignment", is_bound=True):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "generate: at most 287 assignments",
        "generate: 8 assignments done of at most 287",
    ]


def test_a_stage_shows_that_its_model_is_loading_until_the_first_unit_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY_SECONDS", 0.0)
    with StageProgress("tag", 9, "image") as bar:
        bar.show(0.0, tagging_note({}, Loading("the tagger is loading")))
        bar.show(3.0, tagging_note({"images": 3.0}, Loading("the tagger is loading")))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "tag: 0 of 9 images, the tagger is loading (0:00)"
    assert lines[2].startswith("tag: 3 of 9 images") and "loading" not in lines[2]
    assert generation_note({}, Rate(), Loading("the model is loading")) == "the model is loading (0:00)"


def test_what_takes_long_is_said_once_patience_ends_and_then_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(console, "PATIENCE_SECONDS", 4.0)
    waiting = Loading("checking model m")
    for now[0] in (0.0, 3.0, 5.0, 20.0, 34.0, 36.0, 60.0):
        waiting.note_now_and_then()
    assert capsys.readouterr().err.splitlines() == ["checking model m (0:05)", "checking model m (0:36)"]


def test_tokens_per_second_do_not_count_the_time_in_which_the_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tokens, counters = Rate(), {"pairs": 1.0, "output_tokens": 100.0}
    shown = []
    for now[0], counted in ((0.0, {}), (600.0, counters), (610.0, counters | {"output_tokens": 1100.0})):
        shown.append(generation_note(counted, tokens, Loading("the model is loading")))
    assert shown[0] == "the model is loading (0:00)" and ", 100 tokens/s out" in shown[2]


def test_a_stage_with_nothing_to_do_draws_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress("tag", 0, "image") as bar:
        bar.show(0.0)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_progress_is_one_live_line_and_notes_appear_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress("tag", 9, "image") as bar:
        bar.show(9.0, "no tagger is loading")
        note("a note meanwhile")
    printed = capsys.readouterr().err
    assert "9/9" in printed and "a note meanwhile" in printed and "tag: 9 images" not in printed
