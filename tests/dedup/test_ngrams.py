"""Texts share a run of words with those of a benchmark, or a whole short one, and common phrases do not count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.dedup import ngrams, plain_texts
from synthgen.dedup.ngrams import RunIndex

LONG = "In which year was the tall lighthouse on the northern cape of the island first lit, according to the plaque?"
SHORT = "What colour is the umbrella of the second woman?"  # nine words
TOO_SHORT = "What colour is the umbrella?"
CHINESE = "图中站在红色公交车旁边的第二个女人手里拿着的雨伞是什么颜色的呢"


def matches(benchmark: list[str], texts: list[str], words: int = 13) -> list[int]:
    found: list[int] = RunIndex.of(plain_texts(benchmark), words).matches(plain_texts(texts)).tolist()
    return found


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        (LONG, 0),
        (LONG.upper().replace(",", " -"), 0),
        ("Please tell me: " + LONG + " Answer in a word.", 0),
        (LONG.replace("northern", "eastern"), -1),  # no 13 words in a row are left
        (LONG.replace("plaque", "sign"), 0),
        (SHORT, 1),
        (f"Look closely. {SHORT}", 1),
        (SHORT.replace("second", "first"), -1),
        (TOO_SHORT, -1),
        (CHINESE, 3),
        ("请看图" + CHINESE, 3),
        (CHINESE[:20], -1),
        ("", -1),
    ],
)
def test_a_text_matches_the_benchmark_that_it_shares_a_run_with(text: str, matched: int) -> None:
    assert matches([LONG, SHORT, TOO_SHORT, CHINESE], [text]) == [matched]


def test_texts_too_short_to_tell_anything_are_counted() -> None:
    assert RunIndex.of(plain_texts([LONG, TOO_SHORT, "Why?", "什么颜色", ""]), 13).short == 4


def test_an_instruction_that_many_texts_of_a_benchmark_have_is_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    instruction = "Answer with the letter of the option from the given choices directly and say nothing else."
    monkeypatch.setattr(ngrams, "COMMON", 3)
    nouns = ["bus", "dog", "cat", "tree"]
    benchmark = [
        f"What is the colour of the {noun} that stands behind the old wooden house? {instruction}" for noun in nouns
    ]
    assert matches(benchmark, [f"How many? {instruction}", f"Tell me more. {benchmark[2]}"]) == [-1, 2]
    assert matches(benchmark[:3], [f"How many? {instruction}"]) == [0], "three may share it"


def test_of_several_benchmarks_texts_with_a_run_the_first_is_named() -> None:
    assert matches(["x y. " + LONG, LONG + " Really?"], [LONG]) == [0]


WORDS = st.lists(st.sampled_from("abcdefg"), max_size=24).map(" ".join)


@given(benchmark=st.lists(WORDS, max_size=4), texts=st.lists(WORDS, max_size=4), words=st.integers(8, 13))
def test_matches_are_those_of_a_plain_loop(benchmark: list[str], texts: list[str], words: int) -> None:
    def runs(text: str, length: int) -> set[tuple[str, ...]]:
        split = text.split()
        return {tuple(split[start : start + length]) for start in range(len(split) - length + 1)}

    def is_shared(theirs: str, ours: str) -> bool:
        length = min(words, len(theirs.split()))
        return length >= ngrams.LEAST_WORDS and bool(runs(theirs, length) & runs(ours, length))

    found = matches(benchmark, texts, words)
    for text, number in zip(texts, found, strict=True):
        assert (number >= 0) == any(is_shared(theirs, text) for theirs in benchmark)
        assert number < 0 or is_shared(benchmark[number], text)


def test_nothing_matches_an_empty_benchmark() -> None:
    assert matches([], [LONG]) == [-1]
    assert matches([LONG], []) == []
