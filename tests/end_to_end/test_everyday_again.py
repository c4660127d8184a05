"""The shipped pipeline `everyday` from start to start, on a few images with their tags, with the scripted engine."""

import json
from pathlib import Path

import pytest
from PIL import Image

from synthgen.config import pipeline as pipelines
from synthgen.job.job import open_job
from synthgen.store import Folder
from tests.fixtures.runs import synth
from tests.fixtures.workspace import ROOT

pytestmark = pytest.mark.usefixtures("workers_here")

SETTINGS = (
    *("--set", "generate.engine={kind: scripted}", "--set", "tag.tagger=everyday-sidecar"),
    *("--set", "source.sidecar=.json"),
)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "pipelines").glob("*.yaml")))
def test_what_shapes_the_rows_of_a_shipped_pipeline_is_the_same_when_it_is_read_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    settings = ["generate.engine={kind: scripted}", "source.uri=demo/images"]
    settings += ["tag.tagger=everyday-sidecar"] if name == "everyday" else []
    shape = open_job(Folder(str(tmp_path / "out")), pipelines.load(name, settings)).shape
    assert json.loads(json.dumps(shape)) == shape, "a run compares its shape with that in the record"


def said(*words: str) -> str:
    """Run a command that must succeed; return what it said."""
    done = synth(*words)
    return done.stdout + done.stderr


def test_a_folder_of_the_everyday_pipeline_goes_on_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, tag in enumerate(("dog", "pizza", "invoice")):
        Image.linear_gradient("L").rotate(number * 90).resize((320, 240)).convert("RGB").save(photos / f"{tag}.png")
        (photos / f"{tag}.json").write_text(json.dumps({"tags": [tag]}))
    said("run", "photos", "--out", "data", *SETTINGS)
    assert "nothing to do" in said("run", "--out", "data")
    assert "kept" in said("run", "--out", "data", "--from", "select", "--set", "select.keep.p_true.min=0.01")
    assert "dog.png" in said("purge", "data", "dog.png", "--dry-run")


@pytest.mark.parametrize("command", [["run", "photos", "--out", "data"], ["preview", "photos/dog.png"]])
def test_a_tagger_of_tags_that_come_along_is_refused_where_none_do(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "dog.png")
    done = synth(*command, *SETTINGS[:4], "--pipeline", "everyday", check=False)
    assert done.returncode == 2 and "source.sidecar=.json for a JSON file" in done.stderr.splitlines()[-1]
