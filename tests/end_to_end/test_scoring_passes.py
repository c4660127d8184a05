"""Scoring passes in whole runs: added to a finished folder, killed, resumed, retried and purged.

The runs are real processes with real Ray; the models are scripts. A kill is SIGKILL of the whole process group.
"""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import pytest

import synthgen
from synthgen.tables import GENERATE, SCORE
from tests.fixtures.runs import adds_up, kill_once, pairs, rows, run, start, synth, synth_process, words_of_run
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

SLOW = "engine: {kind: scripted, in_flight: 2, options: {seconds: 0.05}}"
SECOND = ("--set", f"score.second={{model: two, scores: [answer, likelihood], {SLOW}}}")
THIRD = ("--set", f"score.third={{model: three, scores: [question], {SLOW}}}")
SCORES = ("second.answer", "second.likelihood", "third.question")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a finished run in `done`, and in `whole` the same with two passes added undisturbed."""
    folder = write_definition_files(tmp_path_factory.mktemp("passes"))
    make_images(folder / "photos", 70)
    with contextlib.chdir(folder):
        run("done")
        shutil.copytree("done", "whole")
        noted = synth_process("run", "--out", "whole", "--update", *SECOND, *THIRD)
        (folder / "notes").write_text(noted.stderr)
    return folder


def checksums(out: Path, *stages: str) -> dict[str, str]:
    """Return the checksum of each file of some stages."""
    files = (path for stage in stages for path in (out / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scores(out: Path) -> dict[str, dict[str, dict[str, object]]]:
    return {name: rows(out, SCORE, f"scores/{name}") for name in SCORES}


def is_scored(out: Path) -> bool:
    """Return whether nothing is pending in any pass, by the status."""
    counts = json.loads(synth("status", str(out), "--json").stdout)["scores"]
    found = {each["name"]: each for each in counts}
    assert set(found) == set(SCORES)
    assert all(each["received"] == len(pairs(out)) for each in counts)
    return not any(each["pending"] for each in counts)


def test_two_passes_are_added_to_a_finished_run_whose_pairs_stay_as_they_are(made: Path) -> None:
    adds_up(made / "whole")
    assert is_scored(made / "whole")
    assert checksums(made / "done", "1-tagged", "2-planned", "3-generated") == checksums(
        made / "whole", "1-tagged", "2-planned", "3-generated"
    )
    assert all(row["value"] is not None for of in scores(made / "whole").values() for row in of.values())
    card = (made / "whole/5-shards/README.md").read_text()
    assert "| Scored by second | two at scripted" in card and "second.answer, second.likelihood |" in card
    samples = synthgen.load_samples(made / "whole")
    assert {"score_second_answer", "score_second_likelihood", "score_third_question"} <= set(samples.column_names)
    assert all(None not in sample["score_second_answer"] for sample in samples)


def test_passes_that_fit_on_the_machine_run_side_by_side(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their partitions are committed in turn, and the run says so."""
    monkeypatch.chdir(made)
    notes = (made / "notes").read_text()
    assert "score: passes run in this order: second and third side by side" in notes
    commits = sorted((made / "whole/3-scored/commits").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    order = [path.name.split(".")[1] for path in commits]
    assert len(order) > 4 and order != sorted(order)
    assert "second and third side by side" in synth("plan", "--out", "done", *SECOND, *THIRD).stdout


def test_a_pass_whose_run_is_killed_and_started_again_equals_an_unbroken_one(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    shutil.copytree("done", "killed")
    before = checksums(made / "killed", "1-tagged", "2-planned", "3-generated")
    process = start("run", "--out", "killed", "--update", *SECOND, *THIRD)
    kill_once(process, lambda: list((made / "killed/3-scored").rglob("*.json")))
    committed = len(list((made / "killed/3-scored/commits").glob("*.json")))
    whole = len(list((made / "whole/3-scored/commits").glob("*.json")))
    assert 0 < committed < whole, "it was killed between two partitions"
    assert "an update of score" in synth("status", "killed").stdout
    synth("run", "--out", "killed")
    assert is_scored(made / "killed")
    assert scores(made / "killed") == scores(made / "whole")
    assert checksums(made / "killed", "1-tagged", "2-planned", "3-generated") == before
    adds_up(made / "killed")


def test_a_pass_that_dies_on_an_image_costs_its_scores_and_a_retry_brings_them(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 12)
    poison = hashlib.sha256(photos[5].read_bytes()).hexdigest()[:32]
    deadly = (
        f"score.second={{model: two, scores: [answer], engine: {{kind: scripted, options: {{exit_on: {poison}}}}}}}"
    )
    synth_process(*words_of_run("out", "--set", deadly))
    found = rows(workspace / "out", SCORE, "scores/second.answer")
    dead = {key for key, row in found.items() if row["reason"]}
    assert len(dead) == 3 and len(found) == 36
    assert all(str(found[key]["reason"]).startswith("poison: the engine died on this image alone") for key in dead)
    listed = synth("status", "out", "--reason", "poison").stdout.splitlines()
    assert len(listed) == 3 and all("second.answer.poison" in line for line in listed)
    synth("run", "--out", "out", "--set", "score.second={model: two, scores: [answer], engine: {kind: scripted}}")
    synth("retry", "out", "--reason", "poison")
    again = rows(workspace / "out", SCORE, "scores/second.answer")
    assert all(row["value"] is not None for row in again.values())
    samples = synthgen.load_samples(workspace / "out")
    assert all(None not in sample["score_second_answer"] for sample in samples), "the shards have got them"


def test_a_purge_reaches_the_scores_and_removes_their_files(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    shutil.copytree("whole", "purged")
    gone = {
        row["pair_id"]
        for row in rows(made / "purged", GENERATE, "pairs").values()
        if row["image_id"] == hashlib.sha256((made / "photos/0003.png").read_bytes()).hexdigest()
    }
    assert gone and all(gone <= of.keys() for of in scores(made / "purged").values())
    synth("purge", "purged", "0003.png")
    assert not any(gone & of.keys() for of in scores(made / "purged").values())
    held = [
        path
        for path in (made / "purged/3-scored").rglob("*.parquet")
        if any(key.encode() in read(path) for key in gone)
    ]
    assert not held
    assert is_scored(made / "purged") and "nothing to do" in synth("run", "--out", "purged").stderr
    synth("gc", "purged")


def read(path: Path) -> bytes:
    """Return the ids in a file of scores, uncompressed."""
    import pyarrow.parquet as pq

    return "".join(pq.read_table(path, columns=["pair_id"]).column("pair_id").to_pylist()).encode()


def test_a_pass_is_removed_and_select_no_longer_takes_its_score(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    shutil.copytree("whole", "fewer")
    kept = checksums(made / "fewer", "3-generated", "3-scored")
    refused = synth("run", "--out", "fewer", "--set", "score={}", check=False)
    assert "the scoring pass 'second' is gone; the scoring pass 'third' is gone" in refused.stderr
    synth("run", "--out", "fewer", "--update", "--set", "score={}")
    assert checksums(made / "fewer", "3-generated", "3-scored") == kept
    status = synth("status", "fewer").stdout
    assert len([line for line in status.splitlines() if line.endswith("removed")]) == 3
    assert "no run is at work here" in status and "continues with what is pending" not in status
    assert not any(name.startswith("score_second") for name in synthgen.load_samples("fewer").column_names)
    limit = ("--from", "select", "--set", "select.keep.second.answer.min=1")
    assert "no scoring pass is called 'second'" in synth("run", "--out", "fewer", *limit, check=False).stderr


def test_the_stages_of_a_range_take_score_as_one(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    second = ("--set", "score.second={model: two, scores: [answer]}")
    run("out", *second, "--until", "score")
    assert (workspace / "out/3-scored/commits").exists() and not (workspace / "out/4-selected").exists()
    stricter = synth(
        "run", "--out", "out", "--from", "select", "--set", "select.keep={second.answer: {min: 2.99}}", check=False
    )
    assert "0 pairs were kept" in stricter.stderr and "score:second.answer" in stricter.stderr
    synth("run", "--out", "out", "--from", "select", "--set", "select.keep={second.answer: {min: 2}}")
    adds_up(workspace / "out")
