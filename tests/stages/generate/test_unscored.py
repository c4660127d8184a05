"""Scores that a failure kept from being measured are recorded, counted, and measured by the next retry."""

import asyncio
import contextlib
import json
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

from synthgen.commands.purge import purge
from synthgen.commands.repair import repair
from synthgen.commands.retry import nothing_to_retry
from synthgen.config import pipeline
from synthgen.engines import Reply, Request
from synthgen.engines.scripted import ScriptedEngine
from synthgen.job import job
from synthgen.job.funnel import funnels
from synthgen.stages.generate import GenerateWorker, context_of, todo
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder
from synthgen.tables import GENERATE, PLAN, RETRIED_REASONS, draw
from tests.fixtures.rows import rows_of
from tests.fixtures.runs import synth
from tests.fixtures.stage_runs import commit_all
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

RETRIED = frozenset(RETRIED_REASONS)


Row = dict[str, Any]
asked: list[str] = []  # purposes of the calls


class UnreliableEngine(ScriptedEngine):
    """An engine that gives no reply to a share of the calls of some purposes."""

    purposes: Collection[str] = ()
    share = 0.0

    async def generate(self, request: Request) -> Reply:
        """Reply, or fail."""
        asked.append(request.purpose)
        if request.purpose in self.purposes and draw(5, request.image_key or "", request.text) < self.share:
            return Reply("", "error", "call_timeout", "no reply within 1 s")
        return await super().generate(request)


@dataclass
class World:
    """An output folder that is planned, in which pairs are generated without Ray."""

    out: Folder
    settings: list[str] = field(default_factory=list)

    def generate(
        self,
        retry: Collection[str] = (),
        *,
        update: bool = False,
        share: float = 0.0,
        purposes: Collection[str] = ("judge",),
        is_draining: bool = False,
        only: tuple[str, ...] | None = None,
    ) -> int:
        """Run the stage while `share` of the calls of some purposes fail, and return the number of partitions done."""
        opened = job.open_job(self.out, pipeline.load("small", ["source.uri=photos", *self.settings]))
        folder, context = RunFolder(self.out), context_of(opened, frozenset(retry))
        pending = todo(folder, context, update, folder.log(GENERATE).next_epoch)
        tasks = [replace(task, only=only) for task in pending]
        engine = UnreliableEngine(opened.model, context.engine)
        engine.share, engine.purposes = share, purposes
        asked.clear()

        worker = GenerateWorker(context, engine)
        if is_draining:
            worker.drain()

        async def work() -> list[Receipt | None]:
            return [await worker.do(task) for task in tasks]

        try:
            receipts = [receipt for receipt in asyncio.run(work()) if receipt]
        finally:
            worker.close()  # after the thread that loads images has ended
        with Lease.take(self.out) as lease:
            return commit_all(folder, GENERATE, receipts, lease)

    def rows(self, table: str) -> list[Row]:
        """Return the current rows of a table."""
        return rows_of(self.out, GENERATE, table)

    @property
    def pairs(self) -> dict[str, Row]:
        """The pairs by id."""
        return {row["pair_id"]: row for row in self.rows("pairs") if row["outcome"] == "pair"}

    def scores(self, name: str) -> dict[str, Row]:
        """Return the rows of a score by pair id, of the pairs that exist."""
        pairs = self.pairs
        return {row["pair_id"]: row for row in self.rows(f"scores/{name}") if row["pair_id"] in pairs}

    def unscored(self, name: str) -> set[str]:
        """Return the pairs whose score has no value."""
        return {key for key, row in self.scores(name).items() if row["value"] is None}

    def counted(self) -> dict[str, int]:
        """Return the counts of scores that a failure prevented."""
        counts = StageFolder(self.out, GENERATE).log().counts()
        return {name: count for name, count in counts.items() if name.startswith("unscored.")}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a workspace whose `out` is planned; tests work on copies of it."""
    folder = write_definition_files(tmp_path_factory.mktemp("planned"))
    make_images(folder / "photos", 6)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", "--until", "plan")
    return folder


@pytest.fixture
def world(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a copy of the planned folder."""
    monkeypatch.chdir(planned)
    yield copy_of(planned, tmp_path)


def copy_of(planned: Path, to: Path) -> World:
    """Copy the planned folder."""
    return World(Folder(str(shutil.copytree(planned / "out", to / "out"))))


def test_scores_whose_calls_failed_are_measured_by_a_retry_and_by_nothing_else(world: World) -> None:
    world.generate(share=0.5)
    before, unscored = world.pairs, world.unscored("answer")
    assert 0 < len(unscored) < len(before) == 18 and world.counted() == {"unscored.call_timeout": len(unscored)}
    generated = next(funnel for funnel in funnels(RunFolder(world.out)) if funnel.stage == GENERATE.name)
    assert generated.passed == 18 and generated.is_settled, "scores are no outcomes of assignments"
    assert not world.generate() and not world.generate(update=True) and not world.generate({"call_failed", "declined"})
    assert nothing_to_retry(RunFolder(world.out), RETRIED) is None
    again = world.generate(RETRIED, share=0.1)
    assert again and set(asked) == {"judge"} and len(asked) == len(unscored), "nothing else is asked"
    remaining = world.unscored("answer")
    assert remaining < unscored
    assert world.counted() == ({"unscored.call_timeout": len(remaining)} if remaining else {})
    world.generate({"call_timeout"})
    assert len(world.scores("answer")) == 18 and not world.unscored("answer") and world.counted() == {}
    assert world.pairs == before and not world.generate(RETRIED)
    assert "failed here: none" in str(nothing_to_retry(RunFolder(world.out), RETRIED))


def test_a_new_score_of_an_image_that_cannot_be_read_just_then_is_measured_by_a_retry(world: World) -> None:
    world.generate()
    world.settings = ["generate.scores=[likelihood, answer, question]"]
    photo = Path("photos/0003.png")
    photo.rename("elsewhere.png")
    try:
        assert world.generate(update=True)
        pairs, missing = world.pairs, images_without_score(world, "question")
        assert len([row for row in pairs.values() if row["image_id"] in missing]) == 3
        assert world.counted() == {"unscored.image_unreadable": 3}
        assert world.scores("question").keys() == world.pairs.keys(), "every pair has a row"
        assert not world.generate(update=True)
    finally:
        Path("elsewhere.png").rename(photo)
    assert world.generate(RETRIED) and asked == ["judge"] * 3
    assert world.counted() == {} and len(world.scores("question")) == 18 and not world.unscored("question")


def images_without_score(world: World, name: str) -> set[str]:
    """Return the images of pairs whose score failed because they could not be read."""
    pairs, reason = world.pairs, "image_unreadable: no longer there"
    rows = [row for row in world.scores(name).values() if str(row["reason"]).startswith(reason)]
    return {pairs[row["pair_id"]]["image_id"] for row in rows}


def test_scores_that_are_no_longer_configured_are_looked_for_once(world: World) -> None:
    world.generate(share=0.5)
    world.settings = ["generate.scores=[likelihood]", "select.keep={}"]
    assert world.generate(RETRIED) and not asked
    assert world.counted() == {} and not world.generate(RETRIED)


def test_a_purge_deletes_the_scores_of_an_image_and_their_counts_also_for_pairs_that_were_replaced(
    world: World,
) -> None:
    world.generate(share=0.5)
    world.settings = ["generate.sampling.answer_temperature=0.7"]  # makes other pairs
    world.generate(update=True, share=0.5)
    unscored = sorted(world.unscored("answer"))
    image = world.pairs[unscored[0]]["image_id"]
    assignments = {row["assignment_id"] for row in world.pairs.values() if row["image_id"] == image}
    folder = RunFolder(world.out)
    purge(folder, job.reopen(folder), [image])
    remaining = world.unscored("answer")
    assert 0 < len(remaining) < len(unscored) and world.counted() == {"unscored.call_timeout": len(remaining)}
    paths = Path(world.out.path, "3-generated", "scores").rglob("*.parquet")
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    assert rows and not [row for row in rows if row["assignment_id"] in assignments], "older files are deleted too"


def test_pairs_that_are_asked_again_after_damage_have_new_ids(world: World) -> None:
    world.generate(share=0.5, purposes=["answer"])
    world.generate(RETRIED)
    stage = StageFolder(world.out, GENERATE)
    latest = stage.log().parts(next(iter(stage.log().partitions)), "pairs")[-1].files[-1]
    lost = set(pq.read_table(Path(stage.folder.path, "pairs", latest.name))["pair_id"].to_pylist())
    undo(world.out, "redo pairs")
    world.generate(RETRIED)
    assert lost and len(world.pairs) == 18 and not lost & world.pairs.keys()


def test_a_task_that_is_given_back_before_a_conversation_started_writes_nothing(world: World) -> None:
    assert not world.generate(is_draining=True)
    assert not asked and not list(Path(world.out.path, GENERATE.folder).rglob("*.parquet"))
    assert world.generate() and len(world.pairs) == 18


def test_a_piece_of_a_partition_that_is_given_back_has_a_receipt_for_the_other_pieces_to_count(world: World) -> None:
    folder = RunFolder(world.out)
    partition = next(iter(folder.log(PLAN).partitions))
    images = folder.table(PLAN, partition, "images", ["object_id"]).column("object_id").to_pylist()
    assert world.generate(is_draining=True, only=tuple(images)) and not asked
    assert world.generate() and len(world.pairs) == 18


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
def test_after_any_failures_and_repairs_the_counts_are_those_of_the_rows(
    planned: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[str], float, float]]
) -> None:
    with contextlib.chdir(planned):
        world = copy_of(planned, tmp_path_factory.mktemp("steps"))
        world.generate(share=0.4)
        for step, purposes, share, temperature in steps:
            world.settings = [f"generate.sampling.answer_temperature={temperature}"]
            if step.startswith(("redo", "empty")):
                undo(world.out, step)
            world.generate(RETRIED if step == "retry" else (), update=step == "update", share=share, purposes=purposes)
            rows = [row for name in ("likelihood", "answer") for row in world.scores(name).values()]
            reasons = Counter(row["reason"].partition(":")[0] for row in rows if row["reason"] is not None)
            assert world.counted() == {f"unscored.{reason}": count for reason, count in reasons.items()}
        world.generate(RETRIED, update=True)
        assert world.counted() == {} and not world.unscored("answer")
        assert len(world.pairs) == 18 and world.scores("answer").keys() == world.pairs.keys()


def undo(out: Folder, step: str) -> None:
    """Damage a table of the first partition, unless the step is "empty", and have the partition redone."""
    folder = RunFolder(out)
    log = folder.log(GENERATE)
    partition = next(iter(log.partitions))
    if step != "empty":
        table = "pairs" if step == "redo pairs" else "scores/answer"
        files = [file for part in log.parts(partition, table) for file in part.files]
        Path(out.path, GENERATE.folder, table, files[-1].name).unlink()
    with Lease.take(out) as lease:
        repair(folder, [f"{GENERATE.folder}/{partition}"], lease)


def test_a_setting_that_is_edited_and_edited_back_is_measured_with_each_time(world: World) -> None:
    """The rows of the setting in between have taken the place of the first ones."""

    def samples() -> set[int]:
        return {len(json.loads(row["detail"])["samples"]) for row in world.scores("agreement").values()}

    for number in (2, 3, 2):
        world.settings = ["generate.scores=[agreement, answer]", f"generate.sampling.agree_samples={number}"]
        world.generate(update=True)
        assert samples() == {number}
    assert not world.generate(update=True)
