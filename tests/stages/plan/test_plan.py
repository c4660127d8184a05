"""The plan: one outcome for each object, and for each image the questions that its tags and the mapping ask for."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import mapping
from synthgen.stages.plan.weights import Weights
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import LIST, OBJECT_TAGS, PLAN, TAG, table
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import EDITED, RULES, TAGS, TYPES, Content, Row, World, unlike


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
    fired = rules.match(dict.fromkeys(tags, 0.5), mapping.ImageSize(side, side))
    lines, factors = [rules.rules[number] for number in fired], {"look/a": 0.5, "count/b": 3.0}
    expected = {}
    for path in TYPES:
        boosts = [line.boost.get(path, 1.0) for line in lines]
        asked = sum(line.ask.get(path, 0.0) for line in lines) * math.prod(boosts) * factors.get(path, 1.0)
        expected[path] = 0.0 if any(path in line.never for line in lines) else asked
    weights = Weights(rules, TYPES, factors)
    assert weights.matrix([fired, {}])[0] == pytest.approx(list(expected.values()))
    assert weights.by_type(fired) == pytest.approx({path: weight for path, weight in expected.items() if weight > 0})
