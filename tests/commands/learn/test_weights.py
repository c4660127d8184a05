"""The arithmetic of `synth learn`: the weights that counts give, and the types that are twins."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.commands.learn import TfidfSettings, tfidf, twins
from synthgen.commands.learn.similarity import TypeVectors
from synthgen.config.families import InstructionType

PATHS = ["a/x", "a/y", "b/z", "c"]
KINDS = ["t/one", "t/two", "t/three"]
seeds = st.dictionaries(
    st.builds(
        tfidf.example,
        st.lists(st.sampled_from(PATHS), max_size=3),
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=2),
    ),
    st.integers(1, 30),
    min_size=1,
    max_size=8,
).map(Counter)


def weights_from(seen: Counter[tfidf.Example], settings: TfidfSettings) -> tfidf.Weights:
    return tfidf.learn(seen, tfidf.count(seen), settings)


@given(seeds, st.integers(1, 8))
def test_a_pair_below_the_support_gets_no_weight_under_its_tag(seen: Counter[tfidf.Example], support: int) -> None:
    weights = weights_from(seen, TfidfSettings(min_support=support))
    counts = tfidf.count(seen)
    for tag, asked in weights.items():
        for kind in asked:
            images = (
                counts.of_type[counts.types.index(kind)]
                if tag == tfidf.ALL_IMAGES
                else counts.both[counts.types.index(kind), counts.tags.index(tag)]
            )
            assert images >= support


@given(seeds, st.integers(1, 3), st.floats(0.01, 50))
def test_a_tag_has_few_weights_and_none_above_ten(seen: Counter[tfidf.Example], top_k: int, temperature: float) -> None:
    weights = weights_from(seen, TfidfSettings(top_k, temperature, 1))
    assert all(len(asked) <= top_k for tag, asked in weights.items() if tag != tfidf.ALL_IMAGES)
    assert all(0 < weight <= tfidf.MAX_WEIGHT for asked in weights.values() for weight in asked.values())
    assert not weights or max(weight for asked in weights.values() for weight in asked.values()) == tfidf.MAX_WEIGHT


@given(seeds, st.randoms())
def test_the_order_of_the_rows_does_not_matter(seen: Counter[tfidf.Example], random: Any) -> None:
    shuffled = list(seen.items())
    random.shuffle(shuffled)
    assert weights_from(Counter(dict(shuffled)), TfidfSettings()) == weights_from(seen, TfidfSettings())


MIXED = Counter(
    {
        tfidf.example(["a/x"], ["t/one"]): 60,
        tfidf.example(["a/x"], ["t/two"]): 30,
        tfidf.example(["c"], ["t/two"]): 15,
        tfidf.example(["b/z"], ["t/three"]): 300,
    }
)


def test_a_low_temperature_leaves_a_tag_its_strongest_type_alone_and_a_high_one_makes_all_equal() -> None:
    warm, cold, hot = (weights_from(MIXED, TfidfSettings(temperature=value))["a/x"] for value in (1.0, 0.01, 1000.0))
    assert set(warm) == {"t/one", "t/two"} and list(cold) == ["t/one"]
    assert warm["t/two"] / warm["t/one"] < hot["t/two"] / hot["t/one"] == pytest.approx(1, abs=0.01)


def test_a_tag_that_every_image_has_gets_no_rule() -> None:
    seen = Counter({tfidf.example(["c", "a/x"], ["t/one"]): 40, tfidf.example(["c", "b/z"], ["t/two"]): 40})
    assert "c" not in weights_from(seen, TfidfSettings())
    assert "c" in weights_from(seen, TfidfSettings(is_plain=True))  # the formula as printed misses it


def test_a_leaf_too_rare_to_count_leaves_its_images_to_its_parent() -> None:
    rare = [tfidf.example([f"a/{name}"], ["t/one"]) for name in "pqrstu"]
    seen = Counter({**dict.fromkeys(rare, 2), tfidf.example(["b/z"], ["t/two"]): 12})
    weights = weights_from(seen, TfidfSettings(min_support=3))
    assert list(weights["a"]) == ["t/one"]
    assert not any(tag.startswith("a/") for tag in weights)


def kind(path: str, about: str) -> InstructionType:
    return InstructionType(
        path, about, "text", path.rpartition("/")[2], ("short",), ("What does it say?", "Read the text.")
    )


TWIN_TYPES = {
    "t/extract_text": kind("t/extract_text", "Extract the text of the image."),
    "t/transcribe_text": kind("t/transcribe_text", "Transcribe the text of the image."),
    "t/count": InstructionType(
        "t/count", "How many things there are.", "things", "count", ("short",), ("How many?", "Count them.")
    ),
}
TWIN_SEED = Counter(
    {
        tfidf.example(["b/z"], ["t/extract_text"]): 30,
        tfidf.example(["b/z"], ["t/transcribe_text"]): 20,
        tfidf.example(["a/x"], ["t/count"]): 50,
        tfidf.example(["c"], ["t/count"]): 10,
    }
)


def test_types_alike_in_tags_and_words_are_twins_and_become_one() -> None:
    pairs = twins.find(tfidf.count(TWIN_SEED), TfidfSettings(), TypeVectors(TWIN_TYPES))
    assert [(pair.kept, pair.other) for pair in pairs] == [("t/extract_text", "t/transcribe_text")]
    merged = twins.merge(TWIN_SEED, pairs)
    assert merged.total() == TWIN_SEED.total()
    assert merged[tfidf.example(["b/z"], ["t/extract_text"])] == 50


def test_types_alike_in_tags_alone_are_no_twins() -> None:
    others = {**TWIN_TYPES, "t/transcribe_text": replace(TWIN_TYPES["t/count"], path="t/transcribe_text")}
    assert not twins.find(tfidf.count(TWIN_SEED), TfidfSettings(), TypeVectors(others))
