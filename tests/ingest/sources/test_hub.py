"""Data sets on the hub are listed and read as buckets are, from a server that speaks the hub's protocol."""

import importlib.util
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from synthgen.errors import Failure
from synthgen.store import remote
from tests.fixtures.hub import Hub, hub
from tests.fixtures.sources import listed, mistake, names, parquet, read_refs, refs
from tests.fixtures.tars import packed

__all__ = ["hub"]
PLACE = "hf://datasets/owner/set"


def test_files_rows_and_members_of_a_data_set_are_objects(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    rows = parquet(tmp_path / "p.parquet", [b"r0", b"r1"], pa.binary()).read_bytes()
    hub.files["owner/set"] = {
        "README.md": b"x",
        "data/a.jpg": b"a",
        "data/p.parquet": rows,
        "t/s-1.tar": packed("1.jpg"),
    }
    objects = listed(PLACE)
    assert names(objects, PLACE) == ["data/a.jpg", "data/p.parquet", "data/p.parquet", "t/s-1.tar#1.jpg"]
    assert names(listed(f"{PLACE}/t/s-{{1..1}}.tar"), PLACE) == ["t/s-1.tar#1.jpg"]
    assert sorted(map(str, read_refs(refs(objects)).values())) == ["b'1.jpg'", "b'a'", "b'r0'", "b'r1'"]
    hub.files["owner/set"]["data/a.jpg"] = b"b"  # of the same size
    fsspec.get_filesystem_class("hf").clear_instance_cache()
    (changed,) = read_refs(refs(objects[:1])).values()
    assert isinstance(changed, Failure) and changed.reason == "changed"
    assert listed(PLACE)[0].version != objects[0].version


def test_files_of_a_bucket_are_objects_and_another_content_is_noticed(hub: Hub) -> None:
    place = "hf://buckets/owner/photos"
    hub.files["buckets/owner/photos"] = {"README.md": b"x", "a.jpg": b"a", "sub/b.jpg": b"b"}
    objects = listed(place)
    assert names(objects, place) == ["a.jpg", "sub/b.jpg"]
    assert sorted(map(str, read_refs(refs(objects)).values())) == ["b'a'", "b'b'"]
    hub.files["buckets/owner/photos"]["a.jpg"] = b"c"  # of the same size
    fsspec.get_filesystem_class("hf").clear_instance_cache()
    (changed,) = read_refs(refs(objects[:1])).values()
    assert isinstance(changed, Failure) and changed.reason == "changed"
    assert mistake("hf://buckets/owner/none") == "hf://buckets/owner/none: no such bucket or prefix"


def test_a_data_set_or_folder_that_is_not_there_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    hub.files["owner/set"] = {"a.jpg": b"a"}
    assert mistake("hf://datasets/owner/none") == "hf://datasets/owner/none: no such bucket or prefix"
    assert mistake(f"{PLACE}/none") == f"{PLACE}/none: no such bucket or prefix"


@pytest.mark.parametrize(("uri", "package"), [("az://photos/in", "adlfs"), ("abfs://photos/in", "adlfs")])
def test_a_store_whose_package_is_missing_says_which(uri: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    assert mistake(uri) == f"az:// needs one more package: pip install {package}"
