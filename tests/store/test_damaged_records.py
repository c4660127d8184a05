"""Records in which anything may stand: each is read as it was written, or is damage reported in one line."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings

from synthgen.errors import Damaged, SynthError
from synthgen.job import run_record
from synthgen.job.request import RunRequest
from synthgen.store import Folder, Receipt, RunFolder, TablePart
from synthgen.store.commits import CommitLog, DataFile, in_order, parse_commit
from synthgen.store.denylist import read_denylist
from synthgen.store.lease import holder_of
from synthgen.tables import PLAN
from tests.fixtures.mutations import mutated

RECEIPT = Receipt(
    "e001-00000",
    2,
    {"images": TablePart((DataFile("e001-00000.r2.abc.parquet", 3, 100, "0" * 64),), "f", replaces=True)},
    {"planned": 3},
    {"1-tagged/e001-00000.r1": "d"},
)
RECORD: dict[str, Any] = {**asdict(RECEIPT), "term": 1, "at": "2030-01-01T00:00:00+00:00"}
WHERE = "2-planned/commits/e001-00000.r2.json"


@settings(max_examples=150)
@given(mutated(RECORD, most=3))
def test_a_commit_record_with_anything_in_it_can_be_used_or_is_damage(record: Any) -> None:
    other = parse_commit(WHERE.replace("r2", "r1"), json.dumps({**RECORD, "revision": 1}).encode())
    try:
        commit = parse_commit(WHERE, json.dumps(record).encode())
    except Damaged as error:
        assert "\n" not in str(error) and WHERE in str(error)
        return
    log = in_order({"e001-00000": [commit, other]})
    assert all(isinstance(count, int) for count in log.counts().values())
    assert all(file.rows >= 0 and file.bytes >= 0 and "/" not in file.name for file in log.files("images"))
    assert log.next_revision("e001-00000") == 3 and log.next_epoch > 0
    assert len(log.digests(PLAN, ["e001-00000"])) == 2
    assert CommitLog.from_json(json.loads(json.dumps(log.as_json()))) == log


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"null", b"[]", b"7", b'{"partition":' * 3_000, b"9" * 5_000], ids=range(7)
)
def test_bytes_that_are_no_record_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match="is not a commit record"):
        parse_commit(WHERE, data)


RUN: dict[str, Any] = {
    "pipeline": {"about": "a job", "source": {"uri": "photos", "hosts": ["a.org"]}, "plan": {"mapping": "small"}},
    "started_in": "/work",
    "started_with": {"pipeline": "small", "settings": ["source.uri=photos"], "limit": 3},
    "shape": {"listed": {"uri": "photos"}, "generated": {"model": ["m", "r"]}},
    "unfinished": {"plan": "edit"},
    "tagger_models": {"clip": ["m", "r"]},
}
HOLDER: dict[str, Any] = {
    "host": "h", "machine": "m", "pid": 1, "started": "5", "beat": 1.5, "released": False
}  # fmt: skip


@settings(max_examples=100)
@given(mutated(RUN, most=2))
def test_a_run_record_with_anything_in_it_can_be_used_or_is_one_line(tmp_path_factory: Any, record: Any) -> None:
    out = Folder(str(tmp_path_factory.mktemp("out")))
    out.write("run.json", b'{"format": 1}')
    out.write("frozen/000001.json", json.dumps(record).encode())
    folder = RunFolder(out)
    uses: list[Callable[[], object]] = [
        lambda: run_record.pipeline_of(folder),
        lambda: run_record.source_of(run_record.record_of(folder)),
        lambda: run_record.unfinished_purge(folder),
        lambda: run_record.stored_model(run_record.record_of(folder)),
        lambda: RunRequest.of(run_record.record_of(folder)).record(),
        lambda: run_record.record_of(folder)["shape"],
    ]
    for use in uses:
        try:
            use()
        except SynthError as error:
            assert str(error) and "Traceback" not in str(error)


@settings(max_examples=60)
@given(mutated(HOLDER, most=2), mutated({"object_ids": ["a"], "image_ids": ["b"]}))
def test_a_lease_and_a_list_of_purged_ids_with_anything_in_them_can_be_used_or_are_damage(
    tmp_path_factory: Any, holder: Any, purged: Any
) -> None:
    out = Folder(str(tmp_path_factory.mktemp("out")))
    out.write("lease/000001.json", json.dumps(holder).encode())
    out.write("purged/000001.json", json.dumps(purged).encode())
    for use in (lambda: holder_of(out), lambda: read_denylist(out)):
        try:
            use()
        except Damaged as error:
            assert "000001.json: " in str(error) and "so it was damaged; " in str(error)
