"""Listed objects are read, or a failure says why not; memory waits for the caller."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.sources import ObjectRef, fetch, read_files, read_objects
from synthgen.store import remote
from tests.fixtures.sources import LIMITS, listed, parquet, read, read_refs, refs, tree


def test_an_object_that_changed_since_its_listing_is_noticed(tmp_path: Path) -> None:
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
    reasons = {name: result.reason for name, result in results.items() if isinstance(result, Failure)}
    unreadable = dict.fromkeys(("gone", "pipe", "folder"), "unreadable")
    assert reasons == {"changed": "changed", "t": "changed", "large": "too_many_bytes", **unreadable}


def test_a_row_that_the_file_does_not_have_is_a_failure(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"1"], pa.binary())
    version = listed(path)[0].version
    results = read_refs([ObjectRef("in", str(path), version, 0), ObjectRef("out", str(path), version, 7)])
    assert results == {"in": b"1", "out": Failure("part_unreadable", "the file has no such row")}


def test_no_url_in_a_reference_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    results = read_refs(
        [
            ObjectRef(uri, uri, "v", None)
            for uri in ("http://127.0.0.1:1/a.jpg", "memory://a.jpg", "/nope.jpg", "file:///nope.jpg")
        ]
    )
    reasons = {name: result.reason for name, result in results.items() if isinstance(result, Failure)}
    nowhere = dict.fromkeys(("memory://a.jpg", "/nope.jpg", "file:///nope.jpg"), "unreadable")
    assert reasons == {"http://127.0.0.1:1/a.jpg": "url_refused", **nowhere}, "no host is allowed"


def test_memory_waits_for_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BUFFER_BYTES", 2000)
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([number]) * 900)
    (tmp_path / "larger_than_the_buffer.jpg").write_bytes(bytes(5000))
    most = 0
    reserve = fetch._Outlet.reserve

    def watched(self: fetch._Outlet, size: int) -> None:
        nonlocal most
        reserve(self, size)
        most = max(most, self._used)

    monkeypatch.setattr(fetch._Outlet, "reserve", watched)
    results = read(tmp_path, ImagesConfig())
    assert all(isinstance(result, bytes) for result in results.values())
    assert len(results) == 61
    assert most <= 5000


def test_a_caller_that_stops_half_way_leaves_no_thread_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BUFFER_BYTES", 10)
    tree(tmp_path, *(f"{number}.jpg" for number in range(50)))
    results = read_objects(refs(listed(tmp_path)), SourceConfig(), LIMITS)
    next(results)
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("read_") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_defect_in_a_reader_costs_its_own_objects_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    tree(tmp_path, "a.jpg", "bad.jpg", "c.jpg")
    honest = read_files._read_local

    def failing(path: str, *rest: Any) -> Any:
        if "bad" in path:
            raise RuntimeError("no idea")
        return honest(path, *rest)

    monkeypatch.setattr(read_files, "_read_local", failing)
    results = list(read(tmp_path).values())
    assert Failure("unreadable", "RuntimeError: no idea") in results
    assert sum(isinstance(result, bytes) for result in results) == 2
