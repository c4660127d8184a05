"""Tar archives: which members are images, what comes along, and what a cut or hostile archive costs."""

import json
import os
import random
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.commands.lookup import find_objects
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.sources import LeftOut, Listed, list_source, tars
from synthgen.stages.pack import redact
from synthgen.store import remote
from synthgen.tables import OBJECTS, object_row, table
from tests.fixtures.sources import listed, mistake, names, read, read_refs, refs, tree
from tests.fixtures.tars import member, packed

LIMITS = ImagesConfig(max_bytes=100_000)


def items(path: Path, data: bytes, **changed: Any) -> list[Listed | LeftOut]:
    path.write_bytes(data)
    return list(list_source(SourceConfig(uri=str(path.parent), **changed)))


def contents(path: Path, data: bytes, **changed: Any) -> list[bytes | Failure]:
    """Return what the objects of an archive are read as, in its order."""
    objects = [item for item in items(path, data, **changed) if isinstance(item, Listed)]
    wanted = sorted(refs(objects), key=lambda ref: int(ref.version.rpartition("@")[2]))
    results = read_refs(wanted, LIMITS)
    return [results[ref.object_id] for ref in wanted]


def test_each_image_in_a_tar_is_an_object_and_what_is_beside_it_comes_along(tmp_path: Path) -> None:
    beside = member("7.json", b'{"url": "u", "n": NaN}'), member("7.txt", "é".encode()), member("7.cls", b"3\n")
    found = items(tmp_path / "s.tar", packed("7.jpg", *beside, "8.png", "8.mp4", "9.txt", "a/b.JPG"))
    assert [item.uri for item in found if isinstance(item, Listed)] == [
        f"{tmp_path}/s.tar#{name}" for name in ("7.jpg", "8.png", "a/b.JPG")
    ]
    metas = [json.loads(item.source_meta or "null") for item in found if isinstance(item, Listed)]
    assert metas == [{"url": "u", "n": None, "txt": "é", "cls": 3}, None, None]
    assert [item.why for item in found if isinstance(item, LeftOut)] == [".mp4", ".txt"]
    assert contents(tmp_path / "s.tar", packed("7.jpg", "8.png")) == [b"7.jpg", b"8.png"]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_every_form_are_read_by_their_place(tmp_path: Path, form: int) -> None:
    long = "d" * 90 if form == tarfile.USTAR_FORMAT else "d" * 300
    data = packed("./1.jpg", f"{long}/é.jpg", "2.seg.png", form=form)
    assert contents(tmp_path / "s.tar", data) == [b"./1.jpg", f"{long}/é.jpg".encode(), b"2.seg.png"]


def test_names_are_data_whatever_they_are(tmp_path: Path) -> None:
    odd = [
        "/etc/passwd.jpg",
        "../../x.jpg",
        "a#b.jpg",
        "a b%.jpg",
        "new\nline.jpg",
        os.fsdecode(b"\xe9.jpg"),
        "C:\\x.jpg",
    ]
    sources = [member(name, b"%d" % number) for number, name in enumerate(odd)]
    data = packed(*sources, form=tarfile.GNU_FORMAT)
    assert contents(tmp_path / "s.tar", data) == [b"%d" % number for number in range(len(odd))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.tar"]
    uris = [item.uri for item in listed(tmp_path)]
    assert uris[:3] == [f"{tmp_path}/s.tar#{name}" for name in ("/etc/passwd.jpg", "../../x.jpg", "a%23b.jpg")]
    assert all("\n" not in uri and uri.isascii() for uri in uris)


def test_a_name_that_comes_twice_is_two_objects(tmp_path: Path) -> None:
    data = packed(member("1.jpg", b"first"), member("1.jpg", b"second"), "2.jpg")
    assert contents(tmp_path / "s.tar", data) == [b"first", b"second", b"2.jpg"]
    objects = listed(tmp_path)
    assert objects[0].uri == objects[1].uri and [item.row for item in objects] == [None, 1024, None]


def test_what_is_no_file_is_left_out_by_name(tmp_path: Path) -> None:
    link = member("l.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    hard = member("h.jpg", type=tarfile.LNKTYPE, linkname="1.jpg")
    found = items(tmp_path / "s.tar", packed(member("d", type=tarfile.DIRTYPE), link, hard, "._1.jpg", "1.jpg"))
    assert [getattr(item, "why", "listed") for item in found] == [
        "link or device in a tar",
        "link or device in a tar",
        "hidden file",
        "listed",
    ]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("1.json", b'{"x": "' + b"x" * 2_000_000 + b'"}', "more than 1,048,576 bytes"),
        ("1.json", b"[1]", "is no JSON object"),
        ("1.json", b"{", "JSONDecodeError"),
        ("1.json", b"[" * 100_000, "RecursionError"),
        ("1.json", b'{"a": "\\ud800"}', "half of a character"),
        ("1.txt", b"\xe9", "UnicodeDecodeError"),
        ("1.txt", b"x" * 2_000_000, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_beside_an_image_and_cannot_be_kept_costs_itself_alone(
    tmp_path: Path, name: str, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "s.tar").write_bytes(packed("1.jpg", member("1.cls", b"cat"), member(name, data), "2.jpg"))
    first, second = listed(tmp_path)
    meta = json.loads(first.source_meta or "")
    assert meta["cls"] == "cat" and reason in meta["sidecar_unreadable"] and second.source_meta is None
    assert caplog.messages[0].startswith(f"the metadata of 1 image cannot be read: {name}: ")


def test_a_tar_that_is_cut_short_is_one_record_whose_reading_says_where(tmp_path: Path) -> None:
    whole = packed(*(member(f"{number}.jpg", bytes([number]) * 1000) for number in range(4)))
    start = 1536  # of each member after the one before
    for at in (*range(start * 2, start * 3, 97), start * 3, start * 3 + 512, start * 4, start * 4 + 1):
        got = contents(tmp_path / "s.tar", whole[:at])
        good = [data for data in got if isinstance(data, bytes)]
        assert good == [bytes([number]) * 1000 for number in range(len(good))] and len(good) >= min(at // start, 4) - 1
        assert [data.reason for data in got if isinstance(data, Failure)] == ["truncated"], at
    assert contents(tmp_path / "s.tar", whole[: start * 4 + 512]) == contents(tmp_path / "s.tar", whole)


def test_a_cut_member_beside_an_image_is_one_record(tmp_path: Path) -> None:
    data = packed("1.jpg", member("1.json", b'{"a":"' + b"x" * 2000 + b'"}'))[:3000]
    assert [getattr(got, "reason", got) for got in contents(tmp_path / "s.tar", data)] == [b"1.jpg", "truncated"]


def test_a_damaged_header_costs_what_follows_it_and_is_one_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(packed("1.jpg", "2.jpg", "3.jpg"))
    data[1024 : 1024 + 100] = b"\xff" * 100
    got = contents(tmp_path / "s.tar", bytes(data))
    assert got == [
        b"1.jpg",
        Failure("corrupt", "no header of a tar at byte 1,024; what follows in it cannot be read"),
    ]
    assert caplog.messages[0] == f"{tmp_path}/s.tar: breaks off: no header of a tar at byte 1,024; " + (
        "what follows in it cannot be read"
    )


def test_an_archive_behind_another_one_is_read_too(tmp_path: Path) -> None:
    assert contents(tmp_path / "s.tar", packed("1.jpg") + packed("2.jpg")) == [b"1.jpg", b"2.jpg"]
    assert contents(tmp_path / "s.tar", packed("1.jpg") + bytes(3 * 2**20)) == [b"1.jpg"]


def test_a_header_cannot_claim_memory(tmp_path: Path) -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 2**30
        path = tmp_path / "s.tar"
        with path.open("wb") as file:
            file.write(packed("1.jpg")[:1024] + info.tobuf(tarfile.GNU_FORMAT))
            file.truncate(2**30 + 4096)  # sparse
        tracemalloc.start()
        objects = listed(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
        tracemalloc.stop()
        results = read_refs(refs(objects), LIMITS)
        assert sorted(getattr(result, "reason", "read") for result in results.values()) == ["corrupt", "read"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_damaged_tar_never_ends_a_listing_or_a_read(tmp_path_factory: Any, seed: int) -> None:
    draw = random.Random(seed)
    data = bytearray(packed("1.jpg", member("1.json", b"{}"), "2.jpg", f"{'d' * 200}/3.jpg", form=tarfile.PAX_FORMAT))
    for _ in range(draw.randint(1, 30)):
        data[draw.randrange(len(data))] = draw.choice((0, 0x30, 0x37, 0x80, 0xFF, draw.randrange(256)))
    path = tmp_path_factory.mktemp("tars") / "s.tar"
    path.write_bytes(bytes(data[: draw.choice((len(data), draw.randrange(len(data))))]))
    tree(path.parent, "a.jpg")
    objects = listed(path.parent)
    assert len(read_refs(refs(objects), LIMITS)) == len(objects) >= 1


def test_a_chain_of_headers_that_go_back_or_nest_ends(tmp_path: Path) -> None:
    back = tarfile.TarInfo("1.jpg")
    back.size = -1024
    start = packed("0.jpg")[:1024]
    got = contents(tmp_path / "s.tar", start + back.tobuf(tarfile.GNU_FORMAT))
    assert [getattr(one, "reason", one) for one in got] == [b"0.jpg", "corrupt"]
    nested = tarfile.TarInfo("x")
    nested.type, nested.size = b"x", 0
    got = contents(tmp_path / "s.tar", start + nested.tobuf() * 5000 + packed("2.jpg"))
    assert got[0] == b"0.jpg"


def test_a_tar_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(packed("1.jpg", "2.jpg"))
    before = listed(path)
    path.write_bytes(packed("0.jpg", "1.jpg", "2.jpg"))
    after = listed(path)
    assert {item.version for item in before}.isdisjoint({item.version for item in after})
    assert {getattr(result, "reason", "") for result in read_refs(refs(before)).values()} == {"changed"}
    verified = [replace(ref, is_verified=True) for ref in refs(before)]
    assert {getattr(result, "reason", "") for result in read_refs(verified).values()} == {"changed"}
    assert [(item.uri, item.row) for item in after[1:]] == [(item.uri, item.row) for item in before]  # one place


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    got = contents(tmp_path / "s.tar", packed(member("1.jpg", bytes(200_000)), "2.jpg"))
    assert [getattr(one, "reason", one) for one in got] == ["too_many_bytes", b"2.jpg"]


def test_mistakes_about_tars_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    for data, line in [
        (b"\x1f\x8b" + bytes(600), "it is compressed, and nothing in it can be read without all that is before it"),
        (b"hello" * 200, "no header of a tar at byte 0"),
        (b"", "the tar ends at byte 0 without its end mark"),
    ]:
        path.write_bytes(data)
        assert mistake(path).startswith(f"{path}: is not a tar archive: ") and line in mistake(path)
    path.write_bytes(packed("1.txt"))
    assert mistake(path).startswith(f"0 images under {path}") and "left out: 1 .txt" in mistake(path)


def test_every_suffix_can_be_listed_but_what_comes_along(tmp_path: Path) -> None:
    found = items(tmp_path / "s.tar", packed("1.jpg", member("1.json", b"{}"), "1.bin"), suffixes=("*",))
    assert [item.uri.partition("#")[2] for item in found if isinstance(item, Listed)] == ["1.jpg", "1.bin"]


def test_shards_named_in_braces_are_listed_and_those_that_are_not_there_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (0, 1, 3, 7):
        (tmp_path / f"s-{number:03}.tar").write_bytes(packed(f"{number}.jpg"))
    uri = f"{tmp_path}/s-{{000..004}}.tar"
    assert names(listed(uri), tmp_path) == [f"s-{number:03}.tar#{number}.jpg" for number in (0, 1, 3)]
    assert caplog.messages == [f"{uri}: not there: s-002.tar, s-004.tar"]
    left = [item for item in list_source(SourceConfig(uri=uri)) if isinstance(item, LeftOut)]
    assert left == [LeftOut("file that braces name and that is not there", 2)]


def test_members_share_the_bucket_of_their_tar_and_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(packed("a/1.jpg", "2.jpg"))
    rows = [object_row(**vars(item)) for item in listed(tmp_path)]
    assert len({row["bucket"] for row in rows}) == 1
    objects = table(rows, OBJECTS).append_column("image_id", table(rows, OBJECTS).column("object_id"))
    for name, number in (("2.jpg", 1), ("s.tar#2.jpg", 1), ("1.jpg", 0), ("a/1.jpg", 0)):
        found = find_objects("out", lambda: [objects], [name], lambda uri: redact.uri(uri, str(tmp_path)))
        assert found == {name: frozenset([rows[number]["object_id"]])}
    assert redact.uri(rows[0]["uri"], str(tmp_path)) == "s.tar#a/1.jpg"
    assert redact.uri(rows[0]["uri"], "") == "s.tar#a/1.jpg"


def test_a_large_sample_is_cut_and_memory_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "LARGEST_SAMPLE", 3)
    data = packed(*(f"1.{number}.jpg" for number in range(8)))
    assert contents(tmp_path / "s.tar", data) == [f"1.{number}.jpg".encode() for number in range(8)]


def test_a_listing_that_a_store_interrupts_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    (tmp_path / "s.tar").write_bytes(packed(*(f"{number}.jpg" for number in range(6))))
    calls = 0
    original = tars._add

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in (3, 7):
            raise OSError("the store failed")
        original(*arguments)

    monkeypatch.setattr(tars, "_add", failing)
    assert [name.partition("#")[2] for name in names(listed(tmp_path), tmp_path)] == [f"{n}.jpg" for n in range(6)]
    assert calls == 8 and len(read(tmp_path)) == 6
