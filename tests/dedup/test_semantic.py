"""Near embeddings are found within cells of k-means: all of them in small sets, nearly all in large ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.dedup import near_embeddings, semantic
from synthgen.dedup.greedy import Indexes, Words
from tests.dedup.test_dedup import plain_loop


def made(count: int, copies: int, seed: int = 0) -> semantic.Embeddings:
    """Return embeddings of some topics, the last of them noisy copies of others, of a cosine of about .98."""
    draw = np.random.default_rng(seed)
    topics = draw.standard_normal((20, 64))
    rows = topics[draw.integers(0, 20, count)] + draw.standard_normal((count, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    noise = draw.standard_normal((copies, 64)) / 8
    rows[count - copies :] = rows[draw.integers(0, count - copies, copies)] + 0.2 * noise
    return np.asarray(rows, np.float16)


def cosines(embeddings: semantic.Embeddings) -> semantic.Vectors:
    vectors = semantic.unit(embeddings)
    return np.asarray(vectors @ vectors.T)


def keys_of(count: int) -> Words:
    return np.random.default_rng(1).integers(0, 1 << 63, count, dtype=np.uint64)


@given(seed=st.integers(0, 10), fixed=st.integers(0, 10), threshold=st.sampled_from([0.9, 0.97]))
def test_small_sets_are_compared_in_full(seed: int, fixed: int, threshold: float) -> None:
    embeddings = made(40, 15, seed)
    near = cosines(embeddings)
    expected = plain_loop(range(40), lambda left, right: bool(near[left, right] >= threshold - 1e-5))
    found = near_embeddings(embeddings, threshold, keys_of(40))
    assert found.tolist() == expected and len(set(expected)) < 40
    stay = near_embeddings(embeddings, threshold, keys_of(40), fixed)
    assert stay[:fixed].tolist() == list(range(fixed))
    assert all(near[number, other] >= threshold - 1e-5 for number, other in enumerate(stay.tolist()))


def test_large_sets_lose_few_near_images_and_drop_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "EXACT", 100)
    monkeypatch.setattr(semantic, "A_CELL", 100)
    embeddings = made(2000, 400)
    near = cosines(embeddings)
    exact = plain_loop(range(2000), lambda left, right: bool(near[left, right] >= 0.97))
    found = near_embeddings(embeddings, 0.97, keys_of(2000))
    assert min(near[number, other] for number, other in enumerate(found.tolist())) >= 0.9699
    dropped, expected = (int((np.asarray(which) != np.arange(2000)).sum()) for which in (found, exact))
    assert expected > 350 and dropped >= 0.97 * expected


def test_the_cells_depend_on_the_images_and_not_on_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "EXACT", 100)
    monkeypatch.setattr(semantic, "A_CELL", 100)
    embeddings, keys = made(1000, 0), keys_of(1000)
    order = np.random.default_rng(2).permutation(1000)

    def cells(rows: Indexes) -> set[tuple[int, ...]]:
        found = semantic._cells(lambda images: semantic.unit(embeddings[rows[images]]), keys[rows])
        return {tuple(sorted(rows[members].tolist())) for members in found}

    assert cells(np.arange(1000)) == cells(order)


def test_a_crowd_of_copies_is_represented_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "MOST_NEAR", 2)
    embeddings = np.repeat(made(1, 0), 300, axis=0)
    assert near_embeddings(embeddings, 0.97, keys_of(300)).tolist() == [0] * 300


def test_images_without_an_embedding_are_near_to_none_and_rows_may_be_in_any_order() -> None:
    one = made(1, 0)
    embeddings = np.concatenate([np.zeros((2, 64), np.float16), one, made(2, 0, seed=3), one])
    assert near_embeddings(embeddings, 0.97, keys_of(6)).tolist() == [0, 1, 2, 3, 4, 2]
    rows = np.array([5, 4, 2])
    assert near_embeddings(embeddings, 0.97, keys_of(3), rows=rows).tolist() == [0, 1, 0]
    assert near_embeddings(embeddings[:0], 0.97, keys_of(0)).tolist() == []
