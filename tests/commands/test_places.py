"""Every command takes a place of any name: what exists is taken literally, and a pattern is one only otherwise."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import synthgen
from synthgen.cli.options import expanded, folder_in
from synthgen.commands.learn.seed import open_seed
from synthgen.commands.preview import _read_image
from synthgen.config import pipeline as pipelines
from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import is_inside_source, list_objects
from synthgen.job.funnel import StageFunnel
from synthgen.store import Folder, RunFolder
from synthgen.store.opening import open_folder
from synthgen.train import dataset
from tests.commands.test_samples import write_shards
from tests.fixtures.images import drawn, encoded

NAMES = (
    "data [v2]",
    "[ab]",
    "what?",
    "all*",
    "{a,b}",
    "a#b c",
    "50%25 off",
    "./-dash",
    "./~nobody_at_all",
    "~nobody_at_all",
    "one::two",
    "colon:name",
    "back\\slash",
    "📷 野",
    os.fsdecode(b"\xff\xe9"),
)
TURNS = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "red"}]
PICTURE = encoded(drawn(), "PNG")


@pytest.fixture(params=NAMES, ids=ascii)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a folder in the working folder, with a picture and a Parquet file in a folder of that name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / request.param / Path(request.param).name
    folder.mkdir(parents=True)
    fill(folder)
    for decoy in ("a", "b", "data 2", "data v", "what1", "all_of_it"):  # what the names match as patterns
        (tmp_path / decoy).mkdir()
        (tmp_path / decoy / "decoy.png").write_bytes(PICTURE)
        (tmp_path / decoy / "decoy.parquet").write_bytes((folder / "a.parquet").read_bytes())
    typed: str = request.param
    return typed


def fill(folder: Path) -> None:
    """Write a picture and a Parquet file of two rows."""
    (folder / "a.png").write_bytes(PICTURE)
    with (folder / "a.parquet").open("wb") as file:
        pq.write_table(pa.table({"images": [[{"bytes": PICTURE}]] * 2, "messages": [TURNS] * 2}), file)


def images_in(place: str) -> int:
    return len([listed for listed in list_objects(SourceConfig(uri=place)) if listed.row is None])


def shards_in(place: str) -> int:
    return len({row["images"][0]["bytes"] for row in dataset.first_rows(dataset.pin(place), 2)})


def seeds_in(place: str) -> int:
    return len(open_seed(place).files)


@pytest.mark.parametrize("count", [images_in, shards_in, seeds_in])
def test_a_folder_may_have_any_name(count: Callable[[str], int], name: str) -> None:
    assert count(name) == count(f"{name}/") == count(str(Path(name).absolute())) == 1


@pytest.mark.parametrize(("count", "suffix"), [(images_in, "png"), (shards_in, "parquet"), (seeds_in, "parquet")])
def test_a_file_in_a_folder_of_any_name_is_found(count: Callable[[str], int], suffix: str, name: str) -> None:
    assert count(f"{name}/{Path(name).name}/a.{suffix}") == 1


@pytest.mark.parametrize(("count", "suffix"), [(images_in, "png"), (shards_in, "parquet")])
@pytest.mark.parametrize("pattern", ["*/*.{}", "**/*.{}", "*/a.{}", "**/[a].{}"])
def test_a_pattern_below_a_folder_of_any_name_is_one(
    count: Callable[[str], int], suffix: str, name: str, pattern: str
) -> None:
    assert count(f"{name}/{pattern.format(suffix)}") == 1
    with pytest.raises(UserMistake):
        count(f"{name}/nothing*.{suffix}")


def test_an_image_of_any_name_is_previewed(name: str) -> None:
    os.rename(Path(name), f"{Path(name).absolute()}.png")  # noqa: PTH104 - the name of the file itself
    os.rename(f"{Path(name).absolute()}.png/{Path(name).name}/a.png", "x.png")  # noqa: PTH104
    Path(f"{Path(name).absolute()}.jpg").write_bytes(PICTURE)
    pipeline = pipelines.load("everyday")
    assert _read_image(f"{name}.jpg", pipeline) == (PICTURE, None)
    with pytest.raises(UserMistake, match="no such image file"):
        _read_image(f"{name}.png", pipeline)


def test_the_folder_of_a_run_may_have_any_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = open_folder(f"{name}/run")
    assert Path(out.path) == Path(name).absolute() / "run"
    write_shards(out, [1, 2])
    assert folder_in(f"{name}/run") == f"{name}/run"
    assert RunFolder(open_folder(f"{name}/run")).record is not None
    assert [file.rows for file in dataset.pin(f"{name}/run")] == [1, 2]
    assert is_inside_source(out.url, SourceConfig(uri=name))
    monkeypatch.setattr("synthgen.job.funnel.funnels", lambda _: [StageFunnel("tag", "objects", 3, 3, {})])
    if "::" in name:
        with pytest.raises(UserMistake, match="the datasets library cannot read a path with '::' in it"):
            synthgen.load_samples(f"{name}/run")
    else:
        assert next(iter(synthgen.load_samples(f"{name}/run", streaming=True)))["types"] == ["coarse/scene"]


def test_a_home_is_spelled_out_wherever_a_shell_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    fill(tmp_path)
    assert images_in("~") == shards_in("~/a.parquet") == seeds_in("~") == images_in("~/*.png") == 1
    assert _read_image("~/a.png", pipelines.load("everyday"))[0] == PICTURE
    assert expanded(Path("~/tuned")) == tmp_path / "tuned" and folder_in("~/a.parquet") == ""


@pytest.mark.parametrize("count", [images_in, shards_in, seeds_in, expanded, folder_in, open_folder])
def test_the_home_of_nobody_is_reported_in_one_line(count: Callable[[Any], Any]) -> None:
    with pytest.raises(UserMistake, match="~nobody_at_all/x: there is no user ~nobody_at_all") as caught:
        count("~nobody_at_all/x")
    assert "\n" not in str(caught.value)


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["data [v2]", "[ab]", "a#b c", "50%25 off"])
def key(request: pytest.FixtureRequest, s3: Folder, tmp_path: Path) -> Iterator[str]:
    """Return the address of a folder in a bucket, with a picture and a Parquet file."""
    fs, place = fsspec.filesystem("s3"), f"bucket/{tmp_path.name}/{request.param}"
    fill(tmp_path)
    for file in tmp_path.iterdir():
        for folder in (place, f"bucket/{tmp_path.name}/data v", f"bucket/{tmp_path.name}/a"):
            fs.pipe_file(f"{folder}/{file.name}", file.read_bytes())
    yield f"s3://{place}"


def test_a_folder_in_a_store_may_have_any_name(key: str) -> None:
    assert images_in(key) == shards_in(key) == seeds_in(key) == 1
    assert images_in(f"{key}/*.png") == images_in(f"{key}/a.png") == shards_in(f"{key}/*.parquet") == 1
    out = Folder(f"{key}/run")
    write_shards(out, [1, 2])
    assert [file.rows for file in dataset.pin(out.url)] == [1, 2]
    assert is_inside_source(out.url, SourceConfig(uri=key))


def test_an_image_in_a_store_is_previewed_like_a_local_one(key: str) -> None:
    pipeline = pipelines.load("everyday", ["source.sidecar=.json"])
    assert _read_image(f"{key}/a.png", pipeline) == (PICTURE, None)
    fsspec.filesystem("s3").pipe_file(f"{key.removeprefix('s3://')}/a.json", b'{"tags": ["dog"]}')
    assert _read_image(f"{key}/a.png", pipeline) == (PICTURE, '{"tags":["dog"]}')
    for absent in (f"{key}/none.png", key, f"{key}/a.pn", f"{key}/a.parquet"):
        with pytest.raises(UserMistake) as caught:
            _read_image(absent, pipeline)
        assert "\n" not in str(caught.value) and absent in str(caught.value)
