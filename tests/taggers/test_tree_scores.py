"""From scores of texts to scores and tags of nodes: groups, gates, limits, and leaves below their thresholds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.taxonomy import Node, Tree
from synthgen.taggers.tree_scores import Doubles, Flags, Limits, TreeScores

PATHS = ("a", "a/b", "a/b/x", "a/b/y", "a/c", "d", "d/z", "d/w", "e")
LEAVES = {"a/b/x", "a/b/y", "a/c", "d/z", "d/w", "e"}


def tree_of(*paths: str) -> Tree:
    return Tree({
        path: Node(path, "x", children=tuple(child for child in paths if child.rpartition("/")[0] == path))
        for path in paths
    })  # fmt: skip


NODES = TreeScores(tree_of(*PATHS))
HAS_TEXT: Flags = np.array([path in LEAVES for path in PATHS])
EVERY: Flags = np.ones(len(PATHS), dtype=bool)


def logit(**probabilities: float) -> Doubles:
    """Return one image's logits, given probabilities by the last name of a path; 0.0001 for the others."""
    values = np.array([[probabilities.get(path.rpartition("/")[2], 1e-4) for path in PATHS]])
    logits: Doubles = np.log(values / (1 - values))
    return logits


def by_path(scores: Any) -> dict[str, float]:
    return dict(zip(PATHS, np.asarray(scores).ravel().tolist(), strict=True))


def select(scores: dict[str, float], threshold: float = 0.05, **limits: Any) -> list[str]:
    row = np.array([scores.get(path, 0.0) for path in PATHS], np.float32)
    chosen = NODES.select(row, np.full(len(PATHS), threshold), Limits(**({"most": 16} | limits)))
    return [PATHS[index] for index in chosen]


# --- scores of groups ------------------------------------------------------------------------------------------------


def test_a_group_has_the_best_score_below_it_on_every_level() -> None:
    scores = by_path(NODES.independent(logit(x=0.3, y=0.1, c=0.2), HAS_TEXT, gate=0))
    assert scores["a/b/x"] == pytest.approx(0.3) and scores["a/b"] == scores["a"] == scores["a/b/x"]
    assert scores["d"] == pytest.approx(1e-4)


@given(st.lists(st.floats(-30, 30), min_size=len(PATHS), max_size=len(PATHS)))
def test_a_group_is_at_least_as_sure_as_what_is_below_it_and_no_surer_than_the_surest(logits: list[float]) -> None:
    scores = by_path(NODES.independent(np.array([logits]), HAS_TEXT, gate=0))
    for path in set(PATHS) - LEAVES:
        assert scores[path] == max(scores[leaf] for leaf in LEAVES if leaf.startswith(f"{path}/"))


def test_more_leaves_of_the_same_low_score_make_no_group_surer() -> None:
    """1 - prod(1 - p) would give .095, and with it every image would have this group."""
    many = tree_of("a", *(f"a/x{number}" for number in range(200)))
    nodes, chance = TreeScores(many), np.log(0.0005 / 0.9995)
    scores = nodes.independent(np.full((1, 201), chance), np.array([False] + [True] * 200), gate=0)
    assert scores[0, 0] == pytest.approx(0.0005)


def test_the_own_text_of_a_group_counts_where_it_is_surer_than_what_is_below() -> None:
    scores = by_path(NODES.independent(logit(a=0.8, x=0.3), EVERY, gate=0))
    assert scores["a"] == pytest.approx(0.8) and scores["a/b"] == pytest.approx(0.3)


def test_siblings_share_their_parents_probability_in_a_model_whose_texts_compete() -> None:
    scores = by_path(NODES.among_siblings(logit(x=0.9, y=0.5, z=0.2), HAS_TEXT, gate=0))
    assert scores["a"] + scores["d"] + scores["e"] == pytest.approx(1) and scores["a"] > 0.9
    assert scores["a/b"] + scores["a/c"] == pytest.approx(scores["a"])
    assert scores["a/b/x"] + scores["a/b/y"] == pytest.approx(scores["a/b"])


def test_a_node_without_any_text_has_no_score() -> None:
    seen = np.array([path in LEAVES - {"d/z", "d/w"} for path in PATHS])
    for ways in (NODES.independent, NODES.among_siblings):
        scores = by_path(ways(logit(z=0.9), seen, 0.001))
        assert scores["d"] == scores["d/z"] == scores["d/w"] == 0 and scores["a"] > 0


# --- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [NODES.independent, NODES.among_siblings])
def test_below_a_root_whose_text_does_not_fit_nothing_counts(way: Any) -> None:
    """The photograph of a volcano is no volcano plot, whatever the name of that plot scores."""
    logits = logit(a=0.4, x=0.2, d=1e-5, z=0.9)
    open_, closed = by_path(way(logits, EVERY, 0)), by_path(way(logits, EVERY, 0.01))
    assert open_["d/z"] > 0.001 and open_["d"] >= open_["d/z"]
    assert closed["d/z"] == closed["d/w"] == 0 and closed["d"] < open_["d"] and closed["a/b/x"] > 0


def test_a_root_without_a_text_is_no_gate() -> None:
    has_text = HAS_TEXT | np.array([path == "a" for path in PATHS])
    scores = by_path(NODES.independent(logit(a=0.9, z=0.2), has_text, gate=0.9))
    assert scores["d/z"] == scores["d"] == pytest.approx(0.2)


def test_a_gate_is_a_ratio_so_low_scores_of_all_roots_close_none() -> None:
    scores = by_path(NODES.independent(logit(a=1e-6, d=1e-6, e=1e-6, z=0.2, x=0.2), EVERY, gate=0.5))
    assert scores["d/z"] == scores["a/b/x"] == pytest.approx(0.2)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_groups_above_a_tag_do_not_use_up_its_place() -> None:
    scores = {"a": 0.9, "a/b": 0.9, "a/b/x": 0.9, "d": 0.8, "d/z": 0.8, "d/w": 0.7}
    assert select(scores, most=2) == ["a", "a/b", "a/b/x", "d", "d/z"]
    assert select(scores, most=1) == ["a", "a/b", "a/b/x"]


def test_a_group_stands_for_leaves_of_which_none_is_sure() -> None:
    assert select({"a": 0.3, "a/b": 0.3, "a/b/x": 0.04}) == ["a", "a/b"]
    assert select({"a": 0.04, "a/b/x": 0.04}) == []


def test_no_more_leaves_of_a_parent_are_kept_than_configured() -> None:
    scores = {"a": 0.9, "a/b/x": 0.9, "a/b/y": 0.8, "d/z": 0.7, "d/w": 0.6, "e": 0.5}
    assert select(scores, most_a_parent=1) == ["a", "a/b/x", "d/z", "e"]
    assert select(scores) == ["a", "a/b/x", "a/b/y", "d/z", "d/w", "e"]


# --- leaves below their thresholds -----------------------------------------------------------------------------------


def test_the_best_leaves_are_kept_where_too_few_reach_their_thresholds() -> None:
    scores = {"a/b/x": 0.02, "a/c": 0.012, "d/z": 0.004, "d/w": 0.001}
    assert select(scores) == []
    assert select(scores, least=2) == ["a/b/x", "a/c"]
    assert select(scores, least=3) == ["a/b/x", "a/c"]  # the third is below a tenth of its threshold
    assert select(scores, least=3, least_share=0.05) == ["a/b/x", "a/c", "d/z"]


def test_a_leaf_far_below_the_best_is_not_kept_beside_it() -> None:
    assert select({"a/b/x": 0.9, "d/z": 0.04}, least=3) == ["a/b/x"]
    assert select({"a/b/x": 0.1, "d/z": 0.04}, least=3) == ["a/b/x", "d/z"]


row = st.lists(st.floats(0, 1, width=32), min_size=len(PATHS), max_size=len(PATHS))


@given(
    row, st.lists(st.floats(0.001, 1), min_size=len(PATHS), max_size=len(PATHS)), st.integers(0, 8), st.floats(0.01, 1)
)
def test_leaves_that_are_added_are_the_best_of_the_rest_and_reach_the_share(
    scores: list[float], limits: list[float], least: int, share: float
) -> None:
    values, thresholds = np.array(scores, np.float32), np.array(limits)
    plain = NODES.select(values, thresholds, Limits(99))
    more = NODES.select(values, thresholds, Limits(99, least=least, least_share=share))
    assert set(plain) <= set(more)
    leaves = {index for index, path in enumerate(PATHS) if path in LEAVES}
    reached, added = leaves & set(plain), leaves & (set(more) - set(plain))
    assert len(added) <= max(0, least - len(reached)) and not set(more) - set(plain) - leaves
    ratios = values / thresholds
    best = max(ratios[list(leaves)])
    assert all(ratios[leaf] > 0 and ratios[leaf] >= share * max(1.0, best) for leaf in added)
    left = leaves - reached - added
    if added:
        assert min(ratios[list(added)]) >= max(ratios[list(left)], default=0.0) or len(reached) + len(added) < least
    if len(reached) + len(added) < least:  # then no further leaf was good enough
        assert all(ratios[leaf] < share * max(1.0, best) or ratios[leaf] == 0 for leaf in left)


@given(row, st.integers(1, 8), st.none() | st.integers(1, 3), st.integers(0, 8))
def test_tags_are_in_order_within_their_limits_and_each_group_has_a_tag_below_it_or_stands_alone(
    scores: list[float], most: int, most_a_parent: int | None, least: int
) -> None:
    values, thresholds = np.array(scores, np.float32), np.full(len(PATHS), 0.5)
    chosen = NODES.select(values, thresholds, Limits(most, most_a_parent, least))
    assert [float(values[index]) for index in chosen] == sorted((float(values[i]) for i in chosen), reverse=True)
    paths = {PATHS[index] for index in chosen}
    deepest = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
    assert len(deepest) <= most
    if most_a_parent:
        for parent in ("a/b", "d"):
            assert len({path for path in paths & LEAVES if path.rpartition("/")[0] == parent}) <= most_a_parent
