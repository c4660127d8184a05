"""Whatever happens to a pass, in the end each pair has a value or a reason of each score, and the counts say the same.

The steps are runs with troubled engines, runs that are killed or drained, partitions that are cut into pieces because
their worker dies, poison, retries, edits, and edits of the plan that withdraw questions.
"""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthgen.engines import Reply, Request
from synthgen.ingest import load
from synthgen.ingest.images import Decoded
from synthgen.ingest.sources import ObjectRef
from synthgen.job.funnel import score_counts
from synthgen.stages.score import PassContext, ScoreWorker, contexts_of, count_pending, find_pending, object_ids, todo
from synthgen.store import Lease, Receipt, RunFolder, TablePart
from synthgen.tables import FAILURE_REASONS, GENERATE, PLAN, SCORE, count_scored, score_name
from synthgen.tables.passes import taken_from
from synthgen.workers import Task
from synthgen.workers.bisection import _merged
from tests.fixtures.rows import rows_of
from tests.fixtures.scoring import CountedEngine, ScoredWorld, copy_of, make_pairs

pytestmark = pytest.mark.usefixtures("workers_here")

PASSES = {"second": ("answer", "likelihood"), "third": ("question",), "large": ("answer", "question_checks")}
AFTER = {"large": ", after: {score: second.answer, min: 2}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("counted"), 33)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have images without reading and decoding them, which takes most of the time."""
    blank = Decoded(Image.new("RGB", (8, 8)), "PNG", 8, 8, 0, b"", 1.0)

    def load_images(refs: Sequence[ObjectRef], *_: object, **__: object) -> Iterator[load.LoadedImage]:
        yield from (load.LoadedImage(ref.object_id, "", blank) for ref in refs)

    monkeypatch.setattr(load, "load_images", load_images)


class DrainedEngine(CountedEngine):
    """An engine at whose n-th call its worker is asked to stop."""

    def __init__(self, context: PassContext, calls: int) -> None:
        super().__init__(context, [])
        self.left = calls
        self.worker: ScoreWorker | None = None

    async def generate(self, request: Request) -> Reply:
        """Reply, after asking the worker to stop."""
        self.left -= 1
        if self.left == 0 and self.worker:
            self.worker.drain()
        return await super().generate(request)


def setting(name: str, model: str, trouble: str) -> str:
    scores = ", ".join(PASSES[name])
    engine = f"{{kind: scripted, in_flight: 2, options: {trouble}}}"
    return f"score.{name}={{model: {model}, scores: [{scores}], engine: {engine}{AFTER.get(name, '')}}}"


trouble = st.sampled_from(["{}", "{fail: 0.3}", "{junk: 0.5}", "{refuse: 0.3}", "{fail: 0.2, junk: 0.2}"])
job_settings = st.tuples(
    *(st.builds(setting, st.just(name), st.sampled_from(["a", "b"]), trouble) for name in sorted(PASSES))
)
retries = st.sampled_from([(), ("call_failed",), ("call_failed", "refused", "poison")])
step = st.one_of(
    st.tuples(st.just("killed"), job_settings, retries, st.integers(0, 2)),
    st.tuples(st.just("drained"), job_settings, retries, st.integers(1, 60)),
    st.tuples(st.just("cut"), job_settings, retries, st.integers(1, 9)),
    st.tuples(st.just("withdrawn"), job_settings, retries, st.integers(0, 5)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=4), last=job_settings)
def test_every_pair_has_a_value_or_a_reason_in_each_pass(
    made: Path, steps: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], int]], last: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(made):
        world = copy_of(made, Path(folder) / "out")
        for kind, passes, retry, number in steps:
            if kind == "withdrawn":
                withdraw(world, number)
            else:
                for context in contexts_of(world.job(*passes), frozenset(retry)):
                    take_step(world, context, kind, number)
        world.run(*last, update=True)
        check(world, last)
        assert not world.run(*last, update=True)


def take_step(world: ScoredWorld, context: PassContext, kind: str, number: int) -> None:
    """Run a pass, and let it end early or in pieces."""
    folder = RunFolder(world.out)
    with Lease.take(world.out) as lease, asyncio.Runner() as runner:
        for place, task in enumerate(todo(folder, context, True)):
            if kind == "killed" and place == number:
                return
            engine = DrainedEngine(context, number if kind == "drained" else 0)
            engine.worker = worker = ScoreWorker(context, engine)
            with contextlib.closing(worker):
                done = [runner.run(worker.do(piece)) for piece in (pieces(context, task, number, kind))]
            receipts = [receipt for receipt in done if receipt]
            if receipts:
                folder.commit(SCORE, _merged(receipts), lease)


def pieces(context: PassContext, task: Task, number: int, kind: str) -> Iterator[Task]:
    """Yield a task whole, or as bisection cuts it: two pieces, or three of which the first is poison."""
    ids = object_ids(context, task)
    if kind != "cut" or len(ids) < 3:
        yield task
        return
    first, rest = ids[: number % len(ids)], ids[number % len(ids) :]
    yield replace(task, only=first, poison=number % 2 == 1, why="it died")
    yield replace(task, only=rest, is_first=False)


def withdraw(world: ScoredWorld, number: int) -> None:
    """Retire every fifth assignment, as an edit of the plan does."""
    folder = RunFolder(world.out)
    with Lease.take(world.out) as lease:
        for partition in list(folder.log(PLAN).partitions):
            rows = folder.table(PLAN, partition, "assignments")
            retired = [place % 5 == number or row["retired"] for place, row in enumerate(rows.to_pylist())]
            more = sum(retired) - sum(row["retired"] for row in rows.to_pylist())
            column = rows.schema.get_field_index("retired")
            rows = rows.set_column(column, "retired", pa.array(retired))
            revision = folder.log(PLAN).next_revision(partition)
            file = folder.stage(PLAN).write("assignments", partition, revision, rows)
            parts = {"assignments": TablePart((file,), "f", replaces=True)}
            counts = {"assigned": -more, "retired": more}
            folder.commit(PLAN, Receipt(partition, revision, parts, counts), lease)


def check(world: ScoredWorld, passes: tuple[str, ...]) -> None:
    """Assert that rows and counts account for every pair."""
    retired = {row["assignment_id"] for row in rows_of(world.out, PLAN, "assignments") if row["retired"]}
    pairs = world.pairs()
    live = {key for key, row in pairs.items() if row["assignment_id"] not in retired}
    counts = {each.name: each for each in score_counts(RunFolder(world.out))}
    assert counts.keys() == {score_name(name, score) for name, scores in PASSES.items() for score in scores}
    for name, found in counts.items():
        rows: dict[str, dict[str, Any]] = world.scores(name)
        assert rows.keys() >= live
        outcomes = Counter(outcome(rows[key]) for key in live)
        expected = {"value": found.values - found.taken, "taken": found.taken, **found.without}
        assert outcomes == Counter({name: count for name, count in expected.items() if count}), name
        assert found.retired == len(pairs) - len(live)
        assert found.values + sum(found.without.values()) + found.retired == found.received == len(pairs)
        assert found.pending == 0
    folder = RunFolder(world.out)
    for context in contexts_of(world.job(*passes)):
        tasks = todo(folder, context, True)
        assert not tasks and all(not find_pending(context, task).images for task in tasks)


def outcome(row: dict[str, Any]) -> str:
    """Return which count a row is of."""
    assert (row["value"] is None) != (row["reason"] is None)
    kind = (row["reason"] or "").partition(":")[0]
    if taken_from(row["detail"]):
        return "taken"
    if kind.startswith("does not apply to pairs that second.answer decides"):
        return "decided"
    return "value" if row["reason"] is None else kind if kind in FAILURE_REASONS else "no_value"


def test_pairs_in_the_place_of_scored_ones_are_told_as_pending() -> None:
    judge = SimpleNamespace(after=None)
    context: Any = SimpleNamespace(name="second", judge=judge, retry=(), fingerprints=lambda: {"answer": "f"})
    generated = SimpleNamespace(counts=lambda: {"pair": 46, "reasked": 5})
    counts = count_scored("second.answer", [None] * 40 + ["call_failed: x"] * 6)
    scored = SimpleNamespace(latest=lambda name: name, fingerprint=lambda *names: "f", counts=lambda names: counts)
    task: Any = SimpleNamespace(partition="p", inputs={GENERATE.folder: generated, SCORE.folder: scored})
    assert count_pending(context, [task]) == (5, True)
    counts.subtract({name: 2 for name in counts if name.endswith("call_failed")})
    assert count_pending(context, [task]) == (2, True)
