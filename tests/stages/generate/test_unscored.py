"""Scores that a failure kept from being measured are on record, counted, and made by the next try that is asked for."""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthgen.commands import purge, repair
from synthgen.commands import retry as reasons
from synthgen.config import pipeline
from synthgen.engines import Reply, Request
from synthgen.engines.scripted import ScriptedEngine
from synthgen.job import funnel, job
from synthgen.stages.generate import GENERATED, GenerateWorker, todo
from synthgen.store import Folder, Lease, StageFolder
from synthgen.tables import GENERATE, PAIRS, PLAN, RETRIED_REASONS, SCORES, draw
from tests.fixtures.runs import synth
from tests.fixtures.workspace import make_images, put_shelves

RETRIED = frozenset(RETRIED_REASONS)


class Ailing(ScriptedEngine):
    """A share of its calls of some purposes finds no reply."""

    purposes: Collection[str] = ()
    share = 0.0

    async def generate(self, request: Request) -> Reply:
        asked.append(request.purpose)
        if request.purpose in self.purposes and draw(5, request.image_key or "", request.text) < self.share:
            return Reply("", "error", "call_timeout", "no reply within 1 s")
        return await super().generate(request)


asked: list[str] = []  # purposes of the calls


@dataclass
class World:
    """A folder that is planned, and what is generated in it without Ray."""

    out: Folder
    settings: list[str] = field(default_factory=list)

    def generate(
        self,
        retry: Collection[str] = (),
        *,
        update: bool = False,
        share: float = 0.0,
        purposes: Collection[str] = ("judge",),
    ) -> int:
        """Does the stage; `share` of the calls of some purposes fail. Returns how many partitions were done."""
        opened = job.open_job(self.out, pipeline.load("small", ["source.uri=photos", *self.settings]))
        terms, stage = replace(opened.generate_terms, retry=frozenset(retry)), StageFolder(self.out, GENERATE)
        works = todo(StageFolder(self.out, PLAN).log(), stage.log(), terms, update)
        engine = Ailing(opened.model, terms.engine)
        engine.share, engine.purposes = share, purposes
        asked.clear()

        async def scene() -> list[Any]:
            worker = GenerateWorker(terms, engine)
            try:
                return [await worker.do(work) for work in works]
            finally:
                worker._decoder.close()

        receipts = asyncio.run(scene())
        with Lease.take(self.out) as lease:
            for receipt in receipts:
                stage.commit(receipt, lease, stage.log().last_epoch + 1)
        return len(works)

    def rows(self, table: str, key: str, schema: Any) -> dict[str, dict[str, Any]]:
        stage = StageFolder(self.out, GENERATE)
        log = stage.log()
        return {
            row[key]: row
            for name in log.partitions
            for row in stage.current(log, name, table, schema.names).to_pylist()
        }

    @property
    def pairs(self) -> dict[str, dict[str, Any]]:
        return {
            row["pair_id"]: row
            for row in self.rows("pairs", "assignment_id", PAIRS).values()
            if row["outcome"] == "pair"
        }

    def scores(self, name: str) -> dict[str, dict[str, Any]]:
        """Of the pairs that there are."""
        return {key: row for key, row in self.rows(f"scores/{name}", "pair_id", SCORES).items() if key in self.pairs}

    def counted(self) -> dict[str, int]:
        return {
            name: count
            for name, count in StageFolder(self.out, GENERATE).log().counts().items()
            if name.startswith("unscored.")
        }


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose `out` is planned; it is copied, never used."""
    folder = put_shelves(tmp_path_factory.mktemp("planned"))
    make_images(folder / "photos", 6)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", "--until", "plan")
    return folder


@pytest.fixture
def world(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(planned)
    yield copied(planned, tmp_path)


def copied(planned: Path, to: Path) -> World:
    return World(Folder(str(shutil.copytree(planned / "out", to / "out"))))


def test_scores_whose_calls_failed_are_made_by_a_retry_and_by_nothing_else(world: World) -> None:
    world.generate(share=0.5)
    before, unscored = world.pairs, {key for key, row in world.scores("answer").items() if row["value"] is None}
    assert 0 < len(unscored) < len(before) == 18 and world.counted() == {"unscored.call_timeout": len(unscored)}
    assert [one.to_do for one in funnel.funnels(world.out)][2] == 0, "they are no outcomes of assignments"
    assert not world.generate() and not world.generate(update=True) and not world.generate({"call_failed", "declined"})
    assert reasons.nothing_fits(world.out, RETRIED) is None
    again = world.generate(RETRIED, share=0.1)
    assert again and set(asked) == {"judge"} and len(asked) == len(unscored), "nothing else is asked"
    left = {key for key, row in world.scores("answer").items() if row["value"] is None}
    assert left < unscored and world.counted() == ({"unscored.call_timeout": len(left)} if left else {})
    world.generate({"call_timeout"})
    assert all(row["value"] is not None for row in world.scores("answer").values()) and world.counted() == {}
    assert world.pairs == before and not world.generate(RETRIED)
    assert "failed here: none" in str(reasons.nothing_fits(world.out, RETRIED))


def test_a_new_score_of_an_image_that_cannot_be_had_just_then_is_made_by_a_retry(world: World) -> None:
    world.generate()
    world.settings = ["generate.scores=[likelihood, answer, question]"]
    photo = Path("photos/0003.png")
    photo.rename("elsewhere.png")
    try:
        assert world.generate(update=True)
        mine = {key for key, row in world.pairs.items() if row["image_id"] in lost(world)}
        assert len(mine) == 3 and world.counted() == {"unscored.image_unreadable": 3}
        assert world.scores("question").keys() == world.pairs.keys(), "every pair has a row"
        assert not world.generate(update=True)
    finally:
        Path("elsewhere.png").rename(photo)
    assert world.generate(RETRIED) and asked == ["judge"] * 3
    assert world.counted() == {} and all(row["value"] is not None for row in world.scores("question").values())


def lost(world: World) -> set[str]:
    """The images of pairs with a score that says that they could not be read."""
    rows = world.scores("question").values()
    return {
        world.pairs[row["pair_id"]]["image_id"]
        for row in rows
        if str(row["reason"]).startswith("image_unreadable: no longer there")
    }


def test_scores_that_nobody_wants_any_more_are_not_looked_for_twice(world: World) -> None:
    world.generate(share=0.5)
    world.settings = ["generate.scores=[likelihood]", "select.keep={}"]
    assert world.generate(RETRIED) and not asked
    assert world.counted() == {} and not world.generate(RETRIED)


def test_a_purge_takes_the_scores_of_an_image_and_what_they_count_also_those_of_pairs_that_were_replaced(
    world: World,
) -> None:
    world.generate(share=0.5)
    world.settings = ["generate.sampling.answer_temperature=0.7"]  # makes other pairs
    world.generate(update=True, share=0.5)
    unscored = [key for key, row in world.scores("answer").items() if row["value"] is None]
    mine = world.pairs[unscored[0]]["image_id"]
    asked_of_it = {row["assignment_id"] for row in world.pairs.values() if row["image_id"] == mine}
    purge.purge(job.reopen(world.out), [mine])
    left = [row for row in world.scores("answer").values() if row["value"] is None]
    assert 0 < len(left) < len(unscored) and world.counted() == {"unscored.call_timeout": len(left)}
    stage = StageFolder(world.out, GENERATE)
    files = [
        file
        for path in (Path(stage.folder.path) / "scores").rglob("*.parquet")
        for file in pq.read_table(path).to_pylist()
    ]
    assert files and not [row for row in files if row["assignment_id"] in asked_of_it], (
        "nor is anything left in older files"
    )


def test_what_is_asked_again_after_damage_has_no_id_that_was_lost(world: World) -> None:
    world.generate(share=0.5, purposes=["answer"])
    world.generate(RETRIED)
    stage = StageFolder(world.out, GENERATE)
    latest = stage.log().parts(next(iter(stage.log().partitions)), "pairs")[-1].files[-1]
    lost = set(pq.read_table(Path(stage.folder.path, "pairs", latest.name))["pair_id"].to_pylist())
    take_back(world.out, "redo pairs")
    world.generate(RETRIED)
    assert lost and len(world.pairs) == 18 and not lost & world.pairs.keys()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["update", "retry", "redo pairs", "redo scores", "empty"]),
        st.lists(st.sampled_from(["judge", "answer", "ask"]), min_size=1, max_size=2),
        st.sampled_from([0.0, 0.4, 1.0]),
        st.sampled_from([0.0, 0.7]),  # another temperature makes other pairs
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=6)
@given(steps=STEPS)
@example(
    steps=[("update", ["ask", "judge"], 0.4, 0.7), ("retry", ["judge"], 1.0, 0.7), ("redo pairs", ["judge"], 0.0, 0.7)]
)
def test_whatever_fails_and_is_done_again_the_counts_are_those_of_the_rows(
    planned: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[str], float, float]]
) -> None:
    with contextlib.chdir(planned):
        world = copied(planned, tmp_path_factory.mktemp("steps"))
        world.generate(share=0.4)
        for what, purposes, share, warmth in steps:
            world.settings = [f"generate.sampling.answer_temperature={warmth}"]
            if what.startswith(("redo", "empty")):
                take_back(world.out, what)
            world.generate(RETRIED if what == "retry" else (), update=what == "update", share=share, purposes=purposes)
            found = Counter(
                str(row["reason"]).partition(":")[0]
                for name in ("likelihood", "answer")
                for row in world.scores(name).values()
            )
            del found["None"]
            assert world.counted() == {f"unscored.{reason}": count for reason, count in found.items()}
        world.generate(RETRIED, update=True)
        assert world.counted() == {} and all(row["value"] is not None for row in world.scores("answer").values())
        assert len(world.pairs) == 18 and world.scores("answer").keys() == world.pairs.keys()


def take_back(out: Folder, what: str) -> None:
    """Damages a table of the first partition, if any is to be, and has the partition done again."""
    stage = StageFolder(out, GENERATE)
    name = next(iter(stage.log().partitions))
    if what != "empty":
        table = "pairs" if what == "redo pairs" else "scores/answer"
        files = [file for part in stage.log().parts(name, table) for file in part.files]
        Path(out.url, GENERATED, table, files[-1].name).unlink()
    with Lease.take(out) as lease:
        repair.redo(out, [f"{GENERATED}/{name}"], lease)
