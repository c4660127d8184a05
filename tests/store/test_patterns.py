"""Patterns: braces stand for the names that a shell would make of them, beside the wildcards of a glob."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.store.patterns import glob_regex, named_in_braces, split_pattern, without_braces


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("{00..11}.tar", ("00.tar", "09.tar", "11.tar"), ("0.tar", "12.tar", "000.tar")),
        ("{8..11}.tar", ("8.tar", "11.tar"), ("08.tar", "7.tar")),
        ("{train,val}-{1..2}/*.tar", ("train-1/x.tar", "val-2/.tar"), ("test-1/x.tar", "train-3/x.tar")),
        ("{*.tar,x?.zip}", ("a.tar", "xy.zip"), ("a/b.tar", "x.zip")),
        ("a{b}.tar", ("a{b}.tar",), ("ab.tar",)),
        ("**/{1..3}.tar", ("a/b/2.tar", "3.tar"), ("4.tar",)),
    ],
)
def test_braces_match_their_names_and_no_others(
    pattern: str, matching: tuple[str, ...], other: tuple[str, ...]
) -> None:
    matches = glob_regex(pattern).match
    assert all(map(matches, matching)) and not any(map(matches, other))
    assert all(map(glob_regex(without_braces(pattern)).match, matching))


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 6))
def test_a_range_matches_what_it_counts(first: int, more: int, width: int) -> None:
    pattern = f"{{{str(first).zfill(width)}..{first + more}}}"
    names = named_in_braces(pattern)
    assert names == {str(number).zfill(len(str(first).zfill(width))) for number in range(first, first + more + 1)}
    matches = glob_regex(pattern).match
    assert all(map(matches, names)) and not matches(str(first + more + 1)) and not matches("x")


def test_names_in_braces_are_known_only_where_nothing_else_is_a_pattern_and_they_are_few() -> None:
    assert named_in_braces("{a,b}/{1..2}.tar") == {"a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"}
    assert all(
        named_in_braces(pattern) == set() for pattern in ("a.tar", "{a,b}*", "{a*,b}", "{0..100000}", "[ab]{1,2}")
    )


def test_a_range_may_be_of_any_length_and_must_count_up() -> None:
    begun = time.process_time()
    assert glob_regex("{0..999999999999999999}").match("123456789012345678")
    assert time.process_time() - begun < 1
    with pytest.raises(ValueError, match=r"\{2\.\.1\} does not count up"):
        glob_regex("{2..1}")


def test_a_name_with_braces_that_hold_no_choice_is_no_pattern() -> None:
    assert split_pattern("/a/{b}/c", lambda _: False) == ("/a/{b}/c", None)
    assert split_pattern("/a/{b,c}/d", lambda _: False) == ("/a", "{b,c}/d")
    assert split_pattern("/a/{b,c}/d", lambda path: path == "/a/{b,c}") == ("/a/{b,c}/d", None)
