"""Seeds of strangers: whatever stands in a row, it is counted once, as used or as left out with its reason."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.commands.learn import learn, row_tags, row_types
from synthgen.commands.learn import seed as seeds
from synthgen.commands.learn.records import BadRow, Fields, Row
from synthgen.config.source import ImagesConfig
from synthgen.config.vocabulary import Lexicon
from synthgen.errors import SynthError, UserMistake
from tests.fixtures.mutations import JSON_VALUES, mutated
from tests.fixtures.seeds import learn_request, seed_rows

FIELDS = Fields("types", "tags")
COLUMNS = seeds.Columns(FIELDS, texts=True, images=True)
HALF = "\ud83d"  # of a character
FORMS = ("llava", "sharegpt", "trl", "finevision")


def use(row: Row | BadRow) -> None:
    """Do with a row what learning does, and check that what is left of it can be printed."""
    if isinstance(row, Row):
        assert all(isinstance(question, str) for question in row.questions)
        row_types.look_up_types(Lexicon(["a/b"]), None, Counter(), row)
        list(row_tags.look_up_tags([row], Lexicon(["a"]), Counter()))
        row_tags.image_bytes(row, ImagesConfig(), "/no/such/folder")


def rows_of(path: Path) -> list[Row | BadRow]:
    return list(seeds.read_rows(seeds.open_seed(str(path)), COLUMNS))


def plain(form: str) -> list[dict[str, Any]]:
    """Return rows of a form that JSON can hold."""
    return [json.loads(json.dumps(row, default=str)) for row in seed_rows(form)[:2]]


@settings(max_examples=120)
@given(st.sampled_from(FORMS).flatmap(lambda form: mutated(plain(form), most=4)), st.booleans())
def test_whatever_stands_in_json_each_row_is_read_or_left_out(tmp_path_factory: Any, rows: Any, is_lines: bool) -> None:
    path = tmp_path_factory.mktemp("s") / ("s.jsonl" if is_lines else "s.json")
    records = rows if isinstance(rows, list) else [rows]
    path.write_text("\n".join(map(json.dumps, records)) if is_lines else json.dumps(records))
    read = rows_of(path)
    assert len(read) == len(records)
    for row in read:
        use(row)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=30) | JSON_VALUES.map(lambda value: json.dumps(value).encode()), max_size=5))
def test_each_line_of_any_bytes_is_a_row_or_left_out(tmp_path_factory: Any, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("s") / "s.jsonl"
    path.write_bytes(b"\n".join(lines))
    expected = [line for line in b"\n".join(lines).split(b"\n") if line.strip()]
    read = rows_of(path)
    assert len(read) == len(expected)
    for row in read:
        use(row)


@settings(max_examples=60)
@given(st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 3_000))
def test_a_file_that_is_no_seed_is_one_line(tmp_path_factory: Any, data: bytes) -> None:
    for name in ("s.json", "s.parquet", "types.json", "types.jsonl"):
        path = tmp_path_factory.mktemp("s") / name
        path.write_bytes(data)
        try:
            if name.startswith("types"):
                row_types.read_types_file(path)
            else:
                seeds.field_names(seeds.open_seed(str(path)))
                rows_of(path)
        except SynthError as error:
            assert "\n" not in str(error) and name in str(error)


ODD_CELLS: dict[str, pa.Array] = {
    "dates": pa.array([10**9, 0], pa.date32()),
    "times": pa.array([2**62, 0], pa.timestamp("ms")),
    "durations": pa.array([2**62, 0], pa.duration("s")),
    "decimals": pa.array([Decimal("1.5"), None]),
    "bytes": pa.array([b"\xff", b"reading"]),
    "maps": pa.array([[("reading", 1.0)], None], pa.map_(pa.string(), pa.float64())),
    "structs": pa.array([{"path": "reading", "score": float("nan")}, None]),
    "lists": pa.array([[["reading"]], [None]]),
    "views": pa.array(["reading", None], pa.string_view()),
    "words": pa.array(["reading", None]).dictionary_encode(),
}


@pytest.mark.parametrize("name", ODD_CELLS)
@pytest.mark.parametrize("column", ["types", "tags", "id", "prompt", "image"])
def test_a_cell_of_any_type_costs_its_row_at_most(tmp_path: Path, name: str, column: str) -> None:
    good = {"types": ["reading"] * 2, "tags": ["cat"] * 2, "prompt": ["Where?"] * 2}
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({**good, column: ODD_CELLS[name]}), path)
    read = rows_of(path)
    assert len(read) == 2
    for row in read:
        use(row)


def test_odd_rows_among_good_ones_are_counted_to_the_end(workspace: Path) -> None:
    odd: list[Any] = [
        None,
        7,
        [],
        {"types": {"a": float("nan")}, "tags": "\ud83d"},
        {"types": "\ud83d", "tags": ["cat"]},
    ]
    rows = [*seed_rows("llava"), *odd]
    (workspace / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, report = learn(learn_request(workspace / "s.jsonl"))
    assert f"{len(rows)} rows, {len(rows) - 5} used, 5 left out" in report[0]
    "\n".join(report).encode()


def test_a_seed_without_any_good_row_is_one_line(workspace: Path) -> None:
    (workspace / "s.jsonl").write_text('{"types": "\\ud83d", "tags": [1]}\n')
    with pytest.raises(UserMistake) as caught:
        learn(learn_request(workspace / "s.jsonl"))
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
