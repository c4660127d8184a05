"""Asking again: dropped pairs get one more answer along a stronger path, on record, once, killed or not."""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen.commands import reask as command
from synthgen.config.pipeline import Pipeline
from synthgen.engines import Reply, Request
from synthgen.engines.scripted import ScriptedEngine
from synthgen.errors import Mistakes, UserMistake
from synthgen.job.job import reopen
from synthgen.stages.generate.reask import context_for
from synthgen.stages.generate.reasker import Reasker
from synthgen.stages.generate.reasking import ReaskContext, todo
from synthgen.store import Folder, Lease, RunFolder
from synthgen.tables import GENERATE, SELECT
from tests.fixtures.rows import rows_of
from tests.fixtures.runs import Rows, adds_up, kill_once, rows, start, synth
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

STRONGER = ("reask.model=larger", "reask.engine={kind: scripted}", "reask.samples=3")
WORST = "generate.engine={kind: scripted, options: {worst: 0.5, seconds: 0.01}}"


class Engine(ScriptedEngine):
    """A scripted engine whose calls that answer can be given."""

    def __init__(self, context: ReaskContext, replies: "Replies") -> None:
        super().__init__(context.model, context.engine)
        self._replies = replies

    async def generate(self, request: Request) -> Reply:
        """Reply."""
        if request.purpose in ("answer", "sample"):
            self._replies.asked += 1
            if self._replies.given:
                return self._replies.given[self._replies.asked % len(self._replies.given)]
        return await super().generate(request)


@dataclass
class Replies:
    """The replies to calls that answer, in turn, and the number of these calls; scripted ones if there are none."""

    given: tuple[Reply, ...] = ()
    asked: int = 0


@dataclass
class World:
    """An output folder in which pairs are asked again without Ray."""

    out: Folder

    def run(self, *settings: str, given: tuple[Reply, ...] = (), commits: int = 1000) -> Replies:
        """Ask dropped pairs again, with at most so many commits."""
        folder, replies = RunFolder(self.out), Replies(given)
        context = context_for(command.with_settings(reopen(folder), (*STRONGER, *settings)))
        with Lease.take(self.out) as lease, asyncio.Runner() as runner:
            worker = Reasker(context, Engine(context, replies))
            with contextlib.closing(worker):
                for task in todo(folder, context)[:commits]:
                    receipt = runner.run(worker.do(task))
                    assert receipt
                    folder.commit(GENERATE, receipt, lease)
        return replies

    def pairs(self) -> Rows:
        return {row["assignment_id"]: row for row in rows_of(self.out, GENERATE, "pairs")}

    def forecast(self, *settings: str) -> list[str]:
        folder = RunFolder(self.out)
        return command.forecast(folder, command.with_settings(reopen(folder), (*STRONGER, *settings)))

    def dropped(self) -> dict[str, str]:
        return {row["pair_id"]: row["reason"] for row in rows_of(self.out, SELECT, "decisions") if not row["kept"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace whose `out` has pairs, about half of them dropped by their score."""
    folder = write_definition_files(tmp_path_factory.mktemp("reasking"))
    make_images(folder / "photos", 70)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", "--set", WORST)
    return folder


@pytest.fixture
def here(made: Path) -> Iterator[Path]:
    """Return the workspace as the working folder."""
    with contextlib.chdir(made):
        yield made


@pytest.fixture
def world(here: Path, tmp_path: Path) -> World:
    """Return a copy of the output folder."""
    return World(Folder(str(shutil.copytree(here / "out", tmp_path / "copy"))))


def comparable(found: Rows) -> dict[str, dict[str, Any]]:
    """Return rows without what differs between two runs of one job."""
    return {key: {name: value for name, value in row.items() if name != "seconds"} for key, row in found.items()}


def test_dropped_pairs_are_answered_anew_and_say_by_whom_for_what_and_in_place_of_which(world: World) -> None:
    before, dropped = world.pairs(), world.dropped()
    replies = world.run()
    after = world.pairs()
    assert before.keys() == after.keys() and len(dropped) > 30
    for key, row in after.items():
        old = before[key]
        if old["pair_id"] not in dropped:
            assert row == old
            continue
        assert (row["reasked_for"], row["reasked"], row["reasked_answer"]) == (
            dropped[old["pair_id"]],
            old["pair_id"],
            old["answer"],
        )
        assert (row["model"], row["ask_model"]) == ("larger", "none")
        assert row["question"] == old["question"] and row["pair_id"] not in (None, old["pair_id"])
        assert row["prompt_tokens"] > old["prompt_tokens"]
    assert replies.asked == 3 * len(dropped)


def test_new_pairs_have_every_score_and_the_counts_stay_right(world: World) -> None:
    world.run()
    pairs = {row["pair_id"] for row in world.pairs().values()}
    for name in ("likelihood", "answer"):
        scored = {row["pair_id"] for row in rows_of(world.out, GENERATE, f"scores/{name}")}
        assert pairs <= scored
    folder = RunFolder(world.out)
    counts = Counter(folder.log(GENERATE).counts())
    listed = GENERATE.table("pairs").count_rows(
        pa.concat_tables([folder.table(GENERATE, name, "pairs") for name in folder.log(GENERATE).partitions])
    )
    assert +counts == listed and counts["reasked"] == sum(row["reasked"] is not None for row in world.pairs().values())


def test_a_pair_is_asked_again_once(world: World) -> None:
    assert world.run().asked
    assert not world.run().asked
    assert world.forecast()[0].startswith("nothing to ask again")


def test_a_command_that_is_killed_goes_on_to_the_same_pairs(world: World, here: Path, tmp_path: Path) -> None:
    whole = World(Folder(str(shutil.copytree(here / "out", tmp_path / "whole"))))
    whole.run()
    assert world.run(commits=1).asked
    assert 0 < sum(row["reasked"] is not None for row in world.pairs().values()) < len(world.dropped())
    world.run()
    assert comparable(world.pairs()) == comparable(whole.pairs())


def test_the_answer_that_most_samples_give_is_taken(world: World) -> None:
    world.run("reask.samples=3", given=(Reply("one"), Reply("two"), Reply("two")))
    answers = Counter(row["answer"] for row in world.pairs().values() if row["reasked"] and row["form"] == "short")
    assert answers["two"] and set(answers) == {"two"}


def test_a_path_without_a_usable_answer_leaves_the_pair_and_is_on_record(world: World) -> None:
    before = world.pairs()
    world.run(given=(Reply("cut", "length"),))
    for key, row in world.pairs().items():
        if row["reasked_for"]:
            limit = f"answer.{row['form']}.max_tokens of the prompt pack"
            assert row["detail"] == f"asked again in vain: cut_off: the answer reached {limit}"
            assert {**row, "reasked_for": None, "detail": None} == before[key]
    assert not world.run().asked


def test_a_call_that_failed_for_another_cause_is_tried_another_time(world: World) -> None:
    before = world.pairs()
    world.run(given=(Reply("", "error", "call_failed", "down"),))
    assert world.pairs() == before
    assert world.run().asked


def test_the_forecast_names_reasons_tokens_and_the_price(world: World) -> None:
    lines = world.forecast("reask.price={prompt_million: 2, currency: EUR}")
    count = len(world.dropped())
    tokens = 3 * sum(row["prompt_tokens"] for row in world.pairs().values() if row["pair_id"] in world.dropped())
    assert lines[0] == f"{count} pairs to ask again, 3 answers each by larger, dropped for:"
    assert lines[1].split() == [str(count), "score:answer"]
    assert f"about {tokens:,} tokens in" in lines[2] and f"{tokens * 2e-6:.2f} EUR" in lines[2]


def test_a_section_that_was_written_after_the_run_counts(world: World, here: Path) -> None:
    folder, file = RunFolder(world.out), here / "pipelines" / "small.yaml"
    before = file.read_text()
    try:
        file.write_text(f"{before}reask: {{model: larger, samples: 9, reasons: [rank]}}\n")
        section = command.with_own_section(reopen(folder), folder).pipeline.reask
        assert (section.model, section.samples, section.reasons) == ("larger", 9, ("rank",))
        file.write_text(f"{before}reask: {{sampels: 9}}\n")
        with pytest.raises(Mistakes, match="unknown key 'sampels' in reask: did you mean 'samples'"):
            command.with_own_section(reopen(folder), folder)
    finally:
        file.write_text(before)
    assert command.with_own_section(reopen(folder), folder).pipeline == reopen(folder).pipeline


def test_other_reasons_can_be_named_and_those_that_no_answer_changes_are_refused(world: World) -> None:
    assert world.forecast("reask.reasons=[rule:loops]")[0].startswith("nothing to ask again")
    with pytest.raises(Mistakes, match="'duplicate:question' is no reason that another answer can change"):
        world.forecast("reask.reasons=['duplicate:question']")
    with pytest.raises(UserMistake, match="takes settings of the section reask alone"):
        world.forecast("select.keep={}")


def test_the_path_has_the_model_and_engine_that_answer_unless_it_names_others() -> None:
    values = {
        "about": "x",
        "tag": {"tagger": "t"},
        "plan": {"mapping": "m"},
        "generate": {"model": "a", "prompts": "p", "answer": {"model": "b"}},
    }
    assert Pipeline.model_validate(values).reasker.model == "b"
    assert Pipeline.model_validate({**values, "reask": {"model": "c"}}).reasker.model == "c"


def words() -> list[str]:
    slowly = "reask.engine={kind: scripted, in_flight: 2, options: {seconds: 0.05}}"
    return [word for setting in (*STRONGER, slowly) for word in ("--set", setting)]


def test_the_command_asks_again_selects_and_packs(here: Path) -> None:
    shutil.copytree("out", "asked")
    before = {row["assignment_id"]: row["pair_id"] for row in rows(here / "asked", GENERATE, "pairs").values()}
    done = synth("reask", "asked", *words())
    assert "pairs were asked again along the path" in done.stdout
    adds_up(here / "asked")
    kept = {key for key, row in rows(here / "asked", SELECT, "decisions").items() if row["kept"]}
    asked = {row["pair_id"] for row in rows(here / "asked", GENERATE, "pairs").values() if row["reasked"]}
    assert kept & asked and not asked & set(before.values())
    assert "Asked again" in (here / "asked" / "5-shards" / "README.md").read_text()


def test_the_command_goes_on_after_a_kill(here: Path, tmp_path: Path) -> None:
    whole = World(Folder(str(shutil.copytree(here / "out", tmp_path / "whole"))))
    whole.run()
    shutil.copytree("out", "killed")
    known = set((here / "killed" / "3-generated").rglob("*.parquet"))
    process = start("reask", "killed", *words())
    kill_once(process, lambda: set((here / "killed" / "3-generated").rglob("*.parquet")) - known)
    synth("reask", "killed", *words())
    adds_up(here / "killed")
    found = rows(here / "killed", GENERATE, "pairs")
    answers = {key: (row["reasked"], row["answer"]) for key, row in found.items()}
    assert answers == {key: (row["reasked"], row["answer"]) for key, row in whole.pairs().items()}
