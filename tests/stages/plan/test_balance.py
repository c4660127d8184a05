"""Balance: types are asked more evenly and rare tags more, by factors that stay until they are edited."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.fixtures.planning import TAGS, TYPES, Content, World, factors_of, types_of, unlike


def test_balance_makes_the_numbers_of_questions_of_the_types_more_equal(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 10 else "sign") for number in range(200)})
    world.plan(world.context(per_image=1))
    plain = types_of(world)
    world.plan(world.context(per_image=1, balance={"types": 1.0}), change="edit")
    assert max(types_of(world).values()) < max(plain.values()) * 0.6
    assert factors_of(world)[0] == {} and len(factors_of(world)[1]) == len(TYPES)


def test_the_factors_of_the_balance_stay_until_they_are_edited(world: World) -> None:
    context = world.context(balance={"types": 0.5})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(context)
    world.grow({f"new {number}.jpg": unlike(100 + number, "sign") for number in range(12)})
    world.plan(context)
    first, second = factors_of(world)
    assert second == first
    world.plan(world.context(balance={"types": 0.9}), change="edit")
    assert factors_of(world)[2] != first


def test_balance_counts_images_not_their_copies(worlds: Callable[[], World]) -> None:
    plain, with_copies = worlds(), worlds()
    contents = {f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(12)}
    copies = {f"copy {number}.jpg": contents["0.jpg"] for number in range(20)}
    plain.grow(contents)
    with_copies.grow(contents)
    with_copies.grow({**copies, "broken.jpg": Content("broken", None)})
    for world in (plain, with_copies):
        world.plan(world.context(balance={"types": 1.0}))
    assert len(factors_of(plain)[0]) == len(TYPES)
    assert factors_of(with_copies)[0] == pytest.approx(factors_of(plain)[0])


def test_rare_tags_are_asked_more_and_no_image_is_left_out(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 20 else "sign") for number in range(200)})
    world.plan(world.context(per_image=2))
    plain = questions_by_tag(world)
    world.plan(world.context(per_image=2, balance={"tags": 1.0}), change="edit")
    balanced = questions_by_tag(world)
    assert plain == {"animal": 190 * 2, "sign": 10 * 2}
    assert balanced["sign"] == 10 * 2 * 4, "four times as many as usual, and no more"
    assert 190 * 1.0 <= balanced["animal"] < 190 * 1.15, "half as many and a little more: the rest of the mean"
    assert set(world.outcomes().values()) == {"planned"}


def test_a_tag_that_came_later_counts_as_the_rarest(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 3 else "plant") for number in range(60)})
    world.plan(context := world.context(balance={"tags": 0.5}))
    world.grow({"new.jpg": unlike(99, "sign"), "old.jpg": unlike(98, "plant")})
    world.plan(context)
    of_image = Counter(world.images()[row["object_id"]]["uri"] for row in world.assignments().values())
    assert of_image["new.jpg"] in (3, 4, 5) and abs(of_image["new.jpg"] - of_image["old.jpg"]) <= 1


def questions_by_tag(world: World) -> dict[str, int]:
    """Return the number of questions about images of each first tag."""
    images = world.images()
    return dict(Counter(images[row["object_id"]]["tags"][0]["path"] for row in world.assignments().values()))
