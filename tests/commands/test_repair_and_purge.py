"""Damaged rows are redone and purged images are gone: `synth retry --partition` and `synth purge` on a finished run."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synthgen import run as running
from synthgen.cli import app
from synthgen.cli.door import run_command
from synthgen.commands import purge, repair, retry
from synthgen.console import pluralize
from synthgen.errors import SynthError, UserMistake
from synthgen.job import job, run_record
from synthgen.job.funnel import products
from synthgen.job.request import RunRequest
from synthgen.run import StageRange
from synthgen.stages.contract import Job
from synthgen.stages.select.embedded import EMBEDDED
from synthgen.store import Lease, RunFolder
from synthgen.tables import (
    FAILURE_REASONS,
    GENERATE,
    LIST,
    PACK,
    PLAN,
    QUARANTINE_REASONS,
    SELECT,
    TAG,
    StageSpec,
    image_id,
)
from tests.fixtures.runs import (
    PATIENCE,
    adds_up,
    assert_complete,
    assignments,
    funnel_of,
    kill_once,
    opened,
    pairs,
    rows,
    run,
    start,
    synth,
)
from tests.fixtures.workspace import make_images, write, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")


@pytest.fixture(scope="module")
def finished(workers_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a finished run; tests copy its `out` and never change it."""
    folder = write_definition_files(tmp_path_factory.mktemp("finished"))
    make_images(folder / "photos", 40)
    shutil.copy(folder / "photos" / "0003.png", folder / "photos" / "again.png")
    shutil.copy(folder / "photos" / "0003.json", folder / "photos" / "again.json")
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the finished output folder; the workspace is the current folder."""
    monkeypatch.chdir(finished)
    shutil.copytree(finished / "out", tmp_path / "copy")
    return tmp_path / "copy"


def snapshot(out: Path) -> tuple[object, ...]:
    """Return the rows of every stage that count, by id; the last part is the sorted ids of the samples."""
    tagged = {key: (row["outcome"], row["reason"]) for key, row in rows(out, TAG, "images").items()}
    return set(rows(out, LIST, "objects")), tagged, assignments(out), pairs(out), decisions(out), sample_ids(out)


def decisions(out: Path) -> dict[str, str]:
    """Return pair → reason of its decision."""
    return {key: row["reason"] for key, row in rows(out, SELECT, "decisions").items()}


def sample_ids(out: Path) -> list[str]:
    """Return the ids of the samples in the current shards, sorted."""
    folder = opened(out)
    stage, log = folder.stage(PACK), folder.log(PACK)
    shards = [shard for name in log.partitions for shard in stage.read(log, name, "data", ["id"])]
    return sorted(sample for shard in shards for sample in shard["id"].to_pylist())


def damage(out: Path, stage: str, table: str) -> str:
    """Flip a byte of a table's first file, and return its partition as messages name it."""
    file = min((out / stage / table).glob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return f"{stage}/{file.name.removeprefix('train-').split('.')[0]}"


def rows_written(out: Path, table: str) -> int:
    """Return the number of rows in all files of a table, current or not."""
    return sum(pq.read_metadata(path).num_rows for path in (out / table).rglob("*.parquet"))


def strings(out: Path, *stages: str) -> Iterator[str]:
    """Yield every string in the data files of some stages, current or not."""
    for stage in stages:
        for path in (out / stage).rglob("*.parquet"):
            for row in pq.read_table(path).to_pylist():
                yield from (value for value in row.values() if isinstance(value, str))


@contextlib.contextmanager
def touched(files: Iterable[Path]) -> Iterator[None]:
    """Give files another date, and so another version with the same bytes, within the block."""
    before = {file: file.stat().st_mtime_ns for file in files}
    assert before
    for file in before:
        file.touch()
    yield
    for file, time in before.items():
        os.utime(file, ns=(time, time))


# --- damaged partitions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "places",
    [
        [("1-tagged", "images"), ("3-generated", "scores/answer"), ("4-selected", "decisions"), ("5-shards", "index")],
        [("0-listed", "objects")],
        [("2-planned", "assignments")],
        [("2-planned", "images")],
    ],
    ids=["derived", "listed", "planned", "planned images"],
)
def test_a_damaged_partition_is_reported_and_redone_to_the_same_rows(copy: Path, places: list[tuple[str, str]]) -> None:
    before, asked = snapshot(copy), rows_written(copy, "3-generated/pairs")
    names = [damage(copy, *place) for place in places]
    assert "Traceback" not in run(str(copy), "--update", check=False).stderr
    unknown = synth("retry", str(copy), "--partition", "3-generated/nothing", check=False)
    assert unknown.returncode == 2 and "Traceback" not in unknown.stderr
    synth("retry", str(copy), *(word for name in names for word in ("--partition", name)))
    adds_up(copy)
    assert snapshot(copy) == before
    assert rows_written(copy, "3-generated/pairs") == asked, "no question is asked again"


@pytest.mark.parametrize("table", ["assignments", "images"])
def test_retired_assignments_stay_retired_when_their_partition_is_planned_again(copy: Path, table: str) -> None:
    run(str(copy), "--set", "plan.per_image=2", "--update")
    before, counts = snapshot(copy), opened(copy).log(PLAN).counts()
    assert counts["retired"] > 0
    synth("retry", str(copy), "--partition", damage(copy, "2-planned", table))
    assert_complete(copy)
    assert snapshot(copy) == before
    assert opened(copy).log(PLAN).counts() == counts


def test_only_the_pairs_of_a_damaged_file_are_asked_again_and_have_new_ids(copy: Path) -> None:
    run(str(copy), "--set", "plan.per_image=4", "--update")
    before = pairs(copy)
    name = damage(copy, "3-generated", "pairs")
    [later] = (copy / "3-generated" / "pairs").glob(f"{name.partition('/')[2]}.r2.*")
    undamaged = set(pq.read_table(later)["assignment_id"].to_pylist())
    synth("retry", str(copy), "--partition", name)
    adds_up(copy)
    after = pairs(copy)
    again = {key for key in before if after[key] != before[key]}
    assert again and undamaged and not again & undamaged
    ids = {row[2] for row in after.values()}
    assert ids.isdisjoint(before[key][2] for key in again), "another text is another pair"


def test_an_unknown_partition_is_refused_in_one_line(copy: Path) -> None:
    done = synth("retry", str(copy), "--partition", "3-generated/e001-0000", check=False)
    assert done.returncode == 2
    assert "--partition 3-generated/e001-0000: is not in" in done.stderr
    assert "did you mean '3-generated/e001-0000" in done.stderr


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_retry_that_finds_no_row_says_so_and_names_the_failures_of_the_folder(copy: Path) -> None:
    before = snapshot(copy)
    done = synth("retry", str(copy))
    assert done.stderr.splitlines() == [
        "nothing to retry: no row failed for a reason that a retry can help; failed here: none at all"
    ]
    commit = copy / "1-tagged/commits/e009-00000.r1.json"
    write(commit, commit_of({"quarantined.too_small": 3, "tagged": 2}))
    folder = opened(copy)
    message = retry.nothing_to_retry(folder, {"poison"})
    assert message == "nothing to retry: no row failed for poison; failed here: 3 too_small"
    assert retry.nothing_to_retry(folder, {"poison", "too_small"}) is None
    message = retry.nothing_to_retry(folder, retry.parse_reasons(["failed", "corrupt"]))
    assert message and message.startswith("nothing to retry: no row failed for corrupt or failed; failed here: ")
    assert retry.nothing_to_retry(folder, retry.parse_reasons(["quarantined"])) is None
    commit.unlink()
    assert snapshot(copy) == before


def test_a_retry_that_was_cut_short_is_finished_by_the_next_whole_run(copy: Path) -> None:
    run_record.start_change(opened(copy), "retry", "call_failed,poison")
    assert "a retry of call_failed, poison was cut short" in synth("status", str(copy)).stdout
    part = synth("run", "--out", str(copy), "--until", "tag")
    assert "a retry of call_failed, poison was cut short; a run without --from and --until finishes it" in part.stderr
    assert run_record.unfinished_names(opened(copy), "retry") == {"call_failed", "poison"}
    whole = synth("run", "--out", str(copy))
    assert "a retry of call_failed, poison was cut short; this run finishes it" in whole.stderr
    assert run_record.unfinished_changes(opened(copy)) == {}
    assert "cut short" not in synth("run", "--out", str(copy)).stderr


def test_a_retry_killed_halfway_is_finished_by_the_next_run(workspace: Path) -> None:
    make_images(workspace / "photos", 70)
    run("out", "--set", "generate.engine.options.fail=0.4", "--set", "plan.per_image=1")
    slow = ("--set", "generate.engine.options={seconds: 0.2}", "--set", "generate.engine.in_flight=2")
    synth("run", "--out", "out", *slow)
    before, tried = pairs(workspace / "out"), workspace / "out" / "3-generated"
    retry = start("retry", "out", "--reason", "call_failed")
    kill_once(retry, lambda: list((tried / "commits").glob("*.r2.json")))
    failed = [key for key, row in before.items() if row[1] == "call_failed"]
    left = [key for key, row in pairs(workspace / "out").items() if row[1] == "call_failed"]
    assert 0 < len(left) < len(failed)
    done = synth("run", "--out", "out")
    assert "a retry of call_failed was cut short; this run finishes it" in done.stderr
    assert not [row for row in pairs(workspace / "out").values() if row[1] == "call_failed"]
    adds_up(workspace / "out")
    assert "cut short" not in synth("status", "out").stdout


@pytest.mark.parametrize("command", [("run", "--out"), ("retry",)])
def test_a_repair_that_was_cut_short_is_finished_by_the_next_run(copy: Path, command: tuple[str, ...]) -> None:
    before = pairs(copy)
    name = sorted(opened(copy).log(GENERATE).partitions)[0]
    run_record.start_change(opened(copy), "repair", f"3-generated/{name}")
    done = synth(*command, str(copy))
    assert f"a repair of 3-generated/{name} was cut short; this run finishes it" in done.stderr
    adds_up(copy)
    assert pairs(copy) != before, "the partition was asked again"
    assert run_record.unfinished_changes(opened(copy)) == {}
    assert "cut short" not in synth("run", "--out", str(copy)).stderr


def test_a_repair_that_is_killed_knows_what_is_left(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"3-generated/{name}" for name in opened(copy).log(GENERATE).partitions)[:2]
    empty, emptied = RunFolder.empty, list[str]()

    def dies_at_the_second(self: RunFolder, spec: StageSpec, partition: str, lease: Lease) -> bool:
        emptied.append(partition)
        if len(emptied) > 1:
            raise KeyboardInterrupt
        return empty(self, spec, partition, lease)

    monkeypatch.setattr(RunFolder, "empty", dies_at_the_second)
    folder = opened(copy)
    with pytest.raises(KeyboardInterrupt), folder.lease() as lease:
        repair.repair(folder, names, lease)
    assert run_record.unfinished_names(opened(copy), "repair") == {names[1]}


def test_a_reason_may_be_typed_as_status_prints_it_and_a_kind_means_all_of_its_reasons() -> None:
    typed = ["failed.declined", "quarantined.corrupt", "truncated"]
    assert retry.parse_reasons(typed) == {"declined", "corrupt", "truncated"}
    assert retry.parse_reasons(["failed"]) == set(FAILURE_REASONS)
    assert retry.parse_reasons(["quarantined"]) == set(QUARANTINE_REASONS) - {"purged"}
    assert retry.parse_reasons(["quarantined.purged"]) == {"purged"}
    with pytest.raises(UserMistake, match="score:answer"):
        retry.parse_reasons(["failed", "score:answer"])


def commit_of(counts: dict[str, int]) -> str:
    """Return the record of a commit without tables that has only counts."""
    record = {"partition": "e009-00000", "revision": 1, "tables": {}, "reads": {}, "counts": counts}
    return json.dumps({**record, "epoch": 9, "term": 1, "at": ""})


def test_retry_may_be_started_in_any_folder(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(copy)
    again = synth("retry", str(copy))
    assert snapshot(copy) == before
    assert "tag: " not in again.stderr and "select: " not in again.stderr, "nothing is listed or decided again"


# What a folder of the user's own holds: a tagger and an engine as code, and a file that the code reads by its name.
OWN_CODE = """
import json
from pathlib import Path
from synthgen.engines.scripted import ScriptedEngine

class Tagger:
    def __init__(self, taxonomy, options):
        self.tags = json.loads(Path("own.json").read_text())

    def tag(self, images, metas):
        return [self.tags for _ in images]

class Engine(ScriptedEngine):
    pass
"""


@pytest.fixture(scope="module")
def own(workers_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a finished run in which everything is the user's own and named relative to it."""
    folder = write_definition_files(tmp_path_factory.mktemp("own"))
    make_images(folder / "photos", 6)
    write(folder / "own_code.py", OWN_CODE)
    write(folder / "own.json", json.dumps({"document/letter": 1.0}))
    write(folder / "mine/tagger.yaml", "about: x\nengine: own_code:Tagger\ntaxonomy: small\n")
    write(folder / "pipelines/mappings/own.yaml", "about: x\nextends: small\nrules: [{tags: '**', never: [fine/**]}]\n")
    settings = ("tag.tagger=mine/tagger.yaml", "plan.mapping=own", "generate.engine={kind: 'own_code:Engine', gpus: 0}")
    with contextlib.chdir(folder):
        run("out", *(word for setting in settings for word in ("--set", setting)))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder in which the same names mean other files the current folder."""
    folder = write_definition_files(tmp_path / "elsewhere")
    write(folder / "own_code.py", "raise SystemExit('the code of another folder')\n")
    write(folder / "pipelines/mappings/own.yaml", "about: x\nrules: [{tags: '**', ask: {fine/**: 9}}]\n")
    monkeypatch.chdir(folder)
    return folder


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """Assert that this process has the same working folder and the same path of modules after the block."""
    before = (Path.cwd(), list(sys.path))
    yield
    assert (Path.cwd(), sys.path) == before


@pytest.mark.parametrize("places", [[("1-tagged", "images"), ("3-generated", "pairs")], [("0-listed", "objects")]])
def test_retry_elsewhere_uses_files_code_and_images_of_the_folder_that_the_run_was_started_in(
    own: Path, elsewhere: Path, tmp_path: Path, places: list[tuple[str, str]]
) -> None:
    out = shutil.copytree(own / "out", tmp_path / "copy")
    before, record = assignments(out), opened(out).record
    decided = set(decisions(out).values())
    names = [damage(out, *place) for place in places]
    with staying():
        done = CliRunner().invoke(app, ["retry", str(out), *(word for name in names for word in ("--partition", name))])
    assert done.exit_code == 0, done.output
    adds_up(out)
    assert assignments(out) == before and set(decisions(out).values()) == decided
    assert opened(out).record == record


def test_purge_elsewhere_uses_files_of_the_folder_that_the_run_was_started_in(
    own: Path, elsewhere: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(own / "out", tmp_path / "copy")
    record = opened(out).record
    with staying():
        done = CliRunner().invoke(app, ["purge", str(out), "0003.png"])
    assert done.exit_code == 0 and done.stdout.startswith("1 object purged from "), done.output
    adds_up(out)
    assert funnel_of(out, "tag").dropped == {"quarantined.purged": 1}
    assert opened(out).record == record


# --- purge ------------------------------------------------------------------------------------------------------------


def test_images_with_another_date_and_the_same_bytes_are_asked_nothing_again(copy: Path, finished: Path) -> None:
    before, asked, samples = pairs(copy), rows_written(copy, "3-generated/pairs"), sample_ids(copy)
    with touched((finished / "photos").glob("*.png")):
        run(str(copy))
    adds_up(copy)
    assert funnel_of(copy, "plan").dropped == {"same_bytes": 22}
    assert pairs(copy) == before and rows_written(copy, "3-generated/pairs") == asked
    assert sample_ids(copy) == samples
    run(str(copy))
    adds_up(copy)
    assert pairs(copy) == before, "and once more, by their old date"


def test_images_with_another_date_are_found_and_purged_after_a_repair_of_their_listing(
    copy: Path, finished: Path
) -> None:
    before, samples = pairs(copy), sample_ids(copy)
    with touched((finished / "photos").glob("*.png")):
        run(str(copy))
        listed = rows(copy, LIST, "objects")
        for path in (copy / "0-listed" / "objects").glob("e001-*"):
            path.write_bytes(b"damaged")
        for path in (copy / "5-shards" / "data").iterdir():
            path.unlink()
        names = [f"--partition=0-listed/{name}" for name in opened(copy).log(LIST).partitions if name < "e002"]
        shards = [f"--partition=5-shards/{name}" for name in opened(copy).log(PACK).partitions]
        synth("retry", str(copy), *names, *shards)
        assert rows(copy, LIST, "objects").keys() == listed.keys()
        adds_up(copy)
        assert pairs(copy) == before and sample_ids(copy) == samples
        synth("purge", str(copy), "0005.png", "--yes")
    adds_up(copy)
    assert funnel_of(copy, "tag").dropped == {"quarantined.purged": 2}


def test_a_purged_image_is_gone_with_all_that_was_made_of_it_and_stays_away(copy: Path, finished: Path) -> None:
    photo = finished / "photos" / "0003.png"
    purged = image_id(photo.read_bytes())
    asked = {key for key, row in assignments(copy).items() if row["image_id"] == purged}
    before, others = pairs(copy), {key for key in assignments(copy) if key not in asked}
    answers = {before[key][3] for key in asked if before[key][3]}
    assert asked and answers
    made = products(opened(copy))
    (copy / "embeddings").mkdir()  # of a text that no pair has: the purge looks for such
    gone_text = copy / "embeddings" / "model-part.parquet"
    pq.write_table(pa.table({"text": [1], "embedding": [np.ones(2, np.float16)]}, schema=EMBEDDED), gone_text)
    report = synth("purge", str(copy), "0003.png").stdout
    assert not gone_text.exists()
    remaining = products(opened(copy))
    gone = [pluralize(made[name] - remaining[name], name) for name in ("question", "pair", "sample")]
    assert report.startswith("2 objects purged from "), "the copy under another name goes too"
    # The number of partitions is one or two: buckets go by the whole uri, and the folder has another name each time.
    assert f": 1 image, {', '.join(gone)}; " in report and "1 sample;" in report
    assert made["pair"] > len(pairs(copy))
    adds_up(copy)
    assert set(assignments(copy)) == others
    assert pairs(copy) == {key: row for key, row in before.items() if key in others}
    tagging = funnel_of(copy, "tag")
    assert tagging.received == 41 and tagging.dropped == {"quarantined.purged": 2}
    texts = list(strings(copy, "3-generated", "5-shards"))
    assert texts and not [text for text in texts if purged in text or text in answers]
    listed = list((copy / "0-listed").rglob("*.parquet"))
    assert listed
    for path in listed:
        assert b"0003.png" not in path.read_bytes() and b"again.png" not in path.read_bytes()

    page = (copy / "5-shards" / "report.html").read_text()
    assert (
        "0003.png" not in page and "again.png" not in page and report.endswith(f"report: {copy}/5-shards/report.html\n")
    )

    (finished / "photos" / "0003-elsewhere.png").write_bytes(photo.read_bytes())
    with touched([photo]):
        run(str(copy))
    (finished / "photos" / "0003-elsewhere.png").unlink()
    adds_up(copy)
    assert set(assignments(copy)) == others
    tagging = funnel_of(copy, "tag")
    assert tagging.dropped == {"quarantined.purged": 4}, "the same bytes under another name, and touched, are known"
    unknown = synth("purge", str(copy), "agian.png", check=False)
    assert unknown.returncode == 2 and unknown.stderr.startswith(f"synth: {copy}: holds no image agian.png; ")


def files_of(out: Path) -> dict[str, int]:
    """Return the files of a folder with the times of their last change."""
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_a_dry_run_of_a_purge_counts_what_the_purge_then_takes_out_and_writes_nothing(
    copy: Path, finished: Path
) -> None:
    before, made = files_of(copy), products(opened(copy))
    same = image_id((finished / "photos" / "0003.png").read_bytes())
    shown = synth("purge", str(copy), "0003.png", "0006.jpg", same, "--dry-run").stdout.splitlines()
    assert files_of(copy) == before
    by_name = {line.partition(": ")[0]: line.partition(": ")[2] for line in shown[:-1]}
    assert list(by_name) == ["0003.png", "0006.jpg", same, "in all"]
    assert by_name["0003.png"] == by_name[same] and by_name["0003.png"].startswith("2 objects, 1 image, ")
    assert by_name["0006.jpg"].startswith("1 object, 1 image, ") and by_name["in all"].startswith("3 objects, 2 images")
    assert shown[-1] == "dry run: nothing was written"
    report = synth("purge", str(copy), "0003.png", "0006.jpg").stdout
    left = products(opened(copy))
    gone = ", ".join(pluralize(made[name] - left[name], name) for name in ("question", "pair", "sample"))
    assert by_name["in all"] == f"3 objects, 2 images, {gone}" and f": 2 images, {gone};" in report
    again = synth("purge", str(copy), same, "--dry-run").stdout.splitlines()
    assert again[0] == f"{same}: was purged already" and again[1].startswith("in all: 0 objects, ")


def test_a_dry_run_of_a_purge_refuses_what_the_purge_would(copy: Path) -> None:
    unknown = synth("purge", str(copy), "0003.png", "agian.png", "--dry-run", check=False)
    assert unknown.returncode == 2 and unknown.stderr.startswith(f"synth: {copy}: holds no image agian.png; ")
    nameless = synth("purge", str(copy), "--dry-run", check=False)
    assert nameless.returncode == 2 and "--dry-run shows what would go with the images named" in nameless.stderr


def purge_on_a_terminal(out: Path, typed: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Purge an image where stdin is a terminal, on which a line was typed already."""
    own, terminal = pty.openpty()
    os.write(own, f"{typed}\n".encode())
    command = [sys.executable, "-m", "synthgen", "purge", str(out), "0006.jpg", *options]
    try:
        return subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=PATIENCE, check=False)
    finally:
        os.close(own)
        os.close(terminal)


@pytest.mark.parametrize("typed", ["n", ""])
def test_a_purge_on_a_terminal_asks_first_and_deletes_nothing_without_a_yes(copy: Path, typed: str) -> None:
    before = files_of(copy)
    refused = purge_on_a_terminal(copy, typed)
    assert refused.returncode == 1 and files_of(copy) == before and not refused.stdout.strip()
    assert "0006.jpg: 1 object, 1 image, " in refused.stderr and "delete? [y/N]" in refused.stderr
    assert refused.stderr.endswith("nothing was deleted\n")


@pytest.mark.parametrize(("typed", "options"), [("y", ()), ("", ("--yes",))])
def test_a_purge_on_a_terminal_goes_on_after_a_yes(copy: Path, typed: str, options: tuple[str, ...]) -> None:
    done = purge_on_a_terminal(copy, typed, *options)
    assert done.returncode == 0 and "1 object purged from " in done.stdout, done.stderr
    assert ("delete? [y/N]" in done.stderr) == (not options)


@pytest.mark.parametrize("killed_at", ["1-tagged", "3-generated", "select", "collect_garbage"])
def test_a_run_after_a_killed_purge_is_refused_until_the_purge_is_finished(
    copy: Path, finished: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged = image_id((finished / "photos" / "0006.jpg").read_bytes())
    rewrite = purge._rewrite

    def die_in_stage(folder: RunFolder, spec: StageSpec, *rest: Any) -> bool:
        if spec.folder == killed_at:
            raise KeyboardInterrupt
        return rewrite(folder, spec, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(purge, "_rewrite", die_in_stage)
        patch.setattr(purge, "run" if killed_at == "select" else "collect_garbage", die)
        purge.purge(opened(copy), job.reopen(opened(copy)), [purged])
    message = f"a purge was cut short here; finish it with: synth purge {copy}"
    for options in ([], ["--from", "pack"]):
        stopped = run(str(copy), *options, check=False)
        assert (stopped.returncode, stopped.stderr.splitlines()[-1]) == (2, f"synth: {copy}: {message}")
    assert synth("status", str(copy)).stdout.endswith(f"{message}\n")
    synth("purge", str(copy))
    adds_up(copy)
    texts = list(strings(copy, "2-planned", "3-generated", "5-shards"))
    assert texts and not [text for text in texts if purged in text]
    again = synth("purge", str(copy), check=False)
    assert again.returncode == 2
    assert "no purge was cut short here; name images by id, uri or file name" in again.stderr
    assert purged not in {row["image_id"] for row in assignments(copy).values()}
    before = pairs(copy)
    run(str(copy))
    assert pairs(copy) == before


def die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_purge_that_fails_in_pack_says_that_it_is_half_done_and_status_counts_what_is_still_to_go(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, whole = funnel_of(copy, "pack").passed, running.run

    def run_until_pack(folder: RunFolder, job: Job, request: RunRequest, stages: StageRange) -> None:
        whole(folder, job, request, replace(stages, last="select"))
        raise SynthError("a disk is full")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("synthgen.commands.purge.run", run_until_pack)
        run_command(lambda: purge.purge(opened(copy), job.reopen(opened(copy)), ["0006.jpg"]))
    finish = f"finish it with: synth purge {copy}"
    assert capsys.readouterr().err.splitlines()[-1] == f"synth: a disk is full; the purge is half done; {finish}"
    lines, kept = synth("status", str(copy)).stdout.splitlines(), funnel_of(copy, "select").passed
    assert 0 < kept < packed
    assert f"pack {kept:,} {packed:,} 0 0 pairs kept".split() in [line.split() for line in lines]
    assert f"pack: still to be taken out of what it wrote: {packed - kept} pairs kept" in lines
    assert lines[-1] == f"a purge was cut short here; {finish}" and "next run" not in "".join(lines)
    shown = json.loads(synth("status", str(copy), "--json").stdout)["stages"][-1]
    assert (shown["pending"], shown["superseded"]) == (0, packed - kept)
    synth("purge", str(copy))
    adds_up(copy)


@pytest.mark.parametrize(("module", "killed_at"), [(purge, "extend_denylist"), (run_record, "start_change")])
def test_a_purge_killed_at_its_start_is_never_reported_as_finished(
    copy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, module: Any, killed_at: str
) -> None:
    purged = image_id((finished / "photos" / "0006.jpg").read_bytes())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, killed_at, die)
        purge.purge(opened(copy), job.reopen(opened(copy)), [purged])
    without_names = synth("purge", str(copy), check=False)
    assert without_names.returncode == 2 or purged not in {row["image_id"] for row in assignments(copy).values()}
    synth("purge", str(copy), purged)
    adds_up(copy)
    assert purged not in {row["image_id"] for row in assignments(copy).values()}


def test_retired_pairs_stay_retired_when_their_partition_loses_an_image(copy: Path) -> None:
    run(str(copy), "--set", "plan.per_image=2", "--update")
    retired = {key for key, reason in decisions(copy).items() if reason == "retired"}
    synth("purge", str(copy), "0006.jpg")
    assert_complete(copy)
    remaining = {key: reason for key, reason in decisions(copy).items() if key in retired}
    assert remaining and set(remaining.values()) == {"retired"}


def test_other_definition_files_are_reported_before_anything_is_purged(copy: Path, finished: Path) -> None:
    before, pack = snapshot(copy), finished / "prompts" / "small.yaml"
    text = pack.read_text()
    pack.write_text(text.replace("Brief.", "Be brief."))
    try:
        stopped = synth("purge", str(copy), image_id((finished / "photos" / "0006.jpg").read_bytes()), check=False)
    finally:
        pack.write_text(text)
    assert stopped.returncode == 2 and f"It was started in {finished}" in stopped.stderr
    assert snapshot(copy) == before
