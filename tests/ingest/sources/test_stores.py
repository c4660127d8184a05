"""Buckets are listed and read as folders are, whatever happens to a request. S3 is a real server over HTTP."""

import http.client
import os
import re
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import fsspec
import pyarrow as pa
import pytest
import s3fs  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer

from synthgen import cli
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure, SynthError, UserMistake
from synthgen.ingest.sources import display_uri, list_objects, read_files, spell_out_uri, tars, walk
from synthgen.store import remote
from tests.fixtures.sources import listed, mistake, names, parquet, read, read_refs, refs
from tests.fixtures.tars import member, packed

LARGE = ImagesConfig(max_bytes=100_000)

# --- S3, over HTTP, with faults ---------------------------------------------------------------------------------------


class Faults:
    """A proxy before the store; `rule(method, path, times_seen)` names the fault of a request, or None."""

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
                headers = {
                    name: value
                    for name, value in answer.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding")
                }
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
    """Give an empty bucket `photos` behind a proxy, and an environment that leads there; only our own code retries."""
    proxy = Faults(store)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("ACCESS_KEY_ID", "AKIAPLANTED"),
        ("SECRET_ACCESS_KEY", "planted"),
        ("DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(remote, "PAUSE", 0.02)
    urllib.request.urlopen(f"http://{store[0]}:{store[1]}/moto-api/reset", data=b"").close()
    s3fs.S3FileSystem.clear_instance_cache()
    client(store).create_bucket(Bucket="photos")
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.server.shutdown()
    proxy.server.server_close()


def client(store: tuple[str, int]) -> Any:
    """Return a client that does not pass the proxy."""
    return boto3.client("s3", endpoint_url=f"http://{store[0]}:{store[1]}")


@pytest.fixture
def put(store: tuple[str, int], faults: Faults) -> Callable[..., None]:
    past_the_proxy = client(store)

    def put(*keys: str, body: bytes | None = None) -> None:
        for key in keys:
            past_the_proxy.put_object(Bucket="photos", Key=key, Body=key.encode() if body is None else body)

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
    assert [listed.bytes for listed in objects] == [len(f"in/{key}".encode()) for key in shown_keys]
    assert all(re.fullmatch(r"[0-9a-f]{32}", item.version) for item in objects)
    assert sorted(map(str, read("s3://photos/in/").values())) == sorted(str(f"in/{key}".encode()) for key in shown_keys)
    assert len(listed("s3://photos")) == 5


def test_globs_and_single_objects_of_a_bucket(put: Callable[..., None]) -> None:
    put("a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "ab/4.jpg", "a/[x].jpg")
    assert names(listed("s3://photos/a/*.jpg"), "s3://photos") == ["a/1.jpg", "a/[x].jpg"]
    assert names(listed("s3://photos/a/**/*.jpg"), "s3://photos") == [
        "a/1.jpg",
        "a/[x].jpg",
        "a/b/2.jpg",
        "a/b/c/3.jpg",
    ]
    assert names(listed("s3://photos/a*/?.jpg"), "s3://photos") == ["a/1.jpg", "ab/4.jpg"]
    assert names(listed("s3a://photos/a/b/2.jpg"), "s3://photos") == ["a/b/2.jpg"]


def test_a_bucket_is_listed_page_by_page(
    put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "PAGE", 10)
    put(*(f"{number:05}.jpg" for number in range(25)), body=b"x")
    stream = list_objects(SourceConfig(uri="s3://photos"))
    next(stream)
    assert len(faults.seen) == 1
    assert sum(1 for _ in stream) == 24
    assert len(faults.seen) == 3


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut", "slow"])
def test_a_store_that_fails_now_and_then_gives_every_object(
    put: Callable[..., None], faults: Faults, fault: str
) -> None:
    put(*(f"{number}.jpg" for number in range(12)), body=b"y" * 900)
    faults.rule = lambda _, path, times: fault if times <= 2 and zlib.crc32(path.encode()) % 2 else None
    assert list(read("s3://photos").values()) == [b"y" * 900] * 12


def test_an_object_that_always_fails_is_unreadable_and_the_others_are_not(
    put: Callable[..., None], faults: Faults
) -> None:
    put("a.jpg", "bad.jpg", "cut.jpg", "denied.jpg", "e.jpg")
    wanted = refs(listed("s3://photos"))
    always = {"/bad": "500", "/cut": "cut", "/denied": "403"}
    faults.rule = lambda _, path, __: next((fault for part, fault in always.items() if part in path), None)
    results = {ref.partition("photos/")[2]: result for ref, result in read_refs(wanted).items()}
    assert {name for name, result in results.items() if isinstance(result, bytes)} == {"a.jpg#None", "e.jpg#None"}
    assert len(results) == 5
    assert {result.reason for result in results.values() if isinstance(result, Failure)} == {"unreadable"}
    assert "planted" not in str(results) and "Signature" not in str(results)


def test_changed_gone_and_oversized_objects_cost_one_request_each(
    put: Callable[..., None], store: tuple[str, int], faults: Faults
) -> None:
    put("changed.jpg", "gone.jpg", "same.jpg")
    put("large.jpg", body=bytes(1001))
    wanted = refs(listed("s3://photos"))
    put("changed.jpg", body=b"another picture")
    client(store).delete_object(Bucket="photos", Key="gone.jpg")
    faults.seen.clear()
    results = {re.findall(r"(\w+)\.jpg", name)[0]: result for name, result in read_refs(wanted).items()}
    assert results.pop("same") == b"same.jpg"
    reasons = {name: result.reason for name, result in results.items() if isinstance(result, Failure)}
    assert reasons == {"changed": "changed", "gone": "unreadable", "large": "too_many_bytes"}
    assert len(faults.seen) == 4


def test_parquet_and_sidecars_in_a_bucket(put: Callable[..., None], tmp_path: Path, faults: Faults) -> None:
    path = parquet(tmp_path / "p.parquet", [f"im{row}".encode() for row in range(9)], pa.binary())
    put("data/p.parquet", body=path.read_bytes())
    put("data/a.jpg")
    put("data/a.jpg.json", body=b'{"licence": "CC0"}')
    faults.rule = lambda _, path, times: "500" if times == 1 and "list-type" not in path else None
    objects = listed("s3://photos/data", sidecar=".json")
    assert [(item.row, item.source_meta) for item in objects[:2]] == [(None, '{"licence":"CC0"}'), (0, None)]
    wanted = refs(objects)
    results = read_refs(wanted)
    assert sorted(result for result in results.values() if isinstance(result, bytes)) == [
        b"data/a.jpg",
        *(f"im{row}".encode() for row in range(9)),
    ]
    put("data/p.parquet", body=path.read_bytes() + b"x")
    assert {result.reason for result in read_refs(wanted[1:]).values() if isinstance(result, Failure)} == {"changed"}


def test_a_manifest_in_a_bucket_names_its_objects(put: Callable[..., None]) -> None:
    put("in/a.jpg", "in/deep/b.jpg")
    rows = "a.jpg,1\ns3://photos/in/deep/b.jpg,2\n../x.jpg,3\ngone.jpg,4\n/etc/passwd,5\n"
    put("in/l.csv", body=f"path,n\n{rows}".encode())
    objects, plain = listed("manifest:s3://photos/in/l.csv"), listed("s3://photos/in")
    assert [(item.uri, item.version) for item in objects] == [(item.uri, item.version) for item in plain]
    assert sorted(map(str, read("manifest:s3://photos/in/l.csv").values())) == ["b'in/a.jpg'", "b'in/deep/b.jpg'"]
    assert display_uri("manifest:s3://photos/in/l.csv") == "manifest:s3://photos/in/l.csv"
    assert spell_out_uri("manifest:s3://photos/l.csv", Path("/")) == "manifest:s3://photos/l.csv"


def test_a_tar_in_a_bucket_is_listed_once_and_read_by_range(
    put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "BLOCK", 2048)
    monkeypatch.setattr(read_files, "MEMBERS", 2)
    datas = [bytes([number]) * 50_000 for number in range(5)]
    members = [member(f"{number}.jpg", data) for number, data in enumerate(datas)]
    put("s-1.tar", body=packed(*members, member("4.txt", b"four")))
    faults.rule = lambda method, path, times: "500" if times in (3, 4) and method == "GET" else None
    objects = listed("s3://photos/s-{1..1}.tar")
    assert [item.uri for item in objects] == [f"s3://photos/s-1.tar#{number}.jpg" for number in range(5)]
    assert objects[4].source_meta == '{"txt":"four"}'
    assert set(read_refs(refs(objects[1:]), LARGE).values()) == set(datas[1:])
    put("s-1.tar", body=packed("0.jpg"))
    assert {getattr(got, "reason", "") for got in read_refs(refs(objects), LARGE).values()} == {"changed"}


def test_mistakes_about_buckets_are_one_line(
    put: Callable[..., None], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a/notes.txt")
    assert mistake("s3://nowhere-at-all/x") == "s3://nowhere-at-all/x: no such bucket or prefix"
    assert (
        mistake("s3://photos/a", suffixes=(".jpg",))
        == "0 images under s3://photos/a; suffixes looked for: .jpg, .parquet, .tar; "
        "left out: 1 .txt; --set source.suffixes='[\"*\"]' takes every file"
    )
    faults.rule = lambda *_: "403"
    assert "access refused by s3://photos" in mistake("s3://photos/a")
    faults.rule = lambda *_: "500"
    with pytest.raises(SynthError, match=r"s3://photos: listing failed: ") as caught:
        listed("s3://photos")
    assert not isinstance(caught.value, UserMistake)
    assert "\n" not in str(caught.value)


def mistake_of(*arguments: str) -> str:
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
    assert mistake_of(*command, "s3://nowhere-at-all/x").startswith(
        "s3://nowhere-at-all/x: there is no bucket nowhere-at-all; make it first"
    )
    if command[0] not in ("run", "plan"):
        assert mistake_of(*command, "s3://photos/new").endswith("s3://photos/new: holds no synth run")
    faults.rule = lambda *_: "403"
    assert mistake_of(*command, "s3://photos/a") == mistake("s3://photos/a")
    faults.rule = lambda *_: None
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    for name, value in (
        ("EC2_METADATA_DISABLED", "true"),
        ("CONFIG_FILE", os.devnull),
        ("SHARED_CREDENTIALS_FILE", os.devnull),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    assert mistake_of(*command, "s3://photos/a") == mistake("s3://photos/a") != ""
    assert "no credentials found" in mistake("s3://photos/a")


def test_a_run_into_its_own_prefix_is_refused_before_anything_is_written(
    put: Callable[..., None], store: tuple[str, int]
) -> None:
    put("a/x.jpg")
    for source in ("s3://photos/a", "s3a://photos/a*/**/*.jpg", "s3://photos"):
        message = mistake_of("run", source, "--out", "s3://photos/a/out", "--pipeline", "demo")
        assert message.startswith(
            f"--out s3://photos/a/out: lies inside the source {source}, so a later run would list"
        )
    assert [item["Key"] for item in client(store).list_objects_v2(Bucket="photos")["Contents"]] == ["a/x.jpg"]


# --- another store ----------------------------------------------------------------------------------------------------


class Imitation(MemoryFileSystem):  # type: ignore[misc]
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
        assert sorted(result.reason for result in results if isinstance(result, Failure)) == [
            "changed",
            "unreadable",
        ]
    finally:
        fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)
