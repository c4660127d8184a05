"""An edit of the mapping or of the settings adds and retires just the difference, when asked to, and can be foretold."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from synthgen.stages import plan
from synthgen.stages.plan import dry_run
from synthgen.store import StageFolder
from synthgen.tables import PLAN
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import EDITED, Content, Died, World, unlike


def test_an_edit_is_not_applied_unasked(planned: World) -> None:
    before = StageFolder(planned.out, PLAN).log()
    assert planned.plan(planned.terms(EDITED)) == 0
    assert StageFolder(planned.out, PLAN).log() == before


def test_an_edit_adds_and_retires_exactly_the_difference(planned: World) -> None:
    before = planned.assignments()
    assert planned.plan(planned.terms(EDITED), change="edit") == 8
    check(planned, planned.terms(EDITED))
    after = planned.assignments()
    added, retired = set(after) - set(before), set(before) - set(after)
    assert added and retired and len(set(before) & set(after)) > len(before) / 2, "most of the plan stands"
    assert {row["type"] for key, row in after.items() if key in added} == {"look/c"}, "what the edit brought in"
    second = [row for name, rows in planned.written().items() if name.endswith(".r2") for row in rows]
    assert {(row["assignment_id"], row["retired"]) for row in second} == {(one, False) for one in added} | {
        (one, True) for one in retired
    }
    assert len(second) == len(added) + len(retired), "and nothing else is written"


def test_an_edit_taken_back_wakes_what_it_had_retired(planned: World) -> None:
    before = planned.assignments()
    planned.plan(planned.terms(EDITED), change="edit")
    middle = planned.assignments()
    planned.plan(change="edit")
    check(planned, planned.terms())
    assert planned.assignments() == before
    counts = StageFolder(planned.out, PLAN).log().counts()
    assert (counts["assigned"], counts["retired"]) == (len(before), len(set(middle) - set(before)))


def test_an_edit_of_the_settings_counts_as_one(planned: World) -> None:
    before = set(planned.assignments())
    planned.plan(terms := planned.terms(per_image=2), change="edit")
    check(planned, terms)
    assert set(planned.assignments()) < before


def test_an_edit_of_near_duplicates_is_applied_to_what_is_planned(world: World) -> None:
    world.grow({f"{number}.jpg": Content(f"data {number}", (1 << number) - 1) for number in range(8)})
    world.plan(world.terms(near_duplicates=0))
    assert Counter(world.outcomes().values()) == {"planned": 8}
    world.plan(terms := world.terms(near_duplicates=2), change="edit")
    check(world, terms)
    assert Counter(world.outcomes().values())["near_duplicate"] > 3
    world.plan(terms := world.terms(near_duplicates=-1), change="edit")
    check(world, terms)
    assert Counter(world.outcomes().values()) == {"planned": 8}


def test_an_epoch_begun_on_other_terms_is_left_and_the_edit_planned_whole(planned: World) -> None:
    with suppress(Died):
        planned.plan(planned.terms(EDITED), change="edit", stop_after=3)
    planned.plan(terms := planned.terms(EDITED, per_image=4), change="edit")
    check(planned, terms)
    log = StageFolder(planned.out, PLAN).log()
    assert {log.fingerprint(name, "assignments") for name in log.partitions} == {terms.fingerprint}


def test_an_edit_and_growth_at_once_are_one_epoch(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant")})
    planned.plan(terms := planned.terms(EDITED), change="edit")
    check(planned, terms)
    assert StageFolder(planned.out, PLAN).log().last_epoch == 2


def test_what_is_foretold_is_what_is_then_planned_and_foretelling_writes_nothing(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant"), "copy.jpg": unlike(5)})
    terms, before = planned.terms(EDITED, caps={"read/**": 9}), planned.assignments()
    files = {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")}
    parts = list(dry_run.parts(planned.out, terms))
    assert {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")} == files
    planned.plan(terms, change="edit")
    after = planned.assignments()

    def ids(name: str) -> set[str]:
        return {one for part in parts for one in getattr(part, name).column("assignment_id").to_pylist()}

    assert (ids("added"), ids("gone"), ids("kept")) == (
        set(after) - set(before),
        set(before) - set(after),
        set(before) & set(after),
    )
    assert sum((Counter(part.outcomes) for part in parts), Counter()) == Counter(planned.outcomes().values())


def test_a_question_is_told_under_the_rule_that_gives_its_type_the_most_weight(planned: World) -> None:
    terms = planned.terms(EDITED)
    told: Counter[tuple[str, str]] = Counter()
    for part in dry_run.parts(planned.out, terms):
        askers = dry_run.Askers(plan.Inputs.of(planned.out, ("test",)), terms.rules, part.name)
        told.update(askers.of(part.added))
        assert dry_run.NO_RULE not in {rule for _, rule in askers.of(part.kept)}
    assert {(path, rule.rpartition(":")[2]) for path, rule in told} == {("look/c", "7")}
