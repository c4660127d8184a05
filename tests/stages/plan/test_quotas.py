"""Quotas: caps hold exactly, shares of every type are kept, and growth takes nothing back."""

import math
from collections import Counter
from contextlib import suppress

from synthgen.store import StageFolder
from synthgen.tables import PLAN
from tests.fixtures.plan_checks import check_counts, check_quotas
from tests.fixtures.planning import RULES, TAGS, Died, World, factors_of, types_of, unlike


def test_a_cap_holds_exactly_and_spreads_over_all_images(planned: World) -> None:
    before = planned.assignments()
    planned.plan(terms := planned.terms(caps={"look/**": 20}), change="edit")
    check_quotas(planned, terms)
    after = planned.assignments()
    looks = {key for key, row in after.items() if row["type"].startswith("look/")}
    assert len(looks) == 20 and set(after) < set(before)
    assert {key for key in before if key not in after} == {
        key for key, row in before.items() if row["type"][:4] == "look"
    } - looks
    partitions = Counter(
        name.partition(".")[0]
        for name, rows in planned.written().items()
        if name.endswith(".r1")
        for row in rows
        if row["assignment_id"] in looks
    )
    assert len(partitions) >= 6, "not the first partitions that came"


def test_a_cap_counts_what_is_planned_and_growth_takes_nothing_of_it_back(world: World) -> None:
    terms = world.terms(caps={"look/a": 15, "count/**": 0})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(terms)
    check_quotas(world, terms)
    first = world.assignments()
    assert not [row for row in first.values() if row["type"].startswith("count/")]
    for growth in range(3):
        world.grow({f"{growth} {number}.jpg": unlike(100 * growth + number + 50, "plant") for number in range(12)})
        world.plan(terms)
        check_quotas(world, terms)
        assert first.items() <= world.assignments().items()
        first = world.assignments()
    assert Counter(row["type"] for row in first.values())["look/a"] == 15


def test_an_edit_beside_a_cap_leaves_what_the_cap_let_through(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(terms := world.terms(caps={"look/a": 8}))
    world.grow({f"new {number}.jpg": unlike(number + 50, "animal") for number in range(24)})
    world.plan(terms)
    before = {key for key, row in world.assignments().items() if row["type"] == "look/a"}
    world.plan(
        edited := world.terms(caps={"look/a": 8}, forms={"short": 1.0, "detailed": 1.0, "brief": 0.0}), change="edit"
    )
    check_quotas(world, edited)
    assert {key for key, row in world.assignments().items() if row["type"] == "look/a"} == before
    world.plan(smaller := world.terms(caps={"look/a": 5}), change="edit")
    check_quotas(world, smaller)
    after = {key for key, row in world.assignments().items() if row["type"] == "look/a"}
    assert len(after) == 5 and after < before


def test_a_share_keeps_its_part_of_every_type_and_some_of_each(planned: World) -> None:
    before = types_of(planned)
    planned.plan(terms := planned.terms(share=0.3), change="edit")
    check_quotas(planned, terms)
    assert types_of(planned) == {path: math.ceil(0.3 * count) for path, count in before.items()}
    kept = set(planned.assignments())
    planned.plan(planned.terms(share=0.5), change="edit")
    assert kept < set(planned.assignments()), "a larger share only adds"


def test_growth_beside_a_share_takes_nothing_back_even_where_a_partition_is_planned_again(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(30)})
    world.plan(terms := world.terms(share=0.4))
    before, images = world.assignments(), world.images()
    changed = [f"{number}.jpg" for number in range(0, 30, 3)]
    world.grow({uri: unlike(100 + place, "animal") for place, uri in enumerate(changed)})
    world.plan(terms)
    check_quotas(world, terms)
    assert {key for key, row in before.items() if images[row["object_id"]]["uri"] not in changed} <= set(
        world.assignments()
    )


def test_an_image_that_lost_all_its_questions_to_a_quota_is_on_record(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    world.plan(terms := world.terms(RULES.replace("look/a: 2, look/b: 1", "look/a: 2"), caps={"look/a": 4}))
    check_quotas(world, terms)
    counts = Counter(world.outcomes().values())
    assert counts["over_quota"] >= 5 and set(counts) == {"planned", "over_quota"}


def test_quotas_of_an_epoch_that_was_cut_short_are_those_it_began_with(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(24)})
    terms = world.terms(caps={"look/**": 10})
    with suppress(Died):
        world.plan(terms, stop_after=3)
    world.plan(terms)
    check_quotas(world, terms)
    assert sum(row["type"].startswith("look/") for row in world.assignments().values()) == 10
    assert StageFolder(world.out, PLAN).log().last_epoch == 1


def test_only_a_redraw_forgets_what_is_planned(world: World) -> None:
    """Quotas and balance then come out as if all images had come at once."""
    terms = world.terms(caps={"look/a": 8}, balance={"types": 0.7})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(terms)
    world.grow({f"new {number}.jpg": unlike(number + 50, "sign") for number in range(24)})
    world.plan(terms)
    grown = set(world.assignments())
    assert world.plan(terms, change="edit") == 0
    assert world.plan(terms, change="redraw") == 12
    redrawn, factors = set(world.assignments()), factors_of(world)
    assert redrawn != grown and factors[2] != factors[1] == factors[0]
    check_counts(world, world.images(), world.assignments())
    assert world.plan(terms, change="growth") == 0 and world.plan(terms, change="edit") == 0
