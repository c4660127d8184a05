"""Ids depend on content alone, and a table takes no row of which it would lose a value."""

import hashlib
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen import tables

TEXT = st.text(max_size=20)
PARTS = st.lists(TEXT, max_size=5)


@given(PARTS, PARTS)
def test_two_lists_of_parts_have_one_id_only_if_they_are_equal(first: list[str], second: list[str]) -> None:
    assert (tables.make_id(*first) == tables.make_id(*second)) == (first == second)


@given(PARTS, st.data())
def test_moving_the_border_between_parts_makes_another_id(parts: list[str], data: st.DataObject) -> None:
    joined = "".join(parts)
    cut = data.draw(st.integers(0, len(joined)))
    moved = [joined[:cut], joined[cut:]]
    assert moved == parts or tables.make_id(*moved) != tables.make_id(*parts)


def test_an_id_is_128_bits_of_sha256_over_length_prefixed_parts() -> None:
    data = (2).to_bytes(8, "big") + b"ab" + (2).to_bytes(8, "big") + "ü".encode()
    assert tables.make_id("ab", "ü") == hashlib.sha256(data).hexdigest()[:32]


def test_ids_stay_the_same_in_every_release() -> None:
    """A release that computes another id continues no run: it asks everything again."""
    ids = {
        "object": tables.object_id("s3://bucket/a.jpg", "etag", 3),
        "image": tables.image_id(b"bytes"),
        "assignment": tables.assignment_id("image", "family/type", "short", "English", 1),
        "pair": tables.pair_id("assignment", "recipe", 0),
        "sample": tables.sample_id("image", ["p1", "p2"]),
    }
    assert ids == {
        "object": "4a9e2d67f77f89473c5c451b88283944",
        "image": "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9",
        "assignment": "04e851b45da793f05e22a586985e407a",
        "pair": "6dfb1bdba0c2f0abb6e529fe2926b466",
        "sample": "e1a70bb1cf7ab5906c661abeb0f4699a",
    }


def test_an_id_does_not_depend_on_the_process() -> None:
    ids = "tables.assignment_id('image', 'type', 'short', 'English', 0), tables.draw(7, 'a')"
    command = [sys.executable, "-c", f"from synthgen import tables; print({ids})"]
    printed = {
        subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in "12"
    }
    assert printed == {f"{tables.assignment_id('image', 'type', 'short', 'English', 0)} {tables.draw(7, 'a')}\n"}


@given(TEXT, TEXT, st.none() | st.integers(0, 99))
def test_an_object_is_its_uri_its_version_and_its_row(uri: str, version: str, row: int | None) -> None:
    name = tables.object_id(uri, version, row)
    others = [
        tables.object_id(uri + "x", version, row),
        tables.object_id(uri, version + "x", row),
        tables.object_id(uri, version, (row or 0) + 1),
    ]
    assert name not in others
    assert tables.object_id(uri, version, None) != tables.object_id(uri, version, 0)


def test_ids_of_different_kinds_are_never_equal() -> None:
    same = "x"
    ids = [
        tables.object_id(same, same, None),
        tables.pair_id(same, same, 0),
        tables.sample_id(same, [same, "0"]),
        tables.make_id(same, same, "0"),
    ]
    assert len(set(ids)) == len(ids)


@given(st.integers(), PARTS)
def test_a_draw_is_between_0_and_1_and_repeats(seed: int, parts: list[str]) -> None:
    number = tables.draw(seed, *parts)
    assert 0 < number < 1
    assert number == tables.draw(seed, *parts)


def test_draws_are_uniform() -> None:
    counts = [0] * 20
    for number in range(20_000):
        counts[int(tables.draw(1, str(number)) * 20)] += 1
    chi_square = sum((count - 1000) ** 2 / 1000 for count in counts)
    assert chi_square < 43.8  # 19 degrees of freedom: one seed in a thousand would exceed it, and this seed is fixed


def test_a_key_that_the_table_lacks_is_refused_and_a_missing_one_is_null() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
    with pytest.raises(ValueError, match="lacks: \\['c'\\]"):
        tables.table([{"a": "x"}, {"a": "y", "c": 1}], schema)
    assert tables.table([{"a": "x"}], schema).to_pylist() == [{"a": "x", "b": None}]
    assert tables.table([], schema).schema == schema


def test_no_two_outcomes_or_reasons_have_one_name() -> None:
    # `synth status` adds them up by name.
    for names in (
        tables.TAG_OUTCOMES,
        tables.QUARANTINE_REASONS,
        tables.PLAN_OUTCOMES,
        tables.GENERATE_OUTCOMES,
        tables.FAILURE_REASONS,
    ):
        assert names and len(set(names)) == len(names)


def test_changes_of_counts_are_sorted_and_leave_out_what_stays() -> None:
    changes = tables.changed_counts({"pair": 3, "failed": 2, "kept": 1}, {"pair": 5, "kept": 1, "a": 1})
    assert list(changes.items()) == [("a", 1), ("failed", -2), ("pair", 2)]
    assert tables.changed_counts({}, {}) == {}


def test_every_bucket_of_objects_is_used() -> None:
    assert {tables.bucket_of(str(number)) for number in range(5000)} == set(range(tables.BUCKETS))


def test_stages_are_counted_as_users_type_them() -> None:
    assert tables.stages_between("plan", "select") == ["plan", "generate", "score", "select"]
    assert tables.stages_between("tag", "tag") == ["tag"] and tables.stages_between("pack", "tag") == []
    assert tables.stages_after("generate") == ["score", "select", "pack"] and tables.stages_after("pack") == []
