"""Every form gives the same rows: the image by its bytes or its path, and the turns word for word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen.config.source import ImagesConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import kind_of_source, read_objects
from synthgen.ingest.sources.instructions import FORMS, recognise
from synthgen.ingest.sources.objects import ObjectRef
from synthgen.tables import object_row
from tests.fixtures.instructions import (
    TURNS,
    left_out,
    listed,
    llava,
    messages,
    source_of,
    turns_of,
    write_images,
    write_json,
    write_parquet,
    write_tar,
)

MORE = (("Which is it?\nA. a dog\nB. a cat", "B"),)
Write = Callable[[Path, list[bytes]], Path]


def of_texts(turns: Any) -> list[dict[str, str]]:
    return [{"user": asked, "assistant": answer} for asked, answer in turns]


def prompts(turns: Any) -> tuple[list[Any], list[Any]]:
    said = messages(turns, parts=True)
    return said[:-1], said[-1:]


BOTH = (TURNS, MORE)
WRITERS: dict[str, Write] = {
    "llava": lambda folder, _: write_json(folder / "set.json", [llava("0.jpg"), llava("1.jpg", MORE, mark="", id=2)]),
    "sharegpt": lambda folder, _: write_json(
        folder / "set.jsonl",
        [
            {"id": "r1", "images": ["0.jpg"], "conversations": llava()["conversations"]},
            {"id": 2, "images": ["1.jpg"], "conversations": llava("", MORE)["conversations"]},
        ],
    ),
    "llamafactory": lambda folder, _: write_json(
        folder / "set.json",
        [
            {"id": "r1", "messages": messages(), "images": ["0.jpg"]},
            {"id": 2, "messages": messages(MORE), "images": [str(folder / "1.jpg")]},
        ],
    ),
    "trl": lambda folder, files: write_parquet(
        folder / "set.parquet",
        {"id": ["r1", "2"], "images": [[data] for data in files], "messages": [messages(t, parts=True) for t in BOTH]},
    ),
    "trl-turns": lambda folder, files: write_parquet(
        folder / "set.parquet",
        {
            "id": ["r1", "2"],
            "images": [[data] for data in files],
            "prompt": [prompts(turns)[0] for turns in BOTH],
            "completion": [prompts(turns)[1] for turns in BOTH],
        },
    ),
    "finevision": lambda folder, files: write_parquet(
        folder / "set.parquet",
        {"id": ["r1", "2"], "images": [[data] for data in files], "texts": [of_texts(turns) for turns in BOTH]},
    ),
    "llava-onevision": lambda folder, files: write_parquet(
        folder / "set.parquet",
        {
            "id": ["r1", "2"],
            "image": files,
            "conversations": [llava("", turns)["conversations"] for turns in BOTH],
            "data_source": ["a", "b"],
        },
        "image",
    ),
    "webdataset": lambda folder, files: write_tar(
        folder / "set.tar",
        {
            "r1.jpg": files[0],
            "r1.json": json.dumps({"id": "r1", "messages": messages(parts=True)}).encode(),
            "r2.jpg": files[1],
            "r2.json": json.dumps({"id": "2", "messages": messages(MORE, parts=True)}).encode(),
        },
    ),
    "webdataset-llava": lambda folder, files: write_tar(
        folder / "set.tar",
        {
            "r1.jpg": files[0],
            "r1.json": json.dumps({"id": "r1", "conversations": llava()["conversations"]}).encode(),
            "r2.jpg": files[1],
            "r2.json": json.dumps({"id": "2", "conversations": llava("", MORE)["conversations"]}).encode(),
        },
    ),
}
LIKE = {"ms-swift": "llamafactory", "cauldron": "finevision"}  # forms with the fields of another one


@pytest.mark.parametrize("form", FORMS)
def test_a_set_of_each_form_is_recognised_and_read_word_for_word(form: str, tmp_path: Path) -> None:
    files = write_images(tmp_path, 2)
    place = WRITERS[LIKE.get(form, form)](tmp_path, files)
    source = source_of(place)
    assert recognise(source).form.name == LIKE.get(form, form)
    assert recognise(source_of(place, form=form)).form.name == form
    rows = listed(place, form=form)
    assert [turns_of(row) for row in rows] == [list(TURNS), list(MORE)]
    metas = [json.loads(row.source_meta or "") for row in rows]
    assert [(meta["set"], str(meta["id"])) for meta in metas] == [("set", "r1"), ("set", "2")]
    refs = [ObjectRef(object_row(**vars(row))["object_id"], row.uri, row.version, row.row) for row in rows]
    read = {ref.object_id: data for ref, data in read_objects(refs, source, ImagesConfig())}
    assert [read[ref.object_id] for ref in refs] == files


def test_a_question_keeps_what_its_row_had_before_the_mark_was_taken_out(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (row,) = listed(write_json(tmp_path / "set.json", [llava()]))
    assert row.given and json.loads(row.given.conversation or "")["first"] == "<image>\nWhat is it?"


def test_a_folder_is_read_by_the_files_that_are_of_the_set(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "00000", 1)
    write_json(tmp_path / "data.json", [llava("images/00000/0.jpg")])
    (tmp_path / "export.json").write_text('{"form": "llava"}')
    (tmp_path / "left_out.jsonl").write_text('{"id": "x", "reason": "marker"}\n')
    assert [turns_of(row) for row in listed(tmp_path)] == [list(TURNS)]
    assert sorted(item.why for item in left_out(tmp_path)) == [
        ".json file that is none of the set",
        ".jsonl file that is none of the set",
    ]


def test_a_row_for_each_turn_gives_each_talk_once(tmp_path: Path) -> None:
    files = write_images(tmp_path, 2)
    longer = (*TURNS, *MORE)
    rows = [prompts(turns) for turns in (TURNS[:1], TURNS, longer, MORE)]
    columns = {"images": [[files[0]]] * 3 + [[files[1]]], "prompt": [row[0] for row in rows]}
    place = write_parquet(tmp_path / "set.parquet", {**columns, "completion": [row[1] for row in rows]})
    assert [turns_of(row) for row in listed(place)] == [list(longer), list(MORE)]
    assert [item.why for item in left_out(place)] == ["row whose turns the next row has too"] * 2


def test_paths_start_in_the_root_that_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1)
    place = write_json(tmp_path / "set.json", [llava()])
    assert [row.uri for row in listed(place, root=tmp_path / "photos")] == [str(tmp_path / "photos" / "0.jpg")]


def test_the_licence_of_a_row_counts_before_that_of_the_set(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    place = write_json(tmp_path / "set.json", [llava(id=1, license="CC0"), llava(id=2)])
    metas = [json.loads(row.source_meta or "") for row in listed(place, license="CC-BY-4.0")]
    assert [meta["license"] for meta in metas] == ["CC0", "CC-BY-4.0"]


@pytest.mark.parametrize(
    ("rows", "form", "message"),
    [
        (
            [llava()],
            "finevision",
            "has no field 'texts' of the form finevision: its rows have .*looks like the form llava",
        ),
        ([llava()], "lava", "form 'lava' is unknown: did you mean 'llava'?"),
        ([{"id": 1, "text": "x"}], None, "no known form; its rows have id, text; the forms are llava, "),
        ([], None, "no known form; no row in it can be read"),
    ],
)
def test_a_wrong_form_is_one_line(rows: list[Any], form: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=message) as raised:
        source_of(write_json(tmp_path / "set.json", rows), form=form)
    assert "\n" not in str(raised.value)


def test_a_place_without_a_set_is_one_line(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    with pytest.raises(UserMistake, match="no instruction set here; give a file of JSON"):
        source_of(tmp_path)
    with pytest.raises(UserMistake, match="no such file or folder"):
        source_of(tmp_path / "missing.json")
    (tmp_path / "set.parquet").write_bytes(b"PAR")
    with pytest.raises(UserMistake, match="is not a Parquet file"):
        source_of(tmp_path / "set.parquet")


def test_an_output_folder_inside_of_a_set_is_noticed(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    source = source_of(write_json(tmp_path / "set.json", [llava()]).parent)
    kind = kind_of_source(source.uri)
    assert kind.is_inside(str(tmp_path / "out"), source) and not kind.is_inside(str(tmp_path.parent / "out"), source)
