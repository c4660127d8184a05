"""Folders, files and globs are listed as a stream, each object once, in one order; mistakes are one line."""

import itertools
import json
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen import cli
from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import LeftOut, display_uri, is_inside_source, list_objects, list_source
from synthgen.store import remote
from synthgen.store.opening import open_folder
from tests.fixtures.sources import listed, mistake, names, read, tree
from tests.fixtures.workspace import make_images

# --- folders and globs ------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_the_order_of_an_object_store(tmp_path: Path) -> None:
    paths = ["a/z.jpg", "a-b.JPG", "a.png", "a0.webp", "b/c/d.Jpeg", "b/c.tif", "é.gif", "Z.bmp"]
    tree(tmp_path, *paths, "a/notes.txt", ".hidden/x.jpg", "a/.x.jpg", "a/._x.jpg", "jpg")
    objects = listed(tmp_path)
    assert names(objects, tmp_path) == sorted(paths, key=str.encode)
    assert all(
        item.row is None and item.source_meta is None and item.bytes == len(Path(item.uri).read_bytes())
        for item in objects
    )
    assert all(Path(item.uri).is_absolute() for item in objects)


PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4
)


@given(st.lists(st.lists(PART, min_size=1, max_size=3), max_size=12))
def test_any_tree_is_listed_once_and_in_order(paths: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"x.jpg"}
        for path in [["x"], *paths]:
            if not any(part.startswith(".") for part in path):
                target = Path(
                    folder, *[f"d{part}" for part in path[:-1]], f"f{path[-1]}.jpg" if path != ["x"] else "x.jpg"
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"1")
                wanted.add(str(target.relative_to(folder)))
        assert names(listed(folder), folder) == sorted(wanted, key=str.encode)


def test_links_to_files_are_followed_and_those_to_folders_are_not(tmp_path: Path) -> None:
    tree(tmp_path / "in", "a.jpg", "sub/b.jpg")
    tree(tmp_path / "out", "c.jpg", "d.jpg")
    (tmp_path / "in/link.jpg").symlink_to(tmp_path / "out/c.jpg")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    (tmp_path / "in/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "in/pipe.jpg")
    (tmp_path / "in/folder.jpg").mkdir()
    assert names(listed(tmp_path / "in"), tmp_path / "in") == ["a.jpg", "link.jpg", "sub/b.jpg"]


def test_a_name_that_is_not_text_becomes_a_uri_that_is(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 %41.jpg"
    Path(os.fsdecode(path)).write_bytes(b"coffee")
    objects = listed(tmp_path)
    assert objects[0].uri.encode().endswith(b"/caf%E9%20%2541.jpg")
    assert list(read(tmp_path).values()) == [b"coffee"]


def test_a_version_changes_with_the_file(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg")
    before = listed(tmp_path)[0].version
    assert listed(tmp_path)[0].version == before
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    assert listed(tmp_path)[0].version != before


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("[a]*", ["a.jpg"]),
        ("*/*.jpg", ["one/c.jpg", "two/d.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "one/c.jpg", "two/d.jpg", "two/three/e.jpg"]),
        ("two/**", ["two/d.jpg", "two/three/e.jpg"]),
        ("?ne/c.*", ["one/c.jpg"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    tree(tmp_path, "a.jpg", "b.jpg", "one/c.jpg", "two/d.jpg", "two/three/e.jpg", ".no/f.jpg")
    assert names(listed(tmp_path / pattern), tmp_path) == expected


def record_scans(monkeypatch: pytest.MonkeyPatch, walked: list[str]) -> None:
    """Add every folder that is scanned to the list."""
    scandir = os.scandir

    def recorded(folder: str) -> Any:
        walked.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", recorded)


def test_a_glob_does_not_walk_folders_that_it_excludes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "one/a.jpg", "two/deep/b.jpg", "one/deep/c.jpg")
    walked: list[str] = []
    record_scans(monkeypatch, walked)
    assert names(listed(tmp_path / "one/*.jpg"), tmp_path) == ["one/a.jpg"]
    assert [Path(folder).name for folder in walked] == ["one"]


def test_a_name_with_wildcards_in_it_is_that_name(tmp_path: Path) -> None:
    tree(tmp_path, "set[1]/a.jpg", "set1/b.jpg")
    assert names(listed(tmp_path / "set[1]"), tmp_path) == ["set[1]/a.jpg"]


def test_one_file_is_a_source_and_relative_paths_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "x/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    assert [item.uri for uri in ("a.jpg", "../x/./a.jpg", ".", f"file://{tmp_path}/x/") for item in listed(uri)] == [
        f"{tmp_path}/x/a.jpg"
    ] * 4


def test_a_listing_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        tree(tmp_path, f"{number:03}/a.jpg")
    walked: list[str] = []
    record_scans(monkeypatch, walked)
    assert len(list(itertools.islice(list_objects(SourceConfig(uri=str(tmp_path))), 3))) == 3
    assert len(walked) == 4


def test_a_tree_deeper_than_python_recurses() -> None:
    root = deep = Path(tempfile.mkdtemp())  # not pytest's own, whose clean-up recurses
    try:
        for _ in range(1100):
            deep = deep / "d"
            deep.mkdir()
        (deep / "a.jpg").write_bytes(b"1")
        assert len(listed(root)) == 1
    finally:
        subprocess.run(["rm", "-rf", root], check=True)


def test_sidecars_are_carried_along(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (tmp_path / "a.json").write_text('{"licence": "CC0",\n "caption": "é"}')
    (tmp_path / "b.json").write_text("{not json")
    (tmp_path / "c.json").write_text('"' + "x" * 2**20 + '"')
    metas = [item.source_meta for item in listed(tmp_path, sidecar=".json")]
    assert metas[0] == '{"licence":"CC0","caption":"é"}'
    assert [list(json.loads(meta or "{}")) for meta in metas[1:]] == [
        ["sidecar_unreadable"],
        ["sidecar_unreadable"],
        [],
    ]


def test_a_sidecar_has_the_name_of_its_image_with_its_suffix_or_without(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.jpg", "b.png", "c.tar.jpg", "d.jpg")
    names = {"a.json": 1, "a.jpg.json": 2, "b.jpg.json": 3, "b.png.json": 4, "c.tar.json": 5, "jpg.json": 6}
    for name, number in names.items():
        (tmp_path / name).write_text(json.dumps({"number": number}))
    items = listed(tmp_path, sidecar=".json")
    assert [json.loads(item.source_meta or "{}").get("number") for item in items] == [1, 3, 4, 5, None]
    assert left_out(tmp_path, sidecar=".json") == {}


@pytest.mark.parametrize(
    ("text", "meta"),
    [
        (r'{"caption": "nice day \ud83d"}', None),
        (r'{"caption": "nice day \ud83d\ude00"}', '{"caption":"nice day 😀"}'),
        ('{"score": NaN, "sizes": [1, Infinity]}', '{"score":null,"sizes":[1,null]}'),
        ("[" * 100_000, None),
    ],
)
def test_a_sidecar_that_no_table_can_hold_costs_its_metadata_alone_and_is_named(
    tmp_path: Path, text: str, meta: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "a.json").write_text(text)
    first, second = (item.source_meta for item in listed(tmp_path, sidecar=".json"))
    assert second is None and first is not None and first.encode()
    assert first == meta if meta else list(json.loads(first)) == ["sidecar_unreadable"]
    named = [record.message for record in caplog.records if ": a.json: " in record.message]
    assert len(named) == (0 if meta else 1)


# --- what is left out -------------------------------------------------------------------------------------------------


def left_out(place: Path, **changed: Any) -> Counter[str]:
    """Return what the listing of a place leaves out."""
    items = list_source(SourceConfig(uri=str(place), **changed))
    return sum((Counter({item.why: item.count}) for item in items if isinstance(item, LeftOut)), Counter())


def test_what_a_listing_leaves_out_is_counted_by_suffix_or_kind(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.PDF", "sub/c.pdf", "README", ".x.jpg", "sub/.y.jpg", ".git/z.jpg", "d.tar.gz", "e.a b")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    pq.write_table(pa.table({"text": ["no image"]}), tmp_path / "meta.parquet")
    assert names(listed(tmp_path), tmp_path) == ["a.jpg"]
    assert left_out(tmp_path) == {
        ".pdf": 2,
        "no suffix": 2,
        ".gz": 1,
        "hidden file": 2,
        "hidden folder": 1,
        "link to a folder": 1,
        "broken link, or deleted meanwhile": 1,
        "pipe, socket or device": 1,
        "Parquet file without the image column": 1,
    }


@given(st.lists(PART, max_size=12, unique=True))
def test_every_file_of_a_folder_is_listed_or_counted_as_left_out(files: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = {"x.jpg", *files} - {".", ".."}
        for name in whole:
            Path(folder, name).write_bytes(b"1")
        items = list(list_source(SourceConfig(uri=folder)))
        assert sum(item.count if isinstance(item, LeftOut) else 1 for item in items) == len(whole)


def test_names_that_end_as_images_do_in_other_ways_are_listed(tmp_path: Path) -> None:
    paths = ["a.jfif", "b.JPE", "c.jpg?w=1024", "d.png?x=.pdf", "e.jpeg"]
    tree(tmp_path, *paths, "f.pdf?name=x.txt")
    assert names(listed(tmp_path), tmp_path) == paths
    assert left_out(tmp_path) == {".pdf": 1}


def test_every_file_is_listed_where_that_is_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b.dat", "c.jpg", "c.json", ".hidden")
    assert names(listed(tmp_path, suffixes=("*",), sidecar=".json"), tmp_path) == ["a", "b.dat", "c.jpg"]
    assert left_out(tmp_path, suffixes=("*",), sidecar=".json") == {"hidden file": 1}, "a sidecar goes with its image"


def test_files_that_a_glob_does_not_match_are_not_counted(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.png", "c.pdf", "d.txt")
    assert left_out(tmp_path / "*.[jp][pd]?") == {".pdf": 1}


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_about_places_are_one_line(tmp_path: Path) -> None:
    tree(tmp_path, "notes.txt")
    assert mistake(tmp_path / "nope") == f"{tmp_path}/nope: no such file or folder"
    looked_for = "suffixes looked for: .jpg, .png, .parquet, .tar"
    others = "left out: 1 .txt; --set source.suffixes='[\"*\"]' takes every file"
    assert mistake(tmp_path, suffixes=(".jpg", ".png")) == f"0 images under {tmp_path}; {looked_for}; {others}"
    assert mistake(tmp_path / "*.jpg", suffixes=(".jpg", ".png")) == f"0 images under {tmp_path}/*.jpg; {looked_for}"
    assert "is not a glob" in mistake(tmp_path / "a**b")
    assert "http:// is not a source" in mistake("http://example.com/a.jpg")
    assert "names no bucket" in mistake("s3://")
    assert "no source of images" in mistake("")
    with pytest.raises(UserMistake, match="no source of images"):
        list_objects(SourceConfig())


def test_mistakes_in_the_uri_are_raised_before_anything_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UserMistake):
        list_objects(SourceConfig(uri=str(tmp_path / "nope")))


def test_displayed_uris_hold_no_secret() -> None:
    assert display_uri("s3://KEY:SECRET@bucket/a?X-Amz-Signature=abc") == "s3://bucket/a"
    error = OSError("GET https://me:pw@host/x?X-Amz-Signature=abc&b=1 failed,\n see s3://KEY:SECRET@b/k?sig=1")
    assert remote.error_text(error) == "OSError: GET https://host/x failed, see s3://b/k"


# --- an output folder beside it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "out", "is_inside"),
    [
        ("pics", "pics/out", True),
        ("pics/", "pics/a/../out", True),
        ("pics", "pics/../out", False),
        ("pics", "pics2/out", False),
        ("pics", "link/out", True),
        ("link", "pics/out", True),
        ("pics", "pics/away/out", False),  # a link to a folder, which is not followed
        ("pics", "pics/.out", False),  # hidden, so not listed
        ("pics", ".", False),
        ("pics/*.jpg", "pics/out", False),
        ("pics/**/*.jpg", "pics/out", True),
        ("pics/*/x/*.jpg", "pics/out/x", True),
        ("pics/[a-n]*/*.jpg", "pics/out", False),
        ("pics/x.parquet", "out", False),
        ("urls:list.txt", "pics/out", False),
        ("s3://bucket/pics", "s3://bucket/pics/out", True),
        ("s3://bucket/pics/", "s3://bucket/pics/out/", True),
        ("s3://bucket/pics", "s3a://bucket/pics/out", True),
        ("s3://bucket", "s3://bucket/out", True),
        ("s3://bucket/pics", "s3://bucket/pics-out", False),
        ("s3://bucket/pics/*/*.jpg", "s3://bucket/pics/out", True),
        ("gs://bucket/pics", "s3://bucket/pics/out", False),
        ("gcs://bucket/pics", "gs://bucket/pics/out", True),
    ],
)
def test_an_output_folder_inside_the_source_is_noticed(
    source: str, out: str, is_inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "pics/a.jpg", "pics/x.parquet", "elsewhere/b.jpg")
    (tmp_path / "link").symlink_to("pics")
    (tmp_path / "pics/away").symlink_to("../elsewhere")
    monkeypatch.chdir(tmp_path)
    folder = out if "://" in out else open_folder(out).url
    assert is_inside_source(folder, SourceConfig(uri=source)) is is_inside


def test_a_run_into_its_own_source_is_refused_before_anything_is_written(workspace: Path) -> None:
    make_images(workspace / "photos", 2)
    for command in ("run", "plan"):
        with pytest.raises(UserMistake, match=r"photos/out: lies inside the source photos, so .*narrower source$"):
            cli.app((command, "photos", "--out", "photos/out", "--pipeline", "small"), standalone_mode=False)
    assert not (workspace / "photos" / "out").exists()
