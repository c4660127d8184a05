"""Near texts of a whole set on disk: found by bands, judged exactly, whatever is held in memory and in which parts."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthgen.dedup import greedy, text_set
from synthgen.dedup.minhash import bands_for, signatures
from synthgen.dedup.shingles import Shingles, rare_shingles, shingles
from synthgen.dedup.sketches import may_reach, sketch
from synthgen.dedup.text_set import TextSet
from tests.dedup.test_dedup import jaccard, many_questions, plain_loop

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text_set_of(folder: Path, texts: Sequence[str], threshold: float = 0.8, part: int = 1 << 20) -> TextSet:
    """Return a set of these texts, added in parts."""
    made = TextSet(folder, threshold)
    for start in range(0, len(texts), part):
        made.add(pa.array(texts[start : start + part], pa.large_string()))
    return made


def representatives(folder: Path, texts: Sequence[str], threshold: float = 0.8, part: int = 1 << 20) -> list[int]:
    found: list[int] = text_set_of(folder, texts, threshold, part).representatives(np.arange(len(texts))).tolist()
    return found


def template(count: int, form: str) -> list[str]:
    """Return texts that differ in the words of a slot alone."""
    draw = random.Random(1)
    return [form.format("".join(draw.choices(LETTERS, k=4)), "".join(draw.choices(LETTERS, k=4))) for _ in range(count)]


def test_nearly_all_near_texts_are_found_and_no_others_are_dropped(tmp_path: Path) -> None:
    texts = many_questions(600)
    expected = plain_loop(texts, lambda left, right: jaccard(left, right) >= 0.8)
    found = representatives(tmp_path / "set", texts)
    assert sum(left != right for left, right in zip(found, expected, strict=True)) <= 2
    assert len(set(expected)) < 580
    for number, other in enumerate(found):
        assert jaccard(texts[number], texts[other]) >= 0.8
        assert found[other] == other


@pytest.mark.parametrize(
    ("form", "near"),
    [
        ("the image shows a {} in front of a large building during the day with several people walking", True),
        ("what is the colour of the {} {} in the image", False),
    ],
)
def test_the_texts_of_a_template_are_judged_as_a_plain_loop_does(
    tmp_path: Path, form: str, near: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Very many share a band, so finer keys are made of those that are not near, and blocks of the others are cut."""
    made = list[int]()

    def spy(sets: Shingles, items: greedy.Indexes, threshold: float) -> greedy.Words:
        made.append(len(items))
        return rare_shingles(sets, items, threshold)

    monkeypatch.setattr(text_set, "rare_shingles", spy)
    monkeypatch.setattr(greedy, "CROWD", 4)
    monkeypatch.setattr(greedy, "FEW_EDGES", 8)
    texts = template(300, form)
    expected = plain_loop(texts, lambda left, right: jaccard(left, right) >= 0.8)
    found = representatives(tmp_path / "set", texts)
    wrong = sum(left != right for left, right in zip(found, expected, strict=True))
    assert wrong <= 2 and (len(set(found)) < 20) == near
    assert made and max(made) > 4


WORDS = st.lists(st.sampled_from(["bus", "red", "dog", "what", "is", "the", "a", "x"]), max_size=8).map(" ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(texts=st.lists(WORDS, max_size=40), part=st.integers(1, 40), held=st.integers(1, 50), seed=st.randoms())
def test_the_result_depends_neither_on_parts_nor_on_memory_nor_on_the_order_of_adding(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], part: int, held: int, seed: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("sets")
    whole = representatives(folder / "whole", texts)
    order = list(range(len(texts)))
    seed.shuffle(order)  # the text `number` is added as the order[number]-th
    shuffled = [texts[order.index(place)] for place in range(len(texts))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_set, "KEYS_AT_ONCE", held)
        patch.setattr(text_set, "TEXTS_AT_ONCE", held)
        patch.setattr(greedy, "FIRST_BLOCK", held)
        patch.setattr(greedy, "PAIRS_AT_ONCE", held)
        patch.setattr(greedy, "FEW_EDGES", held)
        patch.setattr(greedy, "CROWD", held)
        assert representatives(folder / "parts", texts, part=part) == whole
        added = text_set_of(folder / "shuffled", shuffled, part=part)
        assert added.representatives(np.array(order, np.int64)).tolist() == whole


def test_fixed_texts_are_kept_though_near_to_each_other_and_represent_later_ones(tmp_path: Path) -> None:
    texts = ["what colour is the large bus", "what colour is the large bus on", "how many dogs are there", "x"]
    made = text_set_of(tmp_path / "set", [*texts, texts[1], "how many dogs are there now"])
    assert made.representatives(np.arange(6)).tolist() == [0, 0, 2, 3, 0, 2]
    assert made.representatives(np.arange(6), fixed=2).tolist()[1:] == [1, 2, 3, 1, 2]
    assert made.representatives(np.array([5, 4, 2])).tolist() == [0, 1, 0], "only texts of the order are compared"


def test_similarities_are_exact(tmp_path: Path) -> None:
    texts = many_questions(50)
    left, right = np.arange(0, 50, 2), np.arange(1, 50, 2)
    found = text_set_of(tmp_path / "set", texts).similarities(left, right)
    assert found.tolist() == [jaccard(texts[a], texts[b]) for a, b in zip(left, right, strict=True)]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["a"], ["🙂", "🙂🙂"], ["\ud800", "x" * 100_000, "x" * 99_999]])
def test_odd_texts_are_texts(tmp_path: Path, texts: list[str]) -> None:
    odd = [text for text in texts if text != "\ud800"]  # Arrow holds no lone surrogate
    assert len(representatives(tmp_path / "set", odd)) == len(odd)
    assert len(representatives(tmp_path / "equal", odd, threshold=1.0)) == len(odd)


TEXTS = st.lists(st.text(alphabet="abc ", max_size=40), min_size=2, max_size=8)


@given(texts=TEXTS, threshold=st.sampled_from([0.5, 0.8, 0.95]))
def test_near_texts_share_one_of_their_rarest_shingles(texts: list[str], threshold: float) -> None:
    words = rare_shingles(shingles(texts), np.arange(len(texts)), threshold)
    keys = [{int(word) >> 32 for word in words if int(word) & 0xFFFFFFFF == number} for number in range(len(texts))]
    for number in range(len(texts)):
        for other in range(number):
            if jaccard(texts[number], texts[other]) >= threshold:
                assert keys[number] & keys[other]


@given(texts=TEXTS, threshold=st.sampled_from([0.5, 0.8, 0.95]))
def test_the_parities_and_sizes_of_a_sketch_reject_no_near_pair(texts: list[str], threshold: float) -> None:
    sets = shingles(texts)
    sketches = sketch(sets, signatures(sets, bands_for(threshold).permutations))
    sketches["bits"] = 0  # these may fail, by their nature an estimate
    left, right = np.triu_indices(len(texts), 1)
    passes = may_reach(sketches, left, right, threshold, bands_for(threshold).permutations)
    near = np.array([jaccard(texts[a], texts[b]) >= threshold for a, b in zip(left, right, strict=True)])
    assert passes[near].all()


def test_sketches_tell_most_far_pairs_apart() -> None:
    texts = template(200, "what is the colour of the {} {} in the image")
    sets = shingles(texts)
    sketches = sketch(sets, signatures(sets, 140))
    left, right = np.triu_indices(len(texts), 1)
    assert may_reach(sketches, left, right, 0.8, 140).mean() < 0.05
