"""One driver commits at a time: when a lease is refused, when it is taken over, and that its loser commits no more."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from synthgen.errors import LeaseHeld, LeaseLost
from synthgen.store import Folder, Lease
from synthgen.store import lease as leases
from tests.fixtures.rows import RACERS, current, receipt, things_in


def change_holder(out: Folder, **changes: Any) -> None:
    """Change the newest lease record."""
    terms = out.child("lease")
    name = terms.names()[-1]
    terms.write(name, json.dumps(json.loads(terms.read(name)) | changes).encode())


def abandon(lease: Lease) -> None:
    """Stop the beat of a lease without releasing it, as when its driver is gone."""
    lease._stop.set()


def test_a_second_driver_is_refused_in_one_line(out: Folder) -> None:
    with Lease.take(out):
        message = f"a run is at work here \\(process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(LeaseHeld, match=message) as caught:
            Lease.take(out)
        assert "\n" not in str(caught.value) and caught.value.exit_status == 2


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
    code = """if 1:
        import sys, time
        from synthgen.store import Folder, Lease
        Lease.take(Folder(sys.argv[1]))
        print("taken", flush=True)
        time.sleep(600)"""
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "taken\n"
    with pytest.raises(LeaseHeld, match=str(holder.pid)):
        Lease.take(Folder(str(tmp_path)))
    holder.kill()
    # A killed process that its parent has not waited for is gone too.
    deadline = time.monotonic() + 20
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
    with Lease.take(Folder(str(tmp_path))) as lease:
        assert lease.term == 2
    holder.wait()
    holder.stdout.close()


def test_a_process_number_that_is_used_again_does_not_hold_the_lease(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    abandon(Lease.take(out))
    change_holder(out, started="1")  # our own process number, held by a process that started at another time
    with Lease.take(out) as lease:
        assert lease.term == 2


@pytest.mark.parametrize(
    "elsewhere", [{"host": "elsewhere", "machine": "elsewhere"}, {"machine": "another container of the same name"}]
)
def test_a_driver_elsewhere_is_respected_until_its_beat_is_old(
    tmp_path: Path, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WATCHED_SECONDS", 0.3)
    out = Folder(str(tmp_path))
    abandon(Lease.take(out))
    change_holder(out, **elsewhere, pid=2**22 + 1, beat=time.time() - leases.STALE_SECONDS + 20)
    with pytest.raises(LeaseHeld):
        Lease.take(out)
    change_holder(out, beat=time.time() - leases.STALE_SECONDS - 1)
    with Lease.take(out) as lease:
        assert lease.term == 2


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_where_clocks_differ_a_living_driver_keeps_its_lease_and_a_dead_one_loses_it(
    tmp_path: Path, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WATCHED_SECONDS", 0.5)
    out = Folder(str(tmp_path))
    abandon(Lease.take(out))
    change_holder(out, host="elsewhere", machine="elsewhere", beat=time.time() + skew)
    beat = threading.Timer(0.2, change_holder, [out], {"beat": time.time() + skew + 1})
    beat.start()
    notes: list[str] = []
    monkeypatch.setattr(leases, "note", notes.append)
    with pytest.raises(LeaseHeld, match="on elsewhere"):
        Lease.take(out)
    assert notes == ["a run on elsewhere may be at work here; watching its lease for 0 s"]
    beat.join()
    with Lease.take(out) as lease:
        assert lease.term == 2


def test_a_lease_is_stale_when_its_holder_stopped_renewing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = Folder(str(tmp_path)), time.time()
    abandon(Lease.take(out))
    monkeypatch.setattr(time, "time", lambda: now + leases.STALE_SECONDS - 5)
    with pytest.raises(LeaseHeld):
        Lease.take(out)
    monkeypatch.setattr(time, "time", lambda: now + leases.STALE_SECONDS + 5)
    Lease.take(out).release()


def test_a_lease_is_renewed_while_its_holder_lives_even_if_the_store_fails_at_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_released_lease_stays_released_when_a_beat_was_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Folder.write
    beat_begins, beat_may_end, release_begins = threading.Event(), threading.Event(), threading.Event()

    def held_up(self: Folder, name: str, data: bytes) -> None:
        is_own = self.path.startswith(str(tmp_path))  # a lease that another test left behind may beat too
        if is_own and json.loads(data)["released"]:
            release_begins.set()
        elif is_own:
            beat_begins.set()
            beat_may_end.wait(60)
        write(self, name, data)

    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(Folder, "write", held_up)
    lease = Lease.take(Folder(str(tmp_path)))
    assert beat_begins.wait(60)
    monkeypatch.setattr(leases, "BEAT_SECONDS", 60)
    releasing = threading.Thread(target=lease.release)
    releasing.start()
    assert not release_begins.wait(0.2), "it waits for the beat"
    beat_may_end.set()
    releasing.join()
    assert json.loads(lease.folder.child("lease").read("000001.json"))["released"]


def test_a_driver_that_was_taken_over_commits_nothing_more(out: Folder) -> None:
    stage, older = things_in(out), Lease.take(out)
    stage.commit(receipt(stage, {"a": 1}), older)
    abandon(older)
    change_holder(out, beat=0)
    with Lease.take(out) as newer:
        with pytest.raises(LeaseLost, match="another run took over this folder"):
            stage.commit(receipt(stage, {"a": 2}, revision=2), older)
        assert current(stage) == {"a": 1}
        stage.commit(receipt(stage, {"a": 3}, revision=2), newer)
    assert current(stage) == {"a": 3}
    older.release()  # at the end of its `with`: it must not look like the current driver's release
    assert leases.holder_of(out) is None and Lease.take(out).term == 3
