"""A source that another package adds: the tar archives of the example, from their listing to the shards."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import synthgen
from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure
from synthgen.ingest.sources import kinds, spell_out_uri
from synthgen.tables import LIST, TAG
from tests.fixtures.packages import InstallPackage
from tests.fixtures.runs import assert_complete, opened, rows, synth
from tests.fixtures.sources import listed, mistake, read, read_refs, refs
from tests.fixtures.workspace import ROOT, make_images

EXAMPLE = ROOT / "examples/custom_source/synthgen_tar.py"


@pytest.fixture(autouse=True)
def package(install_package: InstallPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example, also for commands and their Ray workers."""
    install_package("synthgen-tar", "synthgen_tar", EXAMPLE.read_text(), "tar = synthgen_tar:TAR", kinds.ENTRY_POINTS)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    )


def archive(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """Write or extend a tar archive."""
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def photos_of(folder: Path) -> list[tuple[str, bytes]]:
    """Return the files of a folder as members of an archive; images come before the JSON beside them."""
    return [
        (path.name, path.read_bytes())
        for path in sorted(folder.iterdir(), key=lambda it: (it.stem, it.suffix == ".json"))
    ]


def digests(members: Iterable[tuple[str, bytes]]) -> set[str]:
    return {hashlib.sha256(data).hexdigest() for name, data in members if not name.endswith(".json")}


def packed(out: Path) -> list[dict[str, Any]]:
    return [dict(sample) for sample in synthgen.load_samples(str(out))]


# --- listing and reading ---------------------------------------------------------------------------------------------

SAMPLES = [
    ("a/1.jpg", b"one"),
    ("a/1.json", b'{"tags": ["cat"]}'),
    ("a/1.txt", b"a cat"),
    ("a/2.json", b"[1"),
    ("a/2.left.PNG", b"left"),
    ("a/2.right.PNG", b"right"),
    ("b/2.jpg", b"another"),
    ("readme.txt", b"no image"),
    ("n" * 150 + ".jpg", b"long"),
    ("b/\udcff#%.jpg", b"odd"),
]


def test_the_members_of_a_sample_are_an_image_and_what_is_known_of_it(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", SAMPLES)
    found = listed(f"tar:{path}")
    names = [item.uri.removeprefix(f"tar:{path}#") for item in found]
    assert names == ["a/1.jpg", "a/2.left.PNG", "a/2.right.PNG", "b/2.jpg", "n" * 150 + ".jpg", "b/%FF%23%25.jpg"]
    one, left, right, *others = (json.loads(item.source_meta or "{}") for item in found)
    assert one == {"tags": ["cat"], "txt": "a cat"} and others == [{}, {}, {}]
    assert left == right and left["sidecar_unreadable"].startswith("a/2.json: Expecting")
    results = read_refs(refs(found))
    contents = [b"one", b"left", b"right", b"another", b"long", b"odd"]
    assert [results[ref.object_id] for ref in refs(found)] == contents


def test_an_archive_that_grows_keeps_its_objects(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", SAMPLES)
    before = listed(f"tar:{path}")
    archive(path, [("c.jpg", b"new")], mode="a")
    after = listed(f"tar:{tmp_path}/*.tar")
    assert after[:-1] == before and after[-1].uri.endswith("#c.jpg")
    assert all(isinstance(content, bytes) for content in read_refs(refs(before)).values())


def test_a_member_that_is_no_longer_there_costs_itself_only(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", [(f"{number}.jpg", bytes(700)) for number in range(4)])
    wanted = refs(listed(f"tar:{path}"))
    with path.open("r+b") as file:  # the header of the second member, and the end of the last
        file.seek(int(wanted[1].version.partition(":")[0]))
        file.write(b"damage")
        file.truncate(int(wanted[3].version.partition(":")[0]) + 1000)
    first, second, third, last = (read_refs(wanted)[ref.object_id] for ref in wanted)
    assert first == third == bytes(700)
    assert second == Failure("changed", "the archive no longer has this member at byte 1,536")
    assert isinstance(last, Failure) and last.reason == "unreadable"
    path.unlink()
    assert set(read_refs(wanted).values()) == {Failure("unreadable", "no longer there")}


def test_a_member_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", [("a.jpg", bytes(1001)), ("b.jpg", bytes(1000))])
    results = read(f"tar:{path}", ImagesConfig(max_bytes=1000))
    assert list(results.values()).count(bytes(1000)) == 1
    assert Failure("too_many_bytes", "1,001 bytes; the limit is 1,000") in results.values()


def test_an_archive_that_cannot_be_listed_whole_is_one_line(tmp_path: Path) -> None:
    whole = "is not a tar archive that is whole and not compressed"
    assert mistake(f"tar:{tmp_path}/x.tar") == f"tar:{tmp_path}/x.tar: no such file; write tar:FILE or tar:GLOB"
    (tmp_path / "x.tar").write_bytes(b"junk" * 1000)
    assert whole in mistake(f"tar:{tmp_path}/x.tar")
    archive(tmp_path / "y.tar.gz", SAMPLES, mode="w:gz")
    assert whole in mistake(f"tar:{tmp_path}/y.tar.gz")
    path = archive(tmp_path / "z.tar", SAMPLES)
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"damage")
    assert mistake(f"tar:{path}") == f"{path}: {whole} (damaged at byte 1,024)"


def test_an_archive_is_spelled_out_from_the_root() -> None:
    assert spell_out_uri("tar:shards/*.tar", Path("/data")) == "tar:/data/shards/*.tar"
    assert spell_out_uri("tar:/data/shards/*.tar", Path("/elsewhere")) == "tar:/data/shards/*.tar"


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers_here")
def test_images_from_an_archive_end_in_the_shards(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    members = photos_of(workspace / "photos")
    name, data = members[4]
    members[4] = (name, data[:300])
    archive(workspace / "photos.tar", members)
    every = ("--set", "select.keep={}")
    synth("run", "tar:photos.tar", "--out", "out", "--pipeline", "small", *every)
    out = workspace / "out"
    assert_complete(out)
    objects = rows(out, LIST, "objects")
    uris = {row["uri"] for row in objects.values()}
    assert uris == {f"tar:{workspace}/photos.tar#{name}" for name, _ in members if not name.endswith(".json")}
    outcomes = {row["object_id"]: row["reason"] for row in rows(out, TAG, "images").values()}
    assert len(outcomes) == 6
    [damaged] = [objects[key]["uri"] for key, reason in outcomes.items() if reason]
    assert damaged.endswith(f"#{name}") and opened(out).log(TAG).counts()["tagged"] == 5
    samples = packed(out)
    assert {sample["image_id"] for sample in samples} == digests(members) - digests([members[4]])
    assert all(uri.startswith("photos.tar#") for sample in samples for uri in sample["uris"])
    again = synth("run", "--out", "out")
    assert "nothing to do" in again.stderr
    assert packed(out) == samples


@pytest.mark.usefixtures("workers_here")
def test_an_output_folder_reads_the_objects_of_an_archive_when_its_source_is_another(workspace: Path) -> None:
    make_images(workspace / "first", 3)
    archive(workspace / "first.tar", photos_of(workspace / "first"))
    every = ("--pipeline", "small", "--set", "select.keep={}")
    synth("run", "tar:first.tar", "--out", "out", *every, "--until", "plan")
    make_images(workspace / "second", 5)
    synth("run", "second", "--out", "out", *every, "--update")
    assert_complete(workspace / "out")
    ids = {sample["image_id"] for sample in packed(workspace / "out")}
    assert ids == digests(photos_of(workspace / "first")) | digests(photos_of(workspace / "second"))
