"""Phrases of templates are found by their words, wherever they stand, and a frequent run that is no phrase is not."""

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.dedup.phrases import Phrase, find_phrases, learn_phrases, split_words

NOUNS = [f"noun{number}" for number in range(40)]
TEMPLATES = (
    "what is the main {} of the {}",
    "in this picture what is the main {} that the {} has",
    "describe the {} in terms of its texture and shape",
    "is the {} bar higher than the {} bar",
)


def questions(seed: int = 0, each: int = 200) -> list[list[str]]:
    draw = random.Random(seed)
    made = [text.format(*draw.choices(NOUNS, k=2)).split() for text in TEMPLATES for _ in range(each)]
    made += [draw.choices([*NOUNS, "the", "of", "is", "what"], k=8) for _ in range(each * 2)]
    draw.shuffle(made)
    return made


def plain_search(texts: Sequence[Sequence[str]], phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Return where phrases stand, by trying each at each place."""
    return [
        (text, number)
        for text, words in enumerate(texts)
        for number, phrase in enumerate(phrases)
        if any(tuple(words[start : start + len(phrase)]) == phrase for start in range(len(words)))
    ]


def test_the_phrases_of_templates_are_found_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    found = {" ".join(phrase) for phrase in learn_phrases(questions(), 4)}
    assert {"what is the main", "in terms of its texture and shape", "bar higher than the"} <= found
    assert not any(noun in phrase.split() for phrase in found for noun in NOUNS), "what fills a slot is no part of one"


def test_a_word_joins_a_phrase_by_how_seldom_they_stand_apart_and_not_by_how_often_they_meet() -> None:
    common = [[*["over", "and", "over"], "the", noun] for noun in NOUNS for _ in range(5)]
    draw = random.Random(0)
    apart = [["the", *[f"other{draw.randrange(1000)} the" for _ in range(2)]] for _ in range(8000)]
    apart = [" ".join(text).split() for text in apart]
    assert learn_phrases(common, 4) == [("over", "and", "over", "the")]
    assert learn_phrases([*common, *apart], 4) == []
    assert learn_phrases([*common, *apart], 3) == [("over", "and", "over")]


def test_what_was_seen_ten_times_is_no_phrase_yet() -> None:
    text = ["how", "many", "of", "these", "are", "there"]
    assert learn_phrases([text] * 10, 2) == []
    assert tuple(text) in learn_phrases([text] * 20, 2)


def test_no_phrase_is_longer_than_ten_words() -> None:
    assert max(map(len, learn_phrases([[f"word{number}" for number in range(25)]] * 50, 2))) == 10


@given(seed=st.randoms())
def test_the_order_of_the_texts_does_not_matter(seed: random.Random) -> None:
    texts = questions(each=30)
    expected = learn_phrases(texts, 3)
    seed.shuffle(texts)
    assert learn_phrases(texts, 3) == expected and len(expected) > 3


@given(
    texts=st.lists(st.lists(st.sampled_from("abcd"), max_size=8), max_size=8),
    phrases=st.sets(st.lists(st.sampled_from("abc"), min_size=2, max_size=4).map(tuple), max_size=6),
)
def test_every_place_of_a_phrase_is_found_within_its_text_alone(texts: list[list[str]], phrases: set[Phrase]) -> None:
    listed = sorted(phrases)
    numbers, which = find_phrases(texts, listed)
    assert list(zip(numbers.tolist(), which.tolist(), strict=True)) == plain_search(texts, listed)


@pytest.mark.parametrize(
    ("text", "words"),
    [("what is it", ["what", "is", "it"]), ("图中的主要物体", ["图中", "的主", "要物", "体"]), ("", [])],
)
def test_two_characters_without_spaces_are_a_word(text: str, words: list[str]) -> None:
    assert split_words(pa.array([text], pa.large_string())) == [words]


def test_nothing_is_found_where_there_is_nothing() -> None:
    assert learn_phrases([], 4) == [] and learn_phrases([["one"]], 4) == []
    assert [len(part) for part in find_phrases([["one"]], [])] == [0, 0]
    assert np.concatenate(find_phrases([], [("a", "b")])).size == 0
