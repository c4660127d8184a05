"""The seed fixes the order of the rows, the files are pinned, and a killed training continues from its checkpoint."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs  # type: ignore[import-untyped]
import torch
from safetensors.torch import load_file

from synthgen.commands.learn.seed import open_seed
from synthgen.errors import Damaged, LeaseHeld, SettingsChanged, SynthError, UserMistake
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import PACK
from synthgen.train import train
from synthgen.train.dataset import pin
from synthgen.train.feed import GIGABYTE, Feed, open_feed
from synthgen.train.loader import batches
from synthgen.train.sharding import whole_weights
from synthgen.train.stream import rows
from tests.fixtures.rows import describe_run
from tests.fixtures.tiny_vlm import FAST, FINISHED, Row, commit, losses, names, row, samples, stop_after, write


def test_the_same_seed_gives_the_same_order_from_any_position(tmp_path: Path) -> None:
    write(tmp_path / "a", *(numbered(start, start + 7) for start in range(0, 28, 7)))
    files = fed(tmp_path / "a")
    order = names_of(files, 3, 0, 56)
    assert sorted(order[:28], key=int) == sorted(order[28:], key=int) == [str(number) for number in range(28)]
    assert order[:28] != order[28:]
    assert order[:28] != sorted(order[:28], key=int)
    for position in (0, 1, 7, 13, 28, 40):
        assert names_of(files, 3, position, 10) == (order * 2)[position : position + 10]
    assert names_of(files, 4, 0, 28) != order[:28]
    moved = fed(shutil.move(tmp_path / "a", tmp_path / "b"))
    assert names_of(moved, 3, 0, 56) == order


def test_variants_of_a_data_set_have_their_common_rows_in_one_order(tmp_path: Path) -> None:
    """Whatever files they are in, and whatever rows only one of them has."""
    one = fed(write(tmp_path / "one", numbered(0, 10), numbered(10, 30)))
    other = fed(write(tmp_path / "other", numbered(5, 18), numbered(18, 20), numbered(20, 40)))
    common = {str(number) for number in range(5, 30)}
    for epoch in (0, 1):
        orders = [names_of(each, 3, epoch * size, size) for each, size in ((one, 30), (other, 35))]
        in_both = [[name for name in order if name in common] for order in orders]
        assert in_both[0] == in_both[1] and sorted(in_both[0]) == sorted(common)


def test_a_large_data_set_is_shuffled_window_by_window_and_no_more_is_copied(tmp_path: Path) -> None:
    files = fed(write(tmp_path / "a", *(numbered(start, start + 5) for start in range(0, 40, 5))))
    most = sum(file.bytes for file in files.files) / 4
    settings = FAST.model_copy(update={"seed": 3, "shuffle_gigabytes": most / GIGABYTE})
    order, copies, copied = list[str](), files.folder / "rows", list[int]()
    for taken in islice(rows(files, settings, 0), 40):
        order.append(name_of(taken))
        copied.append(len(list(copies.glob("*.arrow"))))
    assert sorted(order, key=int) == [str(number) for number in range(40)]
    assert max(copied) <= 4, "two windows at most, of two files each"
    assert order[:10] != names_of(files, 3, 0, 10)
    settings = settings.model_copy(update={"seed": 3})
    assert [name_of(each) for each in islice(rows(files, settings, 17), 5)] == order[17:22]


def test_more_threads_change_neither_order_nor_counts(processor: Any, tmp_path: Path) -> None:
    mixed = []
    for number, usable in enumerate(numbered(0, 30)):
        mixed.append(usable)
        if number % 5 == 0:
            mixed.append(row(("Q", "A"), image=b""))
    feed = fed(write(tmp_path / "shards", mixed))

    def load(workers: int) -> list[tuple[int, Counter[str], list[Any]]]:
        loader = islice(batches(feed, processor, FAST.model_copy(update={"workers": workers}), 0), 15)
        return [(each.position, each.skipped, [part.labels.tolist() for part in each.micro_batches]) for each in loader]

    assert load(1) == load(3)


def test_shards_in_an_object_store_are_read_as_they_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "ACCESS_KEY_ID": "nobody",
        "SECRET_ACCESS_KEY": "nothing",
        "ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    s3fs.S3FileSystem.clear_instance_cache()  # a cached client of an earlier test has another endpoint
    try:
        fsspec.filesystem("s3").mkdir("tuning")
        here, there = write(tmp_path / "shards", samples(3), samples(2)), "s3://tuning/shards"
        for path in here.iterdir():
            fsspec.filesystem("s3").put_file(str(path), f"{there}/{path.name}")
        local = pin(str(here))
        for source in (there, f"{there}/", f"{there}/*.parquet"):
            assert [(file.rows, file.sha256) for file in pin(source)] == [(file.rows, file.sha256) for file in local]
        assert [named(each) for each in islice(rows(fed(there, tmp_path / "far"), FAST, 0), 5)] == [
            named(each) for each in islice(rows(fed(here), FAST, 0), 5)
        ]
        stage = StageFolder(Folder("s3://tuning/run"), PACK)
        data = stage.put("data", "train", (here / "train-00000.parquet").read_bytes(), 3)
        describe_run(stage.out)
        with Lease.take(stage.out) as lease:
            stage.commit(Receipt("e001-00000", 1, {"data": TablePart((data,), "f")}), lease)
        assert len(list(islice(rows(fed("s3://tuning/run", tmp_path / "run"), FAST, 0), 7))) == 7
        for source in ("s3://nowhere-at-all/run", "s3://nowhere-at-all/*.parquet"):
            for open_shards in (pin, open_seed):  # `synth train`, and `synth learn`, which reads shards too
                with pytest.raises(UserMistake, match="there is no bucket nowhere-at-all"):
                    open_shards(source)
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def numbered(first: int, last: int) -> list[Row]:
    return [row((f"number {number}", "It is red.")) for number in range(first, last)]


def fed(source: Path | str, aside: Path | None = None) -> Feed:
    """Return the data set of a source, with what is known of its rows in a folder beside it."""
    return open_feed({"shards": str(source)}, aside or Path(source).with_name(f"feed-{Path(source).name}"), FAST)


def names_of(feed: Feed, seed: int, start: int, count: int) -> list[str]:
    """Return the numbers in the questions of `count` rows."""
    settings = FAST.model_copy(update={"seed": seed})
    return [name_of(row) for row in islice(rows(feed, settings, start), count)]


def name_of(row: Row) -> str:
    return str(row["messages"][0]["content"][1]["text"].split()[1])


def named(row: Row) -> tuple[str, str]:
    return row["sample"], row["messages"][1]["content"][0]["text"]


KILLED_IN_STEP_7 = """
import os, signal
from pathlib import Path
from synthgen.config.training import TrainConfig
from synthgen.train import loop, train

real, taken = loop.step, []

def step(*arguments):
    taken.append(arguments)
    if len(taken) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

loop.step = step
"""


def test_a_killed_training_continues_to_the_same_losses(model: Path, tmp_path: Path) -> None:
    bad = row(("Q", "A"), image=b"no image")
    shards = write(tmp_path / "shards", [*samples(7), bad], samples(5))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = FAST.model_copy(update={"steps": 14})
    undisturbed = train(str(shards), str(model), whole, settings)
    program = KILLED_IN_STEP_7 + (
        f"settings = TrainConfig.model_validate({settings.model_dump()!r})\n"
        f"train({str(shards)!r}, {str(model)!r}, Path({str(killed)!r}), settings)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process, so that sums round alike
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len((killed / "log.jsonl").read_text().splitlines()) == 6 and names(killed / "checkpoints")
    result = train(str(shards), str(model), killed, settings)
    assert losses(killed) == losses(whole)
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (killed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (result.steps, result.skipped) == (14, undisturbed.skipped)
    assert 4 <= result.skipped["unreadable_image"] <= 5  # in a bit more than four epochs


def test_two_checkpoints_are_kept_and_none_after_the_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[list[str]] = []
    save = whole_weights

    def observe(*arguments: Any) -> Any:
        kept.append(names(tmp_path / "out" / "checkpoints"))
        return save(*arguments)

    monkeypatch.setattr("synthgen.train.loop.whole_weights", observe)
    train(str(write(tmp_path / "shards", samples(4))), str(model), tmp_path / "out", FAST)
    assert kept == [["step-0000004", "step-0000006"]]
    assert set(names(tmp_path / "out")) - {"tensorboard"} == FINISHED


def test_a_finished_training_started_again_does_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    result = train(str(shards), str(model), out, FAST)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert train(str(shards), str(model), out, FAST.model_copy(update={"workers": 2})) == result
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


def test_a_folder_refuses_a_training_with_other_settings(model: Path, tmp_path: Path) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    train(str(shards), str(model), out, FAST)
    with pytest.raises(SettingsChanged, match=r"learning_rate was 0\.003 and is now 0\.001; use another --out"):
        train(str(shards), str(model), out, FAST.model_copy(update={"learning_rate": 1e-3}))


def test_a_record_of_another_format_is_refused(model: Path, tmp_path: Path) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text('{"format": 1, "result": null}')
    with pytest.raises(UserMistake, match="has format 1; this synth reads format 3; use another --out"):
        train(str(shards), str(model), out, FAST)


@pytest.mark.parametrize("data", ['{"format": 3, "resu', "[3]", ""])
def test_a_damaged_record_is_told_in_one_line(model: Path, tmp_path: Path, data: str) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text(data)
    with pytest.raises(Damaged, match=r"training\.json: is not the record of a training \(.*\); use another --out"):
        train(str(shards), str(model), out, FAST)


def test_a_disk_that_is_full_at_a_checkpoint_leaves_no_half_file_and_the_training_continues(
    model: Path, tmp_path: Path
) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"

    def fail(state: object, file: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthgen.train.checkpoints.torch.save", fail)
        with pytest.raises(
            SynthError, match=r"checkpoints: writing failed \(RuntimeError: .*; free some space"
        ) as caught:
            train(str(shards), str(model), out, FAST)
    assert "\n" not in str(caught.value) and names(out / "checkpoints") == []
    train(str(shards), str(model), out, FAST)


def test_a_model_that_cannot_be_written_leaves_no_half_folder(model: Path, tmp_path: Path) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthgen.train.pretrained._rename_weights", fail)
        with pytest.raises(SynthError, match="No space left on device"):
            train(str(shards), str(model), out, FAST)
    assert not any("writing" in name for name in names(out))
    train(str(shards), str(model), out, FAST)
    assert "model" in names(out)


@pytest.mark.parametrize("file", ["__0_0.distcp", "progress.json", "random.pt"])
def test_a_checkpoint_that_was_tampered_with_is_refused_and_the_one_before_is_whole(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    shards, out = write(tmp_path / "shards", samples(8)), tmp_path / "out"
    stop_after(4, monkeypatch, lambda: train(str(shards), str(model), out, FAST))
    before = losses(out)
    path = out / "checkpoints" / "step-0000004" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(
        Damaged, match=r"step-0000004: is not a whole checkpoint \(.*\); remove it, and the same command"
    ):
        train(str(shards), str(model), out, FAST)
    shutil.rmtree(path.parent)
    train(str(shards), str(model), out, FAST)
    assert losses(out)[:4] == before


def test_one_folder_takes_one_training_at_a_time(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Lease.take(Folder(str(out))), pytest.raises(LeaseHeld):
        train(str(write(tmp_path / "shards", samples(4))), str(model), out, FAST)


def test_a_training_that_another_start_changed_meanwhile_is_left_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthgen.train import pretrained

    out, load = tmp_path / "out", pretrained.load_model

    def overtaken(*arguments: Any) -> Any:
        out.mkdir()
        (out / "training.json").write_text('{"of": "another start"}')
        return load(*arguments)

    monkeypatch.setattr(pretrained, "load_model", overtaken)
    with pytest.raises(UserMistake, match="another start changed this training; start again"):
        train(str(write(tmp_path / "shards", samples(4))), str(model), out, FAST)
    assert (out / "training.json").read_text() == '{"of": "another start"}'


def test_a_run_is_read_by_its_commits_and_pinned(model: Path, tmp_path: Path) -> None:
    run, out = commit(tmp_path / "run", samples(3)), tmp_path / "out"
    commit(run, samples(4), samples(2), revision=2)
    (run / "5-shards" / "data" / "orphan.parquet").write_bytes(b"half a file")
    train(str(run), str(model), out, FAST)
    (data,) = json.loads((out / "training.json").read_text())["data"]
    pinned = data["files"]
    assert sorted(file["rows"] for file in pinned) == [2, 4]
    assert all(len(file["sha256"]) == 64 for file in pinned)


def test_before_a_checkpoint_damage_names_the_repair_and_the_next_start_pins_again(model: Path, tmp_path: Path) -> None:
    run, out = commit(tmp_path / "run", samples(3), samples(4)), tmp_path / "out"
    victim = next((run / "5-shards" / "data").iterdir())
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + b"?")
    redo = rf"redo it with `synth retry {run} --partition 5-shards/e001-00000` and"
    with pytest.raises(
        Damaged, match=rf"its SHA-256 differs\); there is no checkpoint yet: {redo} start the same command again$"
    ):
        train(str(run), str(model), out, FAST)
    assert not out.exists()
    victim.unlink()
    with pytest.raises(Damaged, match=rf"is missing; there is no checkpoint yet: {redo} start the same command again$"):
        train(str(run), str(model), out, FAST)
    out.mkdir()
    (out / "training.json").write_text(
        json.dumps({"format": 3, "shape": {}, "result": None, "data": [{"url": "gone"}]})
    )
    commit(run, samples(5), revision=2)
    train(str(run), str(model), out, FAST)
    (data,) = json.loads((out / "training.json").read_text())["data"]
    assert [file["rows"] for file in data["files"]] == [5]


def test_after_a_checkpoint_damage_asks_for_the_file_or_for_another_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = commit(tmp_path / "run", samples(4)), tmp_path / "out"
    (victim,) = (run / "5-shards" / "data").iterdir()
    whole = victim.read_bytes()
    stop_after(2, monkeypatch, lambda: train(str(run), str(model), out, FAST))
    victim.write_bytes(b"?")
    put_back = "put it back and start the same command again to continue from the last checkpoint"
    with pytest.raises(
        Damaged,
        match=rf"{put_back}, or redo it with `synth retry {run} --partition 5-shards/e001-00000` and train again",
    ):
        train(str(run), str(model), out, FAST)
    commit(run, samples(4), samples(1), revision=2)
    with pytest.raises(Damaged, match=rf"{put_back}, or train again into another --out, on a copy of the shards"):
        train(str(run), str(model), out, FAST)
    victim.write_bytes(whole)
    assert train(str(run), str(model), out, FAST).steps == 6


@pytest.mark.parametrize(
    ("first", "words"), [(4, "cannot be read .*; replace it with an undamaged copy"), (-99, "is not a Parquet file")]
)
def test_a_broken_file_without_a_commit_is_reported_in_one_line(
    model: Path, tmp_path: Path, first: int, words: str
) -> None:
    (file,) = write(tmp_path / "shards", samples(8)).iterdir()
    data = bytearray(file.read_bytes())
    place = first % len(data)
    data[place : place + 80] = b"?" * 80
    file.write_bytes(data)
    with pytest.raises(UserMistake, match=rf"train-00000.parquet: {words}") as caught:
        train(str(tmp_path / "shards"), str(model), tmp_path / "out", FAST)
    assert "\n" not in str(caught.value)


def test_a_started_training_does_not_see_later_shards_of_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = commit(tmp_path / "run", samples(4)), tmp_path / "out"
    stop_after(4, monkeypatch, lambda: train(str(run), str(model), out, FAST))
    commit(run, samples(8), samples(8), revision=2)
    train(str(run), str(model), out, FAST)
    train(str(commit(tmp_path / "still" / "run", samples(4))), str(model), tmp_path / "other", FAST)
    assert losses(out) == losses(tmp_path / "other")
