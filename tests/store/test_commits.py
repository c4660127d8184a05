"""What is committed to a stage keeps the promises of docs/format.md, on local disk and in a bucket.

A reader sees rows once they are committed, a revision is committed once, damage is found and named. Killed processes are
really killed.
"""

import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synthgen.errors import Damaged, LeaseLost
from synthgen.store import DataFile, Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, TAG
from tests.fixtures.rows import PARTITION, ROWS, current, receipt, rows
from tests.fixtures.workspace import ROOT

# --- commits ----------------------------------------------------------------------------------------------------------


def test_rows_are_there_once_they_are_committed_and_not_before(out: Folder) -> None:
    stage = StageFolder(out, TAG)
    with Lease.take(out) as lease:
        made = receipt(stage, {"a": 1, "b": 2})
        assert stage.log().partitions == {} and current(stage) == {}
        commit = stage.commit(made, lease, 1)
    log = stage.log()
    assert log.partitions == {PARTITION: (commit,)}
    assert commit.receipt == made and commit.epoch == 1 and commit.term == 1
    assert current(stage) == {"a": 1, "b": 2}
    assert log.counts() == {"things": 2}
    assert log.digests(TAG, [PARTITION]) == {f"1-tagged/{PARTITION}.r1": commit.digest}


def test_a_worker_killed_before_the_commit_leaves_an_orphan_that_no_reader_sees(tmp_path: Path) -> None:
    code = """if 1:
        import os, signal, sys
        from synthgen.store import Folder, Lease, StageFolder
        from tests.fixtures.rows import receipt
        stage, lease = Stage(Folder(sys.argv[1]), "1-tagged"), Lease.take(Folder(sys.argv[1]))
        made = receipt(stage, {"a": 1})
        os.kill(os.getpid(), signal.SIGKILL)"""
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    stage = StageFolder(Folder(str(tmp_path)), TAG)
    assert len(stage.folder.child("things").names()) == 1
    assert stage.log().partitions == {} and stage.log().next_revision(PARTITION) == 1
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 2}), lease, 1)
    assert current(stage) == {"a": 2}


def test_of_two_results_of_one_revision_the_first_stands_and_both_are_told_it(out: Folder) -> None:
    stage = StageFolder(out, TAG)
    with Lease.take(out) as lease:
        first, second = receipt(stage, {"a": 1}), receipt(stage, {"a": 2})
        committed = stage.commit(first, lease, 1)
        assert stage.commit(second, lease, 1) == committed
    assert current(stage) == {"a": 1}
    assert stage.log().counts() == {"things": 1}


def test_a_receipt_for_which_no_other_will_do_is_committed_or_the_lease_is_lost(out: Folder) -> None:
    stage = StageFolder(out, TAG)
    with Lease.take(out) as lease:
        mine = receipt(stage, {"a": 1})
        stage.insist(mine, lease, 1)
        stage.insist(mine, lease, 1)
        with pytest.raises(LeaseLost, match=f"another run committed 1-tagged/{PARTITION} at the same time"):
            stage.insist(receipt(stage, {"a": 2}), lease, 1)
    assert current(stage) == {"a": 1}


def test_racing_commits_of_one_revision_leave_one(out: Folder) -> None:
    stage = StageFolder(out, TAG)
    with Lease.take(out) as lease, ThreadPoolExecutor(8) as pool:
        made = [receipt(stage, {"a": number}) for number in range(8)]
        told = list(pool.map(lambda one: stage.commit(one, lease, 1), made))
    assert len({commit.digest for commit in told}) == 1
    assert current(stage) == {"a": made.index(told[0].receipt)}


def test_a_later_revision_replaces_or_adds_table_by_table(tmp_path: Path) -> None:
    stage = StageFolder(Folder(str(tmp_path)), GENERATE)

    def part(table: str, revision: int, values: dict[str, int], replaces: bool = False) -> tuple[str, TablePart]:
        return table, TablePart((stage.write(table, PARTITION, revision, rows(values)),), f"f{revision}", replaces)

    with Lease.take(stage.out) as lease:
        stage.commit(
            Receipt(PARTITION, 1, dict([part("things", 1, {"a": 1, "b": 1}), part("other", 1, {"a": 1})])), lease, 1
        )
        stage.commit(Receipt(PARTITION, 2, dict([part("things", 2, {"b": 2, "c": 2})])), lease, 1)
        assert current(stage) == {"a": 1, "b": 2, "c": 2}
        stage.commit(Receipt(PARTITION, 3, dict([part("things", 3, {"d": 3}, replaces=True)])), lease, 2)
    log = stage.log()
    assert current(stage, log) == {"d": 3}
    assert stage.current(log, PARTITION, "other", ROWS.names).to_pylist() == [{"key": "a", "value": 1}]
    assert (
        log.fingerprint(PARTITION, "things"),
        log.fingerprint(PARTITION, "other"),
        log.fingerprint("e9", "things"),
    ) == (
        "f3",
        "f1",
        None,
    )
    assert log.last_epoch == 2 and log.next_revision(PARTITION) == 4


def test_a_log_is_a_snapshot(tmp_path: Path) -> None:
    stage = StageFolder(Folder(str(tmp_path)), TAG)
    with Lease.take(stage.out) as lease:
        stage.commit(receipt(stage, {"a": 1}), lease, 1)
        log = stage.log()
        stage.commit(receipt(stage, {"a": 2}, revision=2), lease, 1)
    assert current(stage, log) == {"a": 1} and current(stage) == {"a": 2}


def test_partitions_and_revisions_are_ordered_by_number(tmp_path: Path) -> None:
    stage = StageFolder(Folder(str(tmp_path)), TAG)
    names = [
        partition_name(epoch, number)
        for epoch, number in ((1, 0), (1, 99_999), (1, 100_000), (2, 0), (999, 0), (1000, 0))
    ]
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
        self.stage = StageFolder(Folder(self.place.name), TAG)
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
            assert [commit.receipt.revision for commit in log.partitions[partition]] == list(
                range(1, self.revisions[partition] + 1)
            )
        total = sum(map(len, self.model.values()))
        assert log.counts() == ({"things": total} if total else {})

    def teardown(self) -> None:
        self.lease.release()
        self.place.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged_file(out: Folder) -> tuple[Stage, DataFile]:
    stage = StageFolder(out, TAG)
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


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"tables": []}', '{"tables": {"t": 1}}', "\xff", '{"partition": 3}']
)
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
