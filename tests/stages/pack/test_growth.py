"""Shards grow without being touched: a change rewrites only the shard that it is in, and nothing of another run is deleted."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthgen import tables
from synthgen.config.pipeline import PackConfig, SelectConfig
from synthgen.errors import LeaseLost, UserMistake
from synthgen.stages import pack
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import GENERATE, PACK, PLAN, stage_at
from tests.fixtures.packing import World, jpeg, pair, pictures


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
    planned = StageFolder(world.out, PLAN)
    row = next(iter(planned.read(planned.log(), "e002-00000", "images"))).to_pylist()[0]
    world.generate("e002-00000", [pair(row["image_id"], row["object_id"], 1, answer="another", pair_id="remade")], 2)
    assert world.pack() == ["e002-00000.r2"]
    assert [file for file in world.files if file not in before] == [file for file in world.files if ".r2." in file.name]
    assert len(world.files) == 3, "the old revision is gone"
    assert {pair for sample in world.samples for pair in sample["pair_ids"]} == world.kept()
    assert StageFolder(world.out, PACK).log().counts() == {"samples": 6, "turns": 12}


def test_decisions_of_pairs_that_were_replaced_since_are_refused_in_a_line(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    planned = StageFolder(world.out, PLAN)
    row = next(iter(planned.read(planned.log(), "e001-00000", "images"))).to_pylist()[0]
    world.generate("e001-00000", [pair(row["image_id"], row["object_id"], 1, pair_id="remade")], 1)
    with pytest.raises(
        UserMistake, match=r"of pairs that were replaced since \(partition e001-00000\); run without --from, or with"
    ):
        pack.todo(replace(world.terms, pack=PackConfig(max_turns=1)))
    assert world.pack() == ["e001-00000.r2"]


def test_an_image_whose_place_has_another_now_is_fetched_from_the_copy_that_stands_for_it(world: World) -> None:
    world.add(1, pictures(2))
    stage, partition = StageFolder(world.out, PLAN), "e001-00000"
    moved, *others = stage.current(stage.log(), partition, "images", tables.PLANNED_IMAGES.names).to_pylist()
    old, copy = Path(moved["uri"]), world.images / "copy.jpg"
    copy.write_bytes(old.read_bytes())
    old.write_bytes(jpeg(9))
    version = f"{copy.stat().st_size}-{copy.stat().st_mtime_ns}"
    place = {
        "object_id": tables.object_id(str(copy), version, None),
        "uri": str(copy),
        "version": version,
        "uris": [str(copy)],
    }
    replanned = [{**moved, "outcome": "changed"}, {**moved, **place}, *others]
    world.commit("2-planned", partition, {"images": tables.table(replanned, tables.PLANNED_IMAGES)}, 2)
    world.pack()
    assert not world.unpacked()
    assert {sample["image_id"]: sample["object_id"] for sample in world.samples}[moved["image_id"]] == place[
        "object_id"
    ]


def test_a_rewritten_shard_takes_its_images_from_itself_and_not_from_the_source(world: World) -> None:
    world.add(1, pictures(5))
    world.pack()
    before = {sample["image_id"]: sample["images"] for sample in world.samples}
    for path in world.images.iterdir():
        path.unlink()
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack() == ["e001-00000.r2"]
    assert {sample["image_id"]: sample["images"] for sample in world.samples} == before
    world.terms = replace(world.terms, pack=PackConfig(metadata="kept"))
    assert world.pack() == ["e001-00000.r3"], "another image policy needs the source again"
    assert {row["reason"] for row in world.unpacked()} == {"unreadable"}


def test_a_rewritten_shard_of_several_files_keeps_its_images_and_fetches_those_of_a_damaged_file(world: World) -> None:
    world.terms = replace(world.terms, pack=PackConfig(shard_megabytes=1))
    world.add(1, {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(30)})
    world.pack()
    assert len(world.files) > 2
    damaged = world.files[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack()
    assert len(world.samples) == 30
    assert world.unpacked() == []


def test_what_could_not_be_packed_is_tried_again_when_asked(world: World) -> None:
    world.add(1, pictures(2))
    hidden = (world.images / "0.jpg").rename(world.images / "hidden")
    world.pack()
    hidden.rename(world.images / "0.jpg")
    assert pack.todo(world.terms) == []
    [shard] = pack.todo(world.terms, retry=("unreadable",))
    StageFolder(world.out, PACK).commit(pack.write_shard(world.terms, shard), world.lease, shard.epoch)
    assert StageFolder(world.out, PACK).log().counts() == {"samples": 2, "turns": 4}


def test_a_shard_whose_last_sample_vanished_leaves_no_file(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.select = SelectConfig(max_answer_characters=1)
    assert world.pack() == ["e001-00000.r2"]
    assert world.files == []
    assert "configs: []" in Path(world.out.path, "5-shards", "README.md").read_text()
    world.select = SelectConfig()
    assert world.pack() == ["e002-00000.r1"]
    assert len(world.samples) == 2


def test_another_image_policy_or_another_score_rewrites_every_shard(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.terms = replace(world.terms, pack=PackConfig(shard_megabytes=1))
    assert world.pack() == [], "the size of shards shapes no sample"
    world.terms = replace(world.terms, measured="tags or scores are made otherwise")
    assert world.pack() == ["e001-00000.r2"]
    world.terms = replace(world.terms, scores=())
    assert world.pack() == ["e001-00000.r3"]
    assert "score_likelihood" not in world.samples[0]


def test_a_score_that_had_failed_and_was_made_since_gets_into_the_shard_that_is_there(world: World) -> None:
    world.add(1, pictures(2))
    world.add(2, pictures(1, start=5))
    world.pack()
    stage, partition = StageFolder(world.out, GENERATE), "e001-00000"
    scores = stage.current(stage.log(), partition, "scores/likelihood", tables.SCORES.names).to_pylist()
    part = TablePart(
        (stage.write("scores/likelihood", partition, 2, tables.table([{**scores[0], "value": 7.0}], tables.SCORES)),),
        "f",
    )
    stage.commit(Receipt(partition, 2, {"scores/likelihood": part}, {"unscored.call_timeout": -1}), world.lease, 2)
    assert world.pack() == ["e001-00000.r2"], "the one shard that holds it, which has both partitions"
    assert 7.0 in [value for sample in world.samples for value in sample["score_likelihood"]]
    assert world.pack() == []


def test_files_of_killed_workers_are_gone_after_publishing(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    (world.files[0].parent / "train-e001-00000.r1.0123456789ab.parquet").write_bytes(b"half a file")
    world.pack()
    assert len(world.files) == 1


def test_publishing_deletes_nothing_once_another_run_has_taken_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that was slow to read the commits must not take the new driver's files for leftovers."""
    world.add(1, pictures(2))
    world.pack()
    theirs = world.files[0].parent / "train-e002-00000.r1.0123456789ab.parquet"

    def taken_over_while_reading(_: Folder, name: str) -> Stage:
        if name == "4-selected":  # what is read last
            world.lease.release()
            Lease.take(world.out)
            theirs.write_bytes(b"of the other run")
        return StageFolder(world.out, stage_at(name))

    monkeypatch.setattr(sys.modules["synthgen.stages.pack.publish"], "Stage", taken_over_while_reading)
    with pytest.raises(LeaseLost):
        pack.publish(world.terms, world.select, {}, world.lease)
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
    for epoch, (count, turns, max_turns, strict) in enumerate(steps, 1):
        world.add(epoch, pictures(count, start=epoch * 10), turns)
        world.terms = replace(world.terms, pack=PackConfig(max_turns=max_turns))
        world.select = SelectConfig(forbidden=("answer 1",) if strict else ())
        world.pack()
        turns_packed = [pair for sample in world.samples for pair in sample["pair_ids"]]
        assert len(turns_packed) == len(set(turns_packed))
        assert set(turns_packed) == world.kept()
        assert StageFolder(world.out, PACK).log().counts().get("turns", 0) == len(turns_packed)
        assert world.pack() == []
    world.lease.release()
