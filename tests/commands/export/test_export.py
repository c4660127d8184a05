"""An export is whole or goes on: after a kill at any write, over a store, and never over something else."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import typer

from synthgen.cli import app, sharing
from synthgen.commands.export import FORMS, export, text
from synthgen.commands.export.record import PartRecord, read_part, write_part
from synthgen.errors import Damaged, NothingUsable, UserMistake
from synthgen.store import Folder, Lease, RunFolder
from synthgen.tables import image_id
from tests.fixtures.exporting import Run, files, lines
from tests.fixtures.packing import World, pair, pictures
from tests.fixtures.rows import describe_run
from tests.fixtures.workspace import ROOT

MARKED: tuple[dict[str, Any], ...] = ({"answer": "Write <image> before the text."}, {})


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


def kill_at(patch: pytest.MonkeyPatch, is_last: Callable[[int, str], bool]) -> None:
    """Have a write die: one for which `is_last` says so of the number of writes before it and its name."""
    written = 0

    def counted(method: Any) -> Any:
        def call(self: Folder, name: str, *data: bytes) -> Any:
            nonlocal written
            if is_last(written, name):
                raise Killed
            written += 1
            return method(self, name, *data)

        return call

    for name in ("write", "put", "stream"):
        patch.setattr(Folder, name, counted(getattr(Folder, name)))


def export_killed(run: Run, target: Path, form: str, is_last: Callable[[int, str], bool]) -> bool:
    """Export, and return whether it was killed; the lease of a process that is gone holds nobody up."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, is_last)
        try:
            export(RunFolder(run.world.out), str(target), form)
        except Killed:
            shutil.rmtree(target / "lease", ignore_errors=True)
            return True
    return False


def is_write(wanted: int, number: int, name: str) -> bool:
    return number == wanted


def is_finished(target: Path) -> bool:
    return (target / "export.json").exists() and json.loads((target / "export.json").read_text())["finished"] is True


@pytest.mark.parametrize("form", ["llava", "trl", "webdataset", "vlmevalkit"])
def test_an_export_killed_at_any_write_goes_on_to_the_same_files(run: Run, form: str, tmp_path: Path) -> None:
    whole, record = run.export(form, f"{form}-whole/set")
    for kill in count():
        target = tmp_path / str(kill) / "set"
        if not export_killed(run, target, form, partial(is_write, kill)):
            break
        if is_finished(target):
            left = {name: data for name, data in files(target).items() if not name.startswith("parts/")}
            assert left == files(whole), "what is called finished is whole"
        assert export(RunFolder(run.world.out), str(target), form) == record
        assert files(target) == files(whole), kill
    assert kill > 8


def test_a_process_that_is_killed_while_it_writes_leaves_what_the_next_one_finishes(run: Run, tmp_path: Path) -> None:
    """A file that was being written is under no name that counts, and is deleted."""
    target, program = (
        tmp_path / "set",
        (
            "import os, signal, sys\n"
            "from synthgen.commands.export import export\n"
            "from synthgen.commands.export.form import Part\n"
            "from synthgen.store import Folder, RunFolder\n"
            "count = Part.count\n"
            "def counted(part, file):\n"
            "    if part.number == 1:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return count(part, file)\n"
            "Part.count = counted\n"
            "export(RunFolder(Folder(sys.argv[1])), sys.argv[2], 'webdataset')\n"
        ),
    )
    done = subprocess.run(
        [sys.executable, "-c", program, run.world.out.url, str(target)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    before = (target / "train-000000.tar").stat()
    assert list(target.glob(".writing-*"))
    export(RunFolder(run.world.out), str(target), "webdataset")
    whole, _ = run.export("webdataset", "webdataset-beside/set")
    assert files(target) == files(whole)
    assert (target / "train-000000.tar").stat().st_mtime_ns == before.st_mtime_ns, "a part that is whole is kept"


def test_a_part_whose_files_were_cut_or_lost_is_written_again(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "set"
    whole, _ = run.export("llava", "llava-whole/set")
    assert export_killed(run, target, "llava", lambda number, name: name == "data.json")
    out = Folder(str(target))
    assert isinstance(read_part(out, 0), PartRecord)
    (lost, *_), (cut, *_) = sorted(target.glob("images/00000/*")), sorted(target.glob("images/00001/*"))
    lost.unlink()
    assert read_part(out, 0) is None
    cut.write_bytes(b"")
    export(RunFolder(run.world.out), str(target), "llava")
    assert files(target) == files(whole)


def test_a_finished_export_is_left_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    target, record = run.export("csv", "csv")
    before = files(target)
    assert run.export("csv", "csv") == (target, record)
    assert f"nothing to do: {target} holds this export already" in capsys.readouterr().err
    assert files(target) == before
    assert json.loads((target / "export.json").read_text())["finished"]


@pytest.mark.parametrize("form", ["llava", "webdataset"])
def test_an_export_into_a_store_has_the_same_files(run: Run, form: str, s3: Folder) -> None:
    target, record = run.export(form, f"{form}-local/set")
    store = s3.child("set")
    assert export(RunFolder(run.world.out), store.url, form) == record
    found = {name: store.read(name) for name in store.sizes("")}
    assert found == files(target)
    export(RunFolder(run.world.out), store.url, form)
    with pytest.raises(UserMistake, match="holds an export in the form"):
        export(RunFolder(run.world.out), store.url, "trl")


# --- what is refused --------------------------------------------------------------------------------------------------


def refusal(run: Run, target: Path, form: str) -> str:
    before = files(target) if target.is_dir() else {}
    with pytest.raises(UserMistake) as caught:
        export(RunFolder(run.world.out), str(target), form)
    assert "\n" not in str(caught.value) and (files(target) if target.is_dir() else {}) == before
    return str(caught.value).removeprefix(f"{target}: ")


def test_nothing_is_written_over_something_else(run: Run, tmp_path: Path) -> None:
    target, _ = run.export("sharegpt", "sharegpt")
    advice = "give another folder, or delete that one"
    assert refusal(run, target, "llava") == f"holds an export in the form sharegpt; {advice}"
    other = Run(tmp_path)
    assert refusal(other, target, "sharegpt") == f"holds an export of other samples, or by another synth; {advice}"
    other.world.lease.release()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    assert refusal(run, tmp_path / "notes", "llava") == "is not empty; give a folder that does not exist yet"
    assert refusal(run, tmp_path / "notes/mine.txt", "llava") == "is a file; give a folder"


def test_an_export_at_work_keeps_others_out(run: Run, tmp_path: Path) -> None:
    with Lease.take(Folder(str(tmp_path / "set"))):
        told = refusal(run, tmp_path / "set", "llava")
    assert told == "another export is at work here; wait for it, or give another folder"


def test_a_form_that_nobody_knows_is_told_the_nearest(run: Run, tmp_path: Path) -> None:
    assert refusal(run, tmp_path / "set", "webdatasets") == (
        "form 'webdatasets' is unknown: did you mean 'webdataset'?"
    )
    assert not (tmp_path / "set").exists()


def test_a_run_without_shards_and_one_with_a_lost_shard_are_one_line(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(1, pictures(2))
    describe_run(world.out)
    with pytest.raises(UserMistake, match="this run has no shards yet; finish it with `synth run"):
        export(RunFolder(world.out), str(tmp_path / "set"), "llava")
    world.pack()
    world.files[0].write_bytes(world.files[0].read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match=r"its SHA-256 differs.*synth retry"):
        export(RunFolder(world.out), str(tmp_path / "set"), "llava")
    world.files[0].unlink()
    with pytest.raises(Damaged, match="is missing"):
        export(RunFolder(world.out), str(tmp_path / "set"), "llava")
    world.lease.release()


def test_what_a_purge_has_not_finished_is_not_given_away(tmp_path: Path) -> None:
    made = Run(tmp_path)
    made.world.lease.release()
    RunFolder(made.world.out).write_record({"pipeline": {}, "unfinished": {"purge": "edit"}})
    assert refusal(made, tmp_path / "set", "llava") == (
        f"{made.world.out.url}: a purge was cut short here; finish it with: synth purge {made.world.out.url}"
    )


# --- what is left out -------------------------------------------------------------------------------------------------


@pytest.fixture
def marked(tmp_path: Path) -> RunFolder:
    """Return a run of two samples, of which one writes what readers take for an image."""
    world = World(tmp_path)
    world.add(1, pictures(1), more=MARKED)
    world.add(2, pictures(1, start=1))
    world.pack()
    describe_run(world.out)
    world.lease.release()
    return RunFolder(world.out)


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.markers])
def test_a_sample_with_a_marker_in_its_text_is_left_out_and_on_record(
    marked: RunFolder, form: str, tmp_path: Path
) -> None:
    target = tmp_path / "set"
    record = export(marked, str(target), form)
    assert record.counts["samples"] == 1 and record.left_out == {"marker": 1}
    (row,) = lines(target / "left_out.jsonl")
    rows = (target / next(target.glob("data.json*")).name).read_text()
    assert row["reason"] == "marker" and row["id"] not in rows
    assert "| 1 | `marker` |" in (target / "README.md").read_text()
    told = text(record, str(target))
    assert "left out: 1 (marker: a text holds what the reader takes for an image)" in told
    assert f"these are listed in {target}/left_out.jsonl" in told


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if not form.markers])
def test_readers_without_markers_get_every_sample(marked: RunFolder, form: str, tmp_path: Path) -> None:
    record = export(marked, str(tmp_path / "set"), form)
    assert record.counts["samples"] == 2 and "marker" not in record.left_out


def test_questions_that_go_on_from_another_have_no_row_of_their_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    ((_, data),) = (images := pictures(1)).items()
    world.add(1, images, more=({}, {"follows": pair(image_id(data), "", 0)["pair_id"]}))
    world.pack()
    describe_run(world.out)
    record = export(RunFolder(world.out), str(tmp_path / "set"), "lmms-eval")
    world.lease.release()
    assert record.left_out == {"follow_up": 1}


def test_a_form_for_which_no_sample_is_left_ends_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(1, pictures(1), more=MARKED)
    world.pack()
    describe_run(world.out)
    world.lease.release()
    with pytest.raises(NothingUsable, match="nothing can be written in the form llava; left out: 1 because a text"):
        export(RunFolder(world.out), str(tmp_path / "set"), "llava")


# --- the command and the table ----------------------------------------------------------------------------------------


def test_the_command_prints_what_came_of_it(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = typer.main.get_command(app)
    target = str(tmp_path / "set")
    command.main(["export", run.world.out.url, target, "--to", "csv"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines() == [
        "13 rows in the form csv, 5 images beside them, of 5 samples with 13 turns",
        f"how to use it: {target}/README.md",
    ]
    command.main(["export", run.world.out.url, target, "--to", "csv", "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told["finished"] and told["counts"] == {"samples": 5, "turns": 13, "rows": 13, "images": 5}


def test_the_help_names_the_forms_of_the_table() -> None:
    assert ", ".join(FORMS) == sharing.EXPORT_FORMS


@pytest.mark.parametrize("form", FORMS)
def test_the_readme_of_an_export_says_how_to_use_it_by_its_own_name(run: Run, form: str) -> None:
    target, record = run.export(form, f"named {form}")
    told = (target / "README.md").read_text()
    assert f"`synth export --to {form}`" in told and "NAME" not in told and "LAST" not in told
    assert FORMS[form].reader in told and (target / "CARD.md").is_file()
    assert text(record, str(target)).startswith(f"{record.counts['rows']:,} rows in the form {form}")
    assert not (target / "parts").exists() and not (target / "lease").exists()


def test_a_part_without_its_record_does_not_count(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    assert read_part(out, 0) is None
    write_part(out, 0, PartRecord(samples=1, left_out=(("a", "marker"),)))
    assert read_part(out, 0) == PartRecord(samples=1, left_out=(("a", "marker"),))
