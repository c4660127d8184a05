"""Quotas: caps hold exactly, shares of every type are kept, and growth retires nothing."""

import math
from collections import Counter
from contextlib import suppress

from synthgen.store import StageFolder
from synthgen.tables import PLAN
from tests.fixtures.plan_checks import check_counts, check_quotas
from tests.fixtures.planning import RULES, TAGS, Killed, World, factors_of, types_of, unlike


def test_a_cap_holds_exactly_and_spreads_over_all_images(planned: World) -> None:
    before = planned.assignments()
    planned.plan(context := planned.context(caps={"look/**": 20}), change="edit")
    check_quotas(planned, context)
    after = planned.assignments()
    looks = {key for key, row in after.items() if row["type"].startswith("look/")}
    assert len(looks) == 20 and set(after) < set(before)
    looks_before = {key for key, row in before.items() if row["type"].startswith("look/")}
    assert set(before) - set(after) == looks_before - looks
    first_revisions = [rows for name, rows in planned.written().items() if name.endswith(".r1")]
    with_looks = [rows for rows in first_revisions if any(row["assignment_id"] in looks for row in rows)]
    assert len(with_looks) >= 6, "they are spread over the partitions"


def test_a_cap_counts_planned_questions_and_growth_retires_none_of_them(world: World) -> None:
    context = world.context(caps={"look/a": 15, "count/**": 0})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(context)
    check_quotas(world, context)
    first = world.assignments()
    assert not [row for row in first.values() if row["type"].startswith("count/")]
    for growth in range(3):
        world.grow({f"{growth} {number}.jpg": unlike(100 * growth + number + 50, "plant") for number in range(12)})
        world.plan(context)
        check_quotas(world, context)
        assert first.items() <= world.assignments().items()
        first = world.assignments()
    assert Counter(row["type"] for row in first.values())["look/a"] == 15


def test_an_edit_beside_a_cap_keeps_the_questions_that_the_cap_let_through(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(context := world.context(caps={"look/a": 8}))
    world.grow({f"new {number}.jpg": unlike(number + 50, "animal") for number in range(24)})
    world.plan(context)
    before = {key for key, row in world.assignments().items() if row["type"] == "look/a"}
    edited = world.context(caps={"look/a": 8}, forms={"short": 1.0, "detailed": 1.0, "brief": 0.0})
    world.plan(edited, change="edit")
    check_quotas(world, edited)
    assert {key for key, row in world.assignments().items() if row["type"] == "look/a"} == before
    world.plan(smaller := world.context(caps={"look/a": 5}), change="edit")
    check_quotas(world, smaller)
    after = {key for key, row in world.assignments().items() if row["type"] == "look/a"}
    assert len(after) == 5 and after < before


def test_a_share_keeps_its_part_of_every_type_and_some_of_each(planned: World) -> None:
    before = types_of(planned)
    planned.plan(context := planned.context(share=0.3), change="edit")
    check_quotas(planned, context)
    assert types_of(planned) == {path: math.ceil(0.3 * count) for path, count in before.items()}
    kept = set(planned.assignments())
    planned.plan(planned.context(share=0.5), change="edit")
    assert kept < set(planned.assignments()), "a larger share only adds"


def test_growth_beside_a_share_retires_nothing_even_where_a_partition_is_planned_again(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(30)})
    world.plan(context := world.context(share=0.4))
    before, images = world.assignments(), world.images()
    changed = [f"{number}.jpg" for number in range(0, 30, 3)]
    world.grow({uri: unlike(100 + place, "animal") for place, uri in enumerate(changed)})
    world.plan(context)
    check_quotas(world, context)
    unchanged = {key for key, row in before.items() if images[row["object_id"]]["uri"] not in changed}
    assert unchanged and unchanged <= set(world.assignments())


def test_an_image_that_lost_all_its_questions_to_a_quota_is_recorded(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    world.plan(context := world.context(RULES.replace("look/a: 2, look/b: 1", "look/a: 2"), caps={"look/a": 4}))
    check_quotas(world, context)
    counts = Counter(world.outcomes().values())
    assert counts["over_quota"] >= 5 and set(counts) == {"planned", "over_quota"}


def test_an_epoch_that_was_cut_short_continues_with_its_quotas(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(24)})
    context = world.context(caps={"look/**": 10})
    with suppress(Killed):
        world.plan(context, stop_after=3)
    world.plan(context)
    check_quotas(world, context)
    assert sum(row["type"].startswith("look/") for row in world.assignments().values()) == 10
    assert StageFolder(world.out, PLAN).log().next_epoch == 2


def test_only_a_redraw_forgets_planned_questions(world: World) -> None:
    """Quotas and balance then come out as if all images had come at once."""
    context = world.context(caps={"look/a": 8}, balance={"types": 0.7})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(context)
    world.grow({f"new {number}.jpg": unlike(number + 50, "sign") for number in range(24)})
    world.plan(context)
    grown = set(world.assignments())
    assert world.plan(context, change="edit") == 0
    assert world.plan(context, change="redraw") == 12
    redrawn, factors = set(world.assignments()), factors_of(world)
    assert redrawn != grown and factors[2] != factors[1] == factors[0]
    check_counts(world, world.images(), world.assignments())
    assert world.plan(context, change="growth") == 0 and world.plan(context, change="edit") == 0
