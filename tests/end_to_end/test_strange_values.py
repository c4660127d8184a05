"""A run whose engine, scores and code misbehave: rows fail with their reason, the first is reported, the run ends."""

import asyncio
import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.config import pipeline
from synthgen.engines import open_engine
from synthgen.engines.scripted import ScriptedEngine
from synthgen.errors import JobFailing
from synthgen.job import job
from synthgen.stages.generate import GenerateWorker, asking, context_of, todo
from synthgen.store import Folder, Receipt, RunFolder
from synthgen.tables import GENERATE, PLAN, RETRIED_REASONS
from synthgen.workers import CircuitBreaker
from tests.fixtures.runs import synth
from tests.fixtures.workspace import make_images, write, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

ENGINE = '''
"""An engine of a user's own, which does what `engine.options` says to the images whose key begins with 0 to 7."""

import math
from dataclasses import replace

from synthgen.engines.scripted import ScriptedEngine
from synthgen.config.engine import EngineConfig


class Engine(ScriptedEngine):
    def __init__(self, name, settings):
        super().__init__(name, EngineConfig())
        self.kind, self.share = settings.options["kind"], settings.options["share"]

    async def generate(self, request):
        reply = await super().generate(request)
        if (request.image_key or "z") >= self.share:
            return reply
        if self.kind == "raises":
            return [][request.max_tokens]
        text = reply.text + " \\ud83d" * (request.purpose == "answer")
        return replace(reply, text=text, logprobs=(math.nan,), prompt_tokens=None, output_tokens=-1)
'''
OWN = "generate.engine={kind: 'mine:Engine', gpus: 0, options: {kind: %s, share: '%s'}}"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a workspace whose `out` is planned; tests work on copies of it."""
    folder = write_definition_files(tmp_path_factory.mktemp("planned"))
    make_images(folder / "photos", 12)
    write(folder / "mine.py", ENGINE)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", "--until", "plan")
    return folder


@pytest.fixture
def out(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a copy of the planned folder, in the working folder."""
    work = shutil.copytree(planned, tmp_path / "work")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    yield work / "out"
    sys.modules.pop("mine", None)


def generate(out: Path, kind: str, share: str) -> tuple[RunFolder, list[Receipt]]:
    """Ask all partitions, without Ray, with the user's engine."""
    settings = ["source.uri=photos", OWN % (kind, share)]
    opened = job.open_job(Folder(str(out)), pipeline.load("small", settings))
    folder, context = RunFolder(opened.out), context_of(opened)
    tasks = todo(folder, context, is_update=False)

    async def work() -> list[Receipt | None]:
        worker = GenerateWorker(context, await open_engine(opened.model, context.engine))
        try:
            return [await worker.do(task) for task in tasks]
        finally:
            worker.close()

    return folder, [receipt for receipt in asyncio.run(work()) if receipt]


def rows(folder: RunFolder, receipts: list[Receipt], table: str) -> list[dict[str, Any]]:
    """Return the rows that receipts add to a table."""
    names = GENERATE.table(table).schema.names
    stage = folder.stage(GENERATE)
    return [row for receipt in receipts for file in stage.files(receipt, table, names) for row in file.to_pylist()]


def test_an_engine_that_raises_on_some_images_costs_their_rows_and_the_first_is_reported(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, receipts = generate(out, "raises", "8")
    pairs = rows(folder, receipts, "pairs")
    failed = [row for row in pairs if row["reason"] == "code_failed"]
    assert len(pairs) == folder.log(PLAN).counts()["assigned"] > len(failed) > 0
    details = {row["detail"] for row in failed}
    assert len(details) == 1 and details.pop().startswith("IndexError: list index out of range (mine.py:")
    breaker = CircuitBreaker(folder.stage(GENERATE), "pairs")
    for receipt in receipts * 2:
        breaker.see(receipt)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "3-generated: the first row of pairs that failed as code_failed: IndexError: list index out of" in told


def test_odd_numbers_in_replies_are_unknown_and_cost_no_pair(out: Path) -> None:
    folder, receipts = generate(out, "odd", "zz")
    pairs = rows(folder, receipts, "pairs")
    assert len(pairs) == folder.log(PLAN).counts()["assigned"] and any(row["outcome"] == "pair" for row in pairs)
    assert all(row["prompt_tokens"] is None and row["output_tokens"] is None for row in pairs)
    scores = rows(folder, receipts, "scores/likelihood")
    assert scores and all(row["value"] is None and "log-probability nan" in row["reason"] for row in scores)


def test_a_job_in_which_all_code_fails_stops_in_one_line(out: Path) -> None:
    folder, receipts = generate(out, "raises", "zz")
    breaker = CircuitBreaker(folder.stage(GENERATE), "pairs")
    with pytest.raises(JobFailing, match=r"failed one after the other, the last one as code_failed: IndexError: "):
        for receipt in receipts * 100:
            breaker.see(receipt)


def test_an_unforeseen_error_in_one_conversation_costs_the_rows_of_its_image(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = job.open_job(Folder(str(out)), pipeline.load("small", ["source.uri=photos"]))
    folder, context = RunFolder(opened.out), context_of(opened)
    task = todo(folder, context, is_update=False)[0]
    broken = list[str]()

    async def ask_all(session: Any, subject: Any, wanted: Any) -> Any:
        if not broken:
            broken.append(wanted[0].image_id)
            raise RuntimeError("a bug\nof ours")
        return await asking.ask_all(session, subject, wanted)

    monkeypatch.setattr("synthgen.stages.generate.conversation.ask_all", ask_all)
    worker = GenerateWorker(context, ScriptedEngine(opened.model, context.engine))
    try:
        receipt = asyncio.run(worker.do(task))
    finally:
        worker.close()
    assert receipt is not None
    made = folder.stage(GENERATE).files(receipt, "pairs", ["image_id", "reason", "detail"])
    pairs = [row for file in made for row in file.to_pylist()]
    failed = [row for row in pairs if row["reason"] == "code_failed"]
    assert {row["image_id"] for row in failed} == set(broken) and len(pairs) > len(failed)
    assert all(row["detail"].startswith("RuntimeError: a bug of ours (test_strange_values.py:") for row in failed)
    assert receipt.counts["failed.code_failed"] == len(failed) and "code_failed" in RETRIED_REASONS
    assert Counter(receipt.counts).total() >= len(pairs)
