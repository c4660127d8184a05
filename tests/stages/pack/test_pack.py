"""The contents of shards: every kept pair once, cut to size, and no folder of the machine."""

import asyncio
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen import tables
from synthgen.config.packing import PackConfig
from synthgen.config.source import SourceConfig
from synthgen.stages import pack
from synthgen.stages.pack import redact
from synthgen.stages.pack.schema import ParquetFiles, row_bytes, sample_schema
from synthgen.store import StageFolder
from synthgen.store.commits import partition_name
from synthgen.tables import LIST, PACK, PLAN, TAG
from tests.fixtures.packing import World, jpeg, pair, pictures, read

# --- privacy ----------------------------------------------------------------------------------------------------------


def test_shards_and_card_show_no_folder_of_the_machine_and_ids_stay(world: World, tmp_path: Path) -> None:
    (world.images / "beach").mkdir()
    world.add(1, {"beach/a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    whole = {row["object_id"]: row["uri"] for row in world.rows(LIST, "objects")}
    world.context = replace(world.context, root=redact.root_of(SourceConfig(uri=str(world.images))))
    world.pack()
    samples = {row["uris"][0]: row for row in world.samples}
    assert set(samples) == {"beach/a.jpg", "b.jpg"}
    for name, row in samples.items():
        assert whole[row["object_id"]] == str(world.images / name)
        assert row["id"] == tables.sample_id(row["image_id"], row["pair_ids"])
    published = [Path(world.out.path, "5-shards", "README.md"), *world.files]
    assert len(published) == 2
    for file in published:
        assert str(tmp_path).encode() not in b"".join(map(str.encode, map(str, read(file))))


@pytest.mark.parametrize(
    ("whole", "root", "displayed"),
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
def test_a_local_file_is_shown_by_its_path_below_the_source_and_other_uris_as_they_are(
    whole: str, root: str, displayed: str
) -> None:
    assert redact.uri(whole, root) == displayed


def test_the_root_of_a_source_is_its_folder_or_that_of_its_file_or_glob(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rows.parquet").write_bytes(b"")
    paths = ("a", "a/rows.parquet", "a/*.jpg", "*/x.jpg", "gone")
    roots = [redact.root_of(SourceConfig(uri=str(tmp_path / path))) for path in paths]
    assert roots == [*[str(tmp_path / "a")] * 3, str(tmp_path), ""]
    assert [redact.root_of(SourceConfig(uri=uri)) for uri in ("s3://bucket/a", "urls:links.txt", None)] == ["", "", ""]


def test_models_and_definition_files_with_a_path_are_shown_by_their_name(world: World) -> None:
    world.add(1, {"a.jpg": jpeg(1)})
    partition = partition_name(1, 0)
    image = tables.image_id(jpeg(1))
    object_id = world.rows(LIST, "objects")[0]["object_id"]
    pairs = [pair(image, object_id, number, model="/data/me/models/tuned") for number in (0, 1)]
    world.generate(partition, pairs, 1)
    world.pack()
    assert {row["model"] for row in world.samples} == {"tuned"}
    names = [redact.model(name) for name in ("organisation/model", "~/m/tuned", "./tuned")]
    assert names == ["organisation/model", "tuned", "tuned"]
    assert [redact.shelf_name(name) for name in ("everyday", "/data/me/mine.yaml")] == ["everyday", "mine"]


# --- samples ----------------------------------------------------------------------------------------------------------


def test_a_sample_is_an_image_with_its_turns_in_order(world: World) -> None:
    world.add(1, pictures(1), meta='{"license": "CC-BY-4.0"}')
    world.pack()
    [sample] = world.samples
    image = tables.image_id(jpeg(0))
    pairs = [pair(image, "", number)["pair_id"] for number in range(2)]
    assert sample["id"] == tables.sample_id(image, pairs)
    assert sample["pair_ids"] == pairs
    assert sample["messages"] == [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What colour is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "answer 0"}]},
        {"role": "user", "content": [{"type": "text", "text": "How many dogs are there?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "answer 1"}]},
    ]
    assert sample["images"] == [{"bytes": jpeg(0), "path": f"{image}.jpg"}]
    assert sample["score_likelihood"] == [0.0, pytest.approx(0.1)]
    assert (sample["license"], sample["width"]) == ("CC-BY-4.0", 48)
    assert (sample["model"], sample["model_revision"]) == ("nano", "abc")
    assert (sample["types"], sample["languages"]) == (["counting/objects"] * 2, ["English"] * 2)


def test_options_are_part_of_the_users_turn(world: World) -> None:
    world.add(1, pictures(1), turns=0)
    [row] = world.rows(PLAN, "images")
    choice = pair(row["image_id"], row["object_id"], 0, form="choice", options=["red", "blue"], answer="B")
    world.generate("e001-00000", [choice], 1)
    world.pack()
    assert world.samples[0]["messages"][0]["content"][1]["text"] == "What colour is it?\nA. red\nB. blue"


def test_turns_stand_in_a_drawn_order_that_is_the_same_each_time(world: World) -> None:
    world.add(1, pictures(40), turns=3)
    world.pack()
    orders = [
        tuple(ids[pair_id] for pair_id in sample["pair_ids"]) for sample in world.samples if (ids := _numbers(sample))
    ]
    assert len(set(orders)) == 6, "each of the six orders of three turns is somewhere among forty images"
    assert world.pack() == [], "and nothing is to be written anew"


def _numbers(sample: dict[str, Any]) -> dict[str, int]:
    """Return the place in the plan of each pair of a sample."""
    return {pair(sample["image_id"], "", number)["pair_id"]: number for number in range(3)}


def test_a_share_of_worked_out_answers_is_shown_with_the_working_in_the_words_of_the_form_detailed(
    world: World,
) -> None:
    def worded(form: str, question: str, options: Sequence[str], language: str, pair_id: str) -> str:
        return f"[{form}] {question} {list(options)}"

    world.add(1, pictures(40), turns=0)
    worked = {"form": "choice", "options": ["red", "blue"], "answer": "B", "reasoning": "It is dark.\nAnswer: B"}
    made = [pair(row["image_id"], row["object_id"], 0, **worked) for row in world.rows(PLAN, "images")]
    world.generate("e001-00000", made, 1)
    shown = {}
    for share in (0.0, 0.5, 1.0):
        world.context = replace(world.context, pack=PackConfig(worked=share), turn_text=worded)
        assert world.pack(), "another share writes the shards again"
        turns = [
            (sample["messages"][0]["content"][1]["text"], sample["messages"][1]["content"][0]["text"])
            for sample in world.samples
        ]
        assert set(turns) <= {
            ("[choice] What colour is it? ['red', 'blue']", "B"),
            ("[detailed] What colour is it?\nA. red\nB. blue []", "It is dark.\nAnswer: B"),
        }
        shown[share] = sum(answer != "B" for _, answer in turns)
    assert shown[0.0] == 0 and 10 <= shown[0.5] <= 30 and shown[1.0] == 40


def test_many_turns_make_several_samples_of_one_image_in_one_shard(world: World) -> None:
    world.context = replace(world.context, pack=PackConfig(max_turns=2))
    world.add(1, pictures(1), turns=5)
    assert world.pack() == ["e001-00000.r1"]
    assert [len(sample["pair_ids"]) for sample in world.samples] == [2, 2, 1]
    assert all(sample["messages"][0]["content"][0]["type"] == "image" for sample in world.samples)


def test_an_image_that_changed_is_recorded_and_not_tried_again(world: World) -> None:
    world.add(1, pictures(3))
    (world.images / "0.jpg").unlink()
    (world.images / "1.jpg").write_bytes(jpeg(99))
    world.pack()
    assert len(world.samples) == 1
    assert sorted(row["reason"] for row in world.unpacked()) == ["changed", "unreadable"]
    assert StageFolder(world.out, PACK).log().counts() == {"samples": 1, "turns": 2, "changed": 2, "unreadable": 2}
    assert world.pack() == []


def test_bytes_that_differ_from_those_asked_about_are_not_packed(world: World) -> None:
    world.add(1, pictures(1))
    path, before = world.images / "0.jpg", (world.images / "0.jpg").stat()
    path.write_bytes(jpeg(0)[:-2] + b"\xff\xd8")  # as long, and as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    world.pack()
    assert [row["reason"] for row in world.unpacked()] == ["changed"]


def test_an_image_that_killed_its_worker_is_recorded(world: World) -> None:
    world.add(1, pictures(4))
    world.decide()
    [shard] = world.todo()
    images = pack.image_ids(shard)
    pieces = [
        replace(shard, only=images[:2]),
        replace(shard, only=images[2:3], poison=True),
        replace(shard, only=images[3:]),
    ]
    counts = [dict(pack.write_shard(world.context, piece).counts) for piece in pieces]
    assert counts == [{"samples": 2, "turns": 4}, {"decoder_died": 2}, {"samples": 1, "turns": 2}]
    assert [len(piece.wanted) for piece in pieces] == [2, 1, 1]


def test_a_long_death_of_a_worker_is_cut_with_a_mark(world: World) -> None:
    world.add(1, pictures(1))
    world.decide()
    [shard] = world.todo()
    receipt = pack.write_shard(world.context, replace(shard, poison=True, why="x\n" * 900))
    [rows] = StageFolder(world.out, PACK).files(receipt, "unpacked", ["detail"])
    [detail] = rows.column("detail").to_pylist()
    assert len(detail) == 500 and detail.endswith("…") and "\n" not in detail


def test_a_worker_counts_the_samples_of_its_piece_of_a_shard(world: World) -> None:
    world.add(1, pictures(3))
    world.decide()
    [shard] = world.todo()
    assert world.todo().sample_count == 3

    async def count() -> Mapping[str, float]:
        worker = await pack.build(world.context)
        await worker.do(replace(shard, only=pack.image_ids(shard)[:1]))
        return worker.progress()

    assert asyncio.run(count()) == {"samples": 1.0}


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_shards_are_cut_by_bytes(world: World) -> None:
    world.context = replace(world.context, pack=PackConfig(shard_megabytes=1, row_group_megabytes=1))
    world.add(1, {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(24)}, turns=1)
    world.pack()
    sizes = [file.stat().st_size for file in world.files]
    assert len(sizes) > 1
    assert max(sizes) <= 10**6
    assert sum(sizes) / len(sizes) > 0.5 * 10**6
    assert len(world.samples) == 24


def test_shards_keep_to_their_size_where_the_listing_was_wrong_about_it(world: World) -> None:
    big = {f"{number}.jpg": jpeg(number, 400, noise=True, quality=95) for number in range(8)}
    world.context = replace(world.context, pack=PackConfig(shard_megabytes=1))
    world.add(1, big, turns=1)
    wrong = [{**row, "bytes": 1000} for row in world.rows(LIST, "objects")]
    world.commit(LIST, "e001-00000", {"objects": tables.table(wrong, tables.OBJECTS)}, 1)
    assert world.pack() == ["e001-00000.r1"]
    assert len(world.files) > 1
    assert max(file.stat().st_size for file in world.files) <= 10**6


def test_row_groups_are_cut_by_bytes_and_a_row_too_large_is_alone_in_its_group() -> None:
    schema = sample_schema(())
    empty: dict[str, Any] = {**dict.fromkeys(schema.names, None), "messages": [], "tags": []}
    files = ParquetFiles(schema, file_bytes=100_000, group_bytes=30_000)
    written: list[tuple[bytes, int]] = []
    for size in [10_000, 10_000, 10_000, 200_000, 10_000]:
        written += files.add({**empty, "images": [{"bytes": os.urandom(size), "path": None}]})
    written += files.finish()
    assert sum(count for _, count in written) == 5
    metadata = [pq.ParquetFile(io.BytesIO(data)).metadata for data, _ in written]
    groups = [[each.row_group(index).num_rows for index in range(each.num_row_groups)] for each in metadata]
    assert groups == [[2, 1], [1], [1]]
    assert row_bytes({**empty, "images": [{"bytes": bytes(500), "path": None}]}) > 500


# --- rights -----------------------------------------------------------------------------------------------------------


def test_samples_and_card_state_the_rights_to_each_image(world: World) -> None:
    rights = {"license": "CC-BY-4.0", "author": "Ann", "copyright": "(c) Ann", "source_url": "https://example.org/1"}
    world.add(1, {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, rights=rights, source="web")
    world.add(2, {"c.jpg": jpeg(3)}, meta='{"licence": "CC0"}')
    world.add(3, {"d.jpg": jpeg(4)})
    world.pack()
    found = {row["uris"][0]: {name: row[name] for name in (*rights, "source")} for row in world.samples}
    assert found["a.jpg"] == {**rights, "source": "web"}
    assert found["c.jpg"] == {**dict.fromkeys(rights), "license": "CC0-1.0", "source": None}, "of an older synth"
    assert set(found["d.jpg"].values()) == {None}
    card = Path(world.out.path, "5-shards", "README.md").read_text()
    for line in ("| CC-BY-4.0 | 2 | 50.0% |", "| CC0-1.0 | 1 | 25.0% |", "| none stated | 1 | 25.0% |"):
        assert line in card
    assert "| web | 2 | 50.0% |" in card and "| no name | 2 | 50.0% |" in card


def test_the_card_says_how_many_objects_were_reserved(world: World) -> None:
    world.add(1, {"a.jpg": jpeg(1)})
    world.pack()
    card = Path(world.out.path, "5-shards", "README.md")
    assert "no model may learn" not in card.read_text()
    world.count(TAG, {"quarantined.reserved": 3})
    world.pack()
    assert "says that no model may learn from them: 3." in card.read_text()
