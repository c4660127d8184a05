"""The snapshot of an output folder: each log and the record are read once, and its own commits are added to it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen.errors import Damaged, LeaseHeld, LeaseLost, UserMistake
from synthgen.store import Folder, Lease, Receipt, RunFolder, writing
from synthgen.store.denylist import Denylist, extend_denylist, read_denylist
from synthgen.store.run_folder import FORMAT
from synthgen.tables import GENERATE, LIST, PLAN
from tests.fixtures.rows import PARTITION, THINGS, current, receipt, things_in, with_things
from tests.fixtures.s3_server import S3Proxy

LATER = with_things(GENERATE)
OTHER = "e001-00001"


class ReadCounter:
    """Counts the listings and reads of each path below an output folder, from the moment it is installed."""

    def __init__(self, out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listings, self.reads = Counter[str](), Counter[str]()
        names, read, root = Folder.names, Folder.read, f"{out.path}/"

        def counted_names(folder: Folder, *suffix: str) -> list[str]:
            self.listings[folder.path.removeprefix(root)] += 1
            return names(folder, *suffix)

        def counted_read(folder: Folder, name: str) -> bytes:
            self.reads[folder.full(name).removeprefix(root)] += 1
            return read(folder, name)

        monkeypatch.setattr(Folder, "names", counted_names)
        monkeypatch.setattr(Folder, "read", counted_read)

    def of_metadata(self) -> dict[str, int]:
        """Return how often each commit record, `run.json` and each run record was read."""
        return {path: count for path, count in self.reads.items() if path.endswith(".json") and "lease/" not in path}


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    """Make an output folder with a record and two stages of two partitions each."""
    out = Folder(str(tmp_path / "out"))
    out.write("run.json", f'{{"format": {FORMAT}}}'.encode())
    RunFolder(out).write_record({"pipeline": {}})
    with Lease.take(out) as lease:
        for spec in (THINGS, LATER):
            stage = RunFolder(out).stage(spec)
            for partition in (PARTITION, OTHER):
                stage.commit(receipt(stage, {partition: 1}, partition), lease)
    return out


def test_each_log_and_the_record_are_read_once_over_a_sequence_of_calls(
    out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease.take(out) as lease:
        counter, folder = ReadCounter(out, monkeypatch), RunFolder(out)
        for revision in (2, 3, 4):
            assert folder.record == {"pipeline": {}}
            for spec in (THINGS, LATER):
                assert set(folder.log(spec).partitions) == {PARTITION, OTHER}
                written = receipt(folder.stage(spec), {"new": revision}, OTHER, revision)
                assert folder.commit(spec, written, lease).receipt == written
                assert {"key": "new", "value": revision} in folder.table(spec, OTHER, "things").to_pylist()
            folder.logs((THINGS, LATER), PARTITION)
            folder.digests((THINGS, LATER), [PARTITION, OTHER])
    names = [f"{partition}.r1.json" for partition in (PARTITION, OTHER)]
    logs = [f"{spec.folder}/commits/{name}" for spec in (THINGS, LATER) for name in names]
    assert counter.of_metadata() == dict.fromkeys([*logs, "run.json", "frozen/000001.json"], 1)
    listings = {path: count for path, count in counter.listings.items() if path != "lease"}
    assert listings == dict.fromkeys(["1-tagged/commits", "3-generated/commits", "frozen", str(out.path)], 1)


def test_its_own_commits_are_in_the_snapshot_and_those_of_others_are_not(out: Folder) -> None:
    with Lease.take(out) as lease:
        folder, stage = RunFolder(out), things_in(out)
        folder.log(THINGS)
        folder.commit(THINGS, receipt(stage, {"mine": 1}, "e002-00000"), lease)
        stage.commit(receipt(stage, {"theirs": 1}, "e002-00001"), lease)
    assert list(folder.log(THINGS).partitions) == [PARTITION, OTHER, "e002-00000"]
    assert list(RunFolder(out).log(THINGS).partitions) == [PARTITION, OTHER, "e002-00000", "e002-00001"]


def test_a_record_that_is_written_is_the_record_from_then_on_here_and_elsewhere(
    out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(out)
    assert folder.record == {"pipeline": {}}
    counter = ReadCounter(out, monkeypatch)
    folder.write_record({"pipeline": {"plan": {"seed": 1}}})
    assert folder.record == {"pipeline": {"plan": {"seed": 1}}}
    assert not counter.of_metadata(), "it is known without reading it"
    assert RunFolder(out).record == folder.record
    assert out.child("frozen").names() == ["000001.json", "000002.json"], "the earlier one stays"


def test_a_folder_without_a_record_is_not_taken_for_one_of_another_format(tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "fresh"))
    assert RunFolder(out).record is None
    out.write("run.json", f'{{"format": {FORMAT}}}'.encode())
    assert RunFolder(out).record == {}, "a run was killed before it stored a record"
    for other in ("not JSON", '{"format": "two"}', "[]"):
        out.write("run.json", other.encode())
        assert RunFolder(out).record is None, "another program's"
    out.write("run.json", f'{{"format": {FORMAT + 1}}}'.encode())
    with pytest.raises(UserMistake, match=f"has format {FORMAT + 1}; this synth reads format {FORMAT}"):
        _ = RunFolder(out).record


def test_a_receipt_that_no_other_may_replace_is_committed_or_the_lease_is_lost(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease:
        written = receipt(stage, {"a": 1}, revision=2)
        RunFolder(out).commit_or_fail(THINGS, written, lease)
        RunFolder(out).commit_or_fail(THINGS, written, lease)
        with pytest.raises(LeaseLost, match=f"another run committed 1-tagged/{PARTITION} at the same time"):
            RunFolder(out).commit_or_fail(THINGS, receipt(stage, {"a": 2}, revision=2), lease)
    assert current(stage) == {PARTITION: 1, "a": 1}


def test_a_partition_is_emptied_once_and_its_epoch_stays(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease:
        stage.commit(replace(receipt(stage, {"a": 1}, "e005-00000"), epoch=5), lease)
        folder = RunFolder(out)
        assert folder.empty(THINGS, "e005-00000", lease)
        assert not folder.empty(THINGS, "e005-00000", lease), "it is empty"
        assert not folder.empty(THINGS, "e009-00000", lease), "there is no such partition"
    log = stage.log()
    assert log == folder.log(THINGS)
    assert current(stage, log, "e005-00000") == {} and not log.holds("e005-00000")
    assert log.counts(["e005-00000"]) == {}
    assert [commit.epoch for commit in log.partitions["e005-00000"]] == [5, 5]


def test_what_was_read_before_the_lease_is_read_again_under_it(out: Folder) -> None:
    """Another driver may have committed until the lease was taken, and its files must not count as leftovers."""
    folder, stage = RunFolder(out), things_in(out)
    assert folder.record == {"pipeline": {}} and len(folder.log(THINGS).partitions) == 2
    with Lease.take(out) as earlier:
        stage.commit(receipt(stage, {"theirs": 1}, "e002-00000"), earlier)
        RunFolder(out).write_record({"pipeline": {}, "unfinished": {"tag": "edit"}})
    with folder.lease() as lease:
        lease.check()
        assert list(folder.log(THINGS).partitions) == [PARTITION, OTHER, "e002-00000"]
        assert folder.record == {"pipeline": {}, "unfinished": {"tag": "edit"}}


def test_a_commit_is_read_once_however_often_the_lease_is_taken(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, folder, stage = ReadCounter(out, monkeypatch), RunFolder(out), things_in(out)
    folder.log(THINGS)
    for number in (1, 2):
        with Lease.take(out) as theirs:
            stage.commit(receipt(stage, {"theirs": 1}, f"e002-{number:05d}"), theirs)
        with folder.lease() as lease:
            assert len(folder.log(THINGS).partitions) == 2 * number + 1
            folder.commit(THINGS, receipt(stage, {"mine": 1}, f"e003-{number:05d}"), lease)
    reads = {path: count for path, count in counter.reads.items() if path.startswith(f"{THINGS.folder}/commits/")}
    partitions = (PARTITION, OTHER, "e002-00001", "e002-00002")
    assert reads == {f"{THINGS.folder}/commits/{name}.r1.json": 1 for name in partitions}
    assert folder.log(THINGS) == RunFolder(out).log(THINGS)


def test_a_commit_that_was_removed_before_the_lease_is_in_the_log_no_more(out: Folder) -> None:
    folder = RunFolder(out)
    folder.log(THINGS)
    out.child("1-tagged/commits").remove([f"{OTHER}.r1.json"])
    with folder.lease():
        assert list(folder.log(THINGS).partitions) == [PARTITION]


def test_a_record_is_not_lost_to_a_late_one_of_the_driver_before(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stale = RunFolder(out), out.child("frozen").names()
    out.child("frozen").append(b'{"late": true}')
    with folder.lease():
        monkeypatch.setattr(Folder, "names", with_stale_names(out.child("frozen"), stale))
        folder.write_record({"mine": True})
        monkeypatch.undo()
    assert RunFolder(out).record == folder.record == {"mine": True}


def test_a_late_record_of_a_driver_that_lost_its_lease_does_not_count(
    out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stale = RunFolder(out), out.child("frozen").names()
    with folder.lease():
        out.child("lease").create("000099.json", b"")
        out.child("frozen").append(b'{"successor": true}')
        monkeypatch.setattr(Folder, "names", with_stale_names(out.child("frozen"), stale))
        with pytest.raises(LeaseLost):
            folder.write_record({"mine": True})
        monkeypatch.undo()
    assert RunFolder(out).record == {"successor": True}


def with_stale_names(stale: Folder, listed: list[str]) -> Callable[..., list[str]]:
    """Return a listing that does not see the latest files of one folder."""
    names = Folder.names
    return lambda folder, *suffix: list(listed) if folder == stale else names(folder, *suffix)


@pytest.mark.parametrize(
    ("name", "what_to_do"),
    [
        ("frozen/000001.json", "restore it from a copy; without one, run with --pipeline and --update"),
        ("purged/000001.json", "without it, the images that it names would come back"),
        ("lease/000001.json", "remove it once no run is at work in this folder"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_do(out: Folder, name: str, what_to_do: str) -> None:
    out.write(name, b'{"half": ')
    reads: dict[str, Callable[[], Any]] = {
        "frozen": lambda: RunFolder(out).record, "purged": lambda: read_denylist(out), "lease": lambda: Lease.take(out),
    }  # fmt: skip
    with pytest.raises(Damaged, match=f"{name}: is not JSON .*{what_to_do}"):
        reads[name.partition("/")[0]]()


def test_the_logs_that_a_task_carries_are_not_read(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: Any = RunFolder(out).logs((THINGS, LATER), PARTITION)
    assert list(carried) == ["1-tagged", "3-generated"] and list(carried["1-tagged"].partitions) == [PARTITION]
    counter = ReadCounter(out, monkeypatch)
    folder = RunFolder(out, carried)
    assert folder.table(THINGS, PARTITION, "things").to_pylist() == [{"key": PARTITION, "value": 1}]
    assert folder.digests((THINGS,), [PARTITION])
    assert not counter.of_metadata()
    assert folder.log(LIST).partitions == folder.log(PLAN).partitions == {}, "others are read when they are asked for"


def test_a_commit_of_an_empty_receipt_is_in_the_snapshot(out: Folder) -> None:
    with Lease.take(out) as lease:
        folder = RunFolder(out)
        folder.commit(THINGS, Receipt("e003-00000", 1, {}, epoch=3), lease)
    assert folder.log(THINGS).next_epoch == 4


@pytest.mark.parametrize("answer", ["refuse", "lack", "strip"])
def test_leases_records_and_commits_live_in_a_store_that_takes_no_condition(
    s3: Folder, proxy: S3Proxy, answer: str
) -> None:
    """Each block below is another process, which knows nothing of the store yet."""
    proxy.fault = lambda request: answer
    with new_process(s3) as folder, folder.lease():
        assert s3.create("run.json", f'{{"format": {FORMAT}}}'.encode())
        folder.write_record({"started_in": "/first"})
    with new_process(s3) as folder, folder.lease() as lease:
        assert lease.term == 2 and folder.record == {"started_in": "/first"}
        with pytest.raises(LeaseHeld), Lease.take(s3):
            pass
        folder.write_record({"started_in": "/second"})
        stage = folder.stage(THINGS)
        folder.commit_or_fail(THINGS, receipt(stage, {PARTITION: 1}), lease)
    with new_process(s3) as folder, folder.lease() as lease:
        assert lease.term == 3 and folder.record == {"started_in": "/second"}
        late = receipt(folder.stage(THINGS), {PARTITION: 2})
        with pytest.raises(LeaseLost, match="another run committed"):
            folder.commit_or_fail(THINGS, late, lease)
        extend_denylist(s3, Denylist(frozenset({"object"}), frozenset()))
        extend_denylist(s3, Denylist(frozenset({"other"}), frozenset()))
    with new_process(s3) as folder:
        assert read_denylist(s3).object_ids == {"object", "other"}
        assert current(folder.stage(THINGS)) == {PARTITION: 1}


@contextmanager
def new_process(out: Folder) -> Iterator[RunFolder]:
    """Yield the folder as a process that has just started sees it."""
    writing._HAS_CONDITION.clear()
    yield RunFolder(out)


def test_columns_without_the_key_are_those_of_the_current_rows(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease:
        for revision in (7, 8):  # newer rows of the same key
            stage.commit(receipt(stage, {PARTITION: revision}, revision=revision), lease)
    folder = RunFolder(out)
    whole = folder.table(THINGS, PARTITION, "things").to_pylist()
    alone = folder.table(THINGS, PARTITION, "things", ["value"])
    assert whole == [{"key": PARTITION, "value": 8}]
    assert alone.column_names == ["value"] and alone.to_pylist() == [{"value": 8}]
