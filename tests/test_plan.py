"""The plan: one outcome an object, the same draws however it came about, and nothing planned is lost, doubled or redrawn."""

import dataclasses
import json
import math
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from synthgen import config, listing, mapping, plan, status
from synthgen.errors import Damaged
from synthgen.plan import dry
from synthgen.plan.drawing import Weights
from synthgen.prompt import InstructionType
from synthgen.rows import ASSIGNMENTS, IMAGES, OBJECT_TAGS, OBJECTS, PLANNED_IMAGES, image_id, make_id, table
from synthgen.source import Listed
from synthgen.store import Folder, Lease, Log, Receipt, Stage, TablePart
from synthgen.taxonomy import Node, Tree, matches

Row = dict[str, Any]
TAGS = ("animal", "animal/bird", "animal/dog", "plant", "plant/tree", "sign", "sign/road")
TYPES = tuple(f"{family}/{name}" for family in ("look", "count", "read") for name in ("a", "b", "c"))
FORMS = ("short", "detailed")
RULES = """
about: a mapping for tests
text_tags: [sign/**]
rules:
  - {tags: "**", ask: {look/a: 2, look/b: 1}}
  - {tags: animal/**, ask: {count/**: 6}, boost: {look/a: 3}}
  - {tags: plant/tree, ask: {count/c: 2, read/c: 1}, never: [look/b]}
  - {tags: sign/**, when: {min_side: 100}, ask: {read/**: 9}}
"""
EDITED = RULES.replace("count/c: 2", "count/c: 2, look/c: 4")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small partitions, few buckets, and no waiting for a disk: no test here pulls the plug."""
    monkeypatch.setattr(listing, "SMALLEST_PARTITION", 3)
    monkeypatch.setattr("synthgen.rows.bucket_of", lambda uri: int(make_id(uri)[:2], 16) % 4)
    monkeypatch.setattr(os, "fsync", lambda file: None)


@dataclass(frozen=True)
class Content:
    """What is in an object; a phash of None cannot be decoded."""

    data: str
    phash: int | None = 0
    tags: tuple[str, ...] = ()
    side: int = 640


def unlike(number: int, *tags: str) -> Content:
    """Contents that are far from each other."""
    return Content(f"data {number}", int(make_id("phash", str(number))[:16], 16), tags)


@dataclass
class World:
    """A source whose objects change, and a run over it, without any model."""

    out: Folder
    objects: dict[str, tuple[int, Content]] = field(default_factory=dict)  # uri → its version and content now
    contents: dict[tuple[str, str], Content] = field(default_factory=dict)
    mended: set[str] = field(default_factory=set)  # versions that could not be decoded and now can

    def put(self, uri: str, content: Content) -> None:
        version = self.objects[uri][0] + 1 if uri in self.objects else 1
        self.objects[uri] = (version, content)
        self.contents[uri, str(version)] = content

    def scan(self) -> None:
        with Lease.take(self.out) as lease:
            now = (Listed(uri, str(version), None, 1, None) for uri, (version, _) in self.objects.items())
            listing.run(self.out, now, lease, "f")

    def untagged(self) -> list[str]:
        tagged = Stage(self.out, "1-tagged").log()
        return [name for name in Stage(self.out, "0-listed").log().partitions if name not in tagged.partitions]

    def tag(self, partitions: Sequence[str] | None = None) -> None:
        """Tags partitions, for the first time or again, as the tag stage would."""
        stage = Stage(self.out, "1-tagged")
        with Lease.take(self.out) as lease:
            for partition in self.untagged() if partitions is None else partitions:
                log = stage.log()
                images, tags = self._found(partition)
                counts = Counter(row["outcome"] if row["outcome"] == "tagged" else f"quarantined.{row['reason']}" for row in images)
                before = stage.current(log, partition, "images", "object_id", IMAGES).to_pylist()
                counts.subtract(row["outcome"] if row["outcome"] == "tagged" else f"quarantined.{row['reason']}" for row in before)
                revision = log.next_revision(partition)
                tables = {"images": table(images, IMAGES), "tags/test": table(tags, OBJECT_TAGS)}
                parts = {name: TablePart((stage.write(name, partition, revision, rows),), "f", True) for name, rows in tables.items()}
                stage.commit(Receipt(partition, revision, parts, dict(counts)), lease, revision)

    def _found(self, partition: str) -> tuple[list[Row], list[Row]]:
        log = Stage(self.out, "0-listed").log()
        images, tags = [], []
        for row in Stage(self.out, "0-listed").current(log, partition, "objects", "object_id", OBJECTS).to_pylist():
            content = self.contents[row["uri"], row["version"]]
            if content.phash is None and row["object_id"] not in self.mended:
                images.append({"object_id": row["object_id"], "outcome": "quarantined", "reason": "corrupt"})
                continue
            size = {"width": content.side, "height": content.side, "phash": content.phash or 0}
            known = {"object_id": row["object_id"], "image_id": image_id(content.data.encode()), "outcome": "tagged"}
            images.append({**known, **size})
            scored = [{"path": path, "score": 0.5, "tagger": "test"} for path in content.tags]
            tags.append({"object_id": row["object_id"], "tags": scored})
        return images, tags

    def terms(self, rules: str = RULES, **changes: Any) -> plan.Terms:
        how = config.Plan(**{"mapping": "x", "per_image": 3, "per_type": 2, "forms": dict.fromkeys(FORMS, 1.0), "seed": 5, **changes})
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "test.yaml")
            file.write_text(rules)
            loaded = mapping.load(str(file), Tree({path: Node(path, "") for path in TAGS}), TYPES)
        kinds = {path: InstructionType(path, "", "", "", FORMS, ()) for path in TYPES}  # type: ignore[arg-type]
        return plan.Terms(how, loaded, kinds, ("test",), make_id(rules, how.model_dump_json()))

    def plan(self, terms: plan.Terms | None = None, change: plan.Change = "growth", stop_after: int | None = None) -> int:
        """Plans, or dies in the middle: before the commit after the first `stop_after`."""
        with pytest.MonkeyPatch.context() as patch, Lease.take(self.out) as lease:
            if stop_after is not None:
                dying(patch, stop_after)
            return plan.run(self.out, terms or self.terms(), lease, change)

    def grow(self, contents: Mapping[str, Content]) -> None:
        for uri, content in contents.items():
            self.put(uri, content)
        self.scan()
        self.tag()

    # What is there.

    def rows(self, stage: str, name: str, schema: Any) -> list[Row]:
        log = Stage(self.out, stage).log()
        return [
            row for one in log.partitions for row in Stage(self.out, stage).current(log, one, name, schema.names[0], schema).to_pylist()
        ]

    def images(self) -> dict[str, Row]:
        """The plan's row of every object; that there is one is checked."""
        rows = self.rows("2-planned", "images", PLANNED_IMAGES)
        assert len({row["object_id"] for row in rows}) == len(rows), "an object has one outcome"
        return {row["object_id"]: row for row in rows}

    def outcomes(self) -> dict[str, str]:
        """uri and version → outcome."""
        return {f"{row['uri']} {row['version']}": row["outcome"] for row in self.images().values()}

    def assignments(self) -> dict[str, Row]:
        """The live ones."""
        live = [row for row in self.rows("2-planned", "assignments", ASSIGNMENTS) if not row["retired"]]
        assert len({row["assignment_id"] for row in live}) == len(live), "no question is asked twice"
        return {row["assignment_id"]: row for row in live}

    def written(self) -> dict[str, list[Row]]:
        """Commit → the assignment rows that it added."""
        stage, found = Stage(self.out, "2-planned"), {}
        for name, commits in stage.log().partitions.items():
            for commit in commits:
                one = dataclasses.replace(commit, receipt=commit.receipt)
                found[commit.name] = stage.current(Log({name: (one,)}), name, "assignments", "assignment_id", ASSIGNMENTS).to_pylist()
        return found


class Died(Exception):
    """What stands for a kill."""


def dying(patch: pytest.MonkeyPatch, commits: int) -> None:
    commit, made = Stage.commit, []

    def until(self: Stage, receipt: Receipt, lease: Lease, epoch: int) -> Any:
        if len(made) == commits:
            raise Died
        made.append(receipt.partition)
        return commit(self, receipt, lease, epoch)

    patch.setattr(Stage, "commit", until)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Folder(str(tmp_path / "out")))


def check(world: World, terms: plan.Terms) -> None:
    """What is true of every plan that is complete and of today's terms."""
    images, live = world.images(), world.assignments()
    tagged = {row["object_id"]: row for row in world.rows("1-tagged", "images", IMAGES)}
    assert set(images) == {one for one, row in tagged.items() if row["outcome"] == "tagged"}, "tagged is planned, quarantined is not"
    check_counts(world, images, live)
    check_duplicates(images, tagged, terms.settings.near_duplicates)
    check_versions(world, images)
    drawer = plan.Drawer(terms, {})
    asked: dict[str, set[str]] = {}
    for row in live.values():
        asked.setdefault(row["object_id"], set()).add(row["assignment_id"])
    for one, row in images.items():
        drawn = {each["assignment_id"] for each in drawer.draw({**tagged[one], **row})} if row["outcome"] == "planned" else set()
        assert asked.get(one, set()) == drawn, f"{one} is asked just what its tags and the mapping say"
        assert (row["outcome"] == "unserved") <= (not drawer.draw({**tagged[one], **row}))


def check_quotas(world: World, terms: plan.Terms) -> None:
    """What is true of every complete plan with quotas: the rest of `check`, and that nothing is over a cap or was not drawn."""
    images, live = world.images(), world.assignments()
    check_counts(world, images, live)
    tagged = {row["object_id"]: row for row in world.rows("1-tagged", "images", IMAGES)}
    drawer, asked = plan.Drawer(terms, {}), Counter(row["object_id"] for row in live.values())
    drawn = {one["assignment_id"] for key, row in images.items() for one in drawer.draw({**tagged[key], **row})}
    assert set(live) <= drawn
    for one, row in images.items():
        if row["outcome"] in ("planned", "over_quota"):
            assert (row["outcome"] == "planned") == bool(asked[one])
    for pattern, cap in terms.settings.caps.items():
        assert sum(matches(pattern, row["type"]) for row in live.values()) <= cap


def check_counts(world: World, images: Mapping[str, Row], live: Mapping[str, Row]) -> None:
    world.out.write("run.json", b"{}")
    funnel = status.funnels(world.out)[1]
    assert funnel.to_do == 0 and funnel.went == sum(row["outcome"] == "planned" for row in images.values())
    retired = [row for row in world.rows("2-planned", "assignments", ASSIGNMENTS) if row["retired"]]
    counts = Stage(world.out, "2-planned").log().counts()
    assert (counts.get("assigned", 0), counts.get("retired", 0)) == (len(live), len(retired))
    assert {name: n for name, n in counts.items() if name not in ("assigned", "retired")} == Counter(r["outcome"] for r in images.values())


def check_duplicates(images: Mapping[str, Row], tagged: Mapping[str, Row], bits: int) -> None:
    """Of equal or near images one is kept, and it stands for the others."""
    kept = [one for one, row in images.items() if row["outcome"] in ("planned", "unserved")]
    assert len({images[one]["image_id"] for one in kept}) == len(kept), "no bytes are planned twice"
    for number, one in enumerate(kept):
        for other in kept[:number] if bits >= 0 else ():
            assert (tagged[one]["phash"] ^ tagged[other]["phash"]).bit_count() > bits, "no two near images are planned"
    for one, row in images.items():
        assert (row["same_as"] is not None) == (row["outcome"] in ("same_bytes", "near_duplicate"))
        if row["same_as"] is None:
            continue
        assert row["same_as"] in kept
        if row["outcome"] == "near_duplicate":
            assert (tagged[one]["phash"] ^ tagged[row["same_as"]]["phash"]).bit_count() <= bits


def check_versions(world: World, images: Mapping[str, Row]) -> None:
    """Of the versions of a place that were tagged, the newest counts."""
    newest: dict[str, str] = {}
    for row in world.rows("0-listed", "objects", OBJECTS):
        newest[row["uri"]] = row["object_id"]
    if not world.untagged():
        for one, row in images.items():
            assert (row["outcome"] == "changed") == (newest[row["uri"]] != one)


# --- what is planned --------------------------------------------------------------------------------------------------


def test_every_tagged_object_is_planned_and_asked_what_its_tags_say(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(30)})
    assert world.plan() == len(Stage(world.out, "1-tagged").log().partitions) == 10
    check(world, world.terms())
    assert set(world.outcomes().values()) == {"planned"}
    assert len(world.assignments()) == 30 * 3


def test_an_assignment_says_which_tags_caused_it(world: World) -> None:
    world.grow({"a.jpg": unlike(1, "animal/bird", "plant")})
    world.plan()
    for row in world.assignments().values():
        assert row["because"] == (["animal", "animal/bird"] if row["type"].startswith("count") else [])


def test_a_plan_that_is_complete_is_left_alone(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    world.plan()
    before = Stage(world.out, "2-planned").log()
    assert world.plan() == 0 and world.plan(change="edit") == 0
    assert Stage(world.out, "2-planned").log() == before
    assert Stage(world.out, "2-planned").folder.child("epochs").names() == ["000001.json"]


def test_nothing_tagged_is_nothing_planned(world: World) -> None:
    assert world.plan() == 0 and world.plan(change="edit") == 0
    world.grow({"a.jpg": Content("broken", None)})
    assert world.plan() == 1
    check(world, world.terms())
    assert world.images() == {}


def test_an_image_that_no_rule_serves_is_on_record(world: World) -> None:
    world.grow({"a.jpg": unlike(1), "b.jpg": unlike(2, "animal")})
    world.plan(terms := world.terms(RULES.replace('{tags: "**", ask: {look/a: 2, look/b: 1}}', "{tags: animal, ask: {look/a: 1}}")))
    check(world, terms)
    assert world.outcomes() == {"a.jpg 1": "unserved", "b.jpg 1": "planned"}


def test_tags_of_several_taggers_count_once_each_with_the_best_score(world: World) -> None:
    world.grow({"a.jpg": unlike(1, "animal/bird", "plant"), "b.jpg": unlike(2), "c.jpg": unlike(3, "sign")})
    stage, terms = Stage(world.out, "1-tagged"), dataclasses.replace(world.terms(), taggers=("test", "other"))
    (partition,) = stage.log().partitions
    ids = {row["uri"]: row["object_id"] for row in world.rows("0-listed", "objects", OBJECTS)}

    def scored(path: str, score: float) -> Row:
        return {"path": path, "score": score, "tagger": "other"}

    found = [
        {"object_id": ids["c.jpg"], "tags": [scored("plant/tree", 0.25), scored("sign", 0.25), scored("plant/tree", 0.75)]},
        {"object_id": ids["a.jpg"], "tags": [scored("plant", 0.75), scored("sign", 0.5)]},
    ]
    with Lease.take(world.out) as lease:
        part = TablePart((stage.write("tags/other", partition, 2, table(found, OBJECT_TAGS)),), "f")
        stage.commit(Receipt(partition, 2, {"tags/other": part}), lease, 1)
        plan.run(world.out, terms, lease, "growth")
    tags = {row["uri"]: [(tag["path"], tag["score"], tag["tagger"]) for tag in row["tags"]] for row in world.images().values()}
    assert tags == {
        "a.jpg": [("animal/bird", 0.5, "test"), ("plant", 0.75, "other"), ("sign", 0.5, "other")],
        "b.jpg": [],
        "c.jpg": [("sign", 0.5, "test"), ("plant/tree", 0.75, "other")],
    }


@given(st.lists(st.sampled_from(TAGS), max_size=4), st.integers(50, 200))
def test_the_weights_of_the_draw_are_the_rules_added_up_boosted_and_struck_out(tags: list[str], side: int) -> None:
    rules = World(Folder("")).terms(EDITED).rules
    fired = rules.fired(tags, mapping.Facts(side, side))
    lines, factors = [rules.lines[number] for number in fired], {"look/a": 0.5, "count/b": 3.0}
    expected = {}
    for path in TYPES:
        boosts = [line.boost.get(path, 1.0) for line in lines]
        asked = sum(line.ask.get(path, 0.0) for line in lines) * math.prod(boosts) * factors.get(path, 1.0)
        expected[path] = 0.0 if any(path in line.never for line in lines) else asked
    weights = Weights(rules, TYPES, factors)
    assert weights.of(fired) == pytest.approx(list(expected.values()))
    assert weights.named(fired) == pytest.approx({path: weight for path, weight in expected.items() if weight > 0})


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_planned_once_and_all_their_places_kept(world: World) -> None:
    world.grow({uri: Content("same", 7, ("animal",)) for uri in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")} | {"e.jpg": unlike(1)})
    world.plan()
    check(world, world.terms())
    assert Counter(world.outcomes().values()) == {"planned": 2, "same_bytes": 3}
    (row,) = (row for row in world.images().values() if row["outcome"] == "planned" and len(row["uris"]) > 1)
    assert sorted(row["uris"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] and row["uris"][0] == row["uri"]


@pytest.mark.parametrize(("bits", "planned"), [(-1, 4), (0, 3), (1, 2), (4, 1)])
def test_near_images_are_planned_once(world: World, bits: int, planned: int) -> None:
    world.grow({f"{number}.jpg": Content(f"data {number}", phash) for number, phash in enumerate([0, 0, 1, 0b11110])})
    world.plan(terms := world.terms(near_duplicates=bits))
    check(world, terms)
    assert Counter(world.outcomes().values())["planned"] == planned


def test_a_copy_of_a_near_duplicate_is_represented_by_what_is_planned(world: World) -> None:
    world.grow({"a.jpg": Content("first", 0)})
    world.grow({"b.jpg": Content("near", 1), "c.jpg": Content("near", 1)})
    world.plan()
    check(world, world.terms())
    images = {row["uri"]: row for row in world.images().values()}
    assert images["b.jpg"]["same_as"] == images["c.jpg"]["same_as"] == images["a.jpg"]["object_id"]


def test_the_earliest_of_equal_images_is_planned(world: World) -> None:
    world.grow({"z.jpg": Content("same", 0)})
    world.grow({f"{number}.jpg": Content("same", 0) for number in range(8)})
    world.plan()
    assert [uri for uri, outcome in world.outcomes().items() if outcome == "planned"] == ["z.jpg 1"]


def test_what_is_planned_already_comes_before_what_was_listed_earlier(world: World) -> None:
    """Partitions are tagged in any order; what was tagged late does not take back what is planned."""
    for number in range(12):
        world.put(f"{number}.jpg", Content(f"data {number % 3}", 2 ** (20 * (number % 3)) - 1))
    world.scan()
    first, *rest = world.untagged()
    world.tag(rest)
    world.plan()
    before = world.assignments()
    world.tag([first])
    world.plan()
    check(world, world.terms())
    assert world.assignments() == before


def test_a_survey_in_a_process_of_its_own_finds_the_same(worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch) -> None:
    here, apart = worlds(), worlds()
    for world in (here, apart):
        world.grow({f"{number}.jpg": Content(f"data {number % 7}", number % 5, ("animal",)) for number in range(12)} | {"x.jpg": unlike(1)})
        world.plan()
    for world in (here, apart):
        world.grow({f"{number}.jpg": Content(f"data {number % 9}", number % 6) for number in range(6, 18)})
        world.plan()
        check(world, world.terms())
        monkeypatch.setattr("synthgen.plan.apart.APART", 0)
        monkeypatch.setattr("synthgen.plan.apart.surveyed", None)  # nothing is surveyed in this process any more
    assert apart.images() == here.images() and apart.assignments() == here.assignments()


def test_damage_that_a_survey_of_its_own_finds_is_told_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    for path in Path(world.out.path, "1-tagged", "images").iterdir():
        path.write_bytes(b"damage")
    monkeypatch.setattr("synthgen.plan.apart.APART", 0)
    with pytest.raises(Damaged, match=r"1-tagged/images/.* was damaged after it was committed") as told:
        world.plan()
    assert "synth retry" in str(told.value) and "\n" not in str(told.value)


# --- the same plan, however it came about -----------------------------------------------------------------------------

CONTENTS = st.builds(
    Content,
    st.sampled_from([f"data {number}" for number in range(12)]),
    st.sampled_from([0, 1, 0b111, 0xFF, 0xFF00, 0xFF01, 2**63, 2**63 - 1, None]),
    st.lists(st.sampled_from(TAGS), max_size=3, unique=True).map(tuple),
    st.sampled_from([64, 640]),
)
OBJECTS_PUT = st.dictionaries(st.sampled_from([f"{number}.jpg" for number in range(20)]), CONTENTS, max_size=14)
SLOWLY = settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))


@pytest.fixture
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], World]]:
    """New worlds, several of them in one test."""
    places = []

    def make() -> World:
        places.append(tempfile.mkdtemp())
        return World(Folder(places[-1]))

    yield make
    for place in places:
        shutil.rmtree(place)


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
    assert Stage(killed.out, "2-planned").log().counts() == Stage(undisturbed.out, "2-planned").log().counts()
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
    epochs = Stage(world.out, "2-planned").folder.child("epochs")
    reads = [json.loads(epochs.read(name))["reads"] for name in epochs.names()]
    assert [list(one) for one in reads] == [rest, [first]]


def test_a_plan_cut_short_whose_inputs_are_gone_says_so(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    with suppress(Died):
        world.plan(stop_after=1)
    Stage(world.out, "1-tagged").folder.child("commits").remove(["e001-00002.r1.json"])
    with pytest.raises(Damaged, match="1-tagged: commits of partition e001-00002 that the plan was made from are gone"):
        world.plan()


def test_a_damaged_epoch_record_is_told_in_one_line(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    Stage(world.out, "2-planned").folder.child("epochs").write("000001.json", b"{")
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
    assert [len(commits) for commits in Stage(world.out, "2-planned").log().partitions.values()] == [1, 1, 1]
    assert Stage(world.out, "2-planned").log().last_epoch == 2


# --- growth and change ------------------------------------------------------------------------------------------------


@SLOWLY
@given(growths=st.lists(OBJECTS_PUT, min_size=2, max_size=3))
def test_growth_takes_back_nothing_and_rewrites_nothing(worlds: Callable[[], World], growths: list[dict[str, Content]]) -> None:
    world, seen = worlds(), set[str]()
    for contents in growths:
        assignments, commits = world.assignments(), Stage(world.out, "2-planned").log().partitions
        world.grow({uri: content for uri, content in contents.items() if uri not in seen})
        seen |= set(contents)
        world.plan()
        check(world, world.terms())
        assert {key: row for key, row in world.assignments().items() if key in assignments} == assignments
        after = Stage(world.out, "2-planned").log().partitions
        assert {name: after[name] for name in commits} == commits


def test_a_changed_object_is_planned_anew_and_the_old_version_retired(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(9)})
    world.plan()
    before = world.assignments()
    world.grow({"4.jpg": unlike(100, "sign")})
    world.plan()
    check(world, world.terms())
    assert world.outcomes() == {f"{number}.jpg 1": "planned" for number in range(9)} | {"4.jpg 1": "changed", "4.jpg 2": "planned"}
    old = {key for key, row in before.items() if row["image_id"] == image_id(b"data 4")}
    new = {key for key, row in world.assignments().items() if row["image_id"] == image_id(b"data 100")}
    assert (len(old), len(new)) == (3, 3)
    assert set(world.assignments()) == set(before) - old | new
    counts = Stage(world.out, "2-planned").log().counts()
    assert (counts["assigned"], counts["retired"]) == (27, 3)
    assert sum(len(commits) - 1 for commits in Stage(world.out, "2-planned").log().partitions.values()) == 1, "one partition was touched"


def test_what_stood_behind_a_changed_object_takes_its_place(world: World) -> None:
    """Else its bytes would be lost: they are still there, under the other name."""
    world.grow({"a.jpg": Content("same", 0)})
    world.grow({"b.jpg": Content("same", 0), "c.jpg": Content("near", 1)})
    world.plan()
    assert world.outcomes() == {"a.jpg 1": "planned", "b.jpg 1": "same_bytes", "c.jpg 1": "near_duplicate"}
    asked = set(world.assignments())
    world.grow({"a.jpg": unlike(9)})
    world.plan()
    check(world, world.terms())
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
    check(world, world.terms())
    moved = {key: row for key, row in world.assignments().items() if key in before}
    assert set(moved) == set(before) and {row["object_id"] for row in moved.values()} == set(world.images()) - {planned} - {
        one for one, row in world.images().items() if row["version"] == "2"
    }
    assert Stage(world.out, "2-planned").log().counts()["assigned"] == 6


def test_an_object_that_can_be_read_after_all_is_planned_without_being_asked_for(world: World) -> None:
    world.grow({"a.jpg": unlike(1), "b.jpg": unlike(2)})
    world.grow({"c.jpg": Content("broken", None, ("animal",)), "d.jpg": unlike(3)})
    world.plan()
    before = world.assignments()
    world.mended = {row["object_id"] for row in world.rows("0-listed", "objects", OBJECTS) if row["uri"] == "c.jpg"}
    world.tag(["e002-00000"])
    assert world.plan() == 1
    check(world, world.terms())
    assert set(before) < set(world.assignments())


def test_an_object_that_came_back_earlier_than_its_copy_does_not_push_it_out(world: World) -> None:
    world.put("a.jpg", Content("broken", None))
    world.grow({})
    world.grow({"b.jpg": Content("broken", 0)})
    world.plan()
    before = world.assignments()
    world.mended = {row["object_id"] for row in world.rows("0-listed", "objects", OBJECTS) if row["uri"] == "a.jpg"}
    world.tag(["e001-00000"])
    world.plan()
    check(world, world.terms())
    assert world.outcomes() == {"a.jpg 1": "same_bytes", "b.jpg 1": "planned"}
    assert world.assignments() == before


def test_a_quarantined_object_that_changed_stays_out_of_the_plan(world: World) -> None:
    """It was counted under quarantine; as `changed` it would be counted twice."""
    world.grow({"a.jpg": Content("broken", None), "b.jpg": unlike(2)})
    world.plan()
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    check(world, world.terms())
    assert world.outcomes() == {"a.jpg 2": "planned", "b.jpg 1": "planned"}


def test_a_newer_version_that_cannot_be_read_retires_the_older(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    world.plan()
    world.grow({"a.jpg": Content("broken", None)})
    world.plan()
    check(world, world.terms())
    assert world.outcomes() == {"a.jpg 1": "changed"} and world.assignments() == {}


# --- edits ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(world: World) -> World:
    world.grow({f"{number}.jpg": unlike(number, *random.Random(number).sample(TAGS, 2)) for number in range(24)})
    world.plan()
    return world


def test_an_edit_is_not_applied_unasked(planned: World) -> None:
    before = Stage(planned.out, "2-planned").log()
    assert planned.plan(planned.terms(EDITED)) == 0
    assert Stage(planned.out, "2-planned").log() == before


def test_an_edit_adds_and_retires_exactly_the_difference(planned: World) -> None:
    before = planned.assignments()
    assert planned.plan(planned.terms(EDITED), change="edit") == 8
    check(planned, planned.terms(EDITED))
    after = planned.assignments()
    added, retired = set(after) - set(before), set(before) - set(after)
    assert added and retired and len(set(before) & set(after)) > len(before) / 2, "most of the plan stands"
    assert {row["type"] for key, row in after.items() if key in added} == {"look/c"}, "what the edit brought in"
    second = [row for name, rows in planned.written().items() if name.endswith(".r2") for row in rows]
    assert {(row["assignment_id"], row["retired"]) for row in second} == {(one, False) for one in added} | {(one, True) for one in retired}
    assert len(second) == len(added) + len(retired), "and nothing else is written"


def test_an_edit_taken_back_wakes_what_it_had_retired(planned: World) -> None:
    before = planned.assignments()
    planned.plan(planned.terms(EDITED), change="edit")
    middle = planned.assignments()
    planned.plan(change="edit")
    check(planned, planned.terms())
    assert planned.assignments() == before
    counts = Stage(planned.out, "2-planned").log().counts()
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
    log = Stage(planned.out, "2-planned").log()
    assert {log.fingerprint(name, "assignments") for name in log.partitions} == {terms.fingerprint}


def test_an_edit_and_growth_at_once_are_one_epoch(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant")})
    planned.plan(terms := planned.terms(EDITED), change="edit")
    check(planned, terms)
    assert Stage(planned.out, "2-planned").log().last_epoch == 2


def test_what_is_foretold_is_what_is_then_planned_and_foretelling_writes_nothing(planned: World) -> None:
    planned.grow({"new.jpg": unlike(77, "animal"), "3.jpg": unlike(78, "plant"), "copy.jpg": unlike(5)})
    terms, before = planned.terms(EDITED, caps={"read/**": 9}), planned.assignments()
    files = {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")}
    parts = list(dry.parts(planned.out, terms))
    assert {path: path.stat().st_mtime_ns for path in Path(planned.out.path).rglob("*")} == files
    planned.plan(terms, change="edit")
    after = planned.assignments()

    def ids(name: str) -> set[str]:
        return {one for part in parts for one in getattr(part, name).column("assignment_id").to_pylist()}

    assert (ids("added"), ids("gone"), ids("kept")) == (set(after) - set(before), set(before) - set(after), set(before) & set(after))
    assert sum((Counter(part.outcomes) for part in parts), Counter()) == Counter(planned.outcomes().values())


def test_a_question_is_told_under_the_rule_that_gives_its_type_the_most_weight(planned: World) -> None:
    terms = planned.terms(EDITED)
    told: Counter[tuple[str, str]] = Counter()
    for part in dry.parts(planned.out, terms):
        askers = dry.Askers(plan.Inputs.of(planned.out, ("test",)), terms.rules, part.name)
        told.update(askers.of(part.added))
        assert dry.NO_RULE not in {rule for _, rule in askers.of(part.kept)}
    assert {(path, rule.rpartition(":")[2]) for path, rule in told} == {("look/c", "7")}


# --- balance ----------------------------------------------------------------------------------------------------------


def factors_of(world: World) -> list[dict[str, float]]:
    epochs = Stage(world.out, "2-planned").folder.child("epochs")
    return [json.loads(epochs.read(name))["factors"] for name in epochs.names()]


def types_of(world: World) -> Counter[str]:
    return Counter(row["type"] for row in world.assignments().values())


def test_balance_evens_out_what_is_asked(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 10 else "sign") for number in range(200)})
    world.plan(world.terms(per_image=1))
    plain = types_of(world)
    world.plan(world.terms(per_image=1, balance={"types": 1.0}), change="edit")
    assert max(types_of(world).values()) < max(plain.values()) * 0.6
    assert factors_of(world)[0] == {} and len(factors_of(world)[1]) == len(TYPES)


def test_the_numbers_of_the_balance_stay_until_they_are_edited(world: World) -> None:
    terms = world.terms(balance={"types": 0.5})
    world.grow({f"{number}.jpg": unlike(number, "animal") for number in range(12)})
    world.plan(terms)
    world.grow({f"new {number}.jpg": unlike(100 + number, "sign") for number in range(12)})
    world.plan(terms)
    first, second = factors_of(world)
    assert second == first
    world.plan(world.terms(balance={"types": 0.9}), change="edit")
    assert factors_of(world)[2] != first


def test_balance_counts_images_not_their_copies(worlds: Callable[[], World]) -> None:
    one, other = worlds(), worlds()
    contents = {f"{number}.jpg": unlike(number, TAGS[number % 7]) for number in range(12)}
    one.grow(contents)
    other.grow(contents)
    other.grow({f"copy {number}.jpg": contents["0.jpg"] for number in range(20)} | {"broken.jpg": Content("broken", None)})
    for world in (one, other):
        world.plan(world.terms(balance={"types": 1.0}))
    assert factors_of(other)[0] == pytest.approx(factors_of(one)[0])


def test_rare_tags_are_asked_more_and_no_image_is_left_out(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 20 else "sign") for number in range(200)})
    world.plan(world.terms(per_image=2))
    plain = questions_by_tag(world)
    world.plan(world.terms(per_image=2, balance={"tags": 1.0}), change="edit")
    balanced = questions_by_tag(world)
    assert plain == {"animal": 190 * 2, "sign": 10 * 2}
    assert balanced["sign"] == 10 * 2 * 4, "four times as many as usual, and no more"
    assert 190 * 1.0 <= balanced["animal"] < 190 * 1.15, "half as many and a little: what is left of the mean"
    assert set(world.outcomes().values()) == {"planned"}


def test_a_tag_that_came_later_counts_as_the_rarest(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number, "animal" if number % 3 else "plant") for number in range(60)})
    world.plan(terms := world.terms(balance={"tags": 0.5}))
    world.grow({"new.jpg": unlike(99, "sign"), "old.jpg": unlike(98, "plant")})
    world.plan(terms)
    of_image = Counter(world.images()[row["object_id"]]["uri"] for row in world.assignments().values())
    assert of_image["new.jpg"] in (3, 4, 5) and abs(of_image["new.jpg"] - of_image["old.jpg"]) <= 1


def questions_by_tag(world: World) -> dict[str, int]:
    images = world.images()
    return dict(Counter(images[row["object_id"]]["tags"][0]["path"] for row in world.assignments().values()))


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_a_cap_holds_exactly_and_spreads_over_all_images(planned: World) -> None:
    before = planned.assignments()
    planned.plan(terms := planned.terms(caps={"look/**": 20}), change="edit")
    check_quotas(planned, terms)
    after = planned.assignments()
    looks = {key for key, row in after.items() if row["type"].startswith("look/")}
    assert len(looks) == 20 and set(after) < set(before)
    assert {key for key in before if key not in after} == {key for key, row in before.items() if row["type"][:4] == "look"} - looks
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
    world.plan(edited := world.terms(caps={"look/a": 8}, forms={"short": 1.0, "detailed": 1.0, "brief": 0.0}), change="edit")
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
    assert {key for key, row in before.items() if images[row["object_id"]]["uri"] not in changed} <= set(world.assignments())


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
    assert Stage(world.out, "2-planned").log().last_epoch == 1


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
        if tagged := list(Stage(self.world.out, "1-tagged").log().partitions):
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
TestPlanMachine.settings = settings(max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck))
