"""Rows of Parquet files are objects like any others, and a damaged row group costs its rows only."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.sources import read_objects
from synthgen.store import remote
from tests.fixtures.sources import PICTURE, listed, mistake, names, parquet, read, read_refs, refs, tree


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), PICTURE], ids=str)
def test_each_row_of_a_parquet_file_is_an_object(tmp_path: Path, kind: pa.DataType) -> None:
    datas = [f"im{number}".encode() for number in range(5)]
    cells = [{"bytes": data, "path": None} for data in datas] if kind == PICTURE else datas
    path = parquet(tmp_path / "p.parquet", cells, kind)
    objects = listed(path)
    assert [(listed.uri, listed.row, listed.bytes) for listed in objects] == [
        (str(path), row, None) for row in range(5)
    ]
    assert len({listed.version for listed in objects}) == 1
    assert list(read(path).values()) == datas


def test_a_row_without_bytes_is_a_failure_and_its_path_is_never_followed(tmp_path: Path) -> None:
    tree(tmp_path, "real.jpg")
    path = str(tmp_path / "real.jpg")
    cells = [
        {"bytes": None, "path": path},
        None,
        {"bytes": b"", "path": path},
        {"bytes": b"x", "path": "http://127.0.0.1:1/"},
    ]
    results = list(read(parquet(tmp_path / "p.parquet", cells)).values())
    assert results[2:] == [b"", b"x"]
    assert results[0] == results[1] == Failure("no_bytes", "the cell holds no bytes; a path in it is not followed")


def test_columns_are_carried_along(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"a", b"b"], pa.binary(), caption=["é", None], licence=["CC0", "CC0"])
    metas = [item.source_meta for item in listed(path, meta_columns=("licence", "caption"))]
    assert metas == ['{"licence":"CC0","caption":"é"}', '{"licence":"CC0","caption":null}']


@pytest.mark.parametrize(
    ("value", "meta"),
    [
        (pa.array([float("nan")]), "null"),
        (pa.array([[1.5, float("inf")]]), "[1.5,null]"),
        (pa.array([10**15], pa.timestamp("ms")), '"cannot be read as timestamp[ms]: '),
        (pa.array([10**9], pa.date32()), '"cannot be read as date32[day]: '),
        (pa.array([b"\xff"]), "\"b'\\\\xff'\""),
        (pa.array([{"a": float("nan")}]), '{"a":null}'),
    ],
)
def test_a_value_that_json_or_python_lacks_costs_nothing_but_itself(tmp_path: Path, value: pa.Array, meta: str) -> None:
    path = parquet(tmp_path / "p.parquet", [b"a"], pa.binary(), odd=value, caption=["x"])
    (item,) = listed(path, meta_columns=("odd", "caption"))
    assert (item.source_meta or "").startswith(f'{{"odd":{meta}') and '"caption":"x"' in (item.source_meta or "")


WRAPPED = (
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.binary()),
    pa.struct([("bytes", pa.binary_view())]),
    pa.struct([("bytes", pa.dictionary(pa.int8(), pa.binary()))]),
)


@pytest.mark.parametrize("kind", WRAPPED, ids=str)
def test_bytes_of_every_arrow_type_are_images(tmp_path: Path, kind: pa.DataType) -> None:
    datas = pa.array([b"a", b"b", b"a"])
    if pa.types.is_struct(kind):
        column = pa.StructArray.from_arrays([datas.cast(kind[0].type)], fields=list(kind))
    else:
        column = datas.cast(kind)
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"image": column}), path)
    assert list(read_refs(refs(listed(path))).values()) == [b"a", b"b", b"a"]


LISTS = (
    pa.list_(pa.binary()),
    pa.large_list(PICTURE),
    pa.list_(pa.binary_view()),
    pa.list_view(pa.binary()),
    pa.large_list_view(pa.large_binary()),
    pa.list_(pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])),
)


@pytest.mark.parametrize("kind", LISTS, ids=str)
@pytest.mark.parametrize("meta", [(), ("n",)])
def test_each_image_of_a_list_is_an_object_and_a_list_without_any_is_one_without_bytes(
    tmp_path: Path, kind: pa.DataType, meta: tuple[str, ...]
) -> None:
    rows: list[list[bytes | None] | None] = [[b"a", b"b"], [], None, [b"c"], [None, b"d", b"e"], [b"f"]]
    is_struct = pa.types.is_struct(kind.value_type)
    cells = [row if row is None or not is_struct else [{"bytes": data, "path": "p"} for data in row] for row in rows]
    path = parquet(tmp_path / "p.parquet", cells, kind, n=list(range(6)))
    objects = listed(path, meta_columns=meta)
    assert [item.row for item in objects] == list(range(9))
    of_rows = [0, 0, 1, 2, 3, 4, 4, 4, 5]
    assert [item.source_meta for item in objects] == [f'{{"n":{row}}}' if meta else None for row in of_rows]
    no_bytes = Failure("no_bytes", "the cell holds no bytes; a path in it is not followed")
    expected = [b"a", b"b", no_bytes, no_bytes, b"c", no_bytes, b"d", b"e", b"f"]
    assert list(read_refs(refs(objects)).values()) == expected
    assert list(read_refs(refs([objects[7], objects[4], objects[2]])).values()) == [no_bytes, b"c", b"e"]


def test_a_list_of_one_length_is_read_too(tmp_path: Path) -> None:
    kind = pa.list_(pa.binary(), 2)
    path = parquet(tmp_path / "p.parquet", [[b"a", b"b"], [b"c", b"d"], [b"e", b"f"]], kind)
    assert list(read_refs(refs(listed(path))).values()) == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_a_column_of_lists_of_lists_or_texts_holds_no_images(tmp_path: Path) -> None:
    for kind, cell in ((pa.list_(pa.list_(pa.binary())), [[b"a"]]), (pa.list_(pa.string()), ["a"])):
        assert "images must be bytes, a struct" in mistake(parquet(tmp_path / "p.parquet", [cell], kind))


def test_rows_of_many_files_are_read_by_file_and_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        parquet(tmp_path / f"{number}.parquet", [f"{number}{row}".encode() for row in range(10)], pa.binary(), group=3)
    groups: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches

    def recorded(self: pq.ParquetFile, size: int, **named: Any) -> Any:
        groups.extend(named["row_groups"])
        return iter_batches(self, size, **named)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    wanted = [ref for ref in refs(listed(tmp_path)) if ref.row in (1, 8)]
    assert len(wanted) == 6
    results = read_refs(wanted[::-1] + wanted[:1])  # any order, one of them twice
    assert set(results.values()) == {b"01", b"08", b"11", b"18", b"21", b"28"}
    assert sorted(groups) == [0, 0, 0, 2, 2, 2]


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    cells = [os.urandom(2**18) for _ in range(160)]
    path = tmp_path / "p.parquet"  # 40 MB in one row group, 1 MB in each page
    pq.write_table(pa.table({"image": cells}), path, row_group_size=160, write_batch_size=4, use_dictionary=False)
    before = most = pa.total_allocated_bytes()
    for ref, data in read_objects(refs(listed(path)), SourceConfig(), ImagesConfig()):
        assert data == cells[ref.row or 0]
        most = max(most, pa.total_allocated_bytes())
    assert most - before < 32 * 2**20


def test_a_damaged_row_group_costs_its_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    path = parquet(tmp_path / "p.parquet", [bytes([row]) * 300 for row in range(6)], pa.binary())
    at = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 20] = b"\xff" * 20
    path.write_bytes(damaged)
    results = list(read(path).values())
    assert [isinstance(result, bytes) for result in results] == [True, True, False, False, True, True]


def test_a_folder_may_hold_images_parquet_files_and_other_parquet_files(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg")
    parquet(tmp_path / "b/c.parquet", [b"1"], pa.binary())
    pq.write_table(pa.table({"file_name": ["a.jpg"]}), tmp_path / "metadata.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    objects = listed(tmp_path)
    assert [(name, item.row) for name, item in zip(names(objects, tmp_path), objects, strict=True)] == [
        ("a.jpg", None),
        ("b/c.parquet", 0),
        ("broken.parquet", None),
    ]
    readable = {Path(name).name: isinstance(result, bytes) for name, result in read(tmp_path).items()}
    assert readable == {"a.jpg#None": True, "c.parquet#0": True, "broken.parquet#None": False}


def test_mistakes_about_parquet_are_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [b"1"], pa.binary(), text=["x"])
    assert mistake(path, image_column="imgae") == f"{path}: has no column 'imgae'; did you mean 'image'?"
    assert mistake(tmp_path, image_column="imgae") == f"{path}: has no column 'imgae'; did you mean 'image'?"
    assert mistake(path, meta_columns=("texts",)) == f"{path}: has no column 'texts'; did you mean 'text'?"
    assert "holds string; images must be bytes" in mistake(path, image_column="text")
    for junk in (b"hello", b"PAR1" + b"junk" * 100 + (200).to_bytes(4, "little") + b"PAR1"):
        (tmp_path / "q.parquet").write_bytes(junk)
        assert "is not a Parquet file" in mistake(tmp_path / "q.parquet")
    twice = pa.Table.from_arrays([pa.array([b"1"]), pa.array([b"2"])], names=["image", "image"])
    pq.write_table(twice, tmp_path / "r.parquet")
    assert mistake(tmp_path / "r.parquet") == f"{tmp_path}/r.parquet: has 2 columns 'image'; write it with one"
    empty = parquet(tmp_path / "s.parquet", [], pa.binary())
    assert mistake(empty) == f"{empty}: no row in its Parquet files, so no image"


def test_lists_of_a_dictionary_are_read(tmp_path: Path) -> None:
    values = pa.array([b"a", b"b", b"a"]).dictionary_encode()
    column = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), values)
    pq.write_table(pa.table({"image": column}), tmp_path / "p.parquet")
    assert [content for _, content in sorted(read(tmp_path).items())] == [b"a", b"b", b"a"]
