"""Every example works as it stands, with the scripted engine in place of its model."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

import synthgen
from synthgen.store import Folder, RunFolder
from synthgen.tables import GENERATE
from tests.fixtures.runs import synth
from tests.fixtures.workspace import ROOT, make_images, write

pytestmark = pytest.mark.usefixtures("ray_running")
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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))


def settings_in_readme(example: str) -> list[str]:
    """Return the `--set` of the first run that the README of an example shows."""
    text = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("synth run "))
    words = shlex.split(line)
    return [word for flag, value in pairwise(words) if flag == "--set" for word in (flag, value)]


@pytest.mark.parametrize(("example", "score"), [("custom_score", "plainness"), ("second_judge", "second_opinion")])
def test_the_command_of_the_readme_is_accepted(
    example: str, score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It measures every score that has a threshold in `everyday`."""
    install(ROOT / "examples" / example, tmp_path, monkeypatch)
    settings = settings_in_readme(example)
    assert score in settings[1]
    assert "no mistakes" in synth("check", "--pipeline", "everyday", *settings).stdout


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
    synth("run", "photos", "--out", "data", "--pipeline", "small", *scores)
    values = [value for sample in synthgen.load_samples("data") for value in sample["score_plainness"]]
    assert values and all(0 <= value <= 1 for value in values)
    strict = ("--from", "select", "--set", "select.keep.plainness.min=1.01")
    assert "0 pairs were kept" in synth("run", "--out", "data", *strict, check=False).stderr


def test_a_custom_source_is_installed_listed_and_read(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(ROOT / "examples" / "custom_source", tmp_path, monkeypatch)
    make_images(workspace / "photos", 4)
    with tarfile.open(workspace / "photos.tar", "w") as archive:
        for path in sorted((workspace / "photos").iterdir()):
            archive.add(path, path.name)
    synth("run", "tar:*.tar", "--out", "data", "--pipeline", "small", "--set", "select.keep={}")
    samples = list(synthgen.load_samples("data"))
    names = {f"photos.tar#{path.name}" for path in (workspace / "photos").iterdir() if path.suffix != ".json"}
    assert {uri for sample in samples for uri in sample["uris"]} == names
    assert {tag["path"] for sample in samples for tag in sample["tags"]} >= {"animal/cat", "document/invoice"}


class Judge(BaseHTTPRequestHandler):
    """An endpoint that says yes to every other question."""

    calls: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Judge.calls.append(asked["messages"][0]["content"][1]["text"])
        verdict = "yes" if len(Judge.calls) % 2 else "No."
        message = {"role": "assistant", "content": verdict}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SECOND_JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("SECOND_JUDGE_MODEL", "m")
    yield
    server.shutdown()
    server.server_close()


def test_a_second_judge_is_asked_about_each_pair(
    judge: None, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(ROOT / "examples" / "second_judge", tmp_path, monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS")  # workers of a cluster that runs already do not have the judge's variables
    make_images(workspace / "photos", 3)
    scores = ("--set", "generate.scores=[likelihood, second_opinion]", "--set", "select.keep={}")
    synth("run", "photos", "--out", "data", "--pipeline", "small", *scores)
    values = [value for sample in synthgen.load_samples("data") for value in sample["score_second_opinion"]]
    assert len(Judge.calls) == pairs(workspace / "data") >= len(values) > 0
    assert set(values) == {0.0, 1.0}


def test_samples_are_exported_as_llava_json(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(workspace / "photos", 3)
    synth("run", "photos", "--out", "data", "--pipeline", "small", "--set", "select.keep={}")
    script = ROOT / "examples" / "export_llava" / "export_llava.py"
    done = subprocess.run([sys.executable, str(script), "data", "llava"], capture_output=True, text=True, check=True)
    records = json.loads((workspace / "llava/data.json").read_text())
    assert done.stdout == f"{len(records)} samples\n" and len(records) == 3
    for record in records:
        assert (workspace / "llava/images" / record["image"]).is_file()
        turns = record["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert turns[0]["value"].count("<image>") == 1
