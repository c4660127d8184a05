"""The sidecar tagger: tags that come with an image."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen import taggers
from synthgen.errors import Mistakes
from synthgen.tables import count_tagged
from synthgen.taggers import Tagged, Tagger
from tests.fixtures.tagging import all_tagged, write_tagger

IMAGE = Image.new("RGB", (16, 16), (200, 30, 30))
PATHS = ("animal", "animal/cat", "animal/red_panda", "document", "document/invoice", "document/letter")
pytestmark = pytest.mark.usefixtures("workspace")


def open_sidecar(more: str = "") -> Tagger:
    return taggers.open_tagger(write_tagger(f"engine: sidecar\n{more}"))


def tag_metas(reader: Tagger, *metas: str | None) -> Sequence[Tagged]:
    return all_tagged(reader.tag([reader.prepare(IMAGE, meta) for meta in metas]))


def paths(reader: Tagger, *metas: str | None) -> list[list[str]]:
    """Return the tag paths of each image; all have score 1 and the tagger's name."""
    results = tag_metas(reader, *metas)
    assert all(tag["score"] == 1.0 and tag["tagger"] == "mine" for tagged in results for tag in tagged.tags)
    assert all(tagged.embedding is None for tagged in results)
    return [[tag["path"] for tag in tagged.tags] for tagged in results]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["cat"], ["animal/cat"]),
        (["animal/cat", "document"], ["animal/cat", "document"]),
        ("cat, invoice ,nonsense", ["animal/cat", "document/invoice"]),
        (["Red  Panda", "red_panda", "CAT"], ["animal/red_panda", "animal/cat"]),
        (["red-panda"], ["animal/red_panda"]),
        (["kitty", "Katze", "KATZE"], ["animal/cat"]),
        ({"path": "cat", "score": 1}, ["animal/cat"]),
        (["dog", "animal/dog", "", 5, None, ["cat"], {"name": "cat"}], []),
        ([], []),
        (None, []),
        (5, []),
        ({"cat": 1}, ["animal/cat"]),
        ([{"path": "cat"}, {"path": "letter", "score": None}], ["animal/cat", "document/letter"]),
    ],
)
def test_words_of_the_source_become_tags_of_the_taxonomy(tags: Any, expected: list[str]) -> None:
    reader = open_sidecar("names: {kitty: animal/cat, Katze: animal/cat}\n")
    assert paths(reader, json.dumps({"tags": tags})) == [expected]


@pytest.mark.parametrize(
    "tags",
    [
        {"letter": 0.25, "animal/cat": 0.75, "cat": 0.5},
        [
            {"path": "letter", "score": 0.25},
            {"path": "cat", "score": 0.5},
            {"path": "animal/cat", "score": 0.75, "by": "somebody"},
        ],
    ],
)
def test_the_highest_score_of_a_tag_counts(tags: Any) -> None:
    (tagged,) = tag_metas(open_sidecar(), json.dumps({"tags": tags}))
    assert [(tag["path"], tag["score"]) for tag in tagged.tags] == [("animal/cat", 0.75), ("document/letter", 0.25)]
    assert tagged.left_out == ()


@pytest.mark.parametrize(
    ("meta", "phrase"),
    [
        (None, "no sidecar"),
        ("", "no sidecar"),
        (
            '{"sidecar_unreadable": "JSONDecodeError: Expecting value"}',
            "unreadable sidecar: JSONDecodeError: Expecting value",
        ),
        ("{", "unreadable sidecar: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('["cat"]', "no tags: […] in place of keys with values"),
        ('{"labels": ["cat"], "by": "x"}', "no tags: no key 'tags', only 'labels', 'by'"),
        ("{}", "no tags: no key 'tags'"),
        ('{"tags": 5}', "no tags: 5 under 'tags'"),
        ('{"tags": ["cat", "nonsense_tag", 5, "nonsense_tag", null]}', "no such tag: 'nonsense_tag', 5, null"),
        (
            '{"tags": [["cat"], {"name": "cat"}, {}, "odd\\n\\ud800"]}',
            r"no such tag: […], {'name': …}, {}, 'odd\n\ud800'",
        ),
        (
            '{"tags": {"cat": 7, "kat": 1, "letter": true}}',
            "no such tag: 'kat' (did you mean 'cat'?); bad score: 7 of 'cat', true of 'letter'",
        ),
        (
            '{"tags": [{"path": "cat", "score": "sure"}, {"path": "letter", "score": NaN}]}',
            "bad score: 'sure' of 'cat', NaN of 'letter'",
        ),
        (json.dumps({"tags": ["x" * 50, *("y" * 40,) * 2, "z"]}), f"no such tag: '{'x' * 39}… and 2 more"),
    ],
)
def test_a_phrase_says_why_tags_are_left_out(meta: str | None, phrase: str) -> None:
    (tagged,) = tag_metas(open_sidecar(), meta)
    assert tagged.left_out == (f"mine: {phrase}",)


def test_there_is_no_phrase_if_nothing_is_left_out() -> None:
    metas = ['{"tags": ["cat", ""]}', '{"tags": []}', '{"tags": null}', '{"tags": "cat, letter,"}', '{"tags": {}}']
    assert [tagged.left_out for tagged in tag_metas(open_sidecar(), *metas)] == [()] * 5


def test_the_tags_can_be_under_another_key() -> None:
    assert paths(open_sidecar("key: labels\n"), '{"labels": ["cat"], "tags": ["invoice"]}') == [["animal/cat"]]


@pytest.mark.parametrize(
    "meta",
    [None, "", "{", "[]", '"cat"', "5", "null", "[" * 100_000, '{"tags": ["\\ud800"]}', '{"sidecar_unreadable": "x"}'],
)
def test_source_meta_can_be_anything(meta: str | None) -> None:
    assert paths(open_sidecar(), meta, '{"tags": ["cat"]}') == [[], ["animal/cat"]]


WORDS = st.sampled_from(["cat", "Red Panda", "document/letter", "path", "score"]) | st.text(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
)


@pytest.fixture
def reader() -> Tagger:
    return open_sidecar()


@given(JSON)
def test_no_json_stops_the_reader_and_each_phrase_is_counted(reader: Tagger, value: Any) -> None:
    for meta in (value, {"tags": value}):
        (tagged,) = tag_metas(reader, json.dumps(meta))
        assert all(tag["path"] in PATHS and 0 <= tag["score"] <= 1 for tag in tagged.tags)
        for phrase in tagged.left_out:
            counts = count_tagged([{"outcome": "tagged", "reason": None, "detail": phrase}])
            assert len(phrase) <= 200 and "\n" not in phrase and len(counts) > 2  # tagged, left_out, left_out.reason


def test_an_unknown_tag_in_names_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(Mistakes, match=r"mine\.yaml:4: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'\?"):
        open_sidecar("names: {kitty: animal/kat}\n")
