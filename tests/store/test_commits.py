"""Commits keep the promises of docs/format.md, on local disk and in a bucket.

A reader sees rows once they are committed, a revision is committed once, damage is found and named. Processes that die
here are really killed.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synthgen.errors import Damaged
from synthgen.store import DataFile, Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import TAG
from tests.fixtures.rows import PARTITION, current, receipt, rows, things_in
from tests.fixtures.workspace import ROOT

# --- commits ----------------------------------------------------------------------------------------------------------


def test_rows_are_visible_once_they_are_committed_and_not_before(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease:
        written = receipt(stage, {"a": 1, "b": 2})
        assert stage.log().partitions == {} and current(stage) == {}
        commit = stage.commit(written, lease)
    log = stage.log()
    assert log.partitions == {PARTITION: (commit,)}
    assert commit.receipt == written and commit.epoch == 1 and commit.term == 1
    assert current(stage) == {"a": 1, "b": 2}
    assert log.counts() == {"things": 2}
    assert log.digests(TAG, [PARTITION]) == {f"1-tagged/{PARTITION}.r1": commit.digest}


def test_a_worker_killed_before_the_commit_leaves_an_orphan_that_no_reader_sees(tmp_path: Path) -> None:
    code = """if 1:
        import os, signal, sys
        from synthgen.store import Folder, Lease
        from tests.fixtures.rows import receipt, things_in
        stage, lease = things_in(Folder(sys.argv[1])), Lease.take(Folder(sys.argv[1]))
        receipt(stage, {"a": 1})
        os.kill(os.getpid(), signal.SIGKILL)"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    stage = things_in(Folder(str(tmp_path)))
    assert len(stage.folder.child("things").names()) == 1
    assert stage.log().partitions == {} and stage.log().next_revision(PARTITION) == 1
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 2}), lease)
    assert current(stage) == {"a": 2}


def test_of_two_results_of_one_revision_the_first_stands_and_both_calls_return_it(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease:
        first, second = receipt(stage, {"a": 1}), receipt(stage, {"a": 2})
        committed = stage.commit(first, lease)
        assert stage.commit(second, lease) == committed
    assert current(stage) == {"a": 1}
    assert stage.log().counts() == {"things": 1}


def test_racing_commits_of_one_revision_leave_one(out: Folder) -> None:
    stage = things_in(out)
    with Lease.take(out) as lease, ThreadPoolExecutor(8) as pool:
        receipts = [receipt(stage, {"a": number}) for number in range(8)]
        commits = list(pool.map(lambda written: stage.commit(written, lease), receipts))
    assert len({commit.digest for commit in commits}) == 1
    assert current(stage) == {"a": receipts.index(commits[0].receipt)}


def test_a_later_revision_replaces_or_adds_table_by_table(tmp_path: Path) -> None:
    stage = things_in(Folder(str(tmp_path)))

    def part(revision: int, values: Mapping[str, int], table: str = "things", *, replaces: bool = False) -> TablePart:
        return TablePart((stage.write(table, PARTITION, revision, rows(values)),), f"f{revision}", replaces)

    first = Receipt(PARTITION, 1, {"things": part(1, {"a": 1, "b": 1}), "other": part(1, {"a": 1}, "other")})
    second = Receipt(PARTITION, 2, {"things": part(2, {"b": 2, "c": 2})})
    third = Receipt(PARTITION, 3, {"things": part(3, {"d": 3}, replaces=True)}, epoch=2)
    with Lease.take(stage.out) as lease:
        stage.commit(first, lease)
        stage.commit(second, lease)
        assert current(stage) == {"a": 1, "b": 2, "c": 2}
        stage.commit(third, lease)
    log = stage.log()
    assert current(stage, log) == {"d": 3}
    assert current(stage, log, table="other") == {"a": 1}
    assert log.fingerprint(PARTITION, "things") == "f3"
    assert log.fingerprint(PARTITION, "other") == "f1"
    assert log.fingerprint("e9", "things") is None
    assert log.next_epoch == 3 and log.next_revision(PARTITION) == 4


def test_a_log_is_a_snapshot(tmp_path: Path) -> None:
    stage = things_in(Folder(str(tmp_path)))
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 1}), lease)
        log = stage.log()
        stage.commit(receipt(stage, {"a": 2}, revision=2), lease)
    assert current(stage, log) == {"a": 1} and current(stage) == {"a": 2}


def test_a_log_with_a_commit_added_is_the_log_read_again_whatever_the_order(tmp_path: Path) -> None:
    stage = things_in(Folder(str(tmp_path)))
    names = [(2, 0), (1, 100_000), (1, 99_999), (1000, 0), (2, 0), (999, 0)]
    with Lease.take(stage.out) as lease:
        log = stage.log()
        for name in (partition_name(epoch, number) for epoch, number in names):
            log = log.with_commit(stage.commit(Receipt(name, log.next_revision(name), {}), lease))
            assert log == stage.log()
            assert list(log.partitions) == list(stage.log().partitions)
    assert len(log.partitions) == 5


def test_partitions_and_revisions_are_ordered_by_number(tmp_path: Path) -> None:
    stage = things_in(Folder(str(tmp_path)))
    numbers = ((1, 0), (1, 99_999), (1, 100_000), (2, 0), (999, 0), (1000, 0))
    names = [partition_name(epoch, number) for epoch, number in numbers]
    with Lease.take(stage.out) as lease:
        for name in reversed(names):
            stage.commit(Receipt(name, 1, {}), lease)
        for revision in range(2, 12):
            stage.commit(Receipt(names[0], revision, {}), lease)
    log = stage.log()
    assert list(log.partitions) == names
    assert [commit.receipt.revision for commit in log.partitions[names[0]]] == list(range(1, 12))


KEYS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), max_size=4)
NAMES = st.sampled_from([partition_name(1, 0), partition_name(1, 1), partition_name(2, 0)])


class StoreMachine(RuleBasedStateMachine):
    """A stage under workers and drivers that start, race and die, beside a model that is two dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.stage = things_in(Folder(self.directory.name))
        self.lease = Lease.take(self.stage.out)
        self.model: dict[str, dict[str, int]] = {}
        self.revisions: dict[str, int] = {}
        self.uncommitted: list[tuple[Receipt, dict[str, int]]] = []

    @rule(partition=NAMES, values=KEYS, replaces=st.booleans())
    def write(self, partition: str, values: dict[str, int], replaces: bool) -> None:
        """Write rows as a worker does."""
        revision = self.revisions.get(partition, 0) + 1
        after = values if replaces else self.model.get(partition, {}) | values
        counts = {"things": len(after) - len(self.model.get(partition, {}))}
        written = receipt(self.stage, values, partition, revision, replaces=replaces, counts=counts)
        self.uncommitted.append((written, after))

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """Commit any of the receipts, as a driver does."""
        if not self.uncommitted:
            return
        written, after = self.uncommitted.pop(data.draw(st.integers(0, len(self.uncommitted) - 1)))
        committed = self.stage.commit(written, self.lease)
        if written.revision == self.revisions.get(written.partition, 0) + 1:
            self.model[written.partition], self.revisions[written.partition] = after, written.revision
            assert committed.receipt == written
        else:
            assert committed.receipt != written, "an attempt that came too late is given the commit that stands"

    @rule()
    def restart(self) -> None:
        """Lose all workers and the driver, and start a driver."""
        self.lease.release()
        self.uncommitted.clear()
        self.lease = Lease.take(self.stage.out)

    @invariant()
    def rows_read_are_those_committed(self) -> None:
        """Compare what is read with the model."""
        log = self.stage.log()
        assert list(log.partitions) == sorted(self.revisions)
        for partition, values in self.model.items():
            assert current(self.stage, log, partition) == values
            revisions = [commit.receipt.revision for commit in log.partitions[partition]]
            assert revisions == list(range(1, self.revisions[partition] + 1))
        total = sum(map(len, self.model.values()))
        assert log.counts() == ({"things": total} if total else {})

    def teardown(self) -> None:
        """Release the lease and delete the folder."""
        self.lease.release()
        self.directory.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- damage -----------------------------------------------------------------------------------------------------------


def stage_with_a_file(out: Folder) -> tuple[StageFolder, DataFile]:
    """Commit one file and return it."""
    stage = things_in(out)
    with Lease.take(out) as lease:
        commit = stage.commit(receipt(stage, {"a": 1}), lease)
    return stage, commit.receipt.tables["things"].files[0]


def test_a_flipped_byte_anywhere_is_found_and_its_partition_named(out: Folder) -> None:
    stage, file = stage_with_a_file(out)
    folder = stage.folder.child("things")
    good = folder.read(file.name)
    for offset in (0, len(good) // 2, len(good) - 1):
        folder.write(file.name, good[:offset] + bytes([good[offset] ^ 1]) + good[offset + 1 :])
        with pytest.raises(Damaged, match=f"partition {PARTITION} was damaged after it was committed") as caught:
            current(stage)
        assert f"--partition 1-tagged/{PARTITION}" in str(caught.value) and "\n" not in str(caught.value)
    folder.write(file.name, good)
    assert current(stage) == {"a": 1}


def test_a_file_cut_short_or_deleted_is_found_and_its_partition_named(out: Folder) -> None:
    stage, file = stage_with_a_file(out)
    folder = stage.folder.child("things")
    folder.write(file.name, folder.read(file.name)[:-1])
    with pytest.raises(Damaged, match=PARTITION):
        current(stage)
    folder.remove([file.name])
    with pytest.raises(Damaged, match=f"{file.name} of partition {PARTITION} is missing"):
        current(stage)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"tables": []}', '{"tables": {"t": 1}}', "\xff", '{"partition": 3}']
)
def test_a_commit_record_that_is_none_is_damage_reported_in_one_line(tmp_path: Path, text: str) -> None:
    stage, _ = stage_with_a_file(Folder(str(tmp_path)))
    stage.folder.child("commits").write("e001-00001.r1.json", text.encode("latin-1"))
    with pytest.raises(Damaged, match=r"1-tagged/commits/e001-00001\.r1\.json: is not a commit record") as caught:
        stage.log()
    assert "\n" not in str(caught.value)


def test_a_commit_record_under_the_name_of_another_is_damage(tmp_path: Path) -> None:
    stage, _ = stage_with_a_file(Folder(str(tmp_path)))
    commits = stage.folder.child("commits")
    commits.write("e001-00007.r1.json", commits.read(f"{PARTITION}.r1.json"))
    with pytest.raises(Damaged, match=f"it is of {PARTITION}.r1"):
        stage.log()


def test_a_receipt_of_another_epoch_is_read_back_with_it(tmp_path: Path) -> None:
    stage = things_in(Folder(str(tmp_path)))
    with Lease.take(stage.out) as lease:
        stage.commit(replace(receipt(stage, {"a": 1}), epoch=7), lease)
    commit = stage.log().latest(PARTITION)
    assert commit is not None and commit.epoch == commit.receipt.epoch == 7 == stage.log().next_epoch - 1
