"""Stage 5: shards hold every kept pair once, grow without being touched, and load with the libraries that people use."""

import io
import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from synthgen import pack, rows, select
from synthgen.card import Contents, card
from synthgen.config import Images, Pack, Select, Source
from synthgen.errors import LeaseLost, UserMistake
from synthgen.images import decode
from synthgen.pack import published
from synthgen.pack.embed import embedded
from synthgen.pack.features import ParquetFiles, card_features, row_bytes, sample_schema
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart
from synthgen.store.stage import partition_name

Row = dict[str, Any]
LIMITS = Images()
QUESTIONS = ["What colour is it?", "How many dogs are there?", "What does the sign say?", "Where does this path lead?", "Who is near?"]


def turn_text(form: str, question: str, options: Sequence[str]) -> str:
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))])


def jpeg(number: int, side: int = 48, **more: Any) -> bytes:
    """A picture unlike those of other numbers; `noise` does not compress."""
    noise = Image.effect_noise((side, side), 100) if more.pop("noise", False) else Image.new("L", (side, side), 60)
    image = Image.merge("RGB", [noise, Image.new("L", (side, side), number % 32 * 8), Image.new("L", (side, side), number // 32 * 8)])
    sink = io.BytesIO()
    image.save(sink, "JPEG", **more)
    return sink.getvalue()


class World:
    """An output folder up to stage 3, and the images it is about."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.images.mkdir()
        self.out = Folder(str(folder / "out"))
        self.lease = Lease.take(self.out)
        self.select = Select()
        self.terms = pack.Terms(self.out, Source(uri=str(self.images)), LIMITS, Pack(), ("likelihood",), turn_text, "wording")

    def add(self, epoch: int, images: dict[str, bytes], turns: int = 2, meta: str | None = None) -> None:
        """Lists, plans and asks about some images, as one partition of an epoch."""
        partition = partition_name(epoch, 0)
        listed, planned, pairs = [], [], []
        for name, data in images.items():
            path = self.images / name
            path.write_bytes(data)
            status = path.stat()
            version = f"{status.st_size}-{status.st_mtime_ns}"
            place = {"object_id": rows.object_id(str(path), version, None), "uri": str(path), "version": version, "source_meta": meta}
            listed.append({**place, "bytes": status.st_size})
            image = rows.image_id(data)
            tags = [{"path": "animal/dog", "score": 0.5, "tagger": "t"}]
            planned.append({**place, "image_id": image, "outcome": "planned", "uris": [str(path)], "tags": tags})
            pairs += [_pair(image, place["object_id"], number) for number in range(turns)]
        self.commit("0-listed", partition, {"objects": rows.table(listed, rows.OBJECTS)}, epoch)
        self.commit("2-planned", partition, {"images": rows.table(planned, rows.PLANNED_IMAGES)}, epoch)
        self.generate(partition, pairs, epoch)

    def generate(self, partition: str, pairs: list[Row], epoch: int) -> None:
        scores = [{"pair_id": row["pair_id"], "value": row["ordinal"] / 10} for row in pairs]
        tables = {"pairs": rows.table(pairs, rows.PAIRS), "scores/likelihood": rows.table(scores, rows.SCORES)}
        self.commit("3-generated", partition, tables, epoch)

    def commit(self, stage: str, partition: str, tables: dict[str, Any], epoch: int) -> None:
        one = Stage(self.out, stage)
        revision = one.log().next_revision(partition)
        parts = {name: TablePart((one.write(name, partition, revision, table),), "f") for name, table in tables.items()}
        one.commit(Receipt(partition, revision, parts), self.lease, epoch)

    def pack(self) -> list[str]:
        """Selects, packs and publishes; which shards were written."""
        for receipt in select.run(select.prepare(self.out, self.select)):
            Stage(self.out, "4-selected").commit(receipt, self.lease, 1)
        shards = pack.todo(self.terms)
        for shard in shards:
            Stage(self.out, "5-shards").commit(pack.write_shard(self.terms, shard), self.lease, shard.epoch)
        pack.publish(self.terms, self.select, {"Model": "a|b <script>"}, self.lease)
        return [f"{shard.partition}.r{shard.revision}" for shard in shards]

    @property
    def files(self) -> list[Path]:
        return sorted(Path(self.out.path, "5-shards", "data").glob("*.parquet"))

    @property
    def samples(self) -> list[Row]:
        return [row for file in self.files for row in pq.read_table(file).to_pylist()]

    def unpacked(self) -> list[Row]:
        stage = Stage(self.out, "5-shards")
        log = stage.log()
        return [row for name in log.partitions for row in stage.current(log, name, "unpacked", "sample_id", rows.UNPACKED).to_pylist()]

    def kept(self) -> set[str]:
        stage = Stage(self.out, "4-selected")
        log = stage.log()
        tables = [stage.current(log, name, "decisions", "pair_id", rows.DECISIONS) for name in log.partitions]
        return {row["pair_id"] for table in tables for row in table.to_pylist() if row["kept"]}


def _pair(image: str, object_id: str, number: int, **more: Any) -> Row:
    assignment = rows.assignment_id(image, "counting/objects", "short", "English", number)
    return {
        "assignment_id": assignment,
        "pair_id": rows.pair_id(assignment, "recipe", 0),
        "image_id": image,
        "object_id": object_id,
        "type": "counting/objects",
        "form": "short",
        "language": "English",
        "ordinal": number,
        "outcome": "pair",
        "question": QUESTIONS[number],
        "answer": f"answer {number}",
        "model": "nano",
        "revision": "abc",
        **more,
    }


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few samples are looked at together that a handful are more than that."""
    monkeypatch.setattr("synthgen.pack.cutting.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("synthgen.spill.ROWS_AT_ONCE", 2)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.lease.release()


# --- what strangers may read -------------------------------------------------------------------------------------------


def test_shards_and_card_tell_no_folder_of_the_machine_and_ids_stay(world: World, tmp_path: Path) -> None:
    (world.images / "beach").mkdir()
    world.add(1, {"beach/a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    whole = {row["object_id"]: row["uri"] for row in listed(world)}
    world.terms = replace(world.terms, root=published.root_of(str(world.images)))
    world.pack()
    samples = {row["uris"][0]: row for row in world.samples}
    assert set(samples) == {"beach/a.jpg", "b.jpg"}
    for name, row in samples.items():
        assert whole[row["object_id"]] == str(world.images / name)
        assert row["id"] == rows.sample_id(row["image_id"], row["pair_ids"])
    for file in Path(world.out.path, "5-shards").rglob("*"):
        if file.suffix == ".md" or file.parent.name == "data":
            assert str(tmp_path).encode() not in b"".join(map(str.encode, map(str, read(file))))


def read(file: Path) -> list[Any]:
    return pq.read_table(file).to_pylist() if file.suffix == ".parquet" else [file.read_text()]


def listed(world: World) -> list[Row]:
    stage = Stage(world.out, "0-listed")
    log = stage.log()
    return [row for name in log.partitions for row in stage.current(log, name, "objects", "object_id", rows.OBJECTS).to_pylist()]


@pytest.mark.parametrize(
    ("whole", "root", "told"),
    [
        ("/data/me/photos/a/b.jpg", "/data/me/photos", "a/b.jpg"),
        ("/data/me/photos/a/b.jpg", "/data/me/photo", "b.jpg"),
        ("/data/me/photos/a/b.jpg", "", "b.jpg"),
        ("/data/me/b.jpg", "/", "data/me/b.jpg"),
        ("file:///data/me/photos/a/%FF.jpg", "/data/me/photos", "a/%FF.jpg"),
        ("s3://bucket/photos/a.jpg", "/data/me/photos", "s3://bucket/photos/a.jpg"),
        ("https://example.org/a.jpg", "", "https://example.org/a.jpg"),
    ],
)
def test_a_local_file_is_told_by_its_place_below_the_source_and_all_others_as_they_are(whole: str, root: str, told: str) -> None:
    assert published.uri(whole, root) == told


def test_the_root_of_a_source_is_its_folder_or_that_of_its_file_or_glob(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rows.parquet").write_bytes(b"")
    told = [published.root_of(str(tmp_path / one)) for one in ("a", "a/rows.parquet", "a/*.jpg", "*/x.jpg", "gone")]
    assert told == [*[str(tmp_path / "a")] * 3, str(tmp_path), ""]
    assert [published.root_of(one) for one in ("s3://bucket/a", "urls:links.txt", None)] == ["", "", ""]


def test_models_and_shelf_files_named_by_a_path_are_told_by_their_own_name(world: World) -> None:
    world.add(1, {"a.jpg": jpeg(1)})
    partition = partition_name(1, 0)
    image = rows.image_id(jpeg(1))
    world.generate(partition, [_pair(image, listed(world)[0]["object_id"], number, model="/data/me/models/tuned") for number in (0, 1)], 1)
    world.pack()
    assert {row["model"] for row in world.samples} == {"tuned"}
    assert [published.model(one) for one in ("organisation/model", "~/m/tuned", "./tuned")] == ["organisation/model", "tuned", "tuned"]
    assert [published.shelf_name(one) for one in ("everyday", "/data/me/mine.yaml")] == ["everyday", "mine"]


def pictures(count: int, start: int = 0) -> dict[str, bytes]:
    return {f"{number}.jpg": jpeg(number) for number in range(start, start + count)}


# --- what is in a shard -----------------------------------------------------------------------------------------------


def test_a_sample_is_an_image_with_its_turns_in_order(world: World) -> None:
    world.add(1, pictures(1), meta='{"license": "CC-BY-4.0"}')
    world.pack()
    [sample] = world.samples
    image = rows.image_id(jpeg(0))
    pairs = [_pair(image, "", number)["pair_id"] for number in range(2)]
    assert sample["id"] == rows.sample_id(image, pairs)
    assert sample["pair_ids"] == pairs
    assert sample["messages"] == [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What colour is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "answer 0"}]},
        {"role": "user", "content": [{"type": "text", "text": "How many dogs are there?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "answer 1"}]},
    ]
    assert sample["images"] == [{"bytes": jpeg(0), "path": f"{image}.jpg"}]
    assert sample["score_likelihood"] == [0.0, pytest.approx(0.1)]
    assert (sample["license"], sample["model"], sample["model_revision"], sample["width"]) == ("CC-BY-4.0", "nano", "abc", 48)
    assert (sample["types"], sample["languages"]) == (["counting/objects"] * 2, ["English"] * 2)


def test_options_stand_in_the_users_turn(world: World) -> None:
    world.add(1, pictures(1), turns=0)
    planned = Stage(world.out, "2-planned")
    [row] = next(iter(planned.read(planned.log(), "e001-00000", "images"))).to_pylist()
    world.generate("e001-00000", [_pair(row["image_id"], row["object_id"], 0, form="choice", options=["red", "blue"], answer="B")], 1)
    world.pack()
    assert world.samples[0]["messages"][0]["content"][1]["text"] == "What colour is it?\nA. red\nB. blue"


def test_many_turns_make_several_samples_of_one_image_in_one_shard(world: World) -> None:
    world.terms = replace(world.terms, pack=Pack(max_turns=2))
    world.add(1, pictures(1), turns=5)
    assert world.pack() == ["e001-00000.r1"]
    assert [len(sample["pair_ids"]) for sample in world.samples] == [2, 2, 1]
    assert all(sample["messages"][0]["content"][0]["type"] == "image" for sample in world.samples)


def test_an_image_that_changed_is_on_record_and_not_tried_again(world: World) -> None:
    world.add(1, pictures(3))
    (world.images / "0.jpg").unlink()
    (world.images / "1.jpg").write_bytes(jpeg(99))
    world.pack()
    assert len(world.samples) == 1
    assert sorted(row["reason"] for row in world.unpacked()) == ["changed", "unreadable"]
    assert Stage(world.out, "5-shards").log().counts() == {"samples": 1, "turns": 2, "changed": 2, "unreadable": 2}
    assert world.pack() == []


def test_bytes_that_are_not_those_asked_about_are_not_packed(world: World) -> None:
    world.add(1, pictures(1))
    path, before = world.images / "0.jpg", (world.images / "0.jpg").stat()
    path.write_bytes(jpeg(0)[:-2] + b"\xff\xd8")  # as long, and as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    world.pack()
    assert [row["reason"] for row in world.unpacked()] == ["changed"]


def test_an_image_that_killed_its_worker_is_on_record(world: World) -> None:
    world.add(1, pictures(4))
    for receipt in select.run(select.prepare(world.out, world.select)):
        Stage(world.out, "4-selected").commit(receipt, world.lease, 1)
    [shard] = pack.todo(world.terms)
    images = pack.image_ids(shard)
    pieces = [replace(shard, only=images[:2]), replace(shard, only=images[2:3], poison=True), replace(shard, only=images[3:])]
    counts = [dict(pack.write_shard(world.terms, piece).counts) for piece in pieces]
    assert counts == [{"samples": 2, "turns": 4}, {"decoder_died": 2}, {"samples": 1, "turns": 2}]


# --- growth and change ------------------------------------------------------------------------------------------------


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
    planned = Stage(world.out, "2-planned")
    row = next(iter(planned.read(planned.log(), "e002-00000", "images"))).to_pylist()[0]
    world.generate("e002-00000", [_pair(row["image_id"], row["object_id"], 1, answer="another", pair_id="remade")], 2)
    assert world.pack() == ["e002-00000.r2"]
    assert [file for file in world.files if file not in before] == [file for file in world.files if ".r2." in file.name]
    assert len(world.files) == 3, "the old revision is gone"
    assert {pair for sample in world.samples for pair in sample["pair_ids"]} == world.kept()
    assert Stage(world.out, "5-shards").log().counts() == {"samples": 6, "turns": 12}


def test_decisions_of_pairs_that_were_replaced_since_are_refused_in_a_line(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    planned = Stage(world.out, "2-planned")
    row = next(iter(planned.read(planned.log(), "e001-00000", "images"))).to_pylist()[0]
    world.generate("e001-00000", [_pair(row["image_id"], row["object_id"], 1, pair_id="remade")], 1)
    with pytest.raises(UserMistake, match=r"of pairs that were replaced since \(partition e001-00000\); run without --from, or with"):
        pack.todo(replace(world.terms, pack=Pack(max_turns=1)))
    assert world.pack() == ["e001-00000.r2"]


def test_a_rewritten_shard_takes_its_images_from_itself_and_not_from_the_source(world: World) -> None:
    world.add(1, pictures(5))
    world.pack()
    before = {sample["image_id"]: sample["images"] for sample in world.samples}
    for path in world.images.iterdir():
        path.unlink()
    world.select = Select(forbidden=("answer 1",))
    assert world.pack() == ["e001-00000.r2"]
    assert {sample["image_id"]: sample["images"] for sample in world.samples} == before
    world.terms = replace(world.terms, pack=Pack(metadata="kept"))
    assert world.pack() == ["e001-00000.r3"], "another image policy needs the source again"
    assert {row["reason"] for row in world.unpacked()} == {"unreadable"}


def test_a_rewritten_shard_of_several_files_keeps_its_images_and_fetches_those_of_a_damaged_file(world: World) -> None:
    world.terms = replace(world.terms, pack=Pack(shard_megabytes=1))
    world.add(1, {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(30)})
    world.pack()
    assert len(world.files) > 2
    damaged = world.files[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    world.select = Select(forbidden=("answer 1",))
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
    Stage(world.out, "5-shards").commit(pack.write_shard(world.terms, shard), world.lease, shard.epoch)
    assert Stage(world.out, "5-shards").log().counts() == {"samples": 2, "turns": 4}


def test_a_shard_whose_last_sample_vanished_leaves_no_file(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.select = Select(max_answer_characters=1)
    assert world.pack() == ["e001-00000.r2"]
    assert world.files == []
    assert "configs: []" in Path(world.out.path, "5-shards", "README.md").read_text()
    world.select = Select()
    assert world.pack() == ["e002-00000.r1"]
    assert len(world.samples) == 2


def test_another_image_policy_or_another_score_rewrites_every_shard(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    world.terms = replace(world.terms, pack=Pack(shard_megabytes=1))
    assert world.pack() == [], "the size of shards shapes no sample"
    world.terms = replace(world.terms, scores=())
    assert world.pack() == ["e001-00000.r2"]
    assert "score_likelihood" not in world.samples[0]


def test_files_of_killed_workers_are_gone_after_publishing(world: World) -> None:
    world.add(1, pictures(2))
    world.pack()
    (world.files[0].parent / "train-e001-00000.r1.0123456789ab.parquet").write_bytes(b"half a file")
    world.pack()
    assert len(world.files) == 1


def test_publishing_deletes_nothing_once_another_run_has_taken_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was slow to read the commits must not take the new driver's files for leftovers."""
    world.add(1, pictures(2))
    world.pack()
    theirs = world.files[0].parent / "train-e002-00000.r1.0123456789ab.parquet"

    def taken_over_while_reading(_: Folder, name: str) -> Stage:
        if name == "4-selected":  # what is read last
            world.lease.release()
            Lease.take(world.out)
            theirs.write_bytes(b"of the other run")
        return Stage(world.out, name)

    monkeypatch.setattr(sys.modules["synthgen.pack.publish"], "Stage", taken_over_while_reading)
    with pytest.raises(LeaseLost):
        pack.publish(world.terms, world.select, {}, world.lease)
    assert theirs.exists()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([1, 2, 16]), st.booleans()), min_size=1, max_size=3),
)
def test_every_kept_pair_is_in_one_sample_after_any_growth_and_edit(steps: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for epoch, (count, turns, max_turns, strict) in enumerate(steps, 1):
        world.add(epoch, pictures(count, start=epoch * 10), turns)
        world.terms = replace(world.terms, pack=Pack(max_turns=max_turns))
        world.select = Select(forbidden=("answer 1",) if strict else ())
        world.pack()
        turns_packed = [pair for sample in world.samples for pair in sample["pair_ids"]]
        assert len(turns_packed) == len(set(turns_packed))
        assert set(turns_packed) == world.kept()
        assert Stage(world.out, "5-shards").log().counts().get("turns", 0) == len(turns_packed)
        assert world.pack() == []
    world.lease.release()


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_shards_are_cut_by_bytes(world: World) -> None:
    world.terms = replace(world.terms, pack=Pack(shard_megabytes=1, row_group_megabytes=1))
    world.add(1, {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(24)}, turns=1)
    world.pack()
    sizes = [file.stat().st_size for file in world.files]
    assert len(sizes) > 1
    assert max(sizes) <= 10**6
    assert sum(sizes) / len(sizes) > 0.5 * 10**6
    assert len(world.samples) == 24


def test_shards_keep_to_their_size_where_the_listing_was_wrong_about_it(world: World) -> None:
    big = {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(8)}
    world.terms = replace(world.terms, pack=Pack(shard_megabytes=1))
    world.add(1, big, turns=1)
    rows_of = Stage(world.out, "0-listed").read(Stage(world.out, "0-listed").log(), "e001-00000", "objects")
    lying = [{**row, "bytes": 1000} for table in rows_of for row in table.to_pylist()]
    world.commit("0-listed", "e001-00000", {"objects": rows.table(lying, rows.OBJECTS)}, 1)
    assert world.pack() == ["e001-00000.r1"]
    assert len(world.files) > 1
    assert max(file.stat().st_size for file in world.files) <= 10**6


def test_row_groups_are_cut_by_bytes_and_a_row_too_large_stands_alone() -> None:
    schema = sample_schema(())
    empty = {**dict.fromkeys(schema.names, None), "messages": [], "tags": []}
    files = ParquetFiles(schema, file_bytes=100_000, group_bytes=30_000)
    found = []
    for size in [10_000, 10_000, 10_000, 200_000, 10_000]:
        found += list(files.add({**empty, "images": [{"bytes": os.urandom(size), "path": None}]}))
    found += list(files.finish())
    assert sum(count for _, count in found) == 5
    groups = [pq.ParquetFile(io.BytesIO(data)).metadata for data, _ in found]
    assert [[meta.row_group(index).num_rows for index in range(meta.num_row_groups)] for meta in groups] == [[2, 1], [1], [1]]
    assert row_bytes({**empty, "images": [{"bytes": bytes(500), "path": None}]}) > 500


# --- images -----------------------------------------------------------------------------------------------------------


def exif_with_place(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera of mine"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)  # GPS latitude
    return exif


def picture(mode: str = "RGB") -> Image.Image:
    image = Image.linear_gradient("L").resize((40, 24)).convert(mode)
    image.paste(image.resize((10, 10)), (2, 3))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_metadata_is_cut_out_and_the_picture_stays_upright_bit_by_bit(kind: str, orientation: int) -> None:
    sink = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a camera of mine")
    more: dict[str, Any] = {
        "JPEG": {"comment": b"a camera of mine", "progressive": True},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": b"camera"},
    }
    picture().save(sink, kind, exif=exif_with_place(orientation), **more[kind])
    before = ImageOps.exif_transpose(Image.open(sink))
    made = embedded(sink.getvalue(), LIMITS, Pack())
    after = Image.open(io.BytesIO(made.data))
    assert b"camera" not in made.data
    assert dict(after.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
    after = ImageOps.exif_transpose(after)
    assert after.tobytes() == before.tobytes()
    assert after.size == (made.width, made.height) == ((40, 24) if orientation < 5 else (24, 40))
    assert embedded(sink.getvalue(), LIMITS, Pack(metadata="kept")).data == sink.getvalue()


def test_a_second_picture_behind_a_jpeg_is_cut_off() -> None:
    sink = io.BytesIO()
    picture().save(sink, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 24), "red")], exif=exif_with_place(1))
    made = embedded(sink.getvalue(), LIMITS, Pack())
    assert made.suffix == ".jpg"
    assert len(made.data) < len(sink.getvalue())
    assert b"camera" not in made.data and b"MPF" not in made.data
    assert Image.open(io.BytesIO(made.data)).tobytes() == Image.open(sink).tobytes()


def test_colour_profile_and_inks_of_a_jpeg_stay() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L", "CMYK"):
        sink = io.BytesIO()
        picture(mode).save(sink, "JPEG", icc_profile=profile, restart_marker_blocks=2)
        made = embedded(sink.getvalue(), LIMITS, Pack())
        after = Image.open(io.BytesIO(made.data))
        assert after.info["icc_profile"] == profile
        assert after.convert("RGB").tobytes() == Image.open(sink).convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "16 bits", "transparent", "animated"])
def test_what_readers_would_show_otherwise_becomes_a_png_of_what_the_models_saw(kind: str) -> None:
    sink = io.BytesIO()
    if kind == "16 bits":
        Image.frombytes("I;16", (40, 24), struct.pack("<960H", *range(0, 65280, 68))).save(sink, "PNG")
    elif kind == "transparent":
        picture("RGBA").putalpha(7) or Image.new("RGBA", (40, 24), (255, 0, 0, 100)).save(sink, "PNG")
    elif kind == "animated":
        picture().save(sink, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 24), "red")], lossless=True)
    else:
        picture().save(sink, kind)
    made = embedded(sink.getvalue(), LIMITS, Pack())
    after = Image.open(io.BytesIO(made.data))
    assert (after.format, after.mode, made.suffix) == ("PNG", "RGB", ".png")
    assert after.tobytes() == decode(sink.getvalue(), LIMITS).image.tobytes()


def test_resized_images_are_those_that_the_models_saw_and_small_ones_stay() -> None:
    limits, sink = Images(model_pixels=500), io.BytesIO()
    picture().save(sink, "PNG")
    made = embedded(sink.getvalue(), limits, Pack(images="resized"))
    assert made.width * made.height <= 500
    assert Image.open(io.BytesIO(made.data)).tobytes() == decode(sink.getvalue(), limits).image.tobytes()
    assert embedded(sink.getvalue(), LIMITS, Pack(images="resized")).data == sink.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken EXIF
@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 1200), flip=st.integers(0, 1200), kind=st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_broken_files_are_refused_with_a_reason_or_packed_but_never_crash(cut: int, flip: int, kind: str) -> None:
    from synthgen.images import Unfit

    sink = io.BytesIO()
    picture().save(sink, kind, exif=exif_with_place(6))
    data = bytearray(sink.getvalue())
    data[flip % len(data)] ^= 0x5A
    try:
        embedded(bytes(data[: max(1, len(data) - cut)]), LIMITS, Pack())
    except Unfit as unfit:
        assert unfit.reason in rows.QUARANTINE_REASONS


# --- readers ----------------------------------------------------------------------------------------------------------


def test_the_datasets_library_reads_the_features_as_if_it_had_written_them() -> None:
    datasets = pytest.importorskip("datasets")
    schema = sample_schema(("likelihood",))
    features = datasets.Features.from_arrow_schema(schema)
    assert features["images"] == datasets.List(datasets.Image())
    assert json.loads(features.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])
    assert features.arrow_schema.equals(schema)
    assert features._to_yaml_list() == card_features(schema)


def test_load_dataset_gives_decoded_pictures_and_messages(world: World, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    world.add(1, pictures(3))
    world.pack()
    world.add(2, pictures(2, start=3))
    world.pack()
    glob = f"{world.out.path}/5-shards/data/*.parquet"
    data = datasets.load_dataset("parquet", data_files=glob, split="train", cache_dir=str(tmp_path / "cache"))
    assert data.num_rows == 5
    assert data[0]["images"][0].size == (48, 48)
    assert data[0]["messages"][1]["content"][0]["text"] == "answer 0"
    by_card = datasets.load_dataset(f"{world.out.path}/5-shards", split="train", cache_dir=str(tmp_path / "cache"))
    assert by_card["id"][:] == data["id"][:]
    assert by_card.features == data.features


def test_trl_collates_a_batch_of_samples(world: World, tmp_path: Path) -> None:
    datasets, trainer = pytest.importorskip("datasets"), pytest.importorskip("trl.trainer.sft_trainer")
    processor = _processor()
    world.add(1, pictures(2))
    world.pack()
    data = datasets.load_dataset("parquet", data_files=str(world.files[0]), split="train", cache_dir=str(tmp_path / "cache"))
    collator = trainer.DataCollatorForVisionLanguageModeling(processor)
    batch = collator([data[index] for index in range(2)])
    assert batch["pixel_values"].shape[0] == 2
    assert batch["input_ids"].shape == batch["labels"].shape
    assert "How many dogs are there?" in processor.tokenizer.decode(batch["input_ids"][0])


def _processor() -> Any:
    """A processor of the LLaVA-OneVision kind, made here: the nano model's tokenizer is not needed to see a batch."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=False))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    special = ["<image>", "<video>", "<pad>", "<|user|>", "<|assistant|>"]
    bpe = tokenizers.trainers.BpeTrainer(initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), special_tokens=special)
    plain.train_from_iterator(["What colour is it? How many dogs are there?"], bpe)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", extra_special_tokens=special[:2])
    pixels = transformers.LlavaOnevisionImageProcessor(size={"height": 28, "width": 28}, image_grid_pinpoints=[[28, 28]])
    video = transformers.LlavaOnevisionVideoProcessor()
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    return transformers.LlavaOnevisionProcessor(
        pixels, tokenizer, video, num_image_tokens=4, vision_feature_select_strategy="full", chat_template=template
    )


# --- the card ---------------------------------------------------------------------------------------------------------


def front_matter(world: World) -> Any:
    return yaml.safe_load(Path(world.out.path, "5-shards", "README.md").read_text().split("---\n")[1])


def test_the_card_names_exactly_the_current_files_and_guesses_nothing(world: World) -> None:
    world.add(1, pictures(3))
    world.pack()
    front = front_matter(world)
    assert front["configs"][0]["data_files"][0]["path"] == [f"data/{file.name}" for file in world.files]
    assert front["dataset_info"]["splits"][0]["num_examples"] == 3
    assert front["size_categories"] == ["n<1K"]
    assert "license" not in front and "language" not in front
    world.terms = replace(world.terms, pack=Pack(license="cc-by-4.0", languages=("en",)))
    world.pack()
    assert (front_matter(world)["license"], front_matter(world)["language"]) == ("cc-by-4.0", ["en"])


def test_the_card_says_what_was_dropped_and_why(world: World) -> None:
    world.select = Select(forbidden=("answer 1",))
    world.add(1, pictures(3))
    world.pack()
    text = Path(world.out.path, "5-shards", "README.md").read_text()
    assert "| rule&#58;forbidden | 3 | 50.0% |" in text
    assert "| counting/objects | 3 |" in text


def test_the_card_of_a_script_says_loudly_that_its_replies_mean_nothing() -> None:
    turns: dict[str, dict[str, int]] = {"type": {}, "form": {}, "language": {}}
    contents = Contents([], [], 0, 0, turns, {}, {})
    told = {kind: card(contents, {"Engine": kind}, Select(), Pack()) for kind in ("scripted", "vllm")}
    assert "**The replies mean nothing.**" in told["scripted"].partition("## Where")[0] and "mean nothing" not in told["vllm"]


def test_nothing_from_data_or_models_is_markup_in_the_card() -> None:
    evil = "</td><script>alert(1)</script> | ![x](http://e) `code` [a](javascript:b) \n# head *b* _i_ ~s~ &amp; \\ {x}"
    counts = {evil: 1}
    contents = Contents([("a.parquet", 1)], [], 1, 1, {"type": counts, "form": counts, "language": counts}, counts, counts)
    text = card(contents, {evil: evil}, Select(), Pack(license="evil: [1]\n---\n"))
    body = text.split("---\n\n# ", 1)[1]
    for markup in ("<script", "![", "](", "`code`", "*b*", "_i_", "~s~", "&amp;", "\n# head"):
        assert markup not in body
    assert yaml.safe_load(text.split("---\n\n# ", 1)[0].removeprefix("---\n"))["license"] == "evil: [1]\n---\n"
