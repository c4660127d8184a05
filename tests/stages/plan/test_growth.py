"""A plan under growth and change: planned images stay, and only those that changed are planned again."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from synthgen.store import Lease, Receipt, StageFolder, TablePart
from synthgen.tables import IMAGES, LIST, PLAN, TAG, image_id, table
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import OBJECTS_PUT, SLOWLY, Content, World, unlike


@SLOWLY
@given(growths=st.lists(OBJECTS_PUT, min_size=2, max_size=3))
def test_growth_retires_nothing_and_rewrites_nothing(
    worlds: Callable[[], World], growths: list[dict[str, Content]]
) -> None:
    world, seen = worlds(), set[str]()
    for contents in growths:
        assignments, commits = world.assignments(), StageFolder(world.out, PLAN).log().partitions
        world.grow({uri: content for uri, content in contents.items() if uri not in seen})
        seen |= set(contents)
        world.plan()
        check(world, world.context())
        assert {key: row for key, row in world.assignments().items() if key in assignments} == assignments
        after = StageFolder(world.out, PLAN).log().partitions
        assert {name: after[name] for name in commits} == commits


def test_a_changed_object_is_planned_again_and_the_old_version_retired(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(9)})
    world.plan()
    before = world.assignments()
    world.grow({"4.jpg": unlike(100, "sign")})
    world.plan()
    check(world, world.context())
    unchanged = {f"{number}.jpg 1": "planned" for number in range(9)}
    assert world.outcomes() == {**unchanged, "4.jpg 1": "changed", "4.jpg 2": "planned"}
    old = {key for key, row in before.items() if row["image_id"] == image_id(b"data 4")}
    new = {key for key, row in world.assignments().items() if row["image_id"] == image_id(b"data 100")}
    assert (len(old), len(new)) == (3, 3)
    assert set(world.assignments()) == set(before) - old | new
    counts = StageFolder(world.out, PLAN).log().counts()
    assert (counts["assigned"], counts["retired"]) == (27, 3)
    later = [commits[1:] for commits in StageFolder(world.out, PLAN).log().partitions.values()]
    assert sum(map(len, later)) == 1, "one partition was touched"


def test_a_duplicate_of_a_changed_object_takes_its_place(world: World) -> None:
    """Its bytes are still there, under another name."""
    world.grow({"a.jpg": Content("same", 0)})
    world.grow({"b.jpg": Content("same", 0), "c.jpg": Content("near", 1)})
    world.plan()
    assert world.outcomes() == {"a.jpg 1": "planned", "b.jpg 1": "same_bytes", "c.jpg 1": "near_duplicate"}
    asked = set(world.assignments())
    world.grow({"a.jpg": unlike(9)})
    world.plan()
    check(world, world.context())
    kept = "b.jpg 1" if world.outcomes()["b.jpg 1"] == "planned" else "c.jpg 1"
    other = {"b.jpg 1": "c.jpg 1", "c.jpg 1": "b.jpg 1"}[kept]
    assert world.outcomes() == {"a.jpg 1": "changed", "a.jpg 2": "planned", kept: "planned", other: "near_duplicate"}
    if kept == "b.jpg 1":
        assert asked <= set(world.assignments()), "the same questions, now asked of the other object"


def test_a_question_moves_with_its_bytes_inside_a_partition(world: World) -> None:
    world.grow({"a.jpg": Content("same", 0), "b.jpg": Content("same", 0)})
    world.plan()
    before = world.assignments()
    (planned,) = {row["object_id"] for row in before.values()}
    uri = world.images()[planned]["uri"]
    world.grow({uri: unlike(1)})
    world.plan()
    check(world, world.context())
    moved = {key: row for key, row in world.assignments().items() if key in before}
    assert set(moved) == set(before)
    first_versions = {object_id for object_id, row in world.images().items() if row["version"] == "1"}
    assert {row["object_id"] for row in moved.values()} == first_versions - {planned}
    assert StageFolder(world.out, PLAN).log().counts()["assigned"] == 6


def test_an_object_that_can_be_read_at_a_later_try_is_planned_without_an_edit(world: World) -> None:
    world.grow({"a.jpg": unlike(1), "b.jpg": unlike(2)})
    world.grow({"c.jpg": Content("broken", None, ("animal",)), "d.jpg": unlike(3)})
    world.plan()
    before = world.assignments()
    world.repaired = {row["object_id"] for row in world.rows(LIST, "objects") if row["uri"] == "c.jpg"}
    world.tag(["e002-00000"])
    assert world.plan() == 1
    check(world, world.context())
    assert set(before) < set(world.assignments())


def test_an_object_that_can_be_read_at_last_does_not_replace_its_planned_copy(world: World) -> None:
    world.put("a.jpg", Content("broken", None))
    world.grow({})
    world.grow({"b.jpg": Content("broken", 0)})
    world.plan()
    before = world.assignments()
    world.repaired = {row["object_id"] for row in world.rows(LIST, "objects") if row["uri"] == "a.jpg"}
    world.tag(["e001-00000"])
    world.plan()
    check(world, world.context())
    assert world.outcomes() == {"a.jpg 1": "same_bytes", "b.jpg 1": "planned"}
    assert world.assignments() == before


def test_a_quarantined_object_that_changed_stays_out_of_the_plan(world: World) -> None:
    """It was counted under quarantine; as `changed` it would be counted twice."""
    world.grow({"a.jpg": Content("broken", None), "b.jpg": unlike(2)})
    world.plan()
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    check(world, world.context())
    assert world.outcomes() == {"a.jpg 2": "planned", "b.jpg 1": "planned"}


def test_a_newer_version_that_cannot_be_read_retires_the_older(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    world.grow({"a.jpg": Content("broken", None)})
    world.plan()
    check(world, world.context())
    assert world.outcomes() == {"a.jpg 1": "changed"} and world.assignments() == {}


def test_a_newer_version_with_the_same_bytes_keeps_the_plan_and_is_how_they_are_read(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(9)})
    world.plan()
    before = world.assignments()
    world.grow({f"{number}.jpg": unlike(number, "sign") for number in range(9)})  # a tagger can change its mind
    world.plan()
    check(world, world.context())
    assert world.assignments() == before and world.plan() == 0
    rows = [row for row in world.images().values() if row["outcome"] == "planned"]
    assert {row["object_id"] for row in rows} == {row["object_id"] for row in before.values()}
    assert {row["version"] for row in rows} == {"2"} and all(row["uris"] == [row["uri"]] for row in rows)
    assert sum(row["outcome"] == "same_bytes" for row in world.images().values()) == 9


def test_bytes_that_come_back_to_their_place_bring_their_questions_back(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    before = world.assignments()
    world.grow({"a.jpg": unlike(2)})
    world.plan()
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    check(world, world.context())
    assert world.assignments() == before


def test_a_newer_version_that_cannot_be_decoded_and_has_the_same_bytes_retires_nothing(world: World) -> None:
    """A decoder can fail once."""
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    before = world.assignments()
    world.grow({"a.jpg": replace(unlike(1), phash=None)})
    ids = {row["version"]: row["object_id"] for row in world.rows(LIST, "objects")}
    with Lease.take(world.out) as lease:  # as a decoder leaves it that timed out
        stage, log = StageFolder(world.out, TAG), StageFolder(world.out, TAG).log()
        known = {"object_id": ids["2"], "image_id": image_id(b"data 1")}
        rows = table([{**known, "outcome": "quarantined", "reason": "decode_timeout"}], IMAGES)
        part = TablePart((stage.write("images", "e002-00000", 2, rows),), "f", replaces=True)
        stage.commit(Receipt("e002-00000", log.next_revision("e002-00000"), {"images": part}, {}, epoch=2), lease)
    world.plan()
    assert world.assignments() == before and list(world.outcomes().values()) == ["planned"]
    world.repaired = {ids["2"]}
    world.tag(["e002-00000"])
    world.plan()
    check(world, world.context())
    assert world.assignments() == before
