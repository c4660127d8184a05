"""Growth adds shards, a change rewrites only the shard that it is in, and no file of another run is deleted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthgen import tables
from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.errors import LeaseLost, UserMistake
from synthgen.stages import pack
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import GENERATE, PACK, PLAN
from tests.fixtures.packing import World, jpeg, pair, pictures
from tests.fixtures.stage_runs import commit_all

REMADE = "0123456789abcdef" * 2  # the id of a pair


def test_a_finished_pack_has_nothing_to_do(world: World) -> None:
    world.add(1, pictures(3))
    assert world.pack() == ["e001-00000.r1"]
    before = {file: file.read_bytes() for file in world.files}
    assert world.pack() == []
    assert {file: file.read_bytes() for file in world.files} == before


def test_new_images_go_to_new_shards_and_old_shards_stay_untouched(world: World) -> None:
    world.add(1, pictures(3))
    world.pack()
    before = world.files
    world.add(2, pictures(3, start=3))
    assert world.pack() == ["e002-00000.r1"]
    assert set(before) < set(world.files)
    assert {pair for sample in world.samples for pair in sample["pair_ids"]} == world.kept()


def test_a_change_rewrites_only_the_shard_it_touches(world: World) -> None:
    for epoch in (1, 2, 3):
        world.add(epoch, pictures(2, start=epoch * 10))
        world.pack()
    assert [file.name[:15] for file in world.files] == ["train-e001-0000", "train-e002-0000", "train-e003-0000"]
    before = world.files
    row = world.rows(PLAN, "images", "e002-00000")[0]
    world.generate("e002-00000", [pair(row["image_id"], row["object_id"], 1, answer="another", pair_id=REMADE)], 2)
    assert world.pack() == ["e002-00000.r2"]
    assert [file for file in world.files if file not in before] == [file for file in world.files if ".r2." in file.name]
    assert len(world.files) == 3, "the old revision is deleted"
    assert {pair for sample in world.samples for pair in sample["pair_ids"]} == world.kept()
    assert StageFolder(world.out, PACK).log().counts() == {"samples": 6, "turns": 12}


def test_samples_on_one_image_stay_each_in_its_shard(world: World) -> None:
    """As rows of an imported set do that are on one image."""
    world.select = SelectConfig(near_questions=None, forbidden=("555-.*",))
    world.context = replace(world.context, pack=PackConfig(shard_megabytes=1, max_turns=1))
    files = [jpeg(number, 700, noise=True, quality=95) for number in (1, 2)]
    pairs = list[dict[str, Any]]()
    for epoch in (1, 2):
        world.add(epoch, {f"{epoch}-{number}.jpg": data for number, data in enumerate(files)}, turns=0)
        images = world.rows(PLAN, "images", f"e00{epoch}-00000")
        ids = [{"assignment_id": f"{epoch}{at}", "pair_id": f"{epoch}{at}" * 16} for at in range(2)]
        pairs = [pair(row["image_id"], row["object_id"], 0, **own) for row, own in zip(images, ids, strict=True)]
        world.generate(f"e00{epoch}-00000", pairs, epoch)
    assert len(world.pack()) == 2 and world.pack() == []
    world.generate("e002-00000", [*pairs[:-1], {**pairs[-1], "answer": "555-1234"}], 2)
    assert world.pack() == ["e001-00001.r2"]
    assert {pair for sample in world.samples for pair in sample["pair_ids"]} == world.kept() and len(world.samples) == 3


def test_decisions_on_pairs_that_were_replaced_since_are_refused_in_one_line(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    row = world.rows(PLAN, "images", "e001-00000")[0]
    world.generate("e001-00000", [pair(row["image_id"], row["object_id"], 1, pair_id=REMADE)], 1)
    message = r"replaced or scored after they were selected \(partition e001-00000\); run without --from, or with"
    with pytest.raises(UserMistake, match=message):
        pack.todo(RunFolder(world.out), replace(world.context, pack=PackConfig(max_turns=1)))
    assert world.pack() == ["e001-00000.r2"]


def test_an_image_whose_uri_now_has_another_is_fetched_from_the_copy_that_stands_for_it(world: World) -> None:
    world.add(1, pictures(2))
    partition = "e001-00000"
    moved, *others = world.rows(PLAN, "images", partition)
    old, copy = Path(moved["uri"]), world.images / "copy.jpg"
    copy.write_bytes(old.read_bytes())
    old.write_bytes(jpeg(9))
    version = f"{copy.stat().st_size}-{copy.stat().st_mtime_ns}"
    object_id = tables.object_id(str(copy), version, None)
    copied = {**moved, "object_id": object_id, "uri": str(copy), "version": version, "uris": [str(copy)]}
    replanned = [{**moved, "outcome": "changed"}, copied, *others]
    world.commit(PLAN, partition, {"images": tables.table(replanned, tables.PLANNED_IMAGES)}, 2)
    world.pack()
    assert not world.unpacked()
    [sample] = [sample for sample in world.samples if sample["image_id"] == moved["image_id"]]
    assert sample["object_id"] == object_id


def test_a_rewritten_shard_takes_its_images_from_itself_and_not_from_the_source(world: World) -> None:
    world.add(1, pictures(5))
    world.pack()
    before = {sample["image_id"]: sample["images"] for sample in world.samples}
    for path in world.images.iterdir():
        path.unlink()
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack() == ["e001-00000.r2"]
    assert {sample["image_id"]: sample["images"] for sample in world.samples} == before
    world.context = replace(world.context, pack=PackConfig(metadata="kept"))
    assert world.pack() == ["e001-00000.r3"], "another image policy needs the source again"
    assert {row["reason"] for row in world.unpacked()} == {"unreadable"}


def test_a_rewritten_shard_of_several_files_keeps_its_images_and_fetches_those_of_a_damaged_file(world: World) -> None:
    world.context = replace(world.context, pack=PackConfig(shard_megabytes=1))
    world.add(1, {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(30)})
    world.pack()
    assert len(world.files) > 2
    damaged = world.files[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack()
    assert len(world.samples) == 30
    assert world.unpacked() == []


def test_samples_that_could_not_be_packed_are_tried_again_in_a_retry(world: World) -> None:
    world.add(1, pictures(2))
    hidden = (world.images / "0.jpg").rename(world.images / "hidden")
    world.pack()
    hidden.rename(world.images / "0.jpg")
    assert not world.todo()
    [shard] = world.todo(retry=("unreadable",))
    commit_all(RunFolder(world.out), PACK, [pack.write_shard(world.context, shard)], world.lease)
    assert StageFolder(world.out, PACK).log().counts() == {"samples": 2, "turns": 4}


def test_a_shard_that_lost_its_last_sample_leaves_no_file(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.select = SelectConfig(max_answer_characters=1)
    assert world.pack() == ["e001-00000.r2"]
    assert world.files == []
    assert "configs: []" in Path(world.out.path, "5-shards", "README.md").read_text()
    world.select = SelectConfig()
    assert world.pack() == ["e003-00000.r1"], "the rewritten revision is of the second epoch"
    assert len(world.samples) == 2


def test_another_image_policy_or_another_score_rewrites_every_shard(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.context = replace(world.context, pack=PackConfig(shard_megabytes=1))
    assert world.pack() == [], "the size of shards shapes no sample"
    world.context = replace(world.context, annotations="tags or scores are made otherwise")
    assert world.pack() == ["e001-00000.r2"]
    world.context = replace(world.context, scores=())
    assert world.pack() == ["e001-00000.r3"]
    assert "score_likelihood" not in world.samples[0]


def test_a_score_that_had_failed_and_was_measured_since_gets_into_the_existing_shard(world: World) -> None:
    world.add(1, pictures(2))
    world.add(2, pictures(1, start=5))
    world.pack()
    stage, name, partition = StageFolder(world.out, GENERATE), "scores/likelihood", "e001-00000"
    score = world.rows(GENERATE, name, partition)[0]
    file = stage.write(name, partition, 2, tables.table([{**score, "value": 7.0}], tables.SCORES))
    counts = {"unscored.call_timeout": -1}
    stage.commit(Receipt(partition, 2, {name: TablePart((file,), "f")}, counts, epoch=2), world.lease)
    assert world.pack() == ["e001-00000.r2"], "the one shard that holds it, which has both partitions"
    assert 7.0 in [value for sample in world.samples for value in sample["score_likelihood"]]
    assert world.pack() == []


def test_a_run_with_nothing_to_do_reads_the_index_of_each_shard_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(1, pictures(2))
    world.pack()
    card, reads = Path(world.out.path, "5-shards", "README.md").read_text(), list[str]()
    read_file = StageFolder.read_file

    def counted(stage: StageFolder, table: str, *more: Any) -> pa.Table:
        reads.append(f"{stage.spec.folder}/{table}")
        return read_file(stage, table, *more)

    monkeypatch.setattr(StageFolder, "read_file", counted)
    assert world.pack() == [] and reads.count("5-shards/index") == reads.count("5-shards/unpacked") == 1
    assert Path(world.out.path, "5-shards", "README.md").read_text() == card


def test_publishing_deletes_files_of_killed_workers(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    (world.files[0].parent / "train-e001-00000.r1.0123456789ab.parquet").write_bytes(b"half a file")
    world.pack()
    assert len(world.files) == 1


def test_publishing_deletes_nothing_once_another_run_has_taken_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that was slow must not take the files of the new driver for leftovers."""
    world.add(1, pictures(2))
    world.pack()
    theirs = world.files[0].parent / "train-e002-00000.r1.0123456789ab.parquet"

    names = Folder.names

    def names_after_the_takeover(folder: Folder, suffix: str = "") -> list[str]:
        if folder.url.endswith("5-shards/data"):  # read last
            world.lease.release()
            Lease.take(world.out)
            theirs.write_bytes(b"of the other run")
        return names(folder, suffix)

    monkeypatch.setattr(Folder, "names", names_after_the_takeover)
    with pytest.raises(LeaseLost):
        pack.publish(RunFolder(world.out), world.context, world.select, {}, world.lease, {})
    assert theirs.exists()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([1, 2, 16]), st.booleans()),
        min_size=1,
        max_size=3,
    ),
)
def test_every_kept_pair_is_in_one_sample_after_any_growth_and_edit(
    steps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for epoch, (count, turns, max_turns, is_strict) in enumerate(steps, 1):
        world.add(epoch, pictures(count, start=epoch * 10), turns)
        world.context = replace(world.context, pack=PackConfig(max_turns=max_turns))
        world.select = SelectConfig(forbidden=("answer 1",) if is_strict else ())
        world.pack()
        turns_packed = [pair for sample in world.samples for pair in sample["pair_ids"]]
        assert len(turns_packed) == len(set(turns_packed))
        assert set(turns_packed) == world.kept()
        assert StageFolder(world.out, PACK).log().counts().get("turns", 0) == len(turns_packed)
        assert world.pack() == []
    world.lease.release()
