"""Near duplicates are dropped first come, first kept, as a plain loop over exact comparisons decides."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import datasketch
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synthgen.dedup import greedy, near_images, near_texts, plain_texts, text_set
from synthgen.dedup import shingles as shingles_module
from synthgen.dedup import texts as texts_module
from synthgen.dedup.images import key_masks
from synthgen.dedup.minhash import PERMUTATIONS, Bands, bands_for, signatures
from synthgen.dedup.shingles import SHINGLE, shingles

Near = Callable[[Any, Any], bool]


def plain_loop(items: Sequence[Any], is_near: Near) -> list[int]:
    """Apply the rule itself: the earliest kept item that is near represents an item."""
    kept: list[int] = []
    representatives = []
    for number, item in enumerate(items):
        representative = next((other for other in kept if is_near(items[other], item)), number)
        representatives.append(representative)
        kept += [number] if representative == number else []
    return representatives


def within(bits: int) -> Near:
    return lambda left, right: (left ^ right).bit_count() <= bits


def tokens(text: str) -> set[str]:
    padded = f" {text} ".ljust(SHINGLE)
    return {padded[start : start + SHINGLE] for start in range(len(padded) - SHINGLE + 1)}


def jaccard(left: str, right: str) -> float:
    return len(tokens(left) & tokens(right)) / len(tokens(left) | tokens(right))


# --- images -----------------------------------------------------------------------------------------------------------

FEW_BITS = st.lists(st.integers(0, 63), max_size=12).map(lambda bits: sum(1 << bit for bit in set(bits)))
HASHES = st.lists(st.one_of(FEW_BITS, st.integers(0, (1 << 64) - 1)), max_size=60)


@given(hashes=HASHES, bits=st.integers(0, 16))
@example(hashes=[0, (1 << 64) - 1, 1], bits=4)
def test_images_are_dropped_first_come(hashes: list[int], bits: int) -> None:
    assert near_images(np.array(hashes, np.uint64), bits).tolist() == plain_loop(hashes, within(bits))


@given(hashes=HASHES, cut=st.integers(0, 60), bits=st.integers(0, 8))
def test_images_kept_before_represent_new_ones_as_if_all_had_come_at_once(
    hashes: list[int], cut: int, bits: int
) -> None:
    whole = near_images(np.array(hashes, np.uint64), bits)
    before = [index for index in range(min(cut, len(hashes))) if whole[index] == index]
    rest = near_images(
        np.array(hashes[cut:], np.uint64), bits, kept=np.array([hashes[index] for index in before], np.uint64)
    )
    back = [before[-1 - index] if index < 0 else index + cut for index in rest.tolist()]
    assert back == whole[cut:].tolist()


def test_kept_images_stay_even_if_they_are_near_to_one_another() -> None:
    assert near_images(np.array([3, 255], np.uint64), 1, kept=np.array([0, 1, 255, 255], np.uint64)).tolist() == [
        -2,
        -3,
    ]


@pytest.mark.parametrize("bits", [1, 4, 7])
@pytest.mark.parametrize("count", [10, 10**6])
def test_near_hashes_share_a_key_whatever_the_number_of_blocks(bits: int, count: int) -> None:
    masks = key_masks(bits, count)
    for seed in range(200):
        flipped = np.uint64(sum(1 << bit for bit in random.Random(seed).sample(range(64), bits)))
        assert any(not flipped & mask for mask in masks)


def test_a_cluster_too_dense_to_hold_is_cut_in_two_and_decided_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    hashes = [sum(1 << bit for bit in draw.sample(range(64), draw.randint(0, 4))) for _ in range(600)]
    expected = plain_loop(hashes, within(4))
    for most in (1, 10, 1000):
        monkeypatch.setattr(greedy, "MOST_EDGES", most)
        monkeypatch.setattr(greedy, "PAIRS_AT_ONCE", 64)
        assert near_images(np.array(hashes, np.uint64), 4).tolist() == expected


# --- texts ------------------------------------------------------------------------------------------------------------

WORDS = [
    "what",
    "which",
    "is",
    "are",
    "the",
    "a",
    "colour",
    "color",
    "of",
    "on",
    "left",
    "right",
    "bus",
    "dog",
    "cat",
    "3",
    "4",
    "red",
]
QUESTIONS = st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=40)


@given(
    texts=QUESTIONS,
    groups=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    threshold=st.sampled_from([0.5, 0.8, 1.0]),
)
def test_texts_are_dropped_first_come_within_their_group(texts: list[str], groups: list[int], threshold: float) -> None:
    items = list(zip(groups, texts, strict=False))
    expected = plain_loop(items, lambda left, right: left[0] == right[0] and jaccard(left[1], right[1]) >= threshold)
    assert near_texts(texts, groups[: len(texts)], threshold).tolist() == expected


def many_questions(count: int) -> list[str]:
    draw, made = random.Random(0), list[str]()
    for _ in range(count):
        words = (
            draw.choice(made).split()
            if made and draw.random() < 0.3
            else draw.choices(WORDS * 3, k=draw.randint(6, 14))
        )
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        made.append(" ".join(words))
    return made


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_minhash_drops_nearly_all_near_texts_and_no_others(threshold: float) -> None:
    texts = many_questions(700)
    kept = near_texts(texts, None, threshold) == np.arange(len(texts))
    sets = [tokens(text) for text in texts]
    right = missed = 0
    for later in range(len(texts)):
        near_ones = [
            other
            for other in range(later)
            if len(sets[other] & sets[later]) >= threshold * len(sets[other] | sets[later])
        ]
        assert kept[later] or near_ones, "dropped, and no earlier text is near"
        right += not kept[later]
        missed += bool(kept[later] and any(kept[other] for other in near_ones))
    assert right > 50
    assert missed <= 0.01 * right


def test_large_and_small_groups_are_decided_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = many_questions(600)
    groups: list[Hashable] = [f"image {number % 7}" for number in range(600)]
    small = near_texts(texts, groups, 0.7).tolist()
    monkeypatch.setattr(texts_module, "SMALL_GROUP", 600)
    exact = near_texts(texts, groups, 0.7).tolist()
    assert sum(left != right for left, right in zip(small, exact, strict=True)) <= 2
    assert len(set(exact)) < 600


def test_the_result_does_not_depend_on_how_much_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = many_questions(300)
    expected = near_texts(texts, None, 0.7).tolist()
    groups = [number % 40 for number in range(300)]
    grouped = near_texts(texts, groups, 0.7).tolist()
    monkeypatch.setattr(text_set, "TEXTS_AT_ONCE", 7)
    monkeypatch.setattr(text_set, "KEYS_AT_ONCE", 50)
    monkeypatch.setattr(greedy, "FIRST_BLOCK", 10)
    monkeypatch.setattr(texts_module, "GROUPED_AT_ONCE", 11)
    monkeypatch.setattr(shingles_module, "PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(greedy, "PAIRS_AT_ONCE", 13)
    monkeypatch.setattr(greedy, "MOST_EDGES", 5)
    assert near_texts(texts, None, 0.7).tolist() == expected
    assert near_texts(texts, groups, 0.7).tolist() == grouped


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("What is it?", "what is it"),
        ("\ufb01ne  day", "Fine day."),
        ("\uff37hat\uff1f", "what"),
        ("「これは何」", "これは何"),
    ],
)
def test_case_punctuation_and_compatible_characters_make_no_difference(left: str, right: str) -> None:
    assert near_texts(plain_texts([left, right]), None, 1.0).tolist() == [0, 0]


def test_numbers_and_signs_do_make_a_difference() -> None:
    assert near_texts(plain_texts(["3 + 4", "3 - 4", "3 + 5", "₤ 3 + 4"]), None, 1.0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["a"], ["🙂", "🙂🙂"], ["x" * 100_000, "x" * 99_999]])
def test_odd_texts_are_texts(texts: list[str]) -> None:
    assert len(near_texts(texts, None, 0.8)) == len(texts)
    assert plain_texts(texts).to_pylist() == [text.strip() for text in texts]


@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_shingles_are_the_sets_of_runs(texts: list[str]) -> None:
    sets = shingles(texts)
    assert np.diff(sets.starts).tolist() == [len(tokens(text)) for text in texts]
    runs = shingles(texts, distinct=False)
    for index in range(len(texts)):
        as_set = set(runs.hashes[runs.starts[index] : runs.starts[index + 1]].tolist())
        assert sorted(as_set) == sets.hashes[sets.starts[index] : sets.starts[index + 1]].tolist()


def test_signatures_are_those_of_datasketch() -> None:
    sets = shingles(["what is it", "which colour has the bus"])
    for index, signature in enumerate(signatures(sets, 16).T):
        theirs = datasketch.MinHash(num_perm=16, hashfunc=lambda number: number, scheme="affine32")
        theirs.update_batch([int(number) >> 8 for number in sets.hashes[sets.starts[index] : sets.starts[index + 1]]])
        assert signature.tolist() == theirs.hashvalues.tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_share_at_the_threshold_as_often_as_promised(threshold: float) -> None:
    bands = bands_for(threshold)
    assert bands.permutations <= PERMUTATIONS
    assert 0.99 <= bands.found(threshold) == 1 - (1 - threshold**bands.rows) ** bands.count
    assert Bands(bands.count - 1, bands.rows).found(threshold) < 0.99, "no band is there for nothing"
