"""What is wrong with a row costs that row alone, and has a name."""

import json
from pathlib import Path
from typing import Any

import pytest

from synthgen.errors import UserMistake
from synthgen.ingest.sources.instructions.json_list import CHUNK
from synthgen.ingest.sources.sets import members_of_set
from synthgen.tables.reasons import ROW_REASONS
from tests.fixtures.instructions import (
    TURNS,
    listed,
    llava,
    messages,
    refusals,
    turns_of,
    write_images,
    write_json,
    write_parquet,
    write_tar,
)

SYSTEM = {"from": "system", "value": "You are kind."}
SWAPPED = [{"from": "gpt", "value": "A."}, {"from": "human", "value": "Q?"}]
ROWS: list[tuple[Any, str]] = [
    (llava(), ""),
    (llava("photos/../0.jpg"), ""),
    ("no record", "row_unreadable"),
    (llava(text="x" * (1 << 20)), "row_too_long"),
    ({"id": "r1", "image": "0.jpg"}, "wrong_form"),
    (llava(turns=()), "no_conversation"),
    ({**llava(), "conversations": "Hello"}, "no_conversation"),
    ({**llava(), "conversations": [["human", "Hello"]]}, "no_conversation"),
    ({**llava(), "conversations": SWAPPED}, "broken_roles"),
    ({**llava(), "conversations": [*llava()["conversations"], SWAPPED[1]]}, "broken_roles"),
    ({**llava(), "conversations": [{"from": "cat", "value": "Miaow"}]}, "broken_roles"),
    ({**llava(), "conversations": [SYSTEM, *llava()["conversations"]]}, "system_text"),
    ({**llava(), "conversations": [{**SYSTEM, "value": ""}, *llava()["conversations"]]}, ""),
    (llava(turns=(("What?", "half \ud83d"),)), "not_text"),
    (llava(mark="<image>\n<image>\n"), "image_marker"),
    (llava(turns=(("In <image>, what is it?", "A field."),), mark=""), "image_marker"),
    (llava(turns=(*TURNS, ("<image> And here?", "A dog."))), "image_marker"),
    (llava(turns=(("What?", "See <image>"),)), "image_marker"),
    (llava(turns=(("What does <video> show?", "A dog."),)), "image_marker"),
    (llava(mark="", turns=(("What is it?\n<image>", "A field."),)), ""),
    ({"id": "r1", "conversations": llava()["conversations"]}, "no_image"),
    (llava(""), "no_image"),
    (llava([]), "no_image"),
    (llava(7), "no_image"),
    (llava("data:image/png;base64,AAAA"), "no_image"),
    (llava(["0.jpg", "1.jpg"]), "image_marker"),
    (llava(["0.jpg", "1.jpg"], mark="<image>\n<image>\n"), ""),
    (llava(["0.jpg", "1.jpg"], mark=""), ""),
    (llava(["0.jpg", "1.jpg"], mark="<image>\n", turns=(("What?<image>", "A field."),)), "image_marker"),
    (llava(["0.jpg", "missing.jpg"], mark=""), "unreadable"),
    (llava(["0.jpg"] * 9, mark=""), "several_images"),
    (llava("../0.jpg"), "path_refused"),
    (llava("/etc/hostname"), "path_refused"),
    (llava("link/0.jpg"), "path_refused"),
    (llava("s3://bucket/0.jpg"), "path_refused"),
    (llava("https://example.org/0.jpg"), "url_refused"),
    (llava("missing.jpg"), "unreadable"),
    (llava("photos"), "unreadable"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two images, a folder in it, and a link that leads out of it."""
    inside = tmp_path / "set"
    write_images(inside, 2)
    write_images(tmp_path / "elsewhere", 1)
    (inside / "photos").mkdir()
    (inside / "link").symlink_to(tmp_path / "elsewhere")
    return inside


@pytest.mark.parametrize("name", ["set.json", "set.jsonl"])
def test_each_fault_of_a_row_has_its_reason_and_costs_no_other_row(name: str, folder: Path) -> None:
    rows = [row for row, _ in ROWS]
    write_json_escaped(folder / name, rows)
    found = refusals(folder / name)
    assert found == [reason for _, reason in ROWS]
    assert set(ROW_REASONS) <= set(found)


def write_json_escaped(path: Path, rows: list[Any]) -> None:
    """Write rows with escapes, which can spell half a character."""
    texts = [json.dumps(row) for row in rows]
    path.write_text("\n".join(texts) if path.suffix == ".jsonl" else f"[{', '.join(texts)}]")


def test_a_refused_row_says_where_it_stands_and_why(folder: Path) -> None:
    (_, row) = listed(write_json(folder / "set.json", [llava(), llava("../0.jpg")]))
    assert (row.uri, row.row) == (str(folder / "set.json"), 2)
    assert row.given and (row.given.refused or "").startswith(f"path_refused: names a path outside of {folder}")


def test_a_system_text_is_dropped_where_that_is_asked_for(folder: Path) -> None:
    place = write_json(folder / "set.json", [{**llava(), "conversations": [SYSTEM, *llava()["conversations"]]}])
    (row,) = listed(place, system="drop")
    assert turns_of(row) == list(TURNS)


def test_the_checks_hold_for_images_inside_of_files(folder: Path) -> None:
    data = (folder / "0.jpg").read_bytes()
    columns = {
        "images": [[data], [data, data], [], [data]],
        "messages": [messages(parts=True), messages(parts=True), messages(parts=True), [messages(parts=True)[1]]],
    }
    place = write_parquet(folder / "set.parquet", columns)
    assert refusals(place) == ["", "image_marker", "", "broken_roles"]
    rows = listed(place)
    assert [rows[0].row, rows[2].row] == [0, 3]  # a list without an image counts as one, which has no bytes


def test_a_row_with_several_images_is_a_set_of_them_in_order(folder: Path) -> None:
    rows = [llava(["1.jpg", "0.jpg"], mark="<image>\n<image>\n"), llava(["0.jpg", "1.jpg"], mark="")]
    first, second = listed(write_json(folder / "set.json", rows))
    assert [Path(uri).name for uri, _, _ in members_of_set(first.version)] == ["1.jpg", "0.jpg"]
    assert turns_of(first) == list(TURNS) and first.uri != second.uri
    parts = messages(parts=True)
    several = [{**parts[0], "content": [parts[0]["content"][0], *parts[0]["content"]]}, *parts[1:]]
    data = [(folder / name).read_bytes() for name in ("0.jpg", "1.jpg")]
    columns = {"images": [data[:1], data], "messages": [parts, several]}
    one, both = listed(write_parquet(folder / "set.parquet", columns))
    assert (one.row, [row for _, _, row in members_of_set(both.version)]) == (0, [1, 2])


def test_a_tar_gives_a_row_for_each_sample_and_one_where_it_breaks_off(folder: Path) -> None:
    data, text = (folder / "0.jpg").read_bytes(), json.dumps({"messages": messages(parts=True)}).encode()
    members = {"a.jpg": data, "a.json": text, "b.jpg": data, "c.jpg": data, "c.json": b"{", "d.0.jpg": data}
    place = write_tar(folder / "set.tar", {**members, "d.1.jpg": data, "d.json": text, "e.jpg": data, "e.json": text})
    assert refusals(place) == ["", "wrong_form", "row_unreadable", "image_marker", ""]
    cut = folder / "cut.tar"
    whole = place.read_bytes()
    cut.write_bytes(whole[: whole.index(b"e.json") + 600])
    assert refusals(cut)[-1] == "truncated"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_texts_of_other_encodings_cost_their_rows(mark: bytes, folder: Path) -> None:
    rows = [json.dumps(llava(id=number, turns=(("Où?", "Là."),)), ensure_ascii=False) for number in range(3)]
    encoded = [rows[0].encode(), rows[1].encode("latin-1"), rows[2].encode()]
    (folder / "set.json").write_bytes(mark + b"[" + b",".join(encoded) + b"]")
    assert refusals(folder / "set.json") == ["", "not_text", ""]
    (folder / "set.jsonl").write_bytes(mark + b"\n".join(encoded))
    assert refusals(folder / "set.jsonl") == ["", "not_text", ""]


def test_a_list_in_utf_16_is_read(folder: Path) -> None:
    (folder / "set.json").write_bytes(json.dumps([llava(turns=(("Où?", "Là."),))], ensure_ascii=False).encode("utf-16"))
    assert turns_of(listed(folder / "set.json")[0]) == [("Où?", "Là.")]


def test_a_list_is_read_whatever_its_lines_and_its_end_are(folder: Path) -> None:
    rows = [llava(id=number, note="é" * 400) for number in range(3000)]  # larger than what is read at once
    place = folder / "set.json"
    for indent in (None, 1):
        place.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
        assert place.stat().st_size > 2 * CHUNK or indent is None
        assert refusals(place) == [""] * 3000
    place.write_text(json.dumps([[1, "]"], llava(), 7, None, "text, {", llava(id=2)]))
    assert refusals(place) == ["row_unreadable", "", *["row_unreadable"] * 3, ""]


def test_a_broken_record_in_a_list_costs_itself(folder: Path) -> None:
    good = json.dumps(llava())
    broken = '{"id": "x", "conversations": [{"from": human, "value": "a \\" } ] b"}]}'
    nested = "[" * 5000 + "]" * 5000
    (folder / "set.json").write_text(f"[{good}, {broken}, {nested}, {good.replace('r1', 'r2')}]")
    assert refusals(folder / "set.json") == ["", "row_unreadable", "row_unreadable", ""]


def test_a_list_that_is_cut_short_is_one_line(folder: Path) -> None:
    text = json.dumps([llava(id=1), llava(id=2)])
    (folder / "set.json").write_text(text[:-20])
    with pytest.raises(UserMistake, match=r"set\.json: ends inside of its list, after row \d; it was cut short"):
        listed(folder / "set.json")
    (folder / "other.json").write_text('"text"')
    with pytest.raises(UserMistake, match=r"other\.json: is no JSON list of rows"):
        listed(folder / "other.json")
