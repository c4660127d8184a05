"""Files of an output folder, on local disk and in a bucket: no reader sees half a file, and one of many creates it."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from synthgen.errors import Damaged, SynthError, UserMistake
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart, remote, writing
from synthgen.store.gc import Deleted, collect_garbage
from synthgen.store.opening import open_folder
from synthgen.tables import PACK, TAG
from tests.fixtures.rows import RACERS, current, receipt, with_things
from tests.fixtures.s3_server import S3Proxy


def test_a_file_is_read_as_written_and_a_missing_one_is_an_error(out: Folder) -> None:
    out.write("a.json", b"one")
    out.child("deep/er").write("b.json", b"two")
    out.write("a.json", b"three")
    assert out.read("a.json") == b"three"
    assert out.child("deep").child("er").read_many(["b.json"]) == {"b.json": b"two"}
    with pytest.raises(FileNotFoundError):
        out.read("c.json")
    out.remove(["a.json", "a.json"])
    assert out.names() == []


def test_a_file_that_is_streamed_is_there_whole_or_not_at_all(out: Folder) -> None:
    with out.child("deep").stream("a.bin") as sink:
        sink.write(b"one")
        sink.write(b" two")
        assert out.child("deep").names() == []
    assert out.child("deep").read("a.bin") == b"one two"
    with pytest.raises(ZeroDivisionError), out.child("deep").stream("a.bin") as sink:
        sink.write(b"half")
        raise ZeroDivisionError
    assert out.child("deep").read("a.bin") == b"one two" and out.child("deep").names() == ["a.bin"]
    with out.stream("empty.bin"):
        pass
    assert out.read("empty.bin") == b""


def test_a_large_file_that_is_streamed_to_a_store_and_fails_leaves_nothing(s3: Folder) -> None:
    """It is sent in pieces, which the store joins only at the end."""
    piece = os.urandom(6 * 2**20)
    with pytest.raises(ZeroDivisionError), s3.stream("a.bin") as sink:
        for _ in range(10):
            sink.write(piece)
        raise ZeroDivisionError
    assert s3.names() == []
    with s3.stream("a.bin") as sink:
        for _ in range(10):
            sink.write(piece)
    assert s3.read("a.bin") == piece * 10


def test_a_file_that_is_put_is_read_as_written_in_a_folder_that_did_not_exist(out: Folder) -> None:
    out.child("deep/er").put("a.bin", b"one")
    out.child("deep/er").put("a.bin", b"two")
    assert out.child("deep/er").read("a.bin") == b"two"


def test_names_are_those_of_whole_files_in_this_folder_alone(out: Folder) -> None:
    assert out.names() == [] and out.is_empty()
    for name in ("b.json", "a.json", "c.parquet"):
        out.write(name, b"")
    out.child("below").write("d.json", b"")
    assert out.names() == ["a.json", "b.json", "c.parquet"]
    assert out.names(".json") == ["a.json", "b.json"]
    assert not out.is_empty()


def test_many_files_are_read_by_name(out: Folder) -> None:
    wanted = {f"{number}.json": str(number).encode() for number in range(30)}
    for name, data in wanted.items():
        out.write(name, data)
    assert out.read_many(list(wanted)) == wanted
    assert out.read_many([]) == {}


def test_a_folder_where_a_run_was_killed_before_it_wrote_anything_is_still_empty(out: Folder) -> None:
    Lease.take(out).release()
    assert out.is_empty()
    out.write("notes.txt", b"the user's")
    assert not out.is_empty()


def test_of_many_threads_one_creates_a_file(out: Folder) -> None:
    start = threading.Barrier(RACERS)

    def create(number: int) -> bool:
        start.wait()
        return out.create("one.json", f"{number}".encode())

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(create, range(RACERS)))
    assert won.count(True) == 1
    assert out.read("one.json") == str(won.index(True)).encode()
    assert out.names() == ["one.json"]


def _create_in_process(start: Any, url: str, number: int) -> None:
    start.wait()
    sys.exit(0 if Folder(url).create("one.json", str(number).encode()) else 1)


def test_of_many_processes_one_creates_a_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        start, url = context.Barrier(RACERS), str(tmp_path / str(attempt))
        racers = [context.Process(target=_create_in_process, args=(start, url, number)) for number in range(RACERS)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        won = [racer.exitcode == 0 for racer in racers]
        assert won.count(True) == 1
        assert Folder(url).read("one.json") == str(won.index(True)).encode()


def test_a_refused_create_changes_nothing(out: Folder) -> None:
    assert out.create("one.json", b"first")
    assert not out.create("one.json", b"second")
    assert out.read("one.json") == b"first"


def test_a_create_whose_reply_was_lost_returns_that_it_created_the_file(s3: Folder, proxy: S3Proxy) -> None:
    s3.create("learn.json", b"")
    lost: list[str] = []

    def lose_once(request: BaseHTTPRequestHandler) -> str | None:
        if request.command == "PUT" and not lost:
            lost.append(request.path)
            return "lose"
        return None

    proxy.fault = lose_once
    assert s3.create("one.json", b"mine")
    assert lost and s3.read("one.json") == b"mine"


def test_a_create_that_the_store_could_not_decide_is_tried_again(s3: Folder, proxy: S3Proxy) -> None:
    s3.create("learn.json", b"")
    refused: list[str] = []

    def conflict_twice(request: BaseHTTPRequestHandler) -> str | None:
        if request.command == "PUT" and len(refused) < 2:
            refused.append(request.path)
            return "conflict"
        return None

    proxy.fault = conflict_twice
    assert s3.create("one.json", b"mine")
    assert len(refused) == 2


def test_in_a_store_that_ignores_the_condition_of_a_put_a_name_is_looked_up_first(s3: Folder, proxy: S3Proxy) -> None:
    proxy.fault = lambda request: "strip"
    assert s3.create("one.json", b"first")
    assert not s3.create("one.json", b"second")
    assert s3.read("one.json") == b"first"
    assert s3.create("two.json", b"another")


def test_in_a_store_that_answers_400_to_the_condition_of_a_put_a_name_is_looked_up_first(
    s3: Folder, proxy: S3Proxy
) -> None:
    proxy.fault = lambda request: "refuse"
    assert s3.create("one.json", b"first")
    assert not s3.create("one.json", b"second")
    assert s3.read("one.json") == b"first"
    with Lease.take(s3) as lease:
        lease.check()


def test_a_400_does_not_count_against_a_condition_that_has_worked(s3: Folder, proxy: S3Proxy) -> None:
    assert s3.create("one.json", b"first") and writing._HAS_CONDITION == {"s3://bucket": True}
    refused: list[str] = []

    def refuse_thrice(request: BaseHTTPRequestHandler) -> str | None:
        if request.command == "PUT" and len(refused) < 3:
            refused.append(request.path)
            return "refuse"
        return None

    proxy.fault = refuse_thrice
    assert s3.create("two.json", b"second")
    assert len(refused) == 3 and writing._HAS_CONDITION == {"s3://bucket": True}


@pytest.mark.parametrize(
    ("error", "is_known"),
    [
        (TimeoutError(), False), (ConnectionResetError(), False), (OSError(errno.EBUSY, "slow down"), False),
        (OSError(errno.EREMOTEIO, "internal error"), False), (OSError(errno.EINVAL, "precondition failed"), True),
        (FileExistsError(), True),
    ],
)  # fmt: skip
def test_only_an_answer_to_the_second_put_shows_that_conditions_work(
    s3: Folder, monkeypatch: pytest.MonkeyPatch, error: OSError, is_known: bool
) -> None:
    answers: list[OSError | None] = [None, error]

    def put(path: str, data: bytes, mode: str) -> None:
        if answer := answers.pop(0):
            raise answer

    monkeypatch.setattr(s3.fs, "pipe_file", put)
    assert s3.create("one.json", b"first")
    assert ({"s3://bucket": True} if is_known else {}) == writing._HAS_CONDITION


def test_files_are_numbered_in_the_order_in_which_they_are_appended(out: Folder) -> None:
    assert [out.append(data) for data in (b"1", b"2")] == ["000001.json", "000002.json"]
    assert out.read_every_json("") == {"000001.json": 1, "000002.json": 2}


def test_a_number_that_another_driver_took_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, checks = Folder(str(tmp_path)), list[str]()
    out.append(b"theirs")
    monkeypatch.setattr(Folder, "names", lambda *_: [])
    assert out.append(b"mine", lambda: checks.append("checked")) == "000002.json"
    assert out.read("000001.json") == b"theirs" and out.read("000002.json") == b"mine" and checks == ["checked"]


def test_a_damaged_json_file_is_reported_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    for data in (b'{"half": ', b"\xff", b"[" * 200_000):
        out.write("one.json", data)
        reads: list[Callable[[], Any]] = [lambda: out.read_json("one.json", "x y"), lambda: out.read_every_json("x y")]
        for read in reads:
            with pytest.raises(Damaged, match=r"/one\.json: is not JSON \(.*\), so it was damaged; x y$") as caught:
                read()
            assert "\n" not in str(caught.value)


def test_a_reader_finds_whole_files_while_they_are_replaced(tmp_path: Path) -> None:
    folder, stop = Folder(str(tmp_path)), threading.Event()
    versions = [bytes([65 + number]) * (300_000 + 50_000 * number) for number in range(4)]
    folder.write("one.json", versions[0])
    seen: set[bytes] = set()
    names: set[str] = set()

    def poll() -> None:
        while not stop.is_set():
            seen.add(folder.read("one.json"))
            names.update(folder.names())

    reader = threading.Thread(target=poll)
    reader.start()
    for number in range(60):
        folder.write("one.json", versions[number % 4])
    stop.set()
    reader.join()
    assert seen <= set(versions)
    assert names == {"one.json"}


def test_a_file_that_was_being_written_when_its_process_was_killed_is_no_file(tmp_path: Path) -> None:
    code = """if 1:
        import os, signal, sys
        from synthgen.store import Folder
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        Folder(sys.argv[1]).create("one.json", b"half")"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1, "the file was started"
    assert Folder(str(tmp_path)).names() == [] and Folder(str(tmp_path)).is_empty()


def test_garbage_collection_deletes_half_written_files_of_killed_processes_in_every_folder(tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "out"))
    with Lease.take(out) as lease:
        stage = StageFolder(out, with_things(PACK))
        stage.commit(receipt(stage, {"a": 1}), lease)
        for folder in ("", "5-shards/things", "5-shards/commits", "5-shards/data", "lease", "profiles"):
            Path(out.path, folder).mkdir(exist_ok=True)
            Path(out.path, folder, ".writing-0123").write_bytes(b"1234")
        assert collect_garbage(RunFolder(out), lease) == Deleted(6, 24)
        assert not list(Path(out.path).rglob(".writing-*")) and current(stage) == {"a": 1}
        lease.check()


@pytest.mark.parametrize("table", ["things//far/mine.yaml", "things/./mine", "things/../mine"])
def test_garbage_collection_keeps_the_files_of_commits_however_the_table_is_spelled(table: str, tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "out"))
    with Lease.take(out) as lease:
        stage = StageFolder(out, TAG)
        files = [stage.write(table, "p", 1, pa.table({"key": [1]})) for _ in range(2)]
        stage.commit(Receipt("p", 1, {table: TablePart((files[0],), "f")}), lease)
        assert collect_garbage(RunFolder(out), lease) == Deleted(1, files[1].bytes)
        assert [rows.num_rows for rows in stage.read(stage.log(), "p", table)] == [1]


def test_a_disk_without_hard_links_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserMistake, match="no hard links") as caught:
        Folder(str(tmp_path)).create("one.json", b"")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_in_one_line_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    folder = Folder(str(tmp_path))
    folder.write("one.json", b"before")
    monkeypatch.setattr(os, "fsync", full)
    for write in (folder.write, folder.create):
        with pytest.raises(SynthError) as caught:
            write("one.json", b"after")
        start = f"{tmp_path}: writing failed (OSError: [Errno 28] No space left on device); "
        assert str(caught.value).startswith(start)
    assert folder.names() == ["one.json"] and folder.read("one.json") == b"before"


def busy(honest: Callable[..., Any], failures: int) -> Callable[..., Any]:
    """Return a call of a store that fails this many times before it works."""
    remaining = iter(range(failures))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(remaining, None) is not None:
            raise ConnectionError("the store is busy")
        return honest(*arguments, **named)

    return call


@pytest.mark.parametrize("failures", [2, 99])
def test_a_store_that_fails_is_asked_again_and_reported_in_one_line_if_it_keeps_failing(
    s3: Folder, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    for name in ("pipe_file", "cat_file", "ls"):
        monkeypatch.setattr(s3.fs, name, busy(getattr(s3.fs, name), failures))
    if failures == 2:
        s3.write("one.json", b"kept")
        assert s3.read("one.json") == b"kept" and s3.names() == ["one.json"]
        return
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("writing", lambda: s3.write("a", b"")), ("reading", lambda: s3.read("a")), ("listing", s3.names),
    ]  # fmt: skip
    for doing, call in calls:
        with pytest.raises(SynthError) as caught:
            call()
        assert str(caught.value).startswith(
            f"{s3.url}: {doing} failed (ConnectionError: the store is busy); committed results are kept"
        )


@pytest.mark.parametrize("url", ["memory://out", "nowhere://out", "ftp://host/out", "github://x/out", "zip://a.zip"])
def test_a_filesystem_that_keeps_nothing_is_refused(url: str) -> None:
    with pytest.raises(UserMistake, match=r"give a local path, s3://… or gs://…"):
        open_folder(url)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/out", "s3fs"), ("gs://bucket/out", "gcsfs")])
def test_a_store_whose_package_is_not_installed_names_that_package(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    def without_package(*_: Any, **__: Any) -> Any:
        raise ImportError(f"Please install {package} to access it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without_package)
    with pytest.raises(UserMistake) as caught:
        open_folder(url)
    assert str(caught.value) == f"{url.partition('/')[0]}// needs one more package: pip install {package}"


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserMistake, match="is a file"):
        open_folder(str(tmp_path / "file"))
    assert open_folder(f"file://{tmp_path}").path == open_folder(str(tmp_path)).path
