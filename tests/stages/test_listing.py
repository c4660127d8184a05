"""Listing adds each object once, however often it runs, in whatever order, and wherever it was cut short before."""

import logging
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthgen.errors import Damaged, LeaseLost
from synthgen.ingest.sources import Item, LeftOut, Listed
from synthgen.stages import listing
from synthgen.store import CommitLog, Folder, Lease, RunFolder, StageFolder
from synthgen.store.commits import partition_order
from synthgen.tables import LIST, ids, make_id, object_id
from tests.fixtures.stage_runs import act_after, list_source
from tests.fixtures.workspace import ROOT

SLOWLY = settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))


def item(number: int, version: str = "v1", row: int | None = None, meta: str | None = None) -> Listed:
    return Listed(f"s3://bucket/{number:04d}.jpg", version, row, 1000 + number, meta)


def list_all(out: Folder, objects: Iterable[Item]) -> int:
    """List objects, and return how many of them are new by the counts of the commits."""
    before = StageFolder(out, LIST).log().counts().get("listed", 0)
    with Lease.take(out) as lease:
        list_source(out, objects, lease)
    return StageFolder(out, LIST).log().counts().get("listed", 0) - before


def partitions(out: Folder) -> dict[str, list[dict[str, Any]]]:
    stage = StageFolder(out, LIST)
    log = stage.log()
    return {name: stage.current(log, name, "objects").to_pylist() for name in log.partitions}


def committed(out: Folder) -> list[Listed]:
    """Return every committed object, in the order of the partitions."""
    rows = [row for part in partitions(out).values() for row in part]
    for row in rows:
        assert row["object_id"] == object_id(row["uri"], row["version"], row["row"])
        assert row["bucket"] == ids.bucket_of(row["uri"])
    assert StageFolder(out, LIST).log().counts() == ({"listed": len(rows)} if rows else {})
    return [Listed(row["uri"], row["version"], row["row"], row["bytes"], row["source_meta"]) for row in rows]


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make partitions, batches and buckets so small that a few objects fill several of each."""
    monkeypatch.setattr(ids, "bucket_of", lambda uri: int(make_id(uri)[:2], 16) % 3)
    monkeypatch.setattr(listing, "SMALLEST_PARTITION", 4)
    monkeypatch.setattr(listing, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr("synthgen.store.spill.ROWS_AT_ONCE", 5)


def test_every_object_is_listed_once_with_everything_that_is_known_about_it(out: Folder) -> None:
    objects = [
        item(number, row=number % 3 or None, meta='{"by": "me"}' if number % 2 else None) for number in range(100)
    ]
    assert list_all(out, objects) == 100
    assert sorted(committed(out), key=str) == sorted(objects, key=str)


def test_an_empty_listing_adds_nothing(out: Folder) -> None:
    assert list_all(out, []) == 0
    assert partitions(out) == {}


def test_listing_again_adds_nothing(out: Folder) -> None:
    list_all(out, map(item, range(50)))
    before = partitions(out)
    assert list_all(out, map(item, range(50))) == 0
    assert partitions(out) == before


def test_growth_makes_partitions_of_a_new_epoch_and_leaves_the_others(out: Folder) -> None:
    list_all(out, map(item, range(50)))
    before = partitions(out)
    assert list_all(out, map(item, range(80))) == 30
    after = partitions(out)
    assert {name: after[name] for name in before} == before
    grown = {name: rows for name, rows in after.items() if name not in before}
    assert all(name.startswith("e002-") for name in grown)
    assert sorted(row["uri"] for rows in grown.values() for row in rows) == [
        item(number).uri for number in range(50, 80)
    ]


def test_a_changed_version_is_a_new_object_and_the_old_one_stays(out: Folder) -> None:
    list_all(out, map(item, range(10)))
    assert list_all(out, [item(number, "v2" if number == 4 else "v1") for number in range(10)]) == 1
    assert [listed.version for listed in committed(out) if listed.uri == item(4).uri] == ["v1", "v2"]


def test_the_same_uri_with_several_rows_is_several_objects(out: Folder) -> None:
    assert list_all(out, [item(1, row=row) for row in range(40)]) == 40
    assert sorted(listed.row or 0 for listed in committed(out)) == list(range(40))


@pytest.mark.usefixtures("small")
def test_rows_of_one_file_stay_together_in_its_order(out: Folder) -> None:
    """A reader of a partition then reads a piece of the file, not all of it for rows here and there."""
    list_all(out, [item(file, row=row) for row in range(30) for file in range(3)])
    objects = committed(out)
    changes = [before.uri for before, after in pairwise(objects) if before.uri != after.uri]
    assert len(objects) == 90 and len(changes) == len(set(changes)) == 2
    for file in range(3):
        assert [listed.row for listed in objects if listed.uri == item(file).uri] == list(range(30))


def test_an_object_that_the_source_names_twice_is_listed_once_whichever_comes_first(
    out: Folder, tmp_path: Path
) -> None:
    twice = [item(1, meta="b"), item(2), item(1, meta="a"), item(1, meta="b")]
    assert list_all(out, twice) == 2
    other = Folder(str(tmp_path / "other"))
    list_all(other, reversed(twice))
    assert committed(out) == committed(other)


def test_an_object_that_left_the_source_stays_listed(out: Folder) -> None:
    list_all(out, map(item, range(10)))
    assert list_all(out, map(item, range(5))) == 0
    assert len(committed(out)) == 10


@pytest.mark.usefixtures("small")
@SLOWLY
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["v1", "v2"])), max_size=30), max_size=3),
    st.randoms(),
)
def test_after_any_listings_the_partitions_hold_every_object_ever_listed_once(
    listings: list[list[tuple[int, str]]], draw: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        out = Folder(directory)
        ever: set[Listed] = set()
        for versions in listings:
            objects = [item(number, version) for number, version in versions]
            before = partitions(out)
            assert list_all(out, draw.sample(objects, len(objects))) == len(set(objects) - ever)
            ever |= set(objects)
            assert sorted(committed(out), key=str) == sorted(ever, key=str)
            after = partitions(out)
            assert {name: after[name] for name in before} == before, "earlier partitions stay as they were"


@pytest.mark.usefixtures("small")
@SLOWLY
@given(st.sets(st.integers(0, 500), max_size=30), st.randoms())
def test_the_order_of_the_stream_does_not_matter(numbers: set[int], draw: random.Random) -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        shuffled = draw.sample(sorted(numbers), len(numbers))
        list_all(Folder(first), map(item, sorted(numbers)))
        list_all(Folder(second), map(item, shuffled))
        assert partitions(Folder(first)) == partitions(Folder(second))
        assert len(committed(Folder(first))) == len(numbers)


# --- the size of partitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 31, 32, 33, 10_000, 256_000, 256_001, 1_000_000, 10**8, 10**10])
def test_no_listing_makes_more_than_8000_partitions(total: int) -> None:
    size = listing.partition_rows(total)
    assert -(-total // size) <= listing.MOST_PARTITIONS == 8000
    assert size >= 32
    assert size == 32 or size <= total / 8000 + 1


def test_partitions_grow_with_what_was_listed_before(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a source that is listed every hour would end with a great many small ones."""
    monkeypatch.setattr(listing, "SMALLEST_PARTITION", 1)
    monkeypatch.setattr(listing, "MOST_PARTITIONS", 10)
    for hour in range(1, 9):
        list_all(out, map(item, range(20 * hour)))
    sizes: dict[str, list[int]] = {}
    for name, rows in partitions(out).items():
        sizes.setdefault(name[:4], []).append(len(rows))
    assert sizes["e001"] == [2] * 10
    assert sizes["e008"] == [16, 4], "160 objects in at most 10 partitions are 16 in each"
    assert sum(map(len, sizes.values())) <= 10 * 4  # a harmonic sum: 10 (1 + 1/2 + … + 1/8), and the rounding


def test_the_listing_does_not_hold_the_stream(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a batch of objects is alive while the stream is read; benchmarks/planning.py measures a million."""
    monkeypatch.setattr(listing, "ROWS_AT_ONCE", 50)
    alive = most = 0

    class Counted(Listed):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[Listed]:
        nonlocal alive, most
        for number in range(2000):
            alive += 1
            most = max(most, alive)
            yield Counted(**vars(item(number)))

    assert list_all(out, stream()) == 2000
    assert most <= 110


# --- what is left out -------------------------------------------------------------------------------------------------


def test_what_a_listing_leaves_out_is_told_once_and_kept_for_the_status(
    out: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    items: list[Item] = [item(1), LeftOut(".pdf"), LeftOut("hidden file"), item(2), LeftOut(".pdf", 1200)]
    hint = "; --set source.suffixes='[\"*\"]' takes every file, whatever its name"
    message = f"the listing left out 1,202: 1,201 .pdf, 1 hidden file{hint}"
    for _ in range(2):
        list_all(out, items)
        assert [record.message for record in caplog.records] == [message], "a listing that finds the same says nothing"
        assert listing.not_listed(RunFolder(out)) == {".pdf": 1201, "hidden file": 1}
    list_all(out, items[:3])
    assert listing.not_listed(RunFolder(out)) == {".pdf": 1, "hidden file": 1}
    assert len(committed(out)) == 2


def test_the_message_on_what_was_left_out_names_the_most_frequent_kinds() -> None:
    assert listing.not_listed_message({}) is None
    assert listing.not_listed_message({"hidden file": 3}) == "the listing left out 3: 3 hidden file"
    many = listing.not_listed_message({f".{number}": number for number in range(1, 15)})
    assert many and many.startswith("the listing left out 105: 14 .14, 13 .13, ") and ", 3 .3 and 2 more; " in many


# --- cut short --------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the middle of a listing."""


def test_a_source_that_fails_in_the_middle_of_the_stream_leaves_nothing(
    out: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stream() -> Iterator[Listed]:
        yield from map(item, range(100))
        raise Stop

    with pytest.raises(Stop):
        list_all(out, stream())
    assert partitions(out) == {}
    assert not list(tmp_path.glob("synth-listing-*")), "spilled rows are deleted"
    assert list_all(out, map(item, range(100))) == 100


def stop() -> None:
    """Cut the listing short."""
    raise Stop


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("commits", [0, 1, 5, 12])
def test_a_listing_cut_short_between_commits_is_completed_by_the_next(out: Folder, commits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        act_after(patch, commits, stop)
        with pytest.raises(Stop):
            list_all(out, map(item, range(50)))
    before = partitions(out)
    assert len(before) == commits and sum(map(len, before.values())) == 4 * commits
    # Meanwhile the bucket grew, and one object that was committed and one that was not have changed.
    changed = {committed(out)[0].uri, item(49).uri} if commits else {item(49).uri}
    now = [replace(known, version="v2") if known.uri in changed else known for known in map(item, range(60))]
    expected = {*committed(out), *now}
    assert list_all(out, now) == len(expected) - 4 * commits
    assert {name: partitions(out)[name] for name in before} == before
    assert sorted(committed(out), key=str) == sorted(expected, key=str)
    assert list_all(out, now) == 0


@pytest.mark.usefixtures("small")
def test_a_listing_cut_short_again_and_again_still_ends(out: Folder) -> None:
    epochs = []
    for _ in range(5):
        with pytest.MonkeyPatch.context() as patch:
            act_after(patch, 2, stop)
            with pytest.raises(Stop):
                list_all(out, map(item, range(50)))
        epochs.append(StageFolder(out, LIST).log().next_epoch - 1)
    assert epochs == [1, 2, 3, 4, 5]
    assert list_all(out, map(item, range(50))) == 50 - 5 * 8
    assert sorted(committed(out), key=str) == list(map(item, range(50)))
    assert list(partitions(out)) == sorted(partitions(out), key=partition_order)


def test_a_listing_killed_between_commits_is_completed_by_the_next(out: Folder) -> None:
    code = """if 1:
        import os, signal, sys
        import pytest
        from tests.stages.test_listing import *
        act_after(pytest.MonkeyPatch(), 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        list_all(Folder(sys.argv[1]), map(item, range(100)))"""
    killed = subprocess.run([sys.executable, "-c", code, out.url], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(partitions(out)) == 2
    assert list_all(out, map(item, range(100))) == 100 - 64
    assert sorted(committed(out), key=str) == list(map(item, range(100)))


def test_a_damaged_partition_stops_the_listing_and_is_not_listed_again(out: Folder) -> None:
    list_all(out, map(item, range(40)))
    file = next(Path(out.path, "0-listed", "objects").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Damaged, match="0-listed/objects"):
        list_all(out, map(item, range(80)))
    assert list(StageFolder(out, LIST).log().partitions) == ["e001-00000", "e001-00001"]


def test_the_last_commit_of_a_driver_taken_over_is_not_taken_for_our_own(out: Folder) -> None:
    """It holds other objects: those of the newer driver under that name would be counted and be nowhere."""
    zombie = Lease.take(out)
    read_log = StageFolder.log

    def read_before_the_zombie(stage: StageFolder, *known: CommitLog | None) -> CommitLog:
        log = read_log(stage, *known)
        patch.undo()  # once
        patch.setattr(Lease, "check", lambda lease: None)
        list_source(out, map(item, range(5)), zombie)
        return log

    zombie.release()
    with Lease.take(out) as lease, pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageFolder, "log", read_before_the_zombie)
        with pytest.raises(LeaseLost, match="start again"):
            list_source(out, map(item, range(20)), lease)
    assert list_all(out, map(item, range(20))) == 15
    assert len(committed(out)) == 20
