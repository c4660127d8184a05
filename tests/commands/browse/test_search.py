"""A search goes through partitions in order, in both directions, and stops when it is full or its time is over."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from synthgen.commands.browse.search import Found, Match, Numbers, Start, search
from synthgen.commands.browse.wanted import Place, Wanted, has_words, is_below
from synthgen.errors import UserMistake


def matching(tables: dict[str, list[int]]) -> Match:
    def match(partition: str) -> Numbers:
        return np.array(tables[partition], np.int64)

    return match


def rows_of(found: Found) -> list[tuple[str, int]]:
    return [(place.partition, place.row) for place in found.places]


@given(
    some.dictionaries(some.sampled_from("abcdef"), some.sets(some.integers(0, 9)).map(sorted), min_size=1),
    some.integers(1, 5),
)
def test_pages_forwards_and_backwards_show_every_row_once_and_in_order(tables: dict[str, list[int]], size: int) -> None:
    names = sorted(tables)
    every = [(name, row) for name in names for row in tables[name]]
    forwards, backwards = list[tuple[str, int]](), list[tuple[str, int]]()
    place, is_over = None, False
    while not is_over:
        found = search(names, matching(tables), Start(place), size)
        forwards += rows_of(found)
        place, is_over = found.stopped, found.stopped is None
    place, is_over = None, False
    while not is_over:
        found = search(names, matching(tables), Start(place, is_backwards=True), size)
        backwards = rows_of(found) + backwards
        place, is_over = found.stopped, found.stopped is None
    assert forwards == backwards == every


def test_where_the_time_is_over_the_next_search_goes_on_behind_what_was_looked_at() -> None:
    tables = {"a": [], "b": [], "c": [3, 5]}
    looked_at: list[str] = []

    def match(partition: str) -> Numbers:
        looked_at.append(partition)
        return np.array(tables[partition], np.int64)

    first = search(list(tables), match, Start(), 9, seconds=0)
    assert (first.places, first.searched, looked_at) == ([], 1, ["a"]) and first.stopped
    second = search(list(tables), match, Start(first.stopped), 9, seconds=9)
    assert rows_of(second) == [("c", 3), ("c", 5)] and second.stopped is None and looked_at == ["a", "b", "c"]


def test_a_place_that_is_none_begins_at_the_first_row() -> None:
    assert Place.parse("") is None and Place.parse("e001-00000:x") is None and Place.parse(":4") is None
    for place in (Place("e001-00000", 4), Place("e001-00000", -1), Place("e001-00000.judge", 2**62)):
        assert Place.parse(str(place)) == place
    found = search(["a"], matching({"a": [0, 1]}), Start(Place("gone", 7)), 9)
    assert rows_of(found) == [("a", 0), ("a", 1)]


def test_names_are_whole_or_a_path_above() -> None:
    names = pa.array(["animal", "animal/cat", "animals", "score:answer", "failed.declined", None])
    assert is_below(names, "animal").to_pylist() == [True, True, False, False, False, False]
    assert is_below(names, "score").to_pylist() == [False, False, False, True, False, False]
    assert is_below(names, "score:").to_pylist() == [False, False, False, True, False, False]
    assert is_below(names, "failed").to_pylist() == [False, False, False, False, True, False]


def test_words_are_found_in_either_case_and_are_no_patterns() -> None:
    texts = pa.array(["A RED bus (left)", "a red car", None, "Größe"])
    assert has_words(texts, ["red", "bus"]).to_pylist() == [True, False, False, False]
    assert has_words(texts, ["(left)"]).to_pylist() == [True, False, False, False]
    assert has_words(texts, [".*"]).to_pylist() == [False] * 4
    assert has_words(texts, ["GRÖSSE"]).to_pylist() == [False] * 4 and has_words(texts, ["GRÖ"]).to_pylist()[3]


def test_a_query_is_read_from_an_address_and_written_to_one() -> None:
    wanted = Wanted.of({"q": " Red  bus ", "type": "", "least": "0.5", "other": "x"})
    assert wanted.words == ["Red", "bus"] and wanted.params == {"q": "Red  bus", "least": "0.5"}
    assert wanted.limits == (0.5, float("inf")) and wanted.id == ""
    assert Wanted.of({"q": "AB" * 16}).id == "ab" * 16 and Wanted.of({"q": "xy" * 16}).id == ""
    for wrong in ("x", "nan", "1,5"):
        with pytest.raises(UserMistake, match=r"most: .* is no number"):
            Wanted.of({"most": wrong})
