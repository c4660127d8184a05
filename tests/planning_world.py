"""A source whose objects change and a run over it, without any model: what the tests of the plan happen in."""

import dataclasses
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from synthgen import config, listing, mapping, plan
from synthgen.prompt import InstructionType
from synthgen.rows import ASSIGNMENTS, IMAGES, OBJECT_TAGS, OBJECTS, PLANNED_IMAGES, image_id, make_id, table
from synthgen.source import Listed
from synthgen.store import Folder, Lease, Log, Receipt, Stage, TablePart
from synthgen.taxonomy import Node, Tree

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


@pytest.fixture
def planned(world: World) -> World:
    world.grow({f"{number}.jpg": unlike(number, *random.Random(number).sample(TAGS, 2)) for number in range(24)})
    world.plan()
    return world


def factors_of(world: World) -> list[dict[str, float]]:
    epochs = Stage(world.out, "2-planned").folder.child("epochs")
    return [json.loads(epochs.read(name))["factors"] for name in epochs.names()]


def types_of(world: World) -> Counter[str]:
    return Counter(row["type"] for row in world.assignments().values())
