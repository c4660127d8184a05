"""Negatives: each names a partner whose tags are others, their share is bounded, and none is ever drawn again."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.families import SWAPPED_FORMS, asked_as, is_unanswerable
from synthgen.config.taxonomy import with_ancestors
from synthgen.stages import listing
from synthgen.stages.plan.things import is_near
from synthgen.store import RunFolder
from synthgen.tables import TAG
from tests.fixtures.planning import SLOWLY, Killed, Row, World, unlike

TAXONOMY = ("animal", "animal/bird", "animal/dog", "plant", "plant/tree", "sign", "sign/road", "sky", "vehicle")
TRAITS: Mapping[str, Mapping[str, object]] = {
    "look/a": {"swap": True},
    "count/a": {"swap": True},
    "read/b": {"follows": True},
}
RULES = """
about: questions
rules:
  - {tags: "**", ask: {look/**: 4, count/**: 2, read/**: 1}}
"""
SHARE = 0.4
TAGS = st.lists(st.sampled_from([tag for tag in TAXONOMY if tag not in ("animal", "plant", "sign")]), max_size=3)
IMAGES = st.lists(TAGS.map(dict.fromkeys), max_size=24)


@pytest.fixture
def world(world: World) -> World:
    """Return a world in which two types can be swapped."""
    return swapping(world)


def swapping(world: World) -> World:
    """Have two types of a world be swapped."""
    world.taxonomy, world.traits = TAXONOMY, TRAITS
    return world


def fill(world: World, images: list[dict[str, None]], first: int = 0) -> None:
    world.grow({f"{number}.jpg": unlike(number, *tags) for number, tags in enumerate(images, first)})


def negatives(world: World) -> dict[str, Row]:
    return {key: row for key, row in world.assignments().items() if row["partner"]}


def check(world: World) -> None:
    """Check what every plan with negatives promises."""
    images, rows = world.images(), world.assignments()
    tags = {row["image_id"]: [tag["path"] for tag in row["tags"]] for row in images.values()}
    kinds = Counter((row["image_id"], row["type"], row["form"], row["language"]) for row in rows.values())
    for row in rows.values():
        assert is_unanswerable(row["type"]) == (row["partner"] is not None)
        if row["partner"] is None:
            continue
        assert row["form"] in SWAPPED_FORMS and TRAITS[asked_as(row["type"])]["swap"]
        assert kinds[row["partner"], asked_as(row["type"]), row["form"], row["language"]], "it is asked of its partner"
        own, partners = tags[row["image_id"]], tags[row["partner"]]
        shared = [tag for tag in partners if is_near(tag, own, set(with_ancestors(own)))]
        assert own and partners and len(shared) < len(partners) / 2
    partners_of = Counter((row["image_id"], row["partner"]) for row in rows.values() if row["partner"])
    assert max(partners_of.values(), default=1) == 1, "an image has one question of a partner"


@SLOWLY
@given(images=IMAGES, edits=st.lists(st.sampled_from([0.0, 0.1, SHARE])))
def test_a_larger_share_adds_negatives_and_a_smaller_one_retires_some(
    worlds: Callable[[], World], images: list[dict[str, None]], edits: list[float]
) -> None:
    world = swapping(worlds())
    fill(world, images)
    world.plan(world.context(RULES, per_image=4, negatives=SHARE))
    check(world)
    share, before = SHARE, world.assignments()
    for edit in edits:
        world.plan(world.context(RULES, per_image=4, negatives=edit), change="edit")
        check(world)
        after = world.assignments()
        own = [{key: row for key, row in rows.items() if not row["partner"]} for rows in (before, after)]
        assert own[0] == own[1], "the questions of images themselves stay"
        kept = {key: row for key, row in before.items() if key in after}
        assert kept == {key: after[key] for key in kept}
        more, fewer = (after, before) if edit >= share else (before, after)
        assert fewer.keys() <= more.keys()
        share, before = edit, after


def test_the_share_of_negatives_is_as_asked_where_every_image_has_a_partner(world: World) -> None:
    fill(world, [{("animal/dog", "vehicle", "sky")[number % 3]: None} for number in range(300)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SMALLEST_PARTITION", 100)
        world.plan(world.context(RULES, per_image=4, negatives=0.2))
    check(world)
    assert len(negatives(world)) / len(world.assignments()) == pytest.approx(0.2, abs=0.04)


def test_images_without_tags_and_images_that_are_alike_have_no_negatives(world: World) -> None:
    fill(world, [{"animal/dog": None}, {"animal/bird": None}, {}, {"animal/dog": None}])
    world.plan(world.context(RULES, per_image=4, negatives=SHARE))
    assert not negatives(world)


@SLOWLY
@given(images=IMAGES, more=IMAGES, stop=st.integers(1, 4))
def test_growth_and_a_kill_change_no_negative(
    worlds: Callable[[], World], images: list[dict[str, None]], more: list[dict[str, None]], stop: int
) -> None:
    whole, killed = swapping(worlds()), swapping(worlds())
    for world in (whole, killed):
        fill(world, images)
        context = world.context(RULES, per_image=4, negatives=SHARE)
        if world is killed:
            with suppress(Killed):
                world.plan(context, stop_after=stop)
        world.plan(context)
    before = negatives(whole)
    assert negatives(killed) == before
    fill(whole, more, len(images))
    whole.plan(whole.context(RULES, per_image=4, negatives=SHARE))
    check(whole)
    assert before.items() <= negatives(whole).items()


def test_negatives_stay_when_other_images_of_their_partition_get_tags(world: World) -> None:
    contents = {f"{number}.jpg": unlike(number, TAXONOMY[(1, 7, 8)[number % 3]]) for number in range(12)}
    untagged = {uri: content for uri, content in contents.items() if int(uri[:-4]) % 2}
    for uri, content in contents.items():
        world.put(uri, content if uri not in untagged else unlike(int(uri[:-4])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SMALLEST_PARTITION", 12)
        world.scan()
        world.tag()
    context = world.context(RULES, per_image=4, negatives=SHARE)
    world.plan(context)
    before = negatives(world)
    for uri in untagged:  # tagged again, they can be partners too
        world.contents[uri, "1"] = contents[uri]
    world.tag(list(RunFolder(world.out).log(TAG).partitions))
    world.plan(context)
    check(world)
    after = negatives(world)
    assert before and before.items() <= after.items() and len(after) > len(before)


def test_caps_limit_negatives_like_any_type(world: World) -> None:
    fill(world, [{("animal/dog", "vehicle", "sky")[number % 3]: None} for number in range(60)])
    context = world.context(RULES, per_image=4, negatives=SHARE, caps={"unanswerable/**": 7})
    world.plan(context)
    check(world)
    assert len(negatives(world)) == 7
