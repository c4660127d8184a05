"""The licence of an image in its metadata, whatever the source put there."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from synthgen.ingest.rights import license_of
from tests.fixtures.mutations import JSON_VALUES


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("CC0", "CC0-1.0"),
        (" MIT\n", "MIT"),
        (4, "4"),
        ({"name": "CC BY", "url": "é"}, '{"name": "CC BY", "url": "é"}'),
        (["a", "b"], '["a", "b"]'),
        (float("nan"), None),
        ([float("inf")], None),
        (True, None),
        ("", None),
        ({}, None),
        (None, None),
    ],
)
def test_a_licence_is_text_or_what_states_one_as_json(value: Any, text: str | None) -> None:
    assert license_of(json.dumps({"license": value})) == license_of(json.dumps({"licence": value})) == text


def test_the_other_spelling_counts_where_the_first_states_nothing() -> None:
    assert license_of(json.dumps({"license": float("nan"), "licence": "MIT"})) == "MIT"


@settings(max_examples=80)
@given(JSON_VALUES)
def test_any_metadata_gives_text_that_can_be_stored_or_none(value: Any) -> None:
    for meta in (value, {"license": value}, {"licence": [value]}):
        (license_of(json.dumps(meta)) or "").encode()


@pytest.mark.parametrize("meta", [None, "", "{", "[" * 100_000, "9" * 5_000, "null", "7"], ids=range(7))
def test_metadata_that_is_no_json_states_no_licence(meta: str | None) -> None:
    assert license_of(meta) is None
