"""Instruction sets that are imported: scored, killed and resumed, exported, and mixed.

The model of the scoring pass is a script. A kill is SIGKILL of the whole process group of a real run.
"""

import contextlib
import json
from pathlib import Path

import pytest

from synthgen.tables import GENERATE, SCORE, TAG
from tests.fixtures.instructions import llava, write_images, write_json
from tests.fixtures.runs import adds_up, kill_once, pairs, rows, start, synth
from tests.fixtures.workspace import write

pytestmark = pytest.mark.usefixtures("workers_here")
SLOW = "{model: two, scores: [likelihood], engine: {kind: scripted, in_flight: 2, options: {seconds: 0.05}}}"
MORE = ("--set", f"score.loss={SLOW}", "--set", "tag.batch=8", "--set", "select.keep={loss.likelihood: {drop: 0.1}}")
ROWS = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a set of some rows, one of which is refused, and the import of it in `out`."""
    folder = tmp_path_factory.mktemp("importing")
    write_images(folder / "photos", ROWS)
    questions = [(f"What is picture {n}?", f"Number {n}.") for n in range(ROWS)]
    said = [llava(f"{n}.jpg", [questions[n], ("And then?", f"Then {n + 1}.")], id=n) for n in range(ROWS)]
    write_json(folder / "set.json", [*said, llava("../x.jpg")])
    with contextlib.chdir(folder):
        done = synth("import", "set.json", "--root", "photos", "--license", "CC0", "--out", "out", *MORE)
        (folder / "said").write_text(done.stdout)
    return folder


def test_rows_are_accounted_for_scored_and_told_of(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    said = (made / "said").read_text()
    counts = [line.split(maxsplit=1) for line in said.splitlines()[:5]]
    assert counts[0] == [f"{ROWS + 1}", "rows"] and counts[2] == ["1", "path_refused"]
    kept, dropped = int(counts[1][0]), int(counts[3][0])
    assert kept + dropped == ROWS and counts[3][1] == "select kept no turn of it"
    assert "every row is accounted for" in said and "(imported/turn; loss_likelihood 0." in said
    adds_up(made / "out")
    values = rows(made / "out", SCORE, "scores/loss.likelihood")
    assert len(values) == len(pairs(made / "out")) and all(row["value"] is not None for row in values.values())
    (line,) = synth("status", "out", "--reason", "path_refused").stdout.splitlines()
    assert line.startswith("set.json row 31  quarantined.path_refused  names a path outside of ")
    for command in (("plan", "--out", "out"), ("reask", "out")):
        refused = synth(*command, check=False)
        assert refused.returncode == 2 and refused.stderr.splitlines()[-1].endswith(
            f"its pairs were imported, so synth {command[0]} has nothing to ask; see docs/importing.md"
        )


def test_an_import_that_is_killed_ends_as_one_that_is_not(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    words = ("import", "set.json", "--root", "photos", "--license", "CC0", "--out", "killed", *MORE)
    kill_once(start(*words), lambda: rows(made / "killed", TAG, "images"))
    assert not rows(made / "killed", SCORE, "scores/loss.likelihood")
    report = json.loads(synth(*words, "--json").stdout)
    assert report["pending"] == 0 and report["kept"] + sum(report["dropped"].values()) == report["rows"] == ROWS + 1
    for spec, table in ((TAG, "images"), (GENERATE, "pairs"), (SCORE, "scores/loss.likelihood")):
        assert rows(made / "killed", spec, table).keys() == rows(made / "out", spec, table).keys()


def test_a_mixture_of_it_is_written_read_and_not_taken_for_a_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    sets = "{first: {folder: out, stage: 1, most: 5}, rest: {folder: out, stage: 2}}"
    write(Path("pipelines/mixtures/mine.yaml"), f"about: A set in two stages.\nsets: {sets}\n")
    mixed = synth("mix", "mine", "--out", "mixed")
    assert mixed.stdout.splitlines()[-1].startswith("2 shards, ")
    synth("export", "mixed", "told", "--to", "llava")
    names = [row["id"] for row in json.loads((made / "told" / "data.json").read_text())]
    first, rest = names[:5], names[5:]
    assert len(set(rest)) == len(rest) and len(set(first)) == 5 and set(first) < set(rest)
    refused = synth("select", "mixed", check=False)
    assert refused.returncode == 2 and "holds the mixture 'mine', which has shards alone" in refused.stderr
