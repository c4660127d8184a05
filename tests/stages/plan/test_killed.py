"""The same plan, however it came about: cut otherwise, tagged in another order, killed between commits, or all of it at once."""

import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from synthgen.commands.repair import redo
from synthgen.errors import Damaged
from synthgen.job import funnel
from synthgen.stages import listing
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.gc import collect_garbage
from synthgen.tables import IMAGES, LIST, PLAN, TAG
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import EDITED, OBJECTS_PUT, RULES, SLOWLY, Content, Died, World, unlike

# --- the same plan, however it came about -----------------------------------------------------------------------------


@SLOWLY
@given(objects=OBJECTS_PUT, size=st.integers(1, 20), draw=st.randoms())
def test_the_plan_depends_neither_on_how_partitions_are_cut_nor_on_who_tags_them_when(
    worlds: Callable[[], World], objects: dict[str, Content], size: int, draw: random.Random
) -> None:
    one, other = worlds(), worlds()
    one.grow(objects)
    one.plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SMALLEST_PARTITION", size)
        for uri in draw.sample(sorted(objects), len(objects)):
            other.put(uri, objects[uri])
        other.scan()
    for partition in draw.sample(other.untagged(), len(other.untagged())):
        other.tag([partition])
    other.plan()
    check(one, one.terms())
    assert other.images() == one.images()
    assert other.assignments() == one.assignments()


@SLOWLY
@given(objects=OBJECTS_PUT, grown=OBJECTS_PUT, edit=st.booleans(), stops=st.lists(st.integers(0, 3), max_size=3))
def test_a_plan_killed_between_commits_ends_as_if_it_had_not_been(
    worlds: Callable[[], World], objects: dict[str, Content], grown: dict[str, Content], edit: bool, stops: list[int]
) -> None:
    undisturbed, killed = worlds(), worlds()
    for world in (undisturbed, killed):
        world.grow(objects)
        world.plan()
        world.grow(grown)
    terms = undisturbed.terms(EDITED if edit else RULES)
    undisturbed.plan(terms, change="edit" if edit else "growth")
    for commits in stops:
        with suppress(Died):
            killed.plan(terms, change="edit" if edit else "growth", stop_after=commits)
    killed.plan(terms)  # an edit that was begun is finished without being asked for again
    if edit and not stops:
        killed.plan(terms, change="edit")
    assert killed.images() == undisturbed.images()
    assert killed.assignments() == undisturbed.assignments()
    assert StageFolder(killed.out, PLAN).log().counts() == StageFolder(undisturbed.out, PLAN).log().counts()
    check(killed, terms)


def test_a_plan_cut_short_sees_what_it_saw_when_it_began(world: World) -> None:
    """What is tagged while it lies still belongs to the next epoch, even if it was listed earlier."""
    for number in range(12):
        world.put(f"{number}.jpg", Content(f"data {number}", number // 4))  # near to each other, all of them
    world.scan()
    first, *rest = world.untagged()
    world.tag(rest)
    with suppress(Died):
        world.plan(stop_after=1)
    planned = [uri for uri, outcome in world.outcomes().items() if outcome == "planned"]
    assert len(planned) == 1
    world.tag([first])
    assert world.plan() == 2 + 1, "the rest of the first epoch, then the second"
    check(world, world.terms())
    assert [uri for uri, outcome in world.outcomes().items() if outcome == "planned"] == planned
    epochs = StageFolder(world.out, PLAN).folder.child("epochs")
    reads = [json.loads(epochs.read(name))["reads"] for name in epochs.names()]
    assert [list(one) for one in reads] == [rest, [first]]


def test_a_plan_cut_short_whose_inputs_are_gone_says_so(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    with suppress(Died):
        world.plan(stop_after=1)
    StageFolder(world.out, TAG).folder.child("commits").remove(["e001-00002.r1.json"])
    with pytest.raises(Damaged, match="1-tagged: commits of partition e001-00002 that the plan was made from are gone"):
        world.plan()


@pytest.mark.parametrize("place", ["1-tagged/tags/test", "1-tagged/images", "0-listed/objects"])
def test_a_plan_cut_short_whose_inputs_are_damaged_goes_on_once_they_are_redone(
    worlds: Callable[[], World], place: str
) -> None:
    undisturbed, world = worlds(), worlds()
    for one in (undisturbed, world):
        one.grow({f"{number}.jpg": unlike(number, "animal/dog") for number in range(9)})
    undisturbed.plan()
    with suppress(Died):
        world.plan(stop_after=1)
    partition, folder, listed = "e001-00002", world.out.child(place), StageFolder(world.out, LIST)
    objects = listed.current(listed.log(), partition, "objects")
    [file] = [name for name in folder.names() if name.startswith(partition)]
    folder.write(file, b"")
    with pytest.raises(Damaged, match=f"--partition {place.partition('/')[0]}/{partition}"):
        world.plan()
    with Lease.take(world.out) as lease:
        if place == "0-listed/objects":  # as it is listed again where it stood
            part = TablePart((listed.write("objects", partition, 2, objects),), "f", replaces=True)
            listed.insist(Receipt(partition, 2, {"objects": part}), lease, 1)
        else:
            redo(world.out, [f"1-tagged/{partition}"], lease)
    world.tag([partition])
    world.plan()
    check(world, world.terms())
    assert world.assignments() == undisturbed.assignments()


def test_an_edit_cut_short_goes_on_after_what_it_replaced_was_deleted(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "plant/tree", "animal/dog") for number in range(12)})
    world.plan()
    world.grow({f"more {number}.jpg": Content(f"data {number}", 0, ("plant/tree",)) for number in range(6)})
    edited = world.terms(EDITED)
    with suppress(Died):
        world.plan(edited, change="edit", stop_after=2)
    with Lease.take(world.out) as lease:
        collect_garbage(world.out, funnel.FOLDERS, lease)
    world.plan(edited, change="edit")
    check(world, edited)


def test_a_plan_that_is_to_be_drawn_anew_is_even_where_growth_was_cut_short(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal/dog") for number in range(9)})
    with suppress(Died):
        world.plan(stop_after=1)
    world.plan(change="redraw")
    epochs = StageFolder(world.out, PLAN).folder.child("epochs")
    assert [json.loads(epochs.read(name))["redraws"] for name in epochs.names()] == [False, True]
    check(world, world.terms())


def test_a_damaged_epoch_record_is_told_in_one_line(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    StageFolder(world.out, PLAN).folder.child("epochs").write("000001.json", b"{")
    with pytest.raises(Damaged, match=r"epochs/000001\.json: is not the record of a plan epoch"):
        world.plan()


def test_the_epoch_that_a_driver_taken_over_recorded_last_counts(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    create = Folder.create

    def twice(self: Folder, name: str, data: bytes) -> bool:
        """Just before ours, the older driver records an epoch over fewer partitions."""
        if self.url.endswith("epochs") and not self.names():
            record = json.loads(data)
            create(self, name, json.dumps(record | {"reads": dict(list(record["reads"].items())[:1])}).encode())
        return create(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "create", twice)
        assert world.plan() == 3
    check(world, world.terms())
    assert [len(commits) for commits in StageFolder(world.out, PLAN).log().partitions.values()] == [1, 1, 1]
    assert StageFolder(world.out, PLAN).log().last_epoch == 2


# --- all of it at once ------------------------------------------------------------------------------------------------


class PlanMachine(RuleBasedStateMachine):
    """Growth, change, late tagging, mended objects, edits and kills in any order."""

    @initialize()
    def start(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.world = World(Folder(self.place.name))
        self.rules = RULES

    @rule(objects=OBJECTS_PUT)
    def the_source_grows_and_changes(self, objects: dict[str, Content]) -> None:
        for uri, content in objects.items():
            self.world.put(uri, content)
        self.world.scan()

    @rule(draw=st.randoms())
    def some_of_it_is_tagged(self, draw: random.Random) -> None:
        left = self.world.untagged()
        self.world.tag(draw.sample(left, draw.randint(0, len(left))))

    @rule(draw=st.randoms())
    def a_partition_is_tagged_again(self, draw: random.Random) -> None:
        broken = [row for row in self.world.rows("1-tagged", "images", IMAGES) if row["outcome"] == "quarantined"]
        if broken:
            self.world.mended.add(draw.choice(broken)["object_id"])
        if tagged := list(StageFolder(self.world.out, TAG).log().partitions):
            self.world.tag(tagged)

    @rule(commits=st.integers(0, 4))
    def planning_is_killed(self, commits: int) -> None:
        with suppress(Died):
            self.world.plan(self.world.terms(self.rules), change="edit", stop_after=commits)

    @rule()
    def the_mapping_is_edited(self) -> None:
        self.rules = EDITED if self.rules == RULES else RULES

    @rule()
    def all_is_planned(self) -> None:
        terms = self.world.terms(self.rules)
        self.world.plan(terms, change="edit")
        check(self.world, terms)
        assert self.world.plan(terms, change="edit") == 0

    def teardown(self) -> None:
        self.all_is_planned()
        self.place.cleanup()


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(
    max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
