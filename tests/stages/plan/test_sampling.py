"""Draws are fair, depend on (seed, image, type, ordinal) alone, and a changed weight moves no more than it must."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.stages.plan.sampling import OptionSampler, TypeSampler, balance, image_words, uniforms, word

TYPES = [f"family/type_{number}" for number in range(12)]
WEIGHTS = st.lists(
    st.floats(0, 100).map(lambda weight: weight if weight > 0.01 else 0.0), min_size=12, max_size=12
).map(np.array)
IMAGES = st.text("0123456789abcdef", min_size=1, max_size=64)


def draw(weights: np.ndarray, image: str, k: int, per_type: int = 1, types: list[str] = TYPES) -> list[tuple[str, int]]:
    """Return the (type, ordinal) pairs drawn for one image, in the order of the draw."""
    _, kinds, ordinals = TypeSampler(types, per_type).race(image_words(7, [image]), weights[None], k)
    return [(types[kind], ordinal) for kind, ordinal in zip(kinds, ordinals.tolist(), strict=True)]


def draw_many(weights: np.ndarray, count: int, k: int, per_type: int = 1) -> np.ndarray:
    """Return the indexes of the types drawn for each image, (images, k) int64."""
    words = image_words(1, [str(image) for image in range(count)])
    image, kinds, _ = TypeSampler(TYPES, per_type).race(words, np.tile(weights, (count, 1)), k)
    assert np.array_equal(image, np.repeat(np.arange(count), k))
    return kinds.reshape(count, k)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Return the chi-square statistic of counts."""
    return float(((counts - expected) ** 2 / expected).sum())


def test_uniforms_are_uniform_over_images_and_over_names() -> None:
    words = np.array([word("type", str(number)) for number in range(200)], dtype=np.uint64)
    drawn = uniforms(image_words(3, [str(image) for image in range(500)])[:, None], words)
    assert drawn.min() > 0 and drawn.max() < 1
    counts = np.bincount((drawn * 100).astype(int).ravel(), minlength=100)
    assert chi_square(counts, np.full(100, 1000.0)) < 149  # 99 degrees of freedom, p = 0.001; the seed is fixed


def test_uniforms_of_neighbours_are_independent() -> None:
    """Pairs of draws fill the square evenly: of two names on one image, of two images for one name, of two seeds."""
    words = np.array([word("type", str(number)) for number in range(201)], dtype=np.uint64)
    drawn, again = (
        uniforms(image_words(seed, [str(image) for image in range(201)])[:, None], words) for seed in (3, 4)
    )
    for first, second in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:]), (drawn, again)):
        cells = (first.ravel() * 10).astype(int) * 10 + (second.ravel() * 10).astype(int)
        counts = np.bincount(cells, minlength=100)
        assert chi_square(counts, np.full(100, counts.sum() / 100)) < 149
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


@given(st.integers(), st.lists(IMAGES, min_size=1, max_size=5), st.permutations(range(8)))
def test_a_uniform_depends_on_its_own_image_and_name_only(seed: int, images: list[str], order: list[int]) -> None:
    words = np.array([word("type", str(number)) for number in range(8)], dtype=np.uint64)
    together = uniforms(image_words(seed, images)[:, None], words)
    for image, row in zip(images, together, strict=True):
        assert np.array_equal(row[order], uniforms(image_words(seed, [image]), words[order]))


def test_one_draw_an_image_follows_the_weights() -> None:
    weights = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 45], dtype=float)
    counts = np.bincount(draw_many(weights, 10_000, 1)[:, 0], minlength=12)
    assert counts[0] == 0
    assert chi_square(counts[1:], 10_000 * weights[1:] / weights.sum()) < 29.6  # 10 degrees of freedom, p = 0.001


def test_further_draws_are_weighted_draws_without_the_earlier_ones() -> None:
    weights = np.zeros(12)
    weights[:3] = 1, 2, 7
    orders = [tuple(row) for row in draw_many(weights, 10_000, 2).tolist()]
    share = weights / weights.sum()
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    expected = np.array([10_000 * share[a] * share[b] / (1 - share[a]) for a, b in pairs])
    counts = np.array([orders.count(pair) for pair in pairs])
    assert chi_square(counts, expected) < 20.5  # 5 degrees of freedom, p = 0.001


def test_a_type_may_come_again_as_often_as_its_weight_says() -> None:
    """Without a limit to one, the k draws of an image are draws with replacement."""
    weights = np.zeros(12)
    weights[:2] = 1, 3
    heavy = (draw_many(weights, 5_000, 4, per_type=4) == 1).sum(axis=1)
    expected = 5_000 * np.array([0.25**4, 4 * 0.75 * 0.25**3, 6 * 0.75**2 * 0.25**2, 4 * 0.75**3 * 0.25, 0.75**4])
    assert chi_square(np.bincount(heavy, minlength=5), expected) < 18.5  # 4 degrees of freedom, p = 0.001


@given(st.lists(st.tuples(IMAGES, WEIGHTS), max_size=4), st.integers(0, 12), st.integers(1, 3))
def test_an_image_is_drawn_alone_as_among_others(images: list[tuple[str, np.ndarray]], k: int, per_type: int) -> None:
    weights = np.array([row for _, row in images]).reshape(len(images), 12)
    places, kinds, ordinals = TypeSampler(TYPES, per_type).race(
        image_words(7, [image for image, _ in images]), weights, k
    )
    for number, (image, row) in enumerate(images):
        own = [
            (TYPES[kind], ordinal)
            for index, kind, ordinal in zip(places, kinds, ordinals.tolist(), strict=True)
            if index == number
        ]
        assert own == draw(row, image, k, per_type)


def test_a_type_may_be_limited_on_its_own() -> None:
    most = {TYPES[0]: 1, TYPES[1]: 2}
    _, kinds, _ = TypeSampler(TYPES, 3, most).race(image_words(1, ["image"]), np.full((1, 12), 1.0), 100)
    assert np.bincount(kinds).tolist() == [1, 2] + [3] * 10


@given(WEIGHTS, IMAGES, st.integers(0, 30), st.integers(1, 4))
def test_per_image_and_per_type_are_kept(weights: np.ndarray, image: str, k: int, per_type: int) -> None:
    drawn = draw(weights, image, k, per_type)
    assert len(drawn) == min(k, per_type * int((weights > 0).sum()))
    assert len(set(drawn)) == len(drawn)
    for path in TYPES:
        ordinals = sorted(ordinal for kind, ordinal in drawn if kind == path)
        assert ordinals == list(range(len(ordinals))), "ordinals of a type come in order, none left out"
        assert len(ordinals) <= per_type and (not ordinals or weights[TYPES.index(path)] > 0)


@given(WEIGHTS, IMAGES, st.integers(1, 12), st.integers(1, 3), st.permutations(range(12)))
def test_the_order_of_the_types_does_not_matter(
    weights: np.ndarray, image: str, k: int, per_type: int, order: list[int]
) -> None:
    shuffled = draw(weights[order], image, k, per_type, [TYPES[index] for index in order])
    assert shuffled == draw(weights, image, k, per_type)


@given(WEIGHTS, IMAGES, st.integers(1, 12), st.floats(0.1, 50))
def test_only_the_ratios_of_the_weights_matter(weights: np.ndarray, image: str, k: int, factor: float) -> None:
    assert draw(weights * factor, image, k) == draw(weights, image, k)


@given(WEIGHTS, IMAGES, st.integers(1, 12), st.integers(1, 3), st.integers(0, 11), st.floats(0.01, 100))
def test_a_weight_that_changes_moves_only_its_own_type_and_those_that_it_displaces(
    weights: np.ndarray, image: str, k: int, per_type: int, changed: int, weight: float
) -> None:
    after = weights.copy()
    after[changed] = weight
    old, new = draw(weights, image, k, per_type), draw(after, image, k, per_type)
    own = TYPES[changed]
    gained = [pair for pair in new if pair not in old]
    lost = [pair for pair in old if pair not in new]
    if weight >= weights[changed]:
        assert all(path == own for path, _ in gained), "a heavier type brings in nothing but itself"
        assert len(lost) <= len(gained) and all(path != own for path, _ in lost)
    else:
        assert all(path == own for path, _ in lost), "a lighter type loses nothing but its own"
        assert len(gained) <= len(lost)
    others = [pair for pair in new if pair in old and pair[0] != own]
    assert others == [pair for pair in old if pair in others], "the others keep their order"


@given(WEIGHTS, IMAGES, st.integers(1, 11))
def test_asking_for_more_keeps_the_earlier_draws(weights: np.ndarray, image: str, k: int) -> None:
    assert draw(weights, image, k + 1)[: len(draw(weights, image, k))] == draw(weights, image, k)


def test_a_small_edit_of_a_weight_leaves_nearly_every_draw() -> None:
    weights = np.linspace(1, 6, 12)
    after = weights.copy()
    after[4] *= 1.1
    images = [str(number) for number in range(2_000)]
    moved = sum(len(set(draw(weights, image, 4)) - set(draw(after, image, 4))) for image in images)
    assert 0 < moved < 0.02 * 4 * len(images)


def test_nothing_is_drawn_where_nothing_has_a_weight() -> None:
    assert draw(np.zeros(12), "image", 4) == []
    assert draw(np.ones(12), "image", 0) == []


# --- room and followers -----------------------------------------------------------------------------------------------

GROUPS_OF_TYPES = (TYPES[:3], TYPES[3:5])
FOLLOWERS = TYPES[5:8]


def draw_limited(weights: np.ndarray, image: str, k: int, room: tuple[int, int], per_type: int = 2) -> list[str]:
    """Return the types drawn for one image in the order of the draw, with room for so many of each group."""
    sampler = TypeSampler(TYPES, per_type, None, GROUPS_OF_TYPES, FOLLOWERS)
    _, kinds, _ = sampler.race(image_words(7, [image]), weights[None], k, np.array([room]))
    return [TYPES[kind] for kind in kinds]


def one_by_one(arrivals: list[str], k: int, room: tuple[int, int]) -> list[str]:
    """Return what is drawn of all arrivals of an image if each is looked at in turn."""
    left = dict(zip(("first", "second"), room, strict=True))
    fitting = []
    for path in arrivals:
        group = next((name for name, types in zip(left, GROUPS_OF_TYPES, strict=True) if path in types), None)
        if group is not None:
            left[group] -= 1
        if group is None or left[group] >= 0:
            fitting.append(path)
    follow = k - 1 if any(path not in FOLLOWERS for path in fitting) else 0
    drawn = []
    for path in fitting:
        follow -= path in FOLLOWERS
        if path not in FOLLOWERS or follow >= 0:
            drawn.append(path)
    return drawn[:k]


@given(WEIGHTS, IMAGES, st.integers(0, 12), st.tuples(st.integers(0, 4), st.integers(0, 3)))
def test_an_arrival_without_room_leaves_its_place_to_the_next(
    weights: np.ndarray, image: str, k: int, room: tuple[int, int]
) -> None:
    arrivals = [path for path, _ in draw(weights, image, 100, per_type=2)]
    drawn = draw_limited(weights, image, k, room)
    assert drawn == one_by_one(arrivals, k, room)
    assert not drawn or set(drawn) - set(FOLLOWERS), "a follower goes on from something"


@given(WEIGHTS, IMAGES, st.integers(1, 6), st.integers(0, 11), st.floats(0.02, 100))
def test_a_weight_that_changes_brings_in_nothing_but_its_own_type_where_room_is_short(
    weights: np.ndarray, image: str, k: int, changed: int, weight: float
) -> None:
    after = weights.copy()
    after[changed] = max(weight, weights[changed])
    gained = Counter(draw_limited(after, image, k, (1, 1))) - Counter(draw_limited(weights, image, k, (1, 1)))
    has_others = bool((weights > 0)[8:].any() or (weights > 0)[:5].any())  # else the heavier type lets followers in
    assert not has_others or set(gained) <= {TYPES[changed]}


SHARES = {"short": 3.0, "brief": 3.0, "detailed": 2.0, "choice": 2.0, "never": 0.0}


def choose(choice: OptionSampler, count: int, purpose: int = 0) -> list[str]:
    """Return the option chosen for each of many images."""
    return choice.draw(image_words(1, [str(image) for image in range(count)]), np.full(count, purpose))


def test_a_choice_follows_its_shares() -> None:
    drawn = choose(OptionSampler(SHARES, {"form": None}), 10_000)
    counts = np.array([drawn.count(name) for name in ("short", "brief", "detailed", "choice")])
    assert counts.sum() == 10_000
    assert chi_square(counts, np.array([3000, 3000, 2000, 2000.0])) < 16.3  # 3 degrees of freedom, p = 0.001


@given(st.text(max_size=5), st.permutations(["short", "brief", "detailed"]))
def test_a_choice_depends_neither_on_the_order_nor_on_options_that_are_not_allowed(
    purpose: str, order: list[str]
) -> None:
    among = OptionSampler(SHARES, {"other": None, purpose + "!": order})
    alone = OptionSampler({name: SHARES[name] for name in order}, {purpose + "!": None})
    assert choose(among, 20, 1) == choose(alone, 20)


def test_a_choice_for_which_nothing_is_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match="no option"):
        OptionSampler(SHARES, {"form": ["never", "unknown"]})


def test_choices_for_different_purposes_are_independent() -> None:
    choice = OptionSampler({"a": 1, "b": 1}, {"one": None, "other": None})
    pairs = zip(choose(choice, 4_000, 0), choose(choice, 4_000, 1), strict=True)
    same = sum(first == second for first, second in pairs)
    assert abs(same - 2_000) < 120  # nearly four standard deviations; the seed is fixed


@given(st.lists(st.lists(st.floats(0, 10), min_size=4, max_size=4), min_size=1, max_size=5))
def test_balance_0_changes_nothing(weights: list[list[float]]) -> None:
    assert np.array_equal(balance(np.array(weights), np.ones(len(weights)), 0.0), np.ones(4))


GROUPS = np.array([[8.0, 1.0, 1.0, 0.0], [2.0, 2.0, 0.0, 0.0], [1.0, 0.0, 3.0, 0.0]])
COUNTS = np.array([700.0, 200.0, 100.0])


def shares(factors: np.ndarray) -> np.ndarray:
    """Return the expected share of each type under these factors, (types,) float64."""
    weights = GROUPS * factors
    expected = COUNTS @ (weights / weights.sum(axis=1, keepdims=True))
    return np.asarray(expected / expected.sum())


def test_balance_1_makes_the_shares_equal_where_the_images_allow() -> None:
    assert shares(balance(GROUPS, COUNTS, 1.0))[:3] == pytest.approx(np.full(3, 1 / 3), abs=1e-3)


def test_a_balance_in_between_raises_the_natural_shares_to_a_power() -> None:
    goal = shares(np.ones(4))[:3] ** 0.5
    assert shares(balance(GROUPS, COUNTS, 0.5))[:3] == pytest.approx(goal / goal.sum(), abs=1e-3)


def test_the_stronger_the_balance_the_more_even_the_shares() -> None:
    spread = [np.ptp(shares(balance(GROUPS, COUNTS, strength))[:3]) for strength in (0, 0.25, 0.5, 0.75, 1)]
    assert spread == sorted(spread, reverse=True) and len(set(spread)) == 5


def test_balance_does_not_change_a_type_that_no_image_is_asked() -> None:
    assert balance(GROUPS, COUNTS, 1.0)[3] == 1.0
    assert np.array_equal(balance(np.zeros((2, 3)), np.ones(2), 1.0), np.ones(3))


def test_balance_holds_where_a_type_cannot_reach_its_goal() -> None:
    """The factors stay finite, and the shares as even as they can be."""
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    factors = balance(weights, np.array([900.0, 100.0]), 1.0)
    assert np.isfinite(factors).all() and (factors > 0).all()
    weighted = weights * factors
    assert (np.array([900.0, 100.0]) @ (weighted / weighted.sum(axis=1, keepdims=True)))[1] > 99
