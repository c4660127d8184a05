"""The plan is the same if it is cut otherwise, tagged in another order or killed between commits."""

import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from synthgen.commands.repair import repair
from synthgen.errors import Damaged
from synthgen.job import run_record
from synthgen.stages import listing
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.gc import collect_garbage
from synthgen.tables import LIST, PLAN, TAG
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import EDITED, OBJECTS_PUT, RULES, SLOWLY, Content, Killed, World, unlike

# --- one change at a time ---------------------------------------------------------------------------------------------


@SLOWLY
@given(objects=OBJECTS_PUT, size=st.integers(1, 20), draw=st.randoms())
def test_the_plan_depends_neither_on_the_size_of_partitions_nor_on_the_order_of_tagging(
    worlds: Callable[[], World], objects: dict[str, Content], size: int, draw: random.Random
) -> None:
    usual, other = worlds(), worlds()
    usual.grow(objects)
    usual.plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SMALLEST_PARTITION", size)
        for uri in draw.sample(sorted(objects), len(objects)):
            other.put(uri, objects[uri])
        other.scan()
    for partition in draw.sample(other.untagged(), len(other.untagged())):
        other.tag([partition])
    other.plan()
    check(usual, usual.context())
    assert other.images() == usual.images()
    assert other.assignments() == usual.assignments()


@SLOWLY
@given(objects=OBJECTS_PUT, grown=OBJECTS_PUT, edit=st.booleans(), stops=st.lists(st.integers(0, 3), max_size=3))
def test_a_plan_killed_between_commits_ends_like_one_that_was_not(
    worlds: Callable[[], World], objects: dict[str, Content], grown: dict[str, Content], edit: bool, stops: list[int]
) -> None:
    undisturbed, killed = worlds(), worlds()
    for world in (undisturbed, killed):
        world.grow(objects)
        world.plan()
        world.grow(grown)
    context = undisturbed.context(EDITED if edit else RULES)
    undisturbed.plan(context, change="edit" if edit else "growth")
    for commits in stops:
        with suppress(Killed):
            killed.plan(context, change="edit" if edit else "growth", stop_after=commits)
    killed.plan(context)  # an edit that was started is finished without another request
    if edit and not stops:
        killed.plan(context, change="edit")
    assert killed.images() == undisturbed.images()
    assert killed.assignments() == undisturbed.assignments()
    assert StageFolder(killed.out, PLAN).log().counts() == StageFolder(undisturbed.out, PLAN).log().counts()
    check(killed, context)


def test_a_plan_cut_short_continues_with_the_inputs_that_it_started_with(world: World) -> None:
    """A partition that is tagged meanwhile belongs to the next epoch, even if it was listed earlier."""
    for number in range(12):
        world.put(f"{number}.jpg", Content(f"data {number}", number // 4))  # near to each other, all of them
    world.scan()
    first, *rest = world.untagged()
    world.tag(rest)
    with suppress(Killed):
        world.plan(stop_after=1)
    planned = world.planned_uris()
    assert len(planned) == 1
    world.tag([first])
    assert world.plan() == 2 + 1, "the rest of the first epoch, then the second"
    check(world, world.context())
    assert world.planned_uris() == planned
    assert [list(epoch["reads"]) for epoch in world.epochs()] == [rest, [first]]


def test_a_plan_cut_short_whose_inputs_are_missing_is_reported_as_damage(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    with suppress(Killed):
        world.plan(stop_after=1)
    StageFolder(world.out, TAG).folder.child("commits").remove(["e001-00002.r1.json"])
    with pytest.raises(Damaged, match="1-tagged: commits of partition e001-00002 that the plan was made from are gone"):
        world.plan()


@pytest.mark.parametrize("place", ["1-tagged/tags/test", "1-tagged/images", "0-listed/objects"])
def test_a_plan_cut_short_whose_inputs_are_damaged_continues_once_they_are_redone(
    worlds: Callable[[], World], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_record, "start_names", lambda *_: None)  # a world has no run record
    undisturbed, world = worlds(), worlds()
    for each in (undisturbed, world):
        each.grow({f"{number}.jpg": unlike(number, "animal/dog") for number in range(9)})
    undisturbed.plan()
    with suppress(Killed):
        world.plan(stop_after=1)
    partition, folder, listed = "e001-00002", world.out.child(place), StageFolder(world.out, LIST)
    objects = listed.current(listed.log(), partition, "objects")
    [file] = [name for name in folder.names() if name.startswith(partition)]
    folder.write(file, b"")
    with pytest.raises(Damaged, match=f"--partition {place.partition('/')[0]}/{partition}"):
        world.plan()
    with Lease.take(world.out) as lease:
        if place == "0-listed/objects":  # as a repair lists it again
            part = TablePart((listed.write("objects", partition, 2, objects),), "f", replaces=True)
            RunFolder(world.out).commit_or_fail(LIST, Receipt(partition, 2, {"objects": part}), lease)
        else:
            assert repair(RunFolder(world.out), [f"1-tagged/{partition}"], lease) == 1
    world.tag([partition])
    world.plan()
    check(world, world.context())
    assert world.assignments() == undisturbed.assignments()


def test_an_edit_cut_short_continues_after_the_files_that_it_replaced_were_deleted(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "plant/tree", "animal/dog") for number in range(12)})
    world.plan()
    world.grow({f"more {number}.jpg": Content(f"data {number}", 0, ("plant/tree",)) for number in range(6)})
    edited = world.context(EDITED)
    with suppress(Killed):
        world.plan(edited, change="edit", stop_after=2)
    with Lease.take(world.out) as lease:
        assert collect_garbage(RunFolder(world.out), lease).files
    world.plan(edited, change="edit")
    check(world, edited)


def test_a_plan_can_be_drawn_again_where_growth_was_cut_short(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal/dog") for number in range(9)})
    with suppress(Killed):
        world.plan(stop_after=1)
    world.plan(change="redraw")
    assert [epoch["redraws"] for epoch in world.epochs()] == [False, True]
    check(world, world.context())


def test_a_damaged_epoch_record_is_reported_in_one_line(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    StageFolder(world.out, PLAN).folder.child("epochs").write("000001.json", b"{")
    with pytest.raises(Damaged, match=r"epochs/000001\.json: is not the record of a plan epoch") as caught:
        world.plan()
    assert "\n" not in str(caught.value)


def test_the_last_epoch_record_of_a_driver_that_was_taken_over_counts(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    create = Folder.create

    def twice(self: Folder, name: str, data: bytes) -> bool:
        """Record an epoch over fewer partitions, as the older driver, just before ours."""
        if self.url.endswith("epochs") and not self.names():
            record = json.loads(data)
            create(self, name, json.dumps(record | {"reads": dict(list(record["reads"].items())[:1])}).encode())
        return create(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "create", twice)
        assert world.plan() == 3
    check(world, world.context())
    assert [len(commits) for commits in StageFolder(world.out, PLAN).log().partitions.values()] == [1, 1, 1]
    assert StageFolder(world.out, PLAN).log().next_epoch == 3


# --- all changes in any order -----------------------------------------------------------------------------------------


class PlanMachine(RuleBasedStateMachine):
    """Growth, change, late tagging, objects that can be read at last, edits and kills in any order."""

    @initialize()
    def start(self) -> None:
        """Start with an empty world."""
        self.directory = tempfile.TemporaryDirectory()
        self.world = World(Folder(self.directory.name))
        self.mapping = RULES

    @rule(objects=OBJECTS_PUT)
    def grow(self, objects: dict[str, Content]) -> None:
        """Add and change objects of the source, and list it."""
        for uri, content in objects.items():
            self.world.put(uri, content)
        self.world.scan()

    @rule(draw=st.randoms())
    def tag(self, draw: random.Random) -> None:
        """Tag some partitions."""
        untagged = self.world.untagged()
        self.world.tag(draw.sample(untagged, draw.randint(0, len(untagged))))

    @rule(draw=st.randoms())
    def tag_again(self, draw: random.Random) -> None:
        """Make a broken object readable, and tag everything again."""
        broken = [row for row in self.world.rows(TAG, "images") if row["outcome"] == "quarantined"]
        if broken:
            self.world.repaired.add(draw.choice(broken)["object_id"])
        if tagged := list(StageFolder(self.world.out, TAG).log().partitions):
            self.world.tag(tagged)

    @rule(commits=st.integers(0, 4))
    def plan_and_die(self, commits: int) -> None:
        """Plan, and die after some commits."""
        with suppress(Killed):
            self.world.plan(self.world.context(self.mapping), change="edit", stop_after=commits)

    @rule()
    def edit(self) -> None:
        """Edit the mapping, or undo the edit."""
        self.mapping = EDITED if self.mapping == RULES else RULES

    @rule()
    def plan(self) -> None:
        """Plan everything, and check the plan."""
        context = self.world.context(self.mapping)
        self.world.plan(context, change="edit")
        check(self.world, context)
        assert self.world.plan(context, change="edit") == 0

    def teardown(self) -> None:
        """Plan once more, and delete the folder."""
        self.plan()
        self.directory.cleanup()


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(
    max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
