"""What comes along with images: columns of every Arrow type, sidecars and lists of URLs that hold anything."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.config.source import SourceConfig
from synthgen.errors import SynthError
from synthgen.ingest.sources import list_objects
from tests.fixtures.mutations import JSON_VALUES
from tests.fixtures.sources import listed, tree


def strict(text: str | None) -> Any:
    """Return the value of a text that must be UTF-8 and JSON without any extension."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    (text or "null").encode()
    return json.loads(text or "null", parse_constant=refuse)


def nested(depth: int) -> pa.Array:
    """Return an array with one list in lists."""
    value: Any = [1.5, None, float("nan")]
    for _ in range(depth):
        value = [value]
    return pa.array([value])


def bad_text() -> pa.Array:
    """Return a text that is no UTF-8, as some writers leave it."""
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")])


COLUMNS: dict[str, pa.Array] = {
    "null": pa.nulls(1),
    "bool": pa.array([True]),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "float16": pa.array([float("inf")], pa.float16()),
    "float64": pa.array([float("nan")]),
    "decimal128": pa.array([Decimal("1.50")]),
    "decimal256": pa.array([Decimal(10) ** 70], pa.decimal256(76, 0)),
    "string": bad_text(),
    "string_view": pa.array(["x"], pa.string_view()),
    "large_string": pa.array(["é"], pa.large_string()),
    "binary": pa.array([b"\xff\x00"]),
    "binary_view": pa.array([b"\xff"], pa.binary_view()),
    "date32": pa.array([10**9], pa.date32()),
    "date64": pa.array([-(10**17)], pa.int64()).cast(pa.date64()),
    "time64": pa.array([1], pa.time64("ns")),
    "timestamp": pa.array([-(2**62)], pa.timestamp("ms")),
    "timestamp_zone": pa.array([0], pa.timestamp("us", "No/Where")),
    "duration": pa.array([2**62], pa.duration("s")),
    "list": pa.array([[1, None]]),
    "large_list": pa.array([[1.0, float("nan")]], pa.large_list(pa.float64())),
    "fixed_list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    "deep": nested(40),
    "struct": pa.array([{"a": float("-inf"), "b": b"\xff", "": None}]),
    "map": pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())),
    "map_of_bytes": pa.array([[(b"\xff", float("nan"))]], pa.map_(pa.binary(), pa.float64())),
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "extension": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16))),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_carried_as_json(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"image": pa.array([b"a"]), "odd": COLUMNS[name], "caption": ["x"]})
    pq.write_table(table, path, store_schema=True)
    (item,) = listed(str(path), meta_columns=("odd", "caption"))
    meta = strict(item.source_meta)
    assert meta["caption"] == "x" and "odd" in meta


ARROW_TYPES = st.recursive(
    st.sampled_from(
        [pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.binary(),
         pa.date32(), pa.timestamp("ns"), pa.timestamp("s", "UTC"), pa.duration("us"), pa.time32("s"),
         pa.decimal128(9, 2)]
    ),
    lambda inner: st.builds(pa.list_, inner)
    | st.builds(lambda kind: pa.struct([("a", kind), ("é", pa.float64())]), inner)
    | st.builds(lambda kind: pa.map_(pa.string(), kind), inner),
    max_leaves=4,
)  # fmt: skip


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Return values of a type, as its storage takes them."""
    if pa.types.is_list(kind):
        return st.none() | st.lists(values_of(kind.value_type), max_size=2)
    if pa.types.is_map(kind):
        return st.none() | st.lists(st.tuples(st.text(max_size=2), values_of(kind.item_type)), max_size=2)
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    simple: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (pa.types.is_null, st.none()),
        (pa.types.is_boolean, st.booleans()),
        (pa.types.is_integer, st.integers(0, 127)),
        (pa.types.is_floating, st.floats(width=32)),
        (pa.types.is_string, st.text(max_size=4)),
        (pa.types.is_binary, st.binary(max_size=4)),
        (pa.types.is_decimal, st.just(Decimal("1.50"))),
        (pa.types.is_time, st.just(0)),
        (pa.types.is_date, st.integers(-(2**31), 2**31 - 1)),
    ]
    made = next((values for is_kind, values in simple if is_kind(kind)), st.integers(-(2**63) + 1, 2**63 - 1))
    return st.none() | made


@settings(max_examples=40)
@given(st.data())
def test_cells_of_any_type_and_value_are_carried_and_no_row_is_lost(tmp_path_factory: Any, data: st.DataObject) -> None:
    kind = data.draw(ARROW_TYPES)
    cells = data.draw(st.lists(values_of(kind), min_size=1, max_size=4))
    path = tmp_path_factory.mktemp("p") / "p.parquet"
    try:
        pq.write_table(pa.table({"image": pa.array([b"a"] * len(cells)), "odd": pa.array(cells, kind)}), path)
    except (pa.ArrowException, OverflowError, ValueError):  # Parquet has no such value
        return
    items = listed(str(path), meta_columns=("odd",))
    assert [item.row for item in items] == list(range(len(cells)))
    assert all(list(strict(item.source_meta)) == ["odd"] for item in items)


SIDECARS = st.one_of(
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    JSON_VALUES.map(
        lambda value: json.dumps({"tags": value, "a": [value]}, ensure_ascii=False).encode("utf-16", "surrogatepass")
    ),
    st.binary(max_size=30),
    st.just(b"[" * 100_000),
    st.just(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    st.just(b"9" * 5_000),
    st.just(b'{"license": NaN, "a": 1e999}'),
    st.sampled_from([b'[{"sidecar_unreadable":1}]', b'{"sidecar_unreadable":{}}', b'{"a":{"sidecar_unreadable":1}}']),
)


@settings(max_examples=60)
@given(st.lists(SIDECARS, min_size=1, max_size=4))
def test_whatever_is_in_sidecars_each_image_is_listed_with_json(tmp_path_factory: Any, sidecars: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{number}.jpg" for number in range(len(sidecars))]
    tree(folder, *names)
    for name, data in zip(names, sidecars, strict=True):
        (folder / name).with_suffix(".json").write_bytes(data)
    items = listed(str(folder), sidecar=".json")
    assert [Path(item.uri).name for item in items] == names
    for item in items:
        assert item.source_meta is not None
        strict(item.source_meta)


LINES = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(lambda text: f"https://a.org/{text}".encode("utf-8", "replace")),
    st.sampled_from(
        [b"https://", b"http://[", b"https://a.org:99999/x", b"https://a.org/\x00", b"HTTPS://A.org/\xc2\x85"]
    ),
)


@settings(max_examples=100)
@given(st.lists(LINES, max_size=6))
def test_each_line_of_a_list_of_urls_is_listed_or_left_out(tmp_path_factory: Any, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_bytes(b"\n".join(lines))
    try:
        uris = [item.uri for item in list_objects(SourceConfig(uri=f"urls:{path}", hosts=("a.org",)))]
    except SynthError as error:
        assert "\n" not in str(error)
        return
    assert all(uri.encode().startswith((b"http:", b"https:")) for uri in uris)
