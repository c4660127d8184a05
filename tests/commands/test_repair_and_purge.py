"""What was damaged is redone, and what must go is gone: `synth retry --partition` and `synth purge` on a finished run."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.commands import purge, retry
from synthgen.console import pluralize
from synthgen.errors import UserMistake
from synthgen.job import funnel as status
from synthgen.job import job, run_record
from synthgen.store import Folder, Stage
from synthgen.tables import DECISIONS, FAILURE_REASONS, IMAGES, OBJECTS, QUARANTINE_REASONS, image_id
from tests.fixtures.runs import adds_up, assignments, pairs, rows, synth
from tests.fixtures.workspace import make_images, put_shelves, write

pytestmark = pytest.mark.usefixtures("ray_running")


@pytest.fixture(scope="module")
def finished(ray_running: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished run; its `out` is copied, never used."""
    folder = put_shelves(tmp_path_factory.mktemp("finished"))
    make_images(folder / "photos", 40)
    shutil.copy(folder / "photos" / "0003.png", folder / "photos" / "again.png")
    shutil.copy(folder / "photos" / "0003.json", folder / "photos" / "again.json")
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the finished output folder; the workspace is the current folder."""
    monkeypatch.chdir(finished)
    shutil.copytree(finished / "out", tmp_path / "copy")
    yield tmp_path / "copy"


def everything(out: Path) -> tuple[object, ...]:
    """All that counts, by id."""
    listed = rows(out, "0-listed", "objects", "object_id", OBJECTS)
    tagged = {
        key: (row["outcome"], row["reason"])
        for key, row in rows(out, "1-tagged", "images", "object_id", IMAGES).items()
    }
    kept = {key: row["reason"] for key, row in rows(out, "4-selected", "decisions", "pair_id", DECISIONS).items()}
    data = Stage(Folder(str(out)), "5-shards")
    log = data.log()
    samples = sorted(
        one
        for name in log.partitions
        for table in data.read(log, name, "data", ["id"])
        for one in table["id"].to_pylist()
    )
    return set(listed), tagged, assignments(out), pairs(out), kept, samples


def damage(out: Path, stage: str, table: str) -> str:
    """Flips a byte of a table's first file; the partition's name."""
    file = min((out / stage / table).glob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return f"{stage}/{file.name.removeprefix('train-').split('.')[0]}"


@pytest.mark.parametrize(
    "places",
    [
        [("1-tagged", "images"), ("3-generated", "scores/answer"), ("4-selected", "decisions"), ("5-shards", "index")],
        [("0-listed", "objects")],
        [("2-planned", "assignments")],
        [("2-planned", "images")],
    ],
    ids=["made of something", "listed", "planned", "planned images"],
)
def test_a_damaged_partition_is_named_and_redone_to_the_same_rows(copy: Path, places: list[tuple[str, str]]) -> None:
    before, asked = everything(copy), rows_written(copy, "3-generated/pairs")
    names = [damage(copy, *place) for place in places]
    stopped = synth("run", "photos", "--out", str(copy), "--pipeline", "small", "--update", check=False)
    told = (
        stopped.stderr
        if stopped.returncode
        else synth("retry", str(copy), "--partition", "3-generated/nothing", check=False).stderr
    )
    assert "Traceback" not in told
    synth("retry", str(copy), *(word for name in names for word in ("--partition", name)))
    adds_up(copy)
    assert everything(copy) == before
    assert rows_written(copy, "3-generated/pairs") == asked, "no question is asked again"


def rows_written(out: Path, table: str) -> int:
    """Rows in all files of a table, current or not."""
    return sum(pq.read_metadata(path).num_rows for path in (out / table).rglob("*.parquet"))


@pytest.mark.parametrize("table", ["assignments", "images"])
def test_what_an_edit_took_back_stays_taken_back_when_its_partition_is_planned_again(copy: Path, table: str) -> None:
    synth("run", "photos", "--out", str(copy), "--pipeline", "small", "--set", "plan.per_image=2", "--update")
    before, counts = everything(copy), Stage(Folder(str(copy)), "2-planned").log().counts()
    assert counts["retired"] > 0
    synth("retry", str(copy), "--partition", damage(copy, "2-planned", table))
    assert not [one for one in status.funnels(Folder(str(copy))) if one.to_do]
    assert everything(copy) == before
    assert Stage(Folder(str(copy)), "2-planned").log().counts() == counts


def test_of_damaged_pairs_only_those_of_the_damaged_file_are_asked_again_under_new_ids(copy: Path) -> None:
    synth("run", "photos", "--out", str(copy), "--pipeline", "small", "--set", "plan.per_image=4", "--update")
    before = pairs(copy)
    name = damage(copy, "3-generated", "pairs")
    [later] = [path for path in (copy / "3-generated" / "pairs").glob(f"{name.partition('/')[2]}.r2.*")]
    added = set(pq.read_table(later)["assignment_id"].to_pylist())
    synth("retry", str(copy), "--partition", name)
    adds_up(copy)
    after = pairs(copy)
    again = {key for key in before if after[key] != before[key]}
    assert again and added and not again & added
    ids = {row[2] for row in after.values()}
    assert ids.isdisjoint(before[key][2] for key in again), "another text is another pair"


def test_a_partition_that_is_not_there_is_one_line(copy: Path) -> None:
    done = synth("retry", str(copy), "--partition", "3-generated/e001-0000", check=False)
    assert done.returncode == 2
    assert (
        "--partition 3-generated/e001-0000: is not in" in done.stderr
        and "did you mean '3-generated/e001-0000" in done.stderr
    )


def test_a_retry_without_a_row_that_fits_says_so_and_what_failed_here(copy: Path) -> None:
    before = everything(copy)
    done = synth("retry", str(copy))
    assert done.stderr.splitlines() == [
        "nothing to do again: no row failed for a reason that may pass by itself; failed here: none at all"
    ]
    write(copy / "1-tagged/commits/e009-00000.r1.json", record_of({"quarantined.too_small": 3, "tagged": 2}))
    assert retry.nothing_fits(Folder(str(copy)), {"poison"}) == (
        "nothing to do again: no row failed for poison; failed here: 3 too_small"
    )
    assert retry.nothing_fits(Folder(str(copy)), {"poison", "too_small"}) is None
    told = retry.nothing_fits(Folder(str(copy)), retry.checked(["failed", "corrupt"]))
    assert told and told.startswith("nothing to do again: no row failed for corrupt or failed; failed here: ")
    assert retry.nothing_fits(Folder(str(copy)), retry.checked(["quarantined"])) is None
    (copy / "1-tagged/commits/e009-00000.r1.json").unlink()
    assert everything(copy) == before


def test_a_reason_may_be_typed_as_status_prints_it_and_a_kind_means_all_of_it() -> None:
    assert retry.checked(["failed.declined", "quarantined.corrupt", "truncated"]) == {
        "declined",
        "corrupt",
        "truncated",
    }
    assert retry.checked(["failed"]) == set(FAILURE_REASONS)
    assert retry.checked(["quarantined"]) == set(QUARANTINE_REASONS) - {"purged"}
    assert retry.checked(["quarantined.purged"]) == {"purged"}
    with pytest.raises(UserMistake, match="score:answer"):
        retry.checked(["failed", "score:answer"])


def record_of(counts: dict[str, int]) -> str:
    """A commit without tables, of which only the counts say something."""
    whole = {
        "partition": "e009-00000",
        "revision": 1,
        "tables": {},
        "reads": {},
        "counts": counts,
        "epoch": 9,
        "term": 1,
        "at": "",
    }
    return json.dumps(whole)


@contextlib.contextmanager
def touched(files: Iterable[Path]) -> Iterator[None]:
    """Meanwhile these files have another date, and so another version; their bytes are the same."""
    before = {file: file.stat().st_mtime_ns for file in files}
    for file in before:
        file.touch()
    yield
    for file, time in before.items():
        os.utime(file, ns=(time, time))


def test_of_files_with_another_date_and_the_same_bytes_every_image_is_packed_once(copy: Path, finished: Path) -> None:
    before = everything(copy)
    with touched((finished / "photos").glob("*.png")):
        synth("run", "photos", "--out", str(copy), "--pipeline", "small")
    funnels = {one.stage: one for one in status.funnels(Folder(str(copy)))}
    assert not any(one.to_do for one in funnels.values())
    assert funnels["plan"].fell == {"changed": 21, "same_bytes": 1}
    stage = Stage(Folder(str(copy)), "5-shards")
    log = stage.log()
    samples = [
        one
        for name in log.partitions
        for table in stage.read(log, name, "data", ["id"])
        for one in table["id"].to_pylist()
    ]
    assert sorted(samples) == before[-1], "a question that moved to the newer file is the same question"


def test_a_purged_image_is_gone_with_all_that_came_of_it_and_stays_away(copy: Path, finished: Path) -> None:
    photo = finished / "photos" / "0003.png"
    mine = image_id(photo.read_bytes())
    asked = {key for key, row in assignments(copy).items() if row["image_id"] == mine}
    before, others = pairs(copy), {key for key in assignments(copy) if key not in asked}
    answers = [str(before[key][3]).encode() for key in asked if before[key][3]]
    assert asked and answers
    held = status.holds(Folder(str(copy)))
    told = synth("purge", str(copy), "0003.png").stdout
    left = status.holds(Folder(str(copy)))
    gone = [pluralize(held[name] - left[name], name) for name in ("question", "pair", "sample")]
    assert told.startswith("2 objects purged from "), "the copy under another name goes too"
    assert (
        f": 1 image, {', '.join(gone)}; " in told
    )  # one partition or two: buckets go by the whole uri, of a folder that differs
    assert held["pair"] > len(pairs(copy)) and "1 sample;" in told
    adds_up(copy)
    assert set(assignments(copy)) == others
    assert pairs(copy) == {key: row for key, row in before.items() if key in others}
    funnel = next(one for one in status.funnels(Folder(str(copy))) if one.stage == "tag")
    assert funnel.came == 41 and funnel.fell == {"quarantined.purged": 2}
    texts = [one for stage in ("3-generated", "5-shards") for one in column_texts(copy, stage)]
    assert not [one for one in texts if mine in one or any(answer.decode() == one for answer in answers)]
    for path in (copy / "0-listed").rglob("*.parquet"):
        assert b"0003.png" not in path.read_bytes() and b"again.png" not in path.read_bytes()

    (finished / "photos" / "0003-elsewhere.png").write_bytes(photo.read_bytes())
    with touched([photo]):
        synth("run", "photos", "--out", str(copy), "--pipeline", "small")
    (finished / "photos" / "0003-elsewhere.png").unlink()
    adds_up(copy)
    assert set(assignments(copy)) == others
    funnel = next(one for one in status.funnels(Folder(str(copy))) if one.stage == "tag")
    assert funnel.fell == {"quarantined.purged": 4}, "the same bytes under another name, and touched, are known"
    nobody = synth("purge", str(copy), "agian.png", check=False)
    assert nobody.returncode == 2 and nobody.stderr.startswith(f"synth: {copy}: holds no image agian.png; ")


@pytest.mark.parametrize("killed_at", ["1-tagged", "3-generated", "select", "collect_garbage"])
def test_a_run_after_a_killed_purge_is_told_to_finish_it_first(
    copy: Path, finished: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = image_id((finished / "photos" / "0006.jpg").read_bytes())
    rewrite = purge._rewrite

    def dies(stage: Stage, *rest: Any) -> bool:
        if stage.name == killed_at:
            raise KeyboardInterrupt
        return rewrite(stage, *rest)

    def dies_late(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(purge, "_rewrite", dies)
    monkeypatch.setattr(purge, "run" if killed_at == "select" else "collect_garbage", dies_late)
    with pytest.raises(KeyboardInterrupt):
        purge.purge(job.reopen(Folder(str(copy))), [mine])
    for order in ([], ["--from", "pack"]):
        stopped = synth("run", "photos", "--out", str(copy), "--pipeline", "small", *order, check=False)
        assert stopped.returncode == 2
        assert (
            stopped.stderr.splitlines()[-1]
            == f"synth: {copy}: a purge was cut short here; finish it with: synth purge {copy}"
        )
    assert synth("status", str(copy)).stdout.endswith(
        f"a purge was cut short here; finish it with: synth purge {copy}\n"
    )
    synth("purge", str(copy))
    adds_up(copy)
    assert not any(
        mine in one for stage in ("2-planned", "3-generated", "5-shards") for one in column_texts(copy, stage)
    )
    nothing = synth("purge", str(copy), check=False)
    assert nothing.returncode == 2 and "no purge was cut short here; name what is to go" in nothing.stderr
    assert mine not in {row["image_id"] for row in assignments(copy).values()}
    before = pairs(copy)
    synth("run", "photos", "--out", str(copy), "--pipeline", "small")
    assert pairs(copy) == before


@pytest.mark.parametrize(("module", "killed_at"), [(purge, "extend_denylist"), (run_record, "begun")])
def test_a_purge_killed_at_its_first_words_is_never_called_finished(
    copy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, module: Any, killed_at: str
) -> None:
    mine = image_id((finished / "photos" / "0006.jpg").read_bytes())

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, killed_at, dies)
        purge.purge(job.reopen(Folder(str(copy))), [mine])
    without_names = synth("purge", str(copy), check=False)
    assert without_names.returncode == 2 or mine not in {row["image_id"] for row in assignments(copy).values()}
    synth("purge", str(copy), mine)
    adds_up(copy)
    assert mine not in {row["image_id"] for row in assignments(copy).values()}


def test_what_an_edit_took_back_stays_taken_back_when_its_partition_loses_an_image(copy: Path) -> None:
    synth("run", "photos", "--out", str(copy), "--pipeline", "small", "--set", "plan.per_image=2", "--update")
    taken_back = {
        key
        for key, row in rows(copy, "4-selected", "decisions", "pair_id", DECISIONS).items()
        if row["reason"] == "retired"
    }
    synth("purge", str(copy), "0006.jpg")
    assert not [one for one in status.funnels(Folder(str(copy))) if one.to_do]
    left = {
        key: row["reason"]
        for key, row in rows(copy, "4-selected", "decisions", "pair_id", DECISIONS).items()
        if key in taken_back
    }
    assert left and left == dict.fromkeys(left, "retired")


def column_texts(out: Path, stage: str) -> Iterator[str]:
    """Every string in the data files of a stage, current or not."""
    for path in (out / stage).rglob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            yield from (value for value in row.values() if isinstance(value, str))


def test_afterwards_any_folder_will_do_to_start_in(
    copy: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything(copy)
    again = synth("retry", str(copy))
    assert everything(copy) == before
    assert "tag: " not in again.stderr and "select: " not in again.stderr, "nothing is listed or decided anew"


def test_files_that_are_others_now_are_told_before_anything_is_purged(copy: Path, finished: Path) -> None:
    before, pack = everything(copy), finished / "prompts" / "small.yaml"
    text = pack.read_text()
    pack.write_text(text.replace("Brief.", "Be brief."))
    try:
        stopped = synth("purge", str(copy), image_id((finished / "photos" / "0006.jpg").read_bytes()), check=False)
    finally:
        pack.write_text(text)
    assert stopped.returncode == 2 and f"It was started in {finished}" in stopped.stderr
    assert everything(copy) == before
