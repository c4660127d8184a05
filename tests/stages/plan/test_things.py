"""Questions about things: present ones are there, absent ones are likely and missing, and none is named twice."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.taxonomy import with_ancestors
from synthgen.stages import listing
from synthgen.stages.plan import companions
from synthgen.stages.plan.things import absent_things, is_near, present_things
from tests.fixtures.planning import SLOWLY, Content, Killed, Row, World, unlike

TAXONOMY = (
    *("animal", "animal/bird", "animal/dog", "animal/dog/puppy", "animal/dog/hound"),
    *("plant", "plant/tree", "plant/rose", "sign", "sign/road", "vehicle", "vehicle/car", "vehicle/bus", "sky"),
)
LEAVES = frozenset(TAXONOMY) - {"animal", "animal/dog", "plant", "sign", "vehicle"}
TRAITS: Mapping[str, Mapping[str, object]] = {
    "look/a": {"thing": "present"},
    "look/b": {"thing": "absent"},
    "count/a": {"thing": "present"},
    "count/b": {"thing": "absent"},
    "read/a": {"follows": True},
}
RULES = """
about: questions about things
rules:
  - {tags: "**", ask: {look/**: 9, count/c: 1, read/**: 3}}
  - {tags: plant/**, ask: {look/b: 5}, boost: {look/a: 2}}
"""
EDITED = RULES.replace("count/c: 1", "count/a: 6, count/b: 6, count/c: 1")
SCORED = st.dictionaries(st.sampled_from(TAXONOMY[1:]), st.sampled_from([0.1, 0.3, 0.5, 0.9]), max_size=5)
IMAGES = st.lists(SCORED, max_size=20)


@pytest.fixture
def world(world: World) -> World:
    """Return a world whose types ask about things."""
    return with_things(world)


def with_things(world: World) -> World:
    """Have the types of a world ask about things."""
    world.taxonomy, world.traits = TAXONOMY, TRAITS
    return world


def contents_of(images: list[dict[str, float]], first: int = 0) -> dict[str, Content]:
    """Return images with these tags, by uri."""
    return {
        f"{number}.jpg": unlike(number, *tags, scores=tuple(tags.values())) for number, tags in enumerate(images, first)
    }


def check_things(world: World) -> None:
    """Check what every plan about things promises."""
    images, asked = world.images(), dict[str, list[Row]]()
    for row in world.assignments().values():
        asked.setdefault(row["object_id"], []).append(row)
        tags = {tag["path"]: tag["score"] for tag in images[row["object_id"]]["tags"]}
        presence = TRAITS.get(row["type"], {}).get("thing")
        if presence is None:
            assert row["thing"] is None
        elif presence == "present":
            assert row["thing"] in LEAVES and tags[row["thing"]] >= max(tags.values()) / 2
        else:
            assert row["thing"] in LEAVES and not is_near(row["thing"], tags, set(with_ancestors(tags)))
            table = world.epochs()[-1]["companions"]
            assert any(row["thing"] in table.get(tag, {}) for tag in tags), "images with one of its tags have it"
    for rows in asked.values():
        things = [row["thing"] for row in rows if row["thing"]]
        assert len(set(things)) == len(things), "no image is asked about one thing twice"
        assert any(row["type"] != "read/a" for row in rows), "nothing goes on from nothing"


@SLOWLY
@given(images=IMAGES, size=st.integers(1, 20), draw=st.randoms())
def test_things_depend_neither_on_partitions_nor_on_their_order(
    worlds: Callable[[], World], images: list[dict[str, float]], size: int, draw: random.Random
) -> None:
    usual, other = with_things(worlds()), with_things(worlds())
    contents = contents_of(images)
    usual.grow(contents)
    usual.plan(usual.context(EDITED, per_image=5))
    check_things(usual)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SMALLEST_PARTITION", size)
        for uri in draw.sample(sorted(contents), len(contents)):
            other.put(uri, contents[uri])
        other.scan()
    for partition in draw.sample(other.untagged(), len(other.untagged())):
        other.tag([partition])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(companions, "BLOCK", size)
        other.plan(other.context(EDITED, per_image=5))
    assert other.assignments() == usual.assignments()


@SLOWLY
@given(images=IMAGES, edits=st.lists(st.sampled_from([RULES, EDITED, EDITED.replace("look/**: 9", "look/c: 9")])))
def test_an_edit_leaves_the_thing_of_every_question_that_stays(
    worlds: Callable[[], World], images: list[dict[str, float]], edits: list[str]
) -> None:
    world = with_things(worlds())
    world.grow(contents_of(images))
    world.plan(world.context(RULES, per_image=4))
    for rules in edits:
        before = world.assignments()
        world.plan(world.context(rules, per_image=4), change="edit")
        check_things(world)
        after = world.assignments()
        assert {key: row["thing"] for key, row in after.items() if key in before} == {
            key: row["thing"] for key, row in before.items() if key in after
        }


@SLOWLY
@given(growths=st.lists(IMAGES, min_size=2, max_size=3), stops=st.lists(st.integers(0, 2), max_size=2))
def test_growth_changes_no_thing_and_a_killed_plan_ends_with_the_same(
    worlds: Callable[[], World], growths: list[list[dict[str, float]]], stops: list[int]
) -> None:
    world, killed = with_things(worlds()), with_things(worlds())
    context = world.context(EDITED, per_image=4)
    for number, images in enumerate(growths):
        before = world.assignments()
        for each in (world, killed):
            each.grow(contents_of(images, 100 * number))
        world.plan(context)
        for commits in stops:
            with suppress(Killed):
                killed.plan(context, stop_after=commits)
        killed.plan(context)
        check_things(world)
        assert before.items() <= world.assignments().items()
        assert killed.assignments() == world.assignments()


@given(images=IMAGES)
@SLOWLY
def test_the_table_holds_the_leaves_that_are_most_often_together(
    worlds: Callable[[], World], images: list[dict[str, float]]
) -> None:
    world = with_things(worlds())
    world.grow(contents_of(images))
    world.plan(world.context())
    together = Counter((one, other) for tags in images for one in tags for other in tags)
    table = world.epochs()[-1]["companions"] if images else {}
    assert set(table) == {tag for tags in images for tag in tags if tag in LEAVES}
    for leaf, others in table.items():
        far = [
            other
            for other in LEAVES
            if not is_near(other, [leaf], with_ancestors([leaf]))
            and not is_near(leaf, [other], with_ancestors([other]))
        ]
        expected = {other: together[leaf, other] / together[leaf, leaf] for other in far if together[leaf, other] >= 2}
        assert others == pytest.approx(expected, rel=1e-3)


def test_only_the_commonest_leaves_and_the_commonest_companions_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "MOST_LEAVES", 3)
    monkeypatch.setattr(companions, "MOST_COMPANIONS", 1)
    tags = [
        ("plant/tree", "sky"),
        ("plant/tree", "sky", "sign/road"),
        ("plant/tree", "sign/road"),
        ("sky", "animal/bird"),
    ]
    world.grow({f"{number}.jpg": unlike(number, *of) for number, of in enumerate([*tags, *tags[:2], *tags[:1]])})
    world.plan(world.context(EDITED))
    assert world.epochs()[0]["companions"] == {
        "animal/bird": {},
        "plant/tree": {"sky": 0.8333},
        "sign/road": {"plant/tree": 1.0},
        "sky": {"plant/tree": 0.8333},
    }


def test_a_table_is_made_only_where_a_type_asks_about_absent_things(world: World) -> None:
    world.traits = {"look/a": {"thing": "present"}}
    world.grow({"a.jpg": unlike(1, "sky", "plant/tree"), "b.jpg": unlike(2, "sky", "plant/tree")})
    world.plan(world.context(RULES))
    assert world.epochs()[0]["companions"] == {}
    assert {row["thing"] for row in world.assignments().values()} <= {"sky", "plant/tree", None}


def test_only_the_thing_tags_of_the_mapping_are_named(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "sky", "plant/tree", "sign/road") for number in range(6)})
    world.plan(world.context(f"thing_tags: [plant/**]\n{RULES}"))
    assert {row["thing"] for row in world.assignments().values()} == {"plant/tree", None}


def test_a_leaf_that_comes_later_gets_companions_and_the_others_keep_theirs(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "sky", "plant/tree") for number in range(4)})
    world.plan(context := world.context(RULES))
    world.grow({f"{number}.jpg": unlike(number, "sky", "sign/road") for number in range(10, 14)})
    world.plan(context)
    first, second = (epoch["companions"] for epoch in world.epochs())
    assert first == {"sky": {"plant/tree": 1.0}, "plant/tree": {"sky": 1.0}}
    assert second == {**first, "sign/road": {"sky": 1.0}}
    world.plan(context, change="redraw")
    assert world.epochs()[-1]["companions"]["sky"] == {"plant/tree": 0.5, "sign/road": 0.5}


def test_things_near_to_a_tag_are_not_absent() -> None:
    often = dict.fromkeys(LEAVES, 0.5)
    table = dict.fromkeys(TAXONOMY, often)
    assert set(absent_things({"animal/dog/hound": 1.0}, table)) == LEAVES - {
        "animal/dog/hound",  # it is there
        "animal/dog/puppy",  # it may be there, as the dog is
        "animal/bird",  # directly below a tag that the image implies
    }
    assert not {"animal/bird", "animal/dog/puppy"} & set(absent_things({"animal": 1.0}, table))
    assert absent_things({"sky": 1.0, "sign/road": 0.1}, {"sky": {"sign/road": 0.5}}) == {}


def test_absent_things_weigh_by_how_often_they_are_with_the_tags() -> None:
    table = {"sky": {"plant/tree": 0.5, "vehicle/car": 0.2}, "sign/road": {"vehicle/car": 0.4}}
    found = absent_things({"sky": 1.0, "sign/road": 1.0}, table)
    assert found == pytest.approx({"plant/tree": 0.5, "vehicle/car": 0.6})
    assert absent_things({}, table) == {}


def test_present_things_are_leaves_that_score_half_as_much_as_the_best_tag() -> None:
    scores = {"animal": 0.8, "animal/bird": 0.4, "sky": 0.39, "plant/tree": 0.5}
    assert present_things(scores, LEAVES) == {"animal/bird": 1.0, "plant/tree": 1.0}
    assert present_things({}, LEAVES) == {}


def test_an_image_without_things_is_asked_something_else(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(world.context(RULES, per_image=3))
    types = Counter(row["type"] for row in world.assignments().values())
    assert sum(types.values()) == 12 * 3 and not {"look/a", "look/b"} & set(types)


def test_an_image_is_asked_about_no_more_things_than_it_has(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "sky") for number in range(12)})
    world.plan(world.context("about: x\nrules:\n  - {tags: '**', ask: {look/a: 50, count/a: 50, read/b: 1}}\n"))
    of_image = Counter(row["object_id"] for row in world.assignments().values() if row["thing"])
    assert set(of_image.values()) == {1} and len(of_image) == 12
    assert {row["type"] for row in world.assignments().values()} == {"look/a", "count/a", "read/b"}


def test_a_planned_question_keeps_its_thing_where_the_one_that_took_another_thing_goes(world: World) -> None:
    rules = "about: x\nrules:\n  - {tags: '**', ask: {look/a: 5, count/a: 5}}\n"
    world.grow({f"{number}.jpg": unlike(number, "sky", "plant/tree") for number in range(24)})
    world.plan(world.context(rules, per_image=2, per_type=1))
    check_things(world)
    before = {key: row["thing"] for key, row in world.assignments().items() if row["type"] == "look/a"}
    assert len(before) == 24
    world.plan(world.context(rules.replace(", count/a: 5", ""), per_image=2, per_type=1), change="edit")
    assert {key: row["thing"] for key, row in world.assignments().items()} == before


def test_a_type_that_comes_to_name_things_names_them_in_planned_questions_too(world: World) -> None:
    world.traits = {}
    world.grow({f"{number}.jpg": unlike(number, "sky", "plant/tree") for number in range(6)})
    world.plan(world.context(RULES))
    assert {row["thing"] for row in world.assignments().values()} == {None}
    before = {key for key, row in world.assignments().items() if row["type"] == "look/a"}
    world.traits = {"look/a": {"thing": "present"}}
    world.plan(world.context(RULES), change="edit")
    after = {key: row["thing"] for key, row in world.assignments().items() if row["type"] == "look/a"}
    assert set(after) == before and set(after.values()) == {"sky", "plant/tree"}


def test_a_thing_that_is_not_right_any_more_is_replaced(world: World) -> None:
    world.traits = {"look/a": {"thing": "present"}}
    rules = "about: x\nrules:\n  - {tags: '**', ask: {look/a: 1}}\n"
    world.grow({"a.jpg": unlike(1, "sky", "plant/tree")})
    world.plan(context := world.context(rules, per_type=1))
    [before] = world.assignments().values()
    other = {"sky": "plant/tree", "plant/tree": "sky"}[before["thing"]]
    world.contents["a.jpg", "1"] = unlike(1, other)
    world.tag(["e001-00000"])
    world.plan(context)
    assert [row["thing"] for row in world.assignments().values()] == [other]


def test_yes_and_no_are_about_equal_where_both_types_weigh_the_same(world: World) -> None:
    draw = random.Random(0)
    tags = [("sky", "plant/tree"), ("sky", "sign/road"), ("plant/tree", "vehicle/car"), ("vehicle/car", "sign/road")]
    world.grow({f"{number}.jpg": unlike(number, *draw.choice(tags)) for number in range(200)})
    world.plan(world.context("about: x\nrules:\n  - {tags: '**', ask: {look/a: 1, look/b: 1}}\n", per_image=1))
    check_things(world)
    counts = Counter(row["type"] for row in world.assignments().values())
    assert counts.total() == 200 and abs(counts["look/a"] - 100) < 28  # four standard deviations; the seed is fixed
