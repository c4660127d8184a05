"""Sets of images through a whole run: asked about as one, packed, shown, exported, grown and purged."""

import contextlib
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synthgen.cli import app
from synthgen.config import pipeline as pipelines
from synthgen.errors import Mistakes
from synthgen.job import resolve
from synthgen.tables import GENERATE, LIST, PLAN, TAG, image_id, is_set
from tests.fixtures.runs import adds_up, assert_complete, rows, synth
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write, write_definition_files

FAMILY, MAPPING = "prompts/families/small.yaml", "pipelines/mappings/small.yaml"
SETS = {
    FAMILY: DEFINITION_FILES[FAMILY]
    + """\
  sets:
    about: several images
    types:
      compare: {of: set, about: differences, needs: two, forms: [short, choice], examples: ["Which?", "What differs?"]}
      all: {of: set, about: all, needs: two, forms: [brief], examples: ["What do all show?", "What links them?"]}
""",
    MAPPING: DEFINITION_FILES[MAPPING] + '  - tags: "**"\n    ask: {sets/**: 1}\n',
}
GROUPED = ("--set", r"source.group_by=(?P<set>[a-z]+)_\d+\.\w+$")
NAMES = ("a_1", "a_2", "a_10", "b_1", "b_2", "alone", "c_1")


def add_images(folder: Path, names: Sequence[str]) -> None:
    """Write images, each with its metadata beside it, under other names than `make_images` gives them."""
    for path, name in zip(make_images(folder.parent / "made" / names[0], len(names)), names, strict=True):
        folder.mkdir(exist_ok=True)
        path.rename(folder / (name + path.suffix))
        path.with_suffix(".json").rename(folder / f"{name}.json")


@pytest.fixture(scope="module")
def finished(workers_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working folder with types of sets, images of which some belong together, and a finished run."""
    folder = write_definition_files(tmp_path_factory.mktemp("sets"))
    for name, text in SETS.items():
        write(folder / name, text)
    add_images(folder / "photos", NAMES)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", *GROUPED)
    return folder


@pytest.fixture
def world(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the finished working folder as the current one; `out` is a copy, and images that are added go again."""
    before = set((finished / "photos").iterdir())
    monkeypatch.chdir(finished)
    shutil.copytree(finished / "out", tmp_path / "out")
    yield tmp_path
    for path in set((finished / "photos").iterdir()) - before:
        path.unlink()


def invoke(*words: str) -> str:
    """Run a command in this process; it must succeed."""
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def samples(out: Path) -> list[dict[str, Any]]:
    """Return the rows of all shards."""
    files = sorted((out / "5-shards/data").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def named(*names: str) -> list[str]:
    """Return the image ids of images of the source by their names without suffix."""
    return [image_id(next(Path("photos").glob(f"{name}.[jp][pn]g")).read_bytes()) for name in names]


def test_sets_are_asked_by_types_of_their_own_and_packed_whole(world: Path) -> None:
    out = world / "out"
    adds_up(out)
    listed = {row["uri"].rpartition("#")[2].rpartition("/")[2]: row for row in rows(out, LIST, "objects").values()}
    assert set(listed) == {"a", "b", "alone.png", "c_1.jpg"}
    tagged = rows(out, TAG, "images")
    assert tagged[listed["a"]["object_id"]]["members"] == named("a_1", "a_2", "a_10")
    assert tagged[listed["c_1.jpg"]["object_id"]]["members"] is None
    uris = {row["image_id"]: row["uri"] for row in rows(out, PLAN, "images").values()}
    asked = [(is_set(uris[row["image_id"]]), row["type"]) for row in rows(out, GENERATE, "pairs").values()]
    assert len(asked) == 12 and all(of_set == kind.startswith("sets/") for of_set, kind in asked)
    packed = {row["object_id"]: row for row in samples(out)}[listed["a"]["object_id"]]
    assert [Path(image["path"]).stem for image in packed["images"]] == named("a_1", "a_2", "a_10")
    assert [part["type"] for part in packed["messages"][0]["content"]] == ["image"] * 3 + ["text"]
    assert packed["uris"][0] == "set:a" and len(packed["uris"]) == 4
    assert all(uri.startswith(("a_", "set:")) for uri in packed["uris"]), "no folder of this machine"


def test_sets_are_exported_where_the_form_takes_several_images(world: Path) -> None:
    [of_set] = [row for row in samples(world / "out") if "set:a" in row["uris"]]
    for form in ("llava", "sharegpt", "lmms-eval", "webdataset"):
        invoke("export", str(world / "out"), str(world / form), "--to", form)
    for form, key in (("sharegpt", "images"), ("llava", "image")):
        found = {row["id"]: row for row in json.loads((world / form / "data.json").read_text())}[of_set["id"]]
        assert len(found[key]) == 3 and found["conversations"][0]["value"].startswith("<image>\n" * 3)
        assert all((world / form / path).is_file() for path in found[key])
    left_out = [json.loads(line) for line in (world / "lmms-eval/left_out.jsonl").read_text().splitlines()]
    assert {"id": of_set["pair_ids"][0], "reason": "several_images"} in left_out
    with tarfile.open(next((world / "webdataset").glob("*.tar"))) as tar:
        assert f"{of_set['id']}.2.jpg" in tar.getnames()


def test_whoever_purges_an_image_purges_its_sets_and_no_later_set_brings_it_back(world: Path) -> None:
    out, gone = world / "out", named("a_2")[0]
    of_set = next(row["image_id"] for row in samples(out) if "set:a" in row["uris"])
    assert "a_2.png: 2 objects, 2 images" in invoke("purge", str(out), "a_2.png", "--dry-run")
    invoke("purge", str(out), "a_2.png", "--yes")
    kept = samples(out)
    assert of_set not in {row["image_id"] for row in kept}
    assert not [image for row in kept for image in row["images"] if gone in image["path"]]
    assert [row for row in kept if "set:b" in row["uris"]], "the others stay"
    before = {row["id"] for row in kept}
    add_images(Path("photos"), ("a_4", "b_3", "d_1", "d_2"))
    synth("run", "photos", "--out", str(out), "--pipeline", "small", *GROUPED)
    assert_complete(out)
    reasons = [row["reason"] for row in rows(out, TAG, "images").values() if row["outcome"] == "quarantined"]
    assert reasons == ["purged", "purged"], "the set that was purged, and the one that has grown"
    after = samples(out)
    assert not [image for row in after for image in row["images"] if gone in image["path"]]
    members = {tuple(Path(image["path"]).stem for image in row["images"]) for row in after}
    assert {tuple(named("b_1", "b_2", "b_3")), tuple(named("d_1", "d_2"))} < members
    assert len({row["id"] for row in after} & before) >= 2, "images alone stay as they are"


@pytest.fixture
def sets_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a working folder with types of sets the current one."""
    write_definition_files(tmp_path)
    for name, text in SETS.items():
        write(tmp_path / name, text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("sets_files")
@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (("generate.engine={kind: vllm}",), r"generate\.engine\.images: 1 in a call, and source\.group_by makes"),
        (("generate.engine={kind: vllm, images: 8}", "source.group_most=9"), "sets of up to 9"),
        (("score={judge: {model: m, engine: {kind: distilled}, scores: [answer]}}",), "distilled takes one image"),
    ],
)
def test_an_engine_that_does_not_take_sets_is_refused(settings: tuple[str, ...], fault: str) -> None:
    document = pipelines.read("small", (GROUPED[1], *settings))
    with pytest.raises(Mistakes, match=fault):
        resolve.load(document)


def test_a_pack_without_types_of_sets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_definition_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Mistakes, match="has `of: set`, so sets would be asked nothing"):
        resolve.load(pipelines.read("small", (GROUPED[1],)))
