"""Every object of a source is listed once, in one order, as a stream; and read, or said why not. S3 is a real server over HTTP."""

import http.client
import itertools
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from synthgen import cli, stores
from synthgen.config import Images, Source
from synthgen.errors import SynthError, UserMistake
from synthgen.source import Listed, Ref, Unreadable, list_objects, read_objects, reading, shown, walking

LIMITS = Images(max_bytes=1000)


def refs(listed: list[Listed]) -> list[Ref]:
    return [Ref(f"{one.uri}#{one.row}", one.uri, one.version, one.row) for one in listed]


def listed(uri: object, **changed: Any) -> list[Listed]:
    return list(list_objects(Source(uri=str(uri), **changed)))


def read(uri: object, limits: Images = LIMITS, **changed: Any) -> dict[str, bytes | Unreadable]:
    """Object id -> what reading gave, after a check that each came once."""
    wanted = refs(listed(uri, **changed))
    return read_refs(wanted, limits, **changed)


def read_refs(wanted: list[Ref], limits: Images = LIMITS, **changed: Any) -> dict[str, bytes | Unreadable]:
    results = list(read_objects(wanted, Source(**changed), limits))
    assert sorted(ref.object_id for ref, _ in results) == sorted(ref.object_id for ref in wanted)
    return {ref.object_id: result for ref, result in results}


def names(objects: list[Listed], root: object) -> list[str]:
    return [one.uri.removeprefix(f"{root}/") for one in objects]


def mistake(uri: object, **changed: Any) -> str:
    with pytest.raises(UserMistake) as caught:
        listed(uri, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


# --- folders and globs ------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_the_order_of_an_object_store(tmp_path: Path) -> None:
    paths = ["a/z.jpg", "a-b.JPG", "a.png", "a0.webp", "b/c/d.Jpeg", "b/c.tif", "é.gif", "Z.bmp"]
    tree(tmp_path, *paths, "a/notes.txt", ".hidden/x.jpg", "a/.x.jpg", "a/._x.jpg", "jpg")
    objects = listed(tmp_path)
    assert names(objects, tmp_path) == sorted(paths, key=str.encode)
    assert all(one.row is None and one.source_meta is None and one.bytes == len(Path(one.uri).read_bytes()) for one in objects)
    assert all(Path(one.uri).is_absolute() for one in objects)


PART = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(PART, min_size=1, max_size=3), max_size=12))
def test_any_tree_is_listed_once_and_in_order(paths: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"x.jpg"}
        for path in [["x"], *paths]:
            if not any(part.startswith(".") for part in path):
                target = Path(folder, *[f"d{part}" for part in path[:-1]], f"f{path[-1]}.jpg" if path != ["x"] else "x.jpg")
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


def test_a_glob_does_not_walk_what_it_excludes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "one/a.jpg", "two/deep/b.jpg", "one/deep/c.jpg")
    walked: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(walking.os, "scandir", lambda folder: walked.append(Path(folder).name) or scandir(folder))
    assert names(listed(tmp_path / "one/*.jpg"), tmp_path) == ["one/a.jpg"]
    assert walked == ["one"]


def test_a_name_with_wildcards_in_it_is_that_name(tmp_path: Path) -> None:
    tree(tmp_path, "set[1]/a.jpg", "set1/b.jpg")
    assert names(listed(tmp_path / "set[1]"), tmp_path) == ["set[1]/a.jpg"]


def test_one_file_is_a_source_and_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "x/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    assert [one.uri for uri in ("a.jpg", "../x/./a.jpg", ".", f"file://{tmp_path}/x/") for one in listed(uri)] == [
        f"{tmp_path}/x/a.jpg"
    ] * 4


def test_a_listing_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        tree(tmp_path, f"{number:03}/a.jpg")
    walked: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(walking.os, "scandir", lambda folder: walked.append(folder) or scandir(folder))
    assert len(list(itertools.islice(list_objects(Source(uri=str(tmp_path))), 3))) == 3
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
    metas = [one.source_meta for one in listed(tmp_path, sidecar=".json")]
    assert metas[0] == '{"licence":"CC0","caption":"é"}'
    assert [list(json.loads(meta or "{}")) for meta in metas[1:]] == [["sidecar_unreadable"], ["sidecar_unreadable"], []]


# --- Parquet ----------------------------------------------------------------------------------------------------------

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(path: Path, cells: list[Any], kind: pa.DataType = PICTURE, group: int = 2, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pa.array(cells, kind), **columns}), path, row_group_size=group)
    return path


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), PICTURE], ids=str)
def test_each_row_of_a_parquet_file_is_an_object(tmp_path: Path, kind: pa.DataType) -> None:
    datas = [f"im{number}".encode() for number in range(5)]
    cells = [{"bytes": data, "path": None} for data in datas] if kind == PICTURE else datas
    path = parquet(tmp_path / "p.parquet", cells, kind)
    objects = listed(path)
    assert [(one.uri, one.row, one.bytes) for one in objects] == [(str(path), row, None) for row in range(5)]
    assert len({one.version for one in objects}) == 1
    assert list(read(path).values()) == datas


def test_a_row_without_bytes_is_listed_unreadable_and_its_path_is_never_followed(tmp_path: Path) -> None:
    tree(tmp_path, "real.jpg")
    path = str(tmp_path / "real.jpg")
    cells = [{"bytes": None, "path": path}, None, {"bytes": b"", "path": path}, {"bytes": b"x", "path": "http://127.0.0.1:1/"}]
    results = list(read(parquet(tmp_path / "p.parquet", cells)).values())
    assert results[2:] == [b"", b"x"]
    assert results[0] == results[1] == Unreadable("unreadable", "the cell holds no bytes; a path in it is not followed")


def test_columns_are_carried_along(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"a", b"b"], pa.binary(), caption=["é", None], licence=["CC0", "CC0"])
    metas = [one.source_meta for one in listed(path, meta_columns=("licence", "caption"))]
    assert metas == ['{"licence": "CC0", "caption": "é"}', '{"licence": "CC0", "caption": null}']


def test_rows_of_many_files_are_read_by_file_and_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        parquet(tmp_path / f"{number}.parquet", [f"{number}{row}".encode() for row in range(10)], pa.binary(), group=3)
    groups: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda self, size, **named: groups.extend(named["row_groups"]) or iter_batches(self, size, **named)
    )
    wanted = [ref for ref in refs(listed(tmp_path)) if ref.row in (1, 8)]
    assert len(wanted) == 6
    results = read_refs(wanted[::-1] + wanted[:1])  # any order, one of them twice
    assert {result for result in results.values()} == {b"01", b"08", b"11", b"18", b"21", b"28"}
    assert sorted(groups) == [0, 0, 0, 2, 2, 2]


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    cells = [os.urandom(2**18) for _ in range(160)]
    path = tmp_path / "p.parquet"  # 40 MB in one row group, 1 MB in each page
    pq.write_table(pa.table({"image": cells}), path, row_group_size=160, write_batch_size=4, use_dictionary=False)
    before = most = pa.total_allocated_bytes()
    for ref, data in read_objects(refs(listed(path)), Source(), Images()):
        assert data == cells[ref.row or 0]
        most = max(most, pa.total_allocated_bytes())
    assert most - before < 32 * 2**20


def test_a_damaged_row_group_costs_its_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PAUSE", 0.01)
    path = parquet(tmp_path / "p.parquet", [bytes([row]) * 300 for row in range(6)], pa.binary())
    at = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 20] = b"\xff" * 20
    path.write_bytes(damaged)
    results = list(read(path).values())
    assert [isinstance(result, bytes) for result in results] == [True, True, False, False, True, True]


def test_a_folder_may_hold_images_parquet_files_and_other_parquet_files(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg")
    parquet(tmp_path / "b/c.parquet", [b"1"], pa.binary())
    pq.write_table(pa.table({"file_name": ["a.jpg"]}), tmp_path / "metadata.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    objects = listed(tmp_path)
    assert [(name, one.row) for name, one in zip(names(objects, tmp_path), objects, strict=True)] == [
        ("a.jpg", None),
        ("b/c.parquet", 0),
        ("broken.parquet", None),
    ]
    readable = {Path(name).name: isinstance(result, bytes) for name, result in read(tmp_path).items()}
    assert readable == {"a.jpg#None": True, "c.parquet#0": True, "broken.parquet#None": False}


def test_mistakes_about_parquet_are_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"1"], pa.binary(), text=["x"])
    assert mistake(path, image_column="imgae") == f"{path}: has no column 'imgae'; did you mean 'image'?"
    assert mistake(tmp_path, image_column="imgae") == f"{path}: has no column 'imgae'; did you mean 'image'?"
    assert mistake(path, meta_columns=("texts",)) == f"{path}: has no column 'texts'; did you mean 'text'?"
    assert "holds string; images must be bytes" in mistake(path, image_column="text")
    (tmp_path / "q.parquet").write_bytes(b"hello")
    assert "is not a Parquet file" in mistake(tmp_path / "q.parquet")


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_about_places_are_one_line(tmp_path: Path) -> None:
    tree(tmp_path, "notes.txt")
    assert mistake(tmp_path / "nope") == f"{tmp_path}/nope: no such file or folder"
    looked_for = "suffixes looked for: .jpg, .png, .parquet"
    assert mistake(tmp_path, suffixes=(".jpg", ".png")) == f"0 images under {tmp_path}; {looked_for}"
    assert mistake(tmp_path / "*.jpg", suffixes=(".jpg", ".png")) == f"0 images under {tmp_path}/*.jpg; {looked_for}"
    assert "is not a glob" in mistake(tmp_path / "a**b")
    assert "http:// is not a source" in mistake("http://example.com/a.jpg")
    assert "names no bucket" in mistake("s3://")
    assert "no source of images" in mistake("")
    with pytest.raises(UserMistake, match="no source of images"):
        list_objects(Source())


def test_mistakes_in_the_uri_are_raised_before_anything_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UserMistake):
        list_objects(Source(uri=str(tmp_path / "nope")))


def test_what_is_shown_holds_no_secret() -> None:
    assert shown("s3://KEY:SECRET@bucket/a?X-Amz-Signature=abc") == "s3://bucket/a"
    error = OSError("GET https://me:pw@host/x?X-Amz-Signature=abc&b=1 failed,\n see s3://KEY:SECRET@b/k?sig=1")
    told = stores.shown_error(error)
    assert told == "OSError: GET https://host/x failed, see s3://b/k"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_no_longer_as_listed_is_noticed(tmp_path: Path) -> None:
    tree(tmp_path, "same.jpg", "changed.jpg", "gone.jpg", "pipe.jpg", "folder.jpg")
    (tmp_path / "large.jpg").write_bytes(bytes(1001))
    table = parquet(tmp_path / "t.parquet", [b"1", b"2"], pa.binary())
    wanted = refs(listed(tmp_path))
    os.utime(tmp_path / "changed.jpg", ns=(1, 1))
    parquet(table, [b"3", b"4", b"5"], pa.binary())
    for name in ("gone", "pipe", "folder"):
        (tmp_path / f"{name}.jpg").unlink()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    results = {Path(name).name.partition(".")[0]: result for name, result in read_refs(wanted).items()}
    assert results.pop("same") == b"same.jpg"
    told = {name: result.reason for name, result in results.items() if isinstance(result, Unreadable)}
    lost = dict.fromkeys(("gone", "pipe", "folder"), "unreadable")
    assert told == {"changed": "changed", "t": "changed", "large": "too_many_bytes", **lost}


def test_a_row_that_the_file_does_not_have_is_unreadable(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"1"], pa.binary())
    version = listed(path)[0].version
    results = read_refs([Ref("in", str(path), version, 0), Ref("out", str(path), version, 7)])
    assert results == {"in": b"1", "out": Unreadable("unreadable", "the file has no such row")}


def test_no_url_in_a_reference_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PAUSE", 0.01)
    results = read_refs(
        [Ref(uri, uri, "v", None) for uri in ("http://127.0.0.1:1/a.jpg", "memory://a.jpg", "/nope.jpg", "file:///nope.jpg")]
    )
    assert {result.reason for result in results.values() if isinstance(result, Unreadable)} == {"unreadable"}
    assert len(results) == 4


def test_memory_waits_for_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BUFFER_BYTES", 2000)
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([number]) * 900)
    (tmp_path / "larger_than_the_buffer.jpg").write_bytes(bytes(5000))
    most = 0
    reserve = reading._Outlet.reserve

    def watched(self: reading._Outlet, size: int) -> None:
        nonlocal most
        reserve(self, size)
        most = max(most, self._used)

    monkeypatch.setattr(reading._Outlet, "reserve", watched)
    results = read(tmp_path, Images())
    assert all(isinstance(result, bytes) for result in results.values())
    assert len(results) == 61
    assert most <= 5000


def test_a_caller_that_stops_half_way_leaves_no_thread_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BUFFER_BYTES", 10)
    tree(tmp_path, *(f"{number}.jpg" for number in range(50)))
    results = read_objects(refs(listed(tmp_path)), Source(), LIMITS)
    next(results)
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("read_") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_defect_in_a_reader_costs_its_own_objects_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PAUSE", 0.01)
    tree(tmp_path, "a.jpg", "bad.jpg", "c.jpg")
    honest = reading._read_local

    def failing(path: str, *rest: Any) -> Any:
        if "bad" in path:
            raise RuntimeError("no idea")
        return honest(path, *rest)

    monkeypatch.setattr(reading, "_read_local", failing)
    results = list(read(tmp_path).values())
    assert Unreadable("unreadable", "RuntimeError: no idea") in results
    assert sum(isinstance(result, bytes) for result in results) == 2


# --- S3, over HTTP, with faults ---------------------------------------------------------------------------------------


class Faults:
    """A proxy before the store: `rule(method, path, times_seen)` names what befalls a request, or None."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.rule: Callable[[str, str, int], str | None] = lambda *_: None
        self.seen: list[str] = []
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                faults.seen.append(f"{self.command} {self.path}")
                fault = faults.rule(self.command, self.path, faults.seen.count(f"{self.command} {self.path}"))
                if fault in ("500", "503", "403"):
                    code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[fault]
                    self._answer(int(fault), {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
                    return
                if fault == "reset":
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault == "slow":
                    time.sleep(0.3)
                connection = http.client.HTTPConnection(*upstream)
                connection.request(self.command, self.path, headers=dict(self.headers))
                answer = connection.getresponse()
                body = answer.read()
                headers = {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "transfer-encoding")}
                self._answer(answer.status, headers, body, cut=fault == "cut")

            do_HEAD = do_GET

            def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
                self.send_response(status)
                length = headers.pop("Content-Length", headers.pop("content-length", str(len(body))))
                for name, value in {**headers, "Content-Length": length}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body[: len(body) // 2] if cut else body)
                if cut:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, int]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def faults(store: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An empty bucket named `photos` behind a proxy, and an environment that leads there; all patience is our own."""
    proxy = Faults(store)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("ACCESS_KEY_ID", "AKIAPLANTED"), ("SECRET_ACCESS_KEY", "planted"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(stores, "PAUSE", 0.02)
    urllib.request.urlopen(f"http://{store[0]}:{store[1]}/moto-api/reset", data=b"").close()
    s3fs.S3FileSystem.clear_instance_cache()
    client(store).create_bucket(Bucket="photos")
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.server.shutdown()
    proxy.server.server_close()


def client(store: tuple[str, int]) -> Any:
    """Past the proxy."""
    return boto3.client("s3", endpoint_url=f"http://{store[0]}:{store[1]}")


@pytest.fixture
def put(store: tuple[str, int], faults: Faults) -> Callable[..., None]:
    one = client(store)

    def put(*keys: str, body: bytes | None = None) -> None:
        for key in keys:
            one.put_object(Bucket="photos", Key=key, Body=key.encode() if body is None else body)

    return put


def test_a_bucket_is_listed_and_read(put: Callable[..., None]) -> None:
    keys = [
        "in/a-b.jpg",
        "in/a.PNG",
        "in/a/z.jpg",
        "in/a/.x.jpg",
        "in/.thumbs/y.jpg",
        "in/é ?#%41+&.jpg",
        "in/t.txt",
        "in/sub/",
        "inside.jpg",
    ]
    put(*keys)
    objects = listed("s3://photos/in")
    shown_keys = ["a-b.jpg", "a.PNG", "a/z.jpg", "é ?#%41+&.jpg"]
    assert names(objects, "s3://photos/in") == shown_keys
    assert [one.bytes for one in objects] == [len(f"in/{key}".encode()) for key in shown_keys]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one.version) for one in objects)
    assert sorted(map(str, read("s3://photos/in/").values())) == sorted(str(f"in/{key}".encode()) for key in shown_keys)
    assert len(listed("s3://photos")) == 5


def test_globs_and_single_objects_of_a_bucket(put: Callable[..., None]) -> None:
    put("a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "ab/4.jpg", "a/[x].jpg")
    assert names(listed("s3://photos/a/*.jpg"), "s3://photos") == ["a/1.jpg", "a/[x].jpg"]
    assert names(listed("s3://photos/a/**/*.jpg"), "s3://photos") == ["a/1.jpg", "a/[x].jpg", "a/b/2.jpg", "a/b/c/3.jpg"]
    assert names(listed("s3://photos/a*/?.jpg"), "s3://photos") == ["a/1.jpg", "ab/4.jpg"]
    assert names(listed("s3a://photos/a/b/2.jpg"), "s3://photos") == ["a/b/2.jpg"]


def test_a_bucket_is_listed_page_by_page(put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "PAGE", 10)
    put(*(f"{number:05}.jpg" for number in range(25)), body=b"x")
    stream = list_objects(Source(uri="s3://photos"))
    next(stream)
    assert len(faults.seen) == 1
    assert sum(1 for _ in stream) == 24
    assert len(faults.seen) == 3


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut", "slow"])
def test_a_store_that_fails_now_and_then_gives_all_the_same(put: Callable[..., None], faults: Faults, fault: str) -> None:
    put(*(f"{number}.jpg" for number in range(12)), body=b"y" * 900)
    faults.rule = lambda _, path, times: fault if times <= 2 and zlib.crc32(path.encode()) % 2 else None
    assert list(read("s3://photos").values()) == [b"y" * 900] * 12


def test_an_object_that_always_fails_is_unreadable_and_the_others_are_not(put: Callable[..., None], faults: Faults) -> None:
    put("a.jpg", "bad.jpg", "cut.jpg", "denied.jpg", "e.jpg")
    wanted = refs(listed("s3://photos"))
    always = {"/bad": "500", "/cut": "cut", "/denied": "403"}
    faults.rule = lambda _, path, __: next((fault for part, fault in always.items() if part in path), None)
    results = {ref.partition("photos/")[2]: result for ref, result in read_refs(wanted).items()}
    assert {name for name, result in results.items() if isinstance(result, bytes)} == {"a.jpg#None", "e.jpg#None"}
    assert len(results) == 5
    assert {result.reason for result in results.values() if isinstance(result, Unreadable)} == {"unreadable"}
    assert "planted" not in str(results) and "Signature" not in str(results)


def test_changed_gone_and_oversized_objects_cost_one_request_each(put: Callable[..., None], store: tuple[str, int], faults: Faults) -> None:
    put("changed.jpg", "gone.jpg", "same.jpg")
    put("large.jpg", body=bytes(1001))
    wanted = refs(listed("s3://photos"))
    put("changed.jpg", body=b"another picture")
    client(store).delete_object(Bucket="photos", Key="gone.jpg")
    faults.seen.clear()
    results = {re.findall(r"(\w+)\.jpg", name)[0]: result for name, result in read_refs(wanted).items()}
    assert results.pop("same") == b"same.jpg"
    told = {name: result.reason for name, result in results.items() if isinstance(result, Unreadable)}
    assert told == {"changed": "changed", "gone": "unreadable", "large": "too_many_bytes"}
    assert len(faults.seen) == 4


def test_parquet_and_sidecars_in_a_bucket(put: Callable[..., None], tmp_path: Path, faults: Faults) -> None:
    path = parquet(tmp_path / "p.parquet", [f"im{row}".encode() for row in range(9)], pa.binary())
    put("data/p.parquet", body=path.read_bytes())
    put("data/a.jpg")
    put("data/a.json", body=b'{"licence": "CC0"}')
    faults.rule = lambda _, path, times: "500" if times == 1 and "list-type" not in path else None
    objects = listed("s3://photos/data", sidecar=".json")
    assert [(one.row, one.source_meta) for one in objects[:2]] == [(None, '{"licence":"CC0"}'), (0, None)]
    wanted = refs(objects)
    results = read_refs(wanted)
    assert sorted(result for result in results.values() if isinstance(result, bytes)) == [
        b"data/a.jpg",
        *(f"im{row}".encode() for row in range(9)),
    ]
    put("data/p.parquet", body=path.read_bytes() + b"x")
    assert {result.reason for result in read_refs(wanted[1:]).values() if isinstance(result, Unreadable)} == {"changed"}


def test_mistakes_about_buckets_are_one_line(put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a/notes.txt")
    assert mistake("s3://nowhere-at-all/x") == "s3://nowhere-at-all/x: no such bucket or prefix"
    assert mistake("s3://photos/a", suffixes=(".jpg",)) == "0 images under s3://photos/a; suffixes looked for: .jpg, .parquet"
    faults.rule = lambda *_: "403"
    assert "access refused by s3://photos" in mistake("s3://photos/a")
    faults.rule = lambda *_: "500"
    with pytest.raises(SynthError, match=r"s3://photos: listing failed: ") as caught:
        listed("s3://photos")
    assert not isinstance(caught.value, UserMistake)
    assert "\n" not in str(caught.value)


def in_a_line(*arguments: str) -> str:
    with pytest.raises(UserMistake) as caught:
        cli.app(arguments, standalone_mode=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


OF_FOLDERS = [
    ("status",),
    ("gc",),
    ("retry",),
    ("purge",),
    ("run", "--set", "source.uri=x", "--pipeline", "demo", "--out"),
    ("plan", "--out"),
]


@pytest.mark.parametrize("command", OF_FOLDERS, ids=lambda command: command[0])
def test_mistakes_about_the_bucket_of_the_output_are_those_of_the_source(
    command: tuple[str, ...], put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a/notes.txt")
    assert in_a_line(*command, "s3://nowhere-at-all/x").startswith(
        "s3://nowhere-at-all/x: there is no bucket nowhere-at-all; make it first"
    )
    if command[0] not in ("run", "plan"):
        assert in_a_line(*command, "s3://photos/new").endswith("s3://photos/new: holds no synth run")
    faults.rule = lambda *_: "403"
    assert in_a_line(*command, "s3://photos/a") == mistake("s3://photos/a")
    faults.rule = lambda *_: None
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    for name, value in (("EC2_METADATA_DISABLED", "true"), ("CONFIG_FILE", os.devnull), ("SHARED_CREDENTIALS_FILE", os.devnull)):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    assert in_a_line(*command, "s3://photos/a") == mistake("s3://photos/a") != ""
    assert "no credentials found" in mistake("s3://photos/a")


# --- another store ----------------------------------------------------------------------------------------------------


class Imitation(MemoryFileSystem):
    """Stands in for gcsfs, which needs an account: folders are listed one by one, versions are etags."""

    protocol = "gs"
    store: dict[str, Any] = {}  # noqa: RUF012 (as its parent has it)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")

    def info(self, path: str, **named: Any) -> dict[str, Any]:
        return self._marked(super().info(path, **named))

    def ls(self, path: str, detail: bool = True, **named: Any) -> Any:
        return [self._marked(info) for info in super().ls(path, detail=True, **named)]

    def _marked(self, info: dict[str, Any]) -> dict[str, Any]:
        if info["type"] == "file":
            info["etag"] = f'"{hash(self.store[self._strip_protocol(info["name"])].getvalue())}"'
        return {**info, "name": info["name"].lstrip("/")}


def test_a_store_without_pages_is_walked_folder_by_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Imitation, "store", {})
    fsspec.register_implementation("gs", Imitation, clobber=True)
    try:
        fs = fsspec.filesystem("gs")
        for key in ("a-b.jpg", "a/z.jpg", "a.png", ".x/y.jpg", "b/c/d.jpg"):
            fs.pipe(f"gs://bucket/{key}", key.encode())
        objects = listed("gs://bucket")
        assert names(objects, "gs://bucket") == ["a-b.jpg", "a.png", "a/z.jpg", "b/c/d.jpg"]
        assert names(listed("gcs://bucket/*/*.jpg"), "gs://bucket") == ["a/z.jpg"]
        fs.pipe("gs://bucket/a.png", b"another")
        fs.rm("gs://bucket/a/z.jpg")
        results = list(read_refs(refs(objects)).values())
        assert sorted(str(result) for result in results if isinstance(result, bytes)) == ["b'a-b.jpg'", "b'b/c/d.jpg'"]
        assert sorted(result.reason for result in results if isinstance(result, Unreadable)) == ["changed", "unreadable"]
    finally:
        fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)
