"""Every example works as it stands, with the scripted engine in place of its model."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

import synthgen
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE
from tests.fixtures.runs import synth, synth_process
from tests.fixtures.workspace import ROOT, make_images, write

pytestmark = pytest.mark.usefixtures("workers_here")
SCRIPTED = ("--set", "generate.engine={kind: scripted}")
SIDECAR = "about: tags beside the image\nengine: sidecar\ntaxonomy: everyday\n"


def open_example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy an example with six photographs into a folder, and work there."""
    shutil.copytree(ROOT / "examples" / name, folder / name)
    monkeypatch.chdir(folder / name)
    make_images(folder / name / "photos", 6)
    return folder / name


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return open_example(request.param, tmp_path, monkeypatch)


def pairs(out: Path) -> int:
    return RunFolder(Folder(str(out))).log(GENERATE).counts().get("pair", 0)


def install(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package of an example as pip does, into a folder on the path of later processes."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    subprocess.run(build, cwd=example, check=True, capture_output=True)
    [wheel] = (tmp_path / "wheel").glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    )


def settings_in_readme(example: str) -> list[str]:
    """Return the `--set` of the first run that the README of an example shows."""
    text = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("synth run "))
    words = shlex.split(line)
    return [word for flag, value in pairwise(words) if flag == "--set" for word in (flag, value)]


def test_the_command_of_the_readme_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures every score that has a threshold in `everyday`."""
    install(ROOT / "examples" / "custom_score", tmp_path, monkeypatch)
    settings = settings_in_readme("custom_score")
    assert "plainness" in settings[1]
    assert "no mistakes" in synth_process("check", "--pipeline", "everyday", *settings).stdout


def test_every_example_is_in_the_index_and_is_run_here() -> None:
    folders = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()}
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    assert len(folders) >= 7
    for name in folders:
        assert f"({name})" in index and f'"{name}"' in tests, name


@pytest.mark.parametrize(
    ("example", "pipeline"),
    [("photos_on_one_gpu", "photos"), ("served_model", "served")],
    indirect=["example"],
)
def test_a_pipeline_runs_with_another_tagger_and_engine(example: Path, pipeline: str) -> None:
    assert "no mistakes" in synth("check", "--pipeline", pipeline).stdout
    write(example / "taggers/beside.yaml", SIDECAR)
    for path in (example / "photos").glob("*.json"):
        path.write_text(json.dumps({"tags": ["cat"]}))
    settings = (
        "--set",
        "source.sidecar=.json",
        "--set",
        "tag.tagger=beside",
        "--set",
        "plan.near_duplicates=-1",
        "--set",
        "tag.gpus=0",
    )
    done = synth("run", "photos", "--out", "data", "--pipeline", pipeline, *settings, *SCRIPTED)
    assert pairs(example / "data") > 0, done.stderr


@pytest.mark.parametrize("example", ["custom_tagger"], indirect=True)
def test_a_custom_tagger_tags_and_its_mapping_asks(example: Path) -> None:
    synth("run", "photos", "--out", "data", "--pipeline", "light", *SCRIPTED)
    assert pairs(example / "data") > 0
    samples = synthgen.load_samples("data")
    found = {tag["path"] for sample in samples for tag in sample["tags"]}
    assert found and found <= {"light/dark", "light/even", "light/bright"}


def test_a_custom_score_is_installed_measured_and_judged(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(ROOT / "examples" / "custom_score", tmp_path, monkeypatch)
    make_images(workspace / "photos", 4)
    scores = ("--set", "generate.scores=[likelihood, plainness]", "--set", "select.keep={}")
    synth_process("run", "photos", "--out", "data", "--pipeline", "small", *scores)
    values = [value for sample in synthgen.load_samples("data") for value in sample["score_plainness"]]
    assert values and all(0 <= value <= 1 for value in values)
    strict = ("--from", "select", "--set", "select.keep.plainness.min=1.01")
    assert "0 pairs were kept" in synth_process("run", "--out", "data", *strict, check=False).stderr


def test_a_custom_source_is_installed_listed_and_read(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(ROOT / "examples" / "custom_source", tmp_path, monkeypatch)
    make_images(workspace / "photos", 4)
    with tarfile.open(workspace / "photos.tar", "w") as archive:
        for path in sorted((workspace / "photos").iterdir()):
            archive.add(path, path.name)
    synth_process("run", "tar:*.tar", "--out", "data", "--pipeline", "small", "--set", "select.keep={}")
    samples = list(synthgen.load_samples("data"))
    names = {f"photos.tar#{path.name}" for path in (workspace / "photos").iterdir() if path.suffix != ".json"}
    assert {uri for sample in samples for uri in sample["uris"]} == names
    assert {tag["path"] for sample in samples for tag in sample["tags"]} >= {"animal/cat", "document/invoice"}


@pytest.mark.parametrize("example", ["second_judge"], indirect=True)
def test_a_second_judge_scores_each_pair_and_another_is_added_to_a_finished_run(example: Path) -> None:
    write(example / "taggers/beside.yaml", SIDECAR)
    for path in (example / "photos").glob("*.json"):
        path.write_text(json.dumps({"tags": ["cat"]}))
    small = ("source.sidecar=.json", "tag.tagger=beside", "plan.near_duplicates=-1", "select.keep={}")
    settings = [word for setting in small for word in ("--set", setting)]
    judge = ("--set", "score.second.engine={kind: scripted}")
    synth("run", "photos", "--out", "data", "--pipeline", "judged", *settings, *SCRIPTED, *judge)
    samples = list(synthgen.load_samples("data"))
    values = [value for sample in samples for value in sample["score_second_p_true"]]
    assert pairs(example / "data") >= len(values) > 0 and None not in values
    third = ("--set", "score.third={model: other, scores: [p_true], engine: {kind: scripted}}")
    synth("run", "--out", "data", "--update", *third)
    again = list(synthgen.load_samples("data"))
    assert [sample["id"] for sample in again] == [sample["id"] for sample in samples]
    assert all(len(sample["score_third_p_true"]) == len(sample["pair_ids"]) for sample in again)


def test_samples_are_exported_in_a_form_of_ones_own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(workspace / "photos", 3)
    forms = ("--set", "plan.forms={short: 1, brief: 1}", "--set", "select.keep={}")
    synth("run", "photos", "--out", "data", "--pipeline", "small", *forms)
    script = ROOT / "examples" / "custom_export" / "export_captions.py"
    done = subprocess.run([sys.executable, str(script), "data", "mine"], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in (workspace / "mine/captions.jsonl").read_text().splitlines()]
    assert done.stdout == f"{len(rows)} captions\n" and rows
    assert all((workspace / "mine" / row["image"]).is_file() and row["text"] for row in rows)
