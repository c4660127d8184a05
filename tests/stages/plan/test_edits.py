"""An edit of mapping or settings adds and retires just the difference, when asked to, and can be previewed."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from synthgen.stages import plan
from synthgen.stages.plan import dry_run
from synthgen.store import RunFolder, StageFolder
from synthgen.tables import PLAN
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import EDITED, Content, Killed, World, unlike


def test_an_edit_is_not_applied_unasked(planned: World) -> None:
    before = StageFolder(planned.out, PLAN).log()
    assert planned.plan(planned.context(EDITED)) == 0
    assert StageFolder(planned.out, PLAN).log() == before


def test_an_edit_adds_and_retires_exactly_the_difference(planned: World) -> None:
    before = planned.assignments()
    assert planned.plan(planned.context(EDITED), change="edit") == 8
    check(planned, planned.context(EDITED))
    after = planned.assignments()
    added, retired = set(after) - set(before), set(before) - set(after)
    assert added and retired and len(set(before) & set(after)) > len(before) / 2, "most of the plan stands"
    assert {row["type"] for key, row in after.items() if key in added} == {"look/c"}, "the edit brought it in"
    second = [row for name, rows in planned.written().items() if name.endswith(".r2") for row in rows]
    expected = {(key, False) for key in added} | {(key, True) for key in retired}
    assert {(row["assignment_id"], row["retired"]) for row in second} == expected
    assert len(second) == len(added) + len(retired), "and nothing else is written"


def test_an_edit_that_is_undone_restores_the_assignments_that_it_retired(planned: World) -> None:
    before = planned.assignments()
    planned.plan(planned.context(EDITED), change="edit")
    middle = planned.assignments()
    planned.plan(change="edit")
    check(planned, planned.context())
    assert planned.assignments() == before
    counts = StageFolder(planned.out, PLAN).log().counts()
    assert (counts["assigned"], counts["retired"]) == (len(before), len(set(middle) - set(before)))


def test_a_change_of_the_settings_is_an_edit_too(planned: World) -> None:
    before = set(planned.assignments())
    planned.plan(context := planned.context(per_image=2), change="edit")
    check(planned, context)
    assert set(planned.assignments()) < before


def test_an_edit_of_near_duplicates_is_applied_to_planned_images(world: World) -> None:
    world.grow({f"{number}.jpg": Content(f"data {number}", (1 << number) - 1) for number in range(8)})
    world.plan(world.context(near_duplicates=0))
    assert Counter(world.outcomes().values()) == {"planned": 8}
    world.plan(context := world.context(near_duplicates=2), change="edit")
    check(world, context)
    assert Counter(world.outcomes().values())["near_duplicate"] > 3
    world.plan(context := world.context(near_duplicates=-1), change="edit")
    check(world, context)
    assert Counter(world.outcomes().values()) == {"planned": 8}


def test_an_epoch_started_with_other_settings_is_dropped_and_the_edit_planned_whole(planned: World) -> None:
    with suppress(Killed):
        planned.plan(planned.context(EDITED), change="edit", stop_after=3)
    planned.plan(context := planned.context(EDITED, per_image=4), change="edit")
    check(planned, context)
    log = StageFolder(planned.out, PLAN).log()
    assert {log.fingerprint(name, "assignments") for name in log.partitions} == {context.fingerprint}


def test_an_edit_and_growth_at_once_are_one_epoch(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant")})
    planned.plan(context := planned.context(EDITED), change="edit")
    check(planned, context)
    assert StageFolder(planned.out, PLAN).log().next_epoch == 3


def test_a_dry_run_returns_the_plan_that_is_then_made_and_writes_nothing(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant"), "copy.jpg": unlike(5)})
    context, before = planned.context(EDITED, caps={"read/**": 9}), planned.assignments()
    files = {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")}
    parts = list(dry_run.partition_diffs(RunFolder(planned.out), context))
    assert {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")} == files
    planned.plan(context, change="edit")
    after = planned.assignments()

    def ids(name: str) -> set[str]:
        return {key for part in parts for key in getattr(part, name).column("assignment_id").to_pylist()}

    assert ids("added") == set(after) - set(before) != set()
    assert ids("gone") == set(before) - set(after) != set()
    assert ids("kept") == set(before) & set(after) != set()
    assert sum((Counter(part.outcomes) for part in parts), Counter()) == Counter(planned.outcomes().values())


def test_a_question_is_counted_for_the_rule_that_gives_its_type_the_most_weight(planned: World) -> None:
    context = planned.context(EDITED)
    folder, questions = RunFolder(planned.out), Counter[tuple[str, str]]()
    for part in dry_run.partition_diffs(folder, context):
        askers = dry_run.RuleCounter(plan.Inputs.from_folder(folder, ("test",)), context, part.name)
        questions.update(askers.count(part.added))
        assert dry_run.NO_RULE not in {rule for _, rule in askers.count(part.kept)}
    assert {(path, rule.rpartition(":")[2]) for path, rule in questions} == {("look/c", "7")}
