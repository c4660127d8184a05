"""Manifests: which rows name an object, what comes along with it, and what a bad row costs."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.source import SourceConfig
from synthgen.errors import SynthError
from synthgen.ingest.sources import LeftOut, Listed, list_source
from synthgen.job.run_record import spell_out
from synthgen.stages.pack import redact
from tests.fixtures.sources import listed, mistake, names, read, tree


def of(path: Path, text: bytes | str, **changed: Any) -> list[Listed]:
    """Return what a manifest of this text lists."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return listed(f"manifest:{path}", **changed)


def metas(objects: list[Listed]) -> list[Any]:
    return [json.loads(item.source_meta or "null") for item in objects]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tree(tmp_path / "photos", "a.jpg", "deep/b.jpg")


def test_the_objects_of_a_manifest_are_those_of_a_listing_of_its_folder(photos: Path) -> None:
    objects = of(photos / "list.csv", "path,caption\na.jpg,one\ndeep/b.jpg,two\n")
    plain = listed(photos)
    assert [(item.uri, item.version, item.bytes) for item in objects] == [
        (item.uri, item.version, item.bytes) for item in plain
    ]
    assert metas(objects) == [{"caption": "one"}, {"caption": "two"}]
    assert set(read(f"manifest:{photos}/list.csv").values()) == {b"a.jpg", b"deep/b.jpg"}


ROWS = [{"path": "a.jpg", "caption": "é, or so"}, {"path": "deep/b.jpg", "caption": 'say "x"'}]
CSV = 'path,caption\na.jpg,"é, or so"\ndeep/b.jpg,"say ""x"""\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.csv", CSV.encode()),
        ("l.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("l.csv", CSV.encode("utf-16")),
        ("l.CSV", CSV.replace("\n", "\r\n").encode()),
        ("l.csv", CSV.replace("path,", "path;").replace("jpg,", "jpg;").encode()),
        ("l.csv", f"\n{CSV}\n\n".encode()),
        ("l.tsv", 'path\tcaption\na.jpg\té, or so\ndeep/b.jpg\tsay "x"\n'.encode()),
        ("l.jsonl", "\n".join(json.dumps(row) for row in ROWS).encode()),
        ("l.ndjson", b"\xef\xbb\xbf" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()),
    ],
)
def test_every_form_of_a_manifest_gives_the_same_objects(photos: Path, name: str, data: bytes) -> None:
    objects = of(photos / name, data)
    assert names(objects, photos) == ["a.jpg", "deep/b.jpg"]
    assert metas(objects) == [{"caption": row["caption"]} for row in ROWS]


def test_a_parquet_manifest_carries_all_columns_but_bytes(photos: Path) -> None:
    table = pa.table({"path": ["a.jpg", None], "n": [1, 2], "thumb": [b"x", b"y"]})
    pq.write_table(table, photos / "l.parquet")
    objects = listed(f"manifest:{photos}/l.parquet")
    assert names(objects, photos) == ["a.jpg"] and metas(objects) == [{"n": 1}]


def test_the_column_of_paths_and_those_carried_can_be_named(photos: Path) -> None:
    text = "picture,caption,n\na.jpg,one,1\n"
    (item,) = of(photos / "l.csv", text, path_column="picture", meta_columns=("n",))
    assert item.source_meta == '{"n":"1"}'
    uri = f"manifest:{photos}/l.csv"
    known = "source.path_column; it has 'picture', 'caption', 'n'"
    assert mistake(uri) == f"{photos}/l.csv: name its column of paths or URLs in {known}"
    assert mistake(uri, path_column="pitcure") == f"{photos}/l.csv: has no column 'pitcure'; did you mean 'picture'?"
    assert "has no column 'm'" in mistake(uri, path_column="picture", meta_columns=("m",))


def test_a_bad_row_costs_itself_alone_and_a_warning_names_it(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ['a.jpg,"open', "deep/b.jpg,fine", "gone.jpg,x", ",x", "a.jpg,too,many", "deep,x", "a\0b.jpg,x", "a.jpg"]
    items = list(_items(photos / "l.csv", "path,caption\n" + "\n".join(rows) + "\n"))
    objects = [item for item in items if isinstance(item, Listed)]
    assert metas(objects) == [{"caption": '"open'}, {"caption": "fine"}]
    assert [item.why for item in items if isinstance(item, LeftOut)] == [
        "row that names no file that is there",
        "row that has no path in the column 'path'",
        "row that has more or fewer values than the header",
        "row that names a folder, pipe or device",
        "row that names no file that is there",
        "row that has more or fewer values than the header",
    ]
    warned = [record.getMessage() for record in caplog.records]
    assert warned[0] == f"{photos}/l.csv: left out row 4, 8: names no file that is there" and len(warned) == 4


def _items(path: Path, text: str | bytes, **changed: Any) -> list[Listed | LeftOut]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(list_source(SourceConfig(uri=f"manifest:{path}", **changed)))


@pytest.mark.parametrize(
    "bad", [b"{", b"[1]", b"null", b"[" * 100_000, b'{"path": 3}', b'{"path": "\\ud800.jpg"}', b"\xff"]
)
def test_a_json_line_that_names_nothing_costs_itself_alone(photos: Path, bad: bytes) -> None:
    items = _items(photos / "l.jsonl", b'{"path": "a.jpg"}\n' + bad + b'\n{"path": "deep/b.jpg"}\n')
    assert [isinstance(item, Listed) for item in items] == [True, False, True]


def test_a_line_of_any_length_costs_itself_alone_and_little_memory(photos: Path) -> None:
    for name, start in (("l.jsonl", b'{"path": "a.jpg", "x": "'), ("l.csv", b'path,x\na.jpg,"')):
        end = b'{"path": "a.jpg"}\n' if name == "l.jsonl" else b"deep/b.jpg,y\n"
        items = _items(photos / name, start + b"x" * 5_000_000 + b'"}\n' + end)
        assert [getattr(item, "why", "listed") for item in items] == [
            "row that is a line of more than 1,048,576 characters",
            "listed",
        ]


def test_what_cannot_be_kept_of_the_other_columns_is_said_and_the_image_stays(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = of(photos / "l.csv", b"path,caption\na.jpg,caf\xe9\ndeep/b.jpg,caf\xc3\xa9\n")
    first, second = metas(objects)
    assert "half of a character" in first["sidecar_unreadable"] and second == {"caption": "café"}
    assert caplog.messages[0].startswith("the metadata of 1 image cannot be read: row 2: ")
    pq.write_table(pa.table({"path": ["a.jpg"], "x": [["é"] * 2**18]}), photos / "l.parquet")
    assert metas(listed(f"manifest:{photos}/l.parquet")) == [
        {"sidecar_unreadable": "row 1: ValueError: more than 1,048,576 characters"}
    ]


def test_a_name_that_is_no_text_is_found_on_the_disk(photos: Path) -> None:
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    (item,) = of(photos / "l.csv", b"path\ncaf\xe9.jpg\n")
    assert item.uri == listed(photos)[1].uri and item.uri.endswith("/caf%E9.jpg")


def test_a_path_that_leaves_the_root_is_left_out_whatever_its_spelling(photos: Path) -> None:
    secret = tree(photos.parent, "secret.jpg") / "secret.jpg"
    (photos / "out").symlink_to(photos.parent)
    odd = ["../secret.jpg", str(secret), f"file://{secret}", "deep/../../secret.jpg", "out/secret.jpg", "s3://b/x.jpg"]
    items = _items(photos / "l.csv", "path\n" + "\n".join([*odd, f"{photos}/a.jpg"]))
    assert [item.why for item in items[:-1] if isinstance(item, LeftOut)] == [
        f"row that names a path outside of {photos}"
    ] * len(odd)
    assert isinstance(items[-1], Listed)
    wider = listed(f"manifest:{photos}/l.csv", root=str(photos.parent))
    assert [item.uri for item in wider[:2]] == [str(secret), str(secret)]


def test_a_root_of_its_own_is_where_paths_start(photos: Path, tmp_path: Path) -> None:
    (item,) = of(tmp_path / "l.csv", "file_name,x\na.jpg,1\n", root=str(photos))
    assert item.uri == f"{photos}/a.jpg"
    source = SourceConfig(uri="manifest:l.csv", root="photos")
    whole = spell_out(source, tmp_path)
    assert (whole.uri, whole.root) == (f"manifest:{tmp_path}/l.csv", str(photos))
    assert redact.uri(item.uri, redact.root_of(whole)) == "a.jpg"
    assert redact.root_of(SourceConfig(uri=f"manifest:{photos}/l.csv")) == str(photos)


def test_urls_of_a_manifest_are_those_of_a_list_of_urls(photos: Path) -> None:
    text = "url,caption\nHTTPS://a.org/x.jpg,one\nhttps://a.org/y?sig=1,two\n"
    items = _items(photos / "l.csv", text, hosts=("a.org",))
    assert isinstance(items[0], Listed) and items[0].uri == "https://a.org/x.jpg" and items[0].version == "url"
    assert [type(item) for item in items] == [Listed, LeftOut]
    assert "source.hosts is empty; name the hosts" in mistake(f"manifest:{photos}/l.csv")


def test_a_manifest_of_no_use_is_one_line(photos: Path) -> None:
    path = photos / "l.csv"
    assert "no such file; write manifest:FILE" in mistake(f"manifest:{photos}/no.csv")
    assert "no such file" in mistake("manifest:") and "no such file" in mistake(f"manifest:{photos}")
    assert "is no manifest; its name must end in .csv, .tsv" in mistake(f"manifest:{photos}/a.jpg")
    for text, line in [
        ("", "its first line names no columns"),
        ("path,x\n", "has no row; no row is left"),
        ("path\ngone.jpg\n", "left out row 2: names no file that is there; no row is left"),
        ("path,path\na.jpg,b.jpg\n", "has 2 columns 'path'; write it with one"),
    ]:
        path.write_text(text)
        assert line in mistake(f"manifest:{path}")
    (photos / "l.parquet").write_bytes(b"PAR1 and no more")
    assert "\n" not in str(_error(f"manifest:{photos}/l.parquet"))


def _error(uri: str) -> SynthError:
    with pytest.raises(SynthError) as caught:
        listed(uri)
    return caught.value


@given(st.lists(st.binary(max_size=30), max_size=8), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_whatever_is_in_a_manifest_its_good_row_is_listed(tmp_path_factory: Any, lines: list[bytes], form: str) -> None:
    folder = tree(tmp_path_factory.mktemp("photos"), "a.jpg")
    junk = [line.replace(b"\n", b"").replace(b"\r", b"") for line in lines]
    good = b'{"path": "a.jpg"}' if form == "jsonl" else b"a.jpg"
    text = b"\n".join([*([] if form == "jsonl" else [b"path"]), *junk, good, b""])
    if b'"' in b"".join(junk):  # a quotation mark may open a record of several lines
        return
    path = folder / f"l.{form}"
    path.write_bytes(text)
    assert f"{folder}/a.jpg" in [item.uri for item in listed(f"manifest:{path}")]
