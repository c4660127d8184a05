"""The output folder keeps the promises of docs/format.md, on local disk and on an S3 server over real HTTP.

A reader never sees half of anything, a revision is committed once, damage is found and named, and one driver commits at a
time. Killed processes are really killed.
"""

import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synthgen.errors import Damaged, LeaseHeld, LeaseLost, UserMistake
from synthgen.store import DataFile, Folder, Lease, Log, Receipt, Stage, TablePart
from synthgen.store import folder as folders
from synthgen.store import lease as leases
from synthgen.store.folder import open_folder
from synthgen.store.stage import partition_name
from synthgen.store.tidy import Deleted, tidy

ROWS = pa.schema([("key", pa.string()), ("value", pa.int64())])
RACERS = 16
PARTITION = "e001-00000"


def rows(values: dict[str, int]) -> pa.Table:
    return pa.table([list(values), list(values.values())], schema=ROWS)


def receipt(stage: Stage, values: dict[str, int], partition: str = PARTITION, revision: int = 1, **how: Any) -> Receipt:
    """A receipt for a table `things`, its file written."""
    replaces, counts = how.get("replaces", False), how.get("counts", {"things": len(values)})
    file = stage.write("things", partition, revision, rows(values))
    return Receipt(partition, revision, {"things": TablePart((file,), "f", replaces)}, counts)


def current(stage: Stage, log: Log | None = None, partition: str = PARTITION) -> dict[str, int]:
    table = stage.current(log or stage.log(), partition, "things", "key", ROWS)
    keys = table.column("key").to_pylist()
    assert len(set(keys)) == len(keys), "a key has one current row"
    return dict(zip(keys, table.column("value").to_pylist(), strict=True))


# --- an S3 server, and a way between us and it that can fail ------------------------------------------------------------


class Way(ThreadingHTTPServer):
    """An HTTP proxy before the S3 server; `spoil(request)` may do something to a request and say what."""

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.server = server
        self.spoil: Callable[[BaseHTTPRequestHandler], str | None] = lambda request: None


class Forward(BaseHTTPRequestHandler):
    """Sends a request on; then what `spoil` says: "lose" the reply, answer "conflict" in its place, "strip" the condition."""

    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        way = self.server
        assert isinstance(way, Way)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        spoiled = way.spoil(self)
        if spoiled == "conflict":
            self.reply(409, b"<Error><Code>ConditionalRequestConflict</Code><Message>at once</Message></Error>", [])
            return
        headers = {name: value for name, value in self.headers.items() if not (spoiled == "strip" and name.lower() == "if-none-match")}
        connection = http.client.HTTPConnection(*way.server)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if spoiled == "lose":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        dropped = ("transfer-encoding", "content-length", "connection", "date", "server")
        self.reply(answer.status, data, [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped])

    def reply(self, status: int, data: bytes, headers: Sequence[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """An S3 server with a bucket, as AWS_ENDPOINT_URL names it, and the way to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Way(server.get_host_and_port())
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    environment = pytest.MonkeyPatch()
    environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    fsspec.filesystem("s3", use_listings_cache=False).mkdir("bucket")
    yield proxy
    environment.undo()
    proxy.shutdown()
    server.stop()


@pytest.fixture
def s3(way: Way, request: pytest.FixtureRequest) -> Iterator[Folder]:
    way.spoil = lambda request: None
    folders._HAS_CONDITION.clear()
    yield Folder(f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}")
    folders._HAS_CONDITION.clear()


@pytest.fixture(params=["local", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An output folder, once on disk and once in a bucket."""
    folder: Folder = Folder(str(tmp_path / "out")) if request.param == "local" else request.getfixturevalue("s3")
    return folder


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_written_and_a_missing_one_is_named(out: Folder) -> None:
    out.write("a.json", b"one")
    out.child("deep/er").write("b.json", b"two")
    out.write("a.json", b"three")
    assert out.read("a.json") == b"three"
    assert out.child("deep").child("er").read_many(["b.json"]) == {"b.json": b"two"}
    with pytest.raises(FileNotFoundError):
        out.read("c.json")
    out.remove(["a.json", "a.json"])
    assert out.names() == []


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


def test_a_create_whose_reply_was_lost_is_told_that_it_created_the_file(s3: Folder, way: Way) -> None:
    s3.create("learn.json", b"")
    lost: list[str] = []

    def lose_once(request: BaseHTTPRequestHandler) -> str | None:
        if request.command == "PUT" and not lost:
            lost.append(request.path)
            return "lose"
        return None

    way.spoil = lose_once
    assert s3.create("one.json", b"mine")
    assert lost and s3.read("one.json") == b"mine"


def test_a_create_that_the_store_could_not_decide_is_tried_again(s3: Folder, way: Way) -> None:
    s3.create("learn.json", b"")
    told: list[str] = []

    def conflict_twice(request: BaseHTTPRequestHandler) -> str | None:
        if request.command == "PUT" and len(told) < 2:
            told.append(request.path)
            return "conflict"
        return None

    way.spoil = conflict_twice
    assert s3.create("one.json", b"mine")
    assert len(told) == 2


def test_a_store_that_takes_a_conditional_put_for_a_plain_one_is_looked_at_first(s3: Folder, way: Way) -> None:
    way.spoil = lambda request: "strip"
    assert s3.create("one.json", b"first")
    assert not s3.create("one.json", b"second")
    assert s3.read("one.json") == b"first"
    assert s3.create("two.json", b"another")


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
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert died.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1, "the file was begun"
    assert Folder(str(tmp_path)).names() == [] and Folder(str(tmp_path)).is_empty()


def test_tidying_deletes_what_was_being_written_when_its_process_was_killed_wherever_it_lies(tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "out"))
    with Lease.take(out) as lease:
        stage = Stage(out, "5-shards")
        stage.commit(receipt(stage, {"a": 1}), lease, 1)
        for folder in ("", "5-shards/things", "5-shards/commits", "5-shards/data", "lease", "profiles"):
            Path(out.path, folder).mkdir(exist_ok=True)
            Path(out.path, folder, ".writing-0123").write_bytes(b"1234")
        assert tidy(out, ("5-shards",), lease) == Deleted(6, 24)
        assert not list(Path(out.path).rglob(".writing-*")) and current(stage) == {"a": 1}
        lease.check()


def test_a_disk_without_hard_links_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserMistake, match="no hard links") as told:
        Folder(str(tmp_path)).create("one.json", b"")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://out", "nowhere://out"])
def test_a_place_that_keeps_nothing_is_refused(url: str) -> None:
    with pytest.raises(UserMistake, match=r"give a local path, s3://… or gs://…"):
        open_folder(url)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/out", "s3fs"), ("gs://bucket/out", "gcsfs")])
def test_a_store_whose_package_is_not_installed_names_that_package(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    def lacks(*_: Any, **__: Any) -> Any:
        raise ImportError(f"Please install {package} to access it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacks)
    with pytest.raises(UserMistake) as told:
        open_folder(url)
    assert str(told.value) == f"{url.partition('/')[0]}// needs one more package: pip install {package}"


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserMistake, match="is a file"):
        open_folder(str(tmp_path / "file"))
    assert open_folder(f"file://{tmp_path}").path == open_folder(str(tmp_path)).path


# --- commits ----------------------------------------------------------------------------------------------------------


def test_rows_are_there_once_they_are_committed_and_not_before(out: Folder) -> None:
    stage = Stage(out, "1-tagged")
    with Lease.take(out) as lease:
        made = receipt(stage, {"a": 1, "b": 2})
        assert stage.log().partitions == {} and current(stage) == {}
        commit = stage.commit(made, lease, 1)
    log = stage.log()
    assert log.partitions == {PARTITION: (commit,)}
    assert commit.receipt == made and commit.epoch == 1 and commit.term == 1
    assert current(stage) == {"a": 1, "b": 2}
    assert log.counts() == {"things": 2}
    assert log.digests("1-tagged", [PARTITION]) == {f"1-tagged/{PARTITION}.r1": commit.digest}


def test_a_worker_killed_before_the_commit_leaves_an_orphan_that_no_reader_sees(tmp_path: Path) -> None:
    code = """if 1:
        import os, signal, sys
        from synthgen.store import Folder, Lease, Stage
        sys.path.insert(0, sys.argv[2])
        from test_store import receipt
        stage, lease = Stage(Folder(sys.argv[1]), "1-tagged"), Lease.take(Folder(sys.argv[1]))
        made = receipt(stage, {"a": 1})
        os.kill(os.getpid(), signal.SIGKILL)"""
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)])
    assert died.returncode == -signal.SIGKILL
    stage = Stage(Folder(str(tmp_path)), "1-tagged")
    assert len(stage.folder.child("things").names()) == 1
    assert stage.log().partitions == {} and stage.log().next_revision(PARTITION) == 1
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 2}), lease, 1)
    assert current(stage) == {"a": 2}


def test_of_two_results_of_one_revision_the_first_stands_and_both_are_told_it(out: Folder) -> None:
    stage = Stage(out, "1-tagged")
    with Lease.take(out) as lease:
        first, second = receipt(stage, {"a": 1}), receipt(stage, {"a": 2})
        committed = stage.commit(first, lease, 1)
        assert stage.commit(second, lease, 1) == committed
    assert current(stage) == {"a": 1}
    assert stage.log().counts() == {"things": 1}


def test_a_receipt_for_which_no_other_will_do_is_committed_or_the_lease_is_lost(out: Folder) -> None:
    stage = Stage(out, "1-tagged")
    with Lease.take(out) as lease:
        mine = receipt(stage, {"a": 1})
        stage.insist(mine, lease, 1)
        stage.insist(mine, lease, 1)
        with pytest.raises(LeaseLost, match=f"another run committed 1-tagged/{PARTITION} at the same time"):
            stage.insist(receipt(stage, {"a": 2}), lease, 1)
    assert current(stage) == {"a": 1}


def test_racing_commits_of_one_revision_leave_one(out: Folder) -> None:
    stage = Stage(out, "1-tagged")
    with Lease.take(out) as lease, ThreadPoolExecutor(8) as pool:
        made = [receipt(stage, {"a": number}) for number in range(8)]
        told = list(pool.map(lambda one: stage.commit(one, lease, 1), made))
    assert len({commit.digest for commit in told}) == 1
    assert current(stage) == {"a": made.index(told[0].receipt)}


def test_a_later_revision_replaces_or_adds_table_by_table(tmp_path: Path) -> None:
    stage = Stage(Folder(str(tmp_path)), "3-generated")

    def part(table: str, revision: int, values: dict[str, int], replaces: bool = False) -> tuple[str, TablePart]:
        return table, TablePart((stage.write(table, PARTITION, revision, rows(values)),), f"f{revision}", replaces)

    with Lease.take(stage.out) as lease:
        stage.commit(Receipt(PARTITION, 1, dict([part("things", 1, {"a": 1, "b": 1}), part("other", 1, {"a": 1})])), lease, 1)
        stage.commit(Receipt(PARTITION, 2, dict([part("things", 2, {"b": 2, "c": 2})])), lease, 1)
        assert current(stage) == {"a": 1, "b": 2, "c": 2}
        stage.commit(Receipt(PARTITION, 3, dict([part("things", 3, {"d": 3}, replaces=True)])), lease, 2)
    log = stage.log()
    assert current(stage, log) == {"d": 3}
    assert stage.current(log, PARTITION, "other", "key", ROWS).to_pylist() == [{"key": "a", "value": 1}]
    assert (log.fingerprint(PARTITION, "things"), log.fingerprint(PARTITION, "other"), log.fingerprint("e9", "things")) == (
        "f3",
        "f1",
        None,
    )
    assert log.last_epoch == 2 and log.next_revision(PARTITION) == 4


def test_a_log_is_a_snapshot(tmp_path: Path) -> None:
    stage = Stage(Folder(str(tmp_path)), "1-tagged")
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 1}), lease, 1)
        log = stage.log()
        stage.commit(receipt(stage, {"a": 2}, revision=2), lease, 1)
    assert current(stage, log) == {"a": 1} and current(stage) == {"a": 2}


def test_partitions_and_revisions_are_ordered_by_number(tmp_path: Path) -> None:
    stage = Stage(Folder(str(tmp_path)), "1-tagged")
    names = [partition_name(epoch, number) for epoch, number in ((1, 0), (1, 99_999), (1, 100_000), (2, 0), (999, 0), (1000, 0))]
    with Lease.take(stage.out) as lease:
        for name in reversed(names):
            stage.commit(Receipt(name, 1, {}), lease, 1)
        for revision in range(2, 12):
            stage.commit(Receipt(names[0], revision, {}), lease, 1)
    log = stage.log()
    assert list(log.partitions) == names
    assert [commit.receipt.revision for commit in log.partitions[names[0]]] == list(range(1, 12))


KEYS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), max_size=4)
NAMES = st.sampled_from([partition_name(1, 0), partition_name(1, 1), partition_name(2, 0)])


class StoreMachine(RuleBasedStateMachine):
    """A stage under workers and drivers that come, race and die, beside a model that is two dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.stage = Stage(Folder(self.place.name), "1-tagged")
        self.lease = Lease.take(self.stage.out)
        self.model: dict[str, dict[str, int]] = {}
        self.revisions: dict[str, int] = {}
        self.waiting: list[tuple[Receipt, dict[str, int]]] = []

    @rule(partition=NAMES, values=KEYS, replaces=st.booleans())
    def a_worker_writes(self, partition: str, values: dict[str, int], replaces: bool) -> None:
        revision = self.revisions.get(partition, 0) + 1
        before = {} if replaces else self.model.get(partition, {})
        delta = len(before | values) - len(self.model.get(partition, {}))
        made = receipt(self.stage, values, partition, revision, replaces=replaces, counts={"things": delta})
        self.waiting.append((made, before | values))

    @rule(data=st.data())
    def the_driver_commits(self, data: st.DataObject) -> None:
        if not self.waiting:
            return
        made, after = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        committed = self.stage.commit(made, self.lease, 1)
        if made.revision == self.revisions.get(made.partition, 0) + 1:
            self.model[made.partition], self.revisions[made.partition] = after, made.revision
            assert committed.receipt == made
        else:
            assert committed.receipt != made, "an attempt that came too late is handed what stands"

    @rule()
    def everyone_dies_and_a_driver_starts(self) -> None:
        self.lease.release()
        self.waiting.clear()
        self.lease = Lease.take(self.stage.out)

    @invariant()
    def what_is_read_is_what_was_committed(self) -> None:
        log = self.stage.log()
        assert list(log.partitions) == sorted(self.revisions)
        for partition, values in self.model.items():
            assert current(self.stage, log, partition) == values
            assert [commit.receipt.revision for commit in log.partitions[partition]] == list(range(1, self.revisions[partition] + 1))
        total = sum(map(len, self.model.values()))
        assert log.counts() == ({"things": total} if total else {})

    def teardown(self) -> None:
        self.lease.release()
        self.place.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged_file(out: Folder) -> tuple[Stage, DataFile]:
    stage = Stage(out, "1-tagged")
    with Lease.take(out) as lease:
        commit = stage.commit(receipt(stage, {"a": 1}), lease, 1)
    return stage, commit.receipt.tables["things"].files[0]


def test_a_flipped_byte_anywhere_is_found_and_its_partition_named(out: Folder) -> None:
    stage, file = damaged_file(out)
    folder, good = stage.folder.child("things"), stage.folder.child("things").read(file.name)
    for place in (0, len(good) // 2, len(good) - 1):
        folder.write(file.name, good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(Damaged, match=f"partition {PARTITION} was damaged after it was committed") as told:
            current(stage)
        assert f"--partition 1-tagged/{PARTITION}" in str(told.value) and "\n" not in str(told.value)
    folder.write(file.name, good)
    assert current(stage) == {"a": 1}


def test_a_file_cut_short_or_deleted_is_found_and_its_partition_named(out: Folder) -> None:
    stage, file = damaged_file(out)
    folder = stage.folder.child("things")
    folder.write(file.name, folder.read(file.name)[:-1])
    with pytest.raises(Damaged, match=PARTITION):
        current(stage)
    folder.remove([file.name])
    with pytest.raises(Damaged, match=f"{file.name} of partition {PARTITION} is missing"):
        current(stage)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"tables": []}', '{"tables": {"t": 1}}', "\xff", '{"partition": 3}'])
def test_a_commit_record_that_is_none_is_damage_in_one_line(tmp_path: Path, text: str) -> None:
    stage, _ = damaged_file(Folder(str(tmp_path)))
    stage.folder.child("commits").write("e001-00001.r1.json", text.encode("latin-1"))
    with pytest.raises(Damaged, match=r"1-tagged/commits/e001-00001\.r1\.json: is not a commit record") as told:
        stage.log()
    assert "\n" not in str(told.value)


def test_a_commit_record_under_the_name_of_another_is_damage(tmp_path: Path) -> None:
    stage, _ = damaged_file(Folder(str(tmp_path)))
    commits = stage.folder.child("commits")
    commits.write("e001-00007.r1.json", commits.read(f"{PARTITION}.r1.json"))
    with pytest.raises(Damaged, match=f"it is of {PARTITION}.r1"):
        stage.log()


# --- the lease --------------------------------------------------------------------------------------------------------


def holding(out: Folder, **changes: Any) -> None:
    """Rewrites the newest lease record."""
    terms = out.child("lease")
    name = terms.names()[-1]
    terms.write(name, json.dumps(json.loads(terms.read(name)) | changes).encode())


def lost(lease: Lease) -> None:
    """A driver that is gone without a word: its beat stops, nothing is released."""
    lease._stop.set()


def test_a_second_driver_is_refused_in_one_line(out: Folder) -> None:
    with Lease.take(out):
        with pytest.raises(LeaseHeld, match=f"a run is at work here \\(process {os.getpid()} on {socket.gethostname()}") as told:
            Lease.take(out)
        assert "\n" not in str(told.value) and told.value.exit_status == 2


def test_a_released_lease_is_taken_over_at_once(out: Folder) -> None:
    Lease.take(out).release()
    assert leases.holder_of(out) is None
    with Lease.take(out) as lease:
        assert lease.term == 2
        holder = leases.holder_of(out)
        assert holder is not None and holder["pid"] == os.getpid()


def test_of_many_drivers_one_gets_the_lease(out: Folder) -> None:
    start = threading.Barrier(RACERS)

    def take(_: int) -> Lease | None:
        start.wait()
        try:
            return Lease.take(out)
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(RACERS) as pool:
        taken = [lease for lease in pool.map(take, range(RACERS)) if lease]
    assert len(taken) == 1
    taken[0].release()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from synthgen.store import *; Lease.take(Folder(sys.argv[1])); print('taken', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "taken\n"
    with pytest.raises(LeaseHeld, match=str(holder.pid)):
        Lease.take(Folder(str(tmp_path)))
    holder.kill()
    # Not waited for: a killed process that nobody has waited for is gone too.
    deadline = time.monotonic() + 20
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
    with Lease.take(Folder(str(tmp_path))) as lease:
        assert lease.term == 2
    holder.wait()
    holder.stdout.close()


def test_a_process_number_used_again_is_noticed(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    lost(Lease.take(out))
    holding(out, started="1")  # our own process number, held by a process that started at another time
    with Lease.take(out) as lease:
        assert lease.term == 2


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere", "machine": "elsewhere"}, {"machine": "another container of the same name"}])
def test_a_driver_elsewhere_is_respected_until_its_beat_is_old(
    tmp_path: Path, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WATCHED_SECONDS", 0.3)
    out = Folder(str(tmp_path))
    lost(Lease.take(out))
    holding(out, **elsewhere, pid=2**22 + 1, beat=time.time() - leases.STALE_SECONDS + 20)
    with pytest.raises(LeaseHeld):
        Lease.take(out)
    holding(out, beat=time.time() - leases.STALE_SECONDS - 1)
    with Lease.take(out) as lease:
        assert lease.term == 2


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_clocks_that_differ_neither_take_a_lease_from_the_living_nor_leave_it_to_the_dead(
    tmp_path: Path, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WATCHED_SECONDS", 0.5)
    out = Folder(str(tmp_path))
    lost(Lease.take(out))
    holding(out, host="elsewhere", machine="elsewhere", beat=time.time() + skew)
    beat = threading.Timer(0.2, holding, [out], {"beat": time.time() + skew + 1})
    beat.start()
    with pytest.raises(LeaseHeld, match="on elsewhere"):
        Lease.take(out)
    beat.join()
    with Lease.take(out) as lease:
        assert lease.term == 2


def test_a_lease_is_stale_when_its_holder_stopped_renewing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = Folder(str(tmp_path)), time.time()
    lost(Lease.take(out))
    monkeypatch.setattr(time, "time", lambda: now + leases.STALE_SECONDS - 5)
    with pytest.raises(LeaseHeld):
        Lease.take(out)
    monkeypatch.setattr(time, "time", lambda: now + leases.STALE_SECONDS + 5)
    Lease.take(out).release()


def test_a_lease_is_renewed_while_its_holder_lives_whatever_the_store_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    failures = iter([RuntimeError("no endpoint"), OSError("slow down")])
    write = Folder.write

    def sometimes(self: Folder, name: str, data: bytes) -> None:
        if failure := next(failures, None):
            raise failure
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", sometimes)
    out = Folder(str(tmp_path))
    with Lease.take(out):
        first = json.loads(out.child("lease").read("000001.json"))["beat"]
        deadline = time.monotonic() + 20
        while json.loads(out.child("lease").read("000001.json"))["beat"] == first:
            assert time.monotonic() < deadline, "the beat never came back"
            time.sleep(0.02)


def test_a_released_lease_stays_released_when_a_beat_was_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Folder.write

    def slowly(self: Folder, name: str, data: bytes) -> None:
        if not json.loads(data)["released"]:
            time.sleep(0.2)
        write(self, name, data)

    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(Folder, "write", slowly)
    lease = Lease.take(Folder(str(tmp_path)))
    time.sleep(0.1)  # the first beat is being written
    monkeypatch.setattr(leases, "BEAT_SECONDS", 5)
    lease.release()
    time.sleep(0.3)
    assert json.loads(lease.folder.child("lease").read("000001.json"))["released"]


def test_a_driver_that_was_taken_over_commits_nothing_more(out: Folder) -> None:
    stage, older = Stage(out, "1-tagged"), Lease.take(out)
    stage.commit(receipt(stage, {"a": 1}), older, 1)
    lost(older)
    holding(out, beat=0)
    with Lease.take(out) as newer:
        with pytest.raises(LeaseLost, match="another run took over this folder"):
            stage.commit(receipt(stage, {"a": 2}, revision=2), older, 1)
        assert current(stage) == {"a": 1}
        stage.commit(receipt(stage, {"a": 3}, revision=2), newer, 1)
    assert current(stage) == {"a": 3}
    older.release()  # at the end of its `with`: it must not look like the current driver's release
    assert leases.holder_of(out) is None and Lease.take(out).term == 3
