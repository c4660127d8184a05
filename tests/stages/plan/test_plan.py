"""The plan: one outcome for each object, and for each image the questions that its tags and the mapping ask for."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import mapping
from synthgen.stages.plan.assign import Assigner
from synthgen.stages.plan.images import PlannedImage, seen_tags
from synthgen.stages.plan.weights import Weights
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import LIST, OBJECT_TAGS, PLAN, TAG, table
from tests.fixtures.plan_checks import check, check_quotas
from tests.fixtures.planning import EDITED, RULES, TAGS, TYPES, Content, Row, World, types_of, unlike


def test_every_tagged_object_is_planned_and_asked_as_its_tags_say(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(30)})
    assert world.plan() == len(StageFolder(world.out, TAG).log().partitions) == 10
    check(world, world.context())
    assert set(world.outcomes().values()) == {"planned"}
    assert len(world.assignments()) == 30 * 3


def test_an_assignment_names_the_tags_that_caused_it(world: World) -> None:
    world.grow({"a.jpg": unlike(1, "animal/bird", "plant")})
    world.plan()
    assignments = world.assignments().values()
    assert len(assignments) == 3 and len({row["type"].startswith("count") for row in assignments}) == 2
    for row in assignments:
        assert row["because"] == (["animal", "animal/bird"] if row["type"].startswith("count") else [])


def test_a_complete_plan_stays_as_it_is(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    world.plan()
    before = StageFolder(world.out, PLAN).log()
    assert world.plan() == 0 and world.plan(change="edit") == 0
    assert StageFolder(world.out, PLAN).log() == before
    assert StageFolder(world.out, PLAN).folder.child("epochs").names() == ["000001.json"]


def test_nothing_is_planned_where_nothing_is_tagged(world: World) -> None:
    assert world.plan() == 0 and world.plan(change="edit") == 0
    world.grow({"a.jpg": Content("broken", None)})
    assert world.plan() == 1
    check(world, world.context())
    assert world.images() == {}


def test_an_image_that_no_rule_serves_is_recorded(world: World) -> None:
    world.grow({"a.jpg": unlike(1), "b.jpg": unlike(2, "animal")})
    rules = RULES.replace('{tags: "**", ask: {look/a: 2, look/b: 1}}', "{tags: animal, ask: {look/a: 1}}")
    world.plan(context := world.context(rules))
    check(world, context)
    assert world.outcomes() == {"a.jpg 1": "unserved", "b.jpg 1": "planned"}


def test_tags_of_several_taggers_count_once_each_with_the_best_score(world: World) -> None:
    world.grow({"a.jpg": unlike(1, "animal/bird", "plant"), "b.jpg": unlike(2), "c.jpg": unlike(3, "sign")})
    stage, context = StageFolder(world.out, TAG), dataclasses.replace(world.context(), taggers=("test", "other"))
    (partition,) = stage.log().partitions
    ids = {row["uri"]: row["object_id"] for row in world.rows(LIST, "objects")}

    def scored(path: str, score: float) -> Row:
        return {"path": path, "score": score, "tagger": "other"}

    repeated = [scored("plant/tree", 0.25), scored("sign", 0.25), scored("plant/tree", 0.75)]
    others = [
        {"object_id": ids["c.jpg"], "tags": repeated},
        {"object_id": ids["a.jpg"], "tags": [scored("plant", 0.75), scored("sign", 0.5)]},
    ]
    with Lease.take(world.out) as lease:
        part = TablePart((stage.write("tags/other", partition, 2, table(others, OBJECT_TAGS)),), "f")
        stage.commit(Receipt(partition, 2, {"tags/other": part}), lease)
    world.plan(context)
    tags = {
        row["uri"]: [(tag["path"], tag["score"], tag["tagger"]) for tag in row["tags"]]
        for row in world.images().values()
    }
    assert tags == {
        "a.jpg": [("animal/bird", 0.5, "test"), ("plant", 0.75, "other"), ("sign", 0.5, "other")],
        "b.jpg": [],
        "c.jpg": [("sign", 0.5, "test"), ("plant/tree", 0.75, "other")],
    }


@given(st.lists(st.sampled_from(TAGS), max_size=4), st.integers(50, 200))
def test_the_weight_of_a_type_is_what_rules_ask_added_up_and_boosted_unless_one_forbids_it(
    tags: list[str], side: int
) -> None:
    rules = World(Folder("")).context(EDITED).rules
    fired = rules.match(dict.fromkeys(tags, 0.5), mapping.ImageFacts(side, side))
    lines, factors = [rules.rules[number] for number in fired], {"look/a": 0.5, "count/b": 3.0}
    expected = {}
    for path in TYPES:
        boosts = [line.boost.get(path, 1.0) for line in lines]
        asked = sum(line.ask.get(path, 0.0) for line in lines) * math.prod(boosts) * factors.get(path, 1.0)
        expected[path] = 0.0 if any(path in line.never for line in lines) else asked
    weights = Weights(rules, TYPES, factors)
    assert weights.matrix([fired, {}])[0] == pytest.approx(list(expected.values()))
    assert weights.by_type(fired) == pytest.approx({path: weight for path, weight in expected.items() if weight > 0})


# --- side tags --------------------------------------------------------------------------------------------------------

SIDE = """
about: a subject and what stands beside it
rules:
  - {tags: "**", ask: {look/a: 2}}
  - {tags: animal/**, ask: {count/a: 8}, boost: {look/a: 2}}
  - {tags: plant/**, ask: {count/a: 4, count/b: 4}, boost: {look/a: 3}, never: [read/a]}
  - {tags: sign/**, ask: {read/a: 6}}
"""


def weights_of(scores: dict[str, float], world: World, **settings: float) -> dict[str, float]:
    """Return the weights of an image with these tags."""
    assigner = Assigner(world.context(SIDE, **settings), {})
    weights = assigner.weigh([PlannedImage("", "", scores, 640, 640)]).weights
    return {path: weight for path, weight in zip(assigner.types, weights[0].tolist(), strict=True) if weight}


def test_a_rule_asks_less_where_its_tags_score_below_the_best(world: World) -> None:
    scores = {"animal/dog": 0.8, "plant/tree": 0.4, "sign": 0.04}
    assert weights_of(scores, world) == pytest.approx(
        {"look/a": 2 * 2 * 3, "count/a": 8 + 4 / 2, "count/b": 4 / 2}  # the sign's read/a is struck out by the plant
    )
    assert weights_of({**scores, "plant": 0.8}, world)["count/b"] == pytest.approx(4), "the best of its tags counts"
    assert weights_of({"animal/dog": 0.8, "sign": 0.04}, world)["read/a"] == pytest.approx(6 / 4), "not below the floor"
    assert weights_of({"animal/dog": 0.8, "sign": 0.04}, world, side_tags=0)["read/a"] == pytest.approx(6 / 20)


def test_scores_do_not_matter_where_the_floor_is_1(world: World) -> None:
    scores = {"animal/dog": 0.8, "plant/tree": 0.1, "sign": 0.04}
    even = weights_of(dict.fromkeys(scores, 1.0), world)
    assert weights_of(scores, world, side_tags=1) == even == {"look/a": 12, "count/a": 12, "count/b": 4}
    assert weights_of(dict.fromkeys(scores, 0.3), world) == even, "where no tag is a side tag, nothing changes"
    assert weights_of(dict.fromkeys(scores, 0.0), world) == even, "nor where all scores are 0"


def test_a_boost_counts_whatever_the_score_is(world: World) -> None:
    assert weights_of({"animal": 0.8, "plant": 0.01}, world)["look/a"] == 2 * 2 * 3


def test_the_never_of_a_doubtful_side_tag_does_not_strike_out_the_types_of_the_subject(world: World) -> None:
    assert "read/a" in weights_of({"sign": 0.8, "plant": 0.2}, world), "a quarter of the best score is doubtful"
    assert "read/a" not in weights_of({"sign": 0.8, "plant": 0.21}, world)
    assert "read/a" not in weights_of({"sign": 0.8, "plant": 0.01}, world, side_tags=0.5)


@given(
    images=st.lists(st.dictionaries(st.sampled_from(TAGS), st.floats(0, 1), max_size=5), max_size=8),
    floor=st.floats(0, 1),
)
def test_the_weights_of_an_image_do_not_depend_on_the_others(images: list[dict[str, float]], floor: float) -> None:
    rules = World(Folder("")).context(SIDE).rules
    weights, matches = (
        Weights(rules, TYPES, {}, floor),
        [rules.match(tags, mapping.ImageFacts(9, 9)) for tags in images],
    )
    alone = [Weights(rules, TYPES, {}, floor).matrix([match])[0].tolist() for match in matches]
    assert weights.matrix(matches).tolist() == alone


def test_rules_see_the_three_best_leaves_of_a_parent_and_the_image_keeps_all(world: World) -> None:
    names = ("sign/d", "sign/c", "sign/b", "sign/a", "sign/best")
    world.taxonomy = ("animal", "animal/dog", "sign", *names)
    rules = [f"  - {{tags: {name}, ask: {{{path}: 1}}}}" for name, path in zip(names, TYPES, strict=False)]
    text = "\n".join(["about: x", "rules:", "  - {tags: sign, ask: {read/c: 1}}", *rules])
    world.grow({"a.jpg": unlike(1, "animal/dog", *names, scores=(0.1, 0.2, 0.2, 0.2, 0.2, 0.9))})
    world.plan(world.context(text, per_image=9, per_type=1))
    assert [tag["path"] for row in world.images().values() for tag in row["tags"]] == ["animal/dog", *names]
    because = {row["type"]: row["because"] for row in world.assignments().values()}
    seen = {path: [name] for path, name in zip(TYPES, names, strict=False) if name in ("sign/a", "sign/b", "sign/best")}
    assert because == {**seen, "read/c": ["sign"]}, "of equal scores, the first by path"
    world.plan(world.context(text, per_image=9, per_type=1, most_a_parent=4), change="edit")
    assert {row["type"] for row in world.assignments().values()} == {*because, TYPES[names.index("sign/c")]}


def test_leaves_without_a_parent_and_inner_tags_are_all_seen() -> None:
    flat = {name: 0.5 for name in "abcdef"}
    assert seen_tags(flat, frozenset(flat), 3) == flat
    inner = {f"chart/{name}": 0.5 for name in "abcdef"}
    assert seen_tags(inner, frozenset(f"{path}/x" for path in inner), 3) == inner


# --- sensitive types and followers ------------------------------------------------------------------------------------


def test_a_sensitive_type_is_asked_only_where_it_is_allowed(world: World) -> None:
    world.traits = {"look/a": {"sensitive": "personal"}, "count/a": {"sensitive": "medical"}}
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(20)})
    world.plan(world.context())
    assert set(types_of(world)) == {"look/b", "count/b", "count/c"}
    world.plan(world.context(allow=("personal",)), change="edit")
    assert set(types_of(world)) == {"look/a", "look/b", "count/b", "count/c"}
    world.plan(world.context(allow=("personal", "medical")), change="edit")
    assert set(types_of(world)) == {"look/a", "look/b", "count/a", "count/b", "count/c"}


def test_a_follower_whose_image_loses_all_else_to_a_quota_is_lost_too(world: World) -> None:
    world.traits = {"look/b": {"follows": True}}
    world.grow({f"{number}.jpg": unlike(number) for number in range(20)})
    world.plan(context := world.context(per_image=2, per_type=1, caps={"look/a": 6}))
    check_quotas(world, context)
    assert types_of(world) == {"look/a": 6, "look/b": 6}
    assert len({row["object_id"] for row in world.assignments().values()}) == 6
