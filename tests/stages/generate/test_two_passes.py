"""One model asks in a first pass and another answers in a second; the rows are those of one pass by the same script."""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.dropped import find_dropped
from synthgen.commands.plan import EstimateRequest, as_json, forecast, profiles, text
from synthgen.commands.purge import _rewrite_tables
from synthgen.commands.repair import repair
from synthgen.commands.retry import nothing_to_retry
from synthgen.config import pipeline
from synthgen.engines import Reply, Request
from synthgen.engines.scripted import ScriptedEngine
from synthgen.job import job
from synthgen.job.funnel import StageFunnel, funnels
from synthgen.stages.contract import Job
from synthgen.stages.generate import GenerateContext, GenerateWorker, context_of, count_pending, profiling, todo
from synthgen.store import Folder, Lease, Receipt, RunFolder
from synthgen.tables import ASK, GENERATE, image_id
from tests.fixtures.rows import rows_of
from tests.fixtures.runs import synth
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write, write_definition_files

pytestmark = pytest.mark.usefixtures("workers_here")

FOLLOWING = "      more: {about: on, needs: x, forms: [short], examples: ['And?', 'So?'], follows: true}\n"
SCRIPT = "{seconds: 0, decline: 0.15, fail: 0.1, junk: 0.05}"
ONE = (f"generate.engine.options={SCRIPT}",)
# The same script on two engines, and then as another model.
TWICE = (*ONE, f"generate.ask={{model: none, engine: {{kind: scripted, in_flight: 3, options: {SCRIPT}}}}}")
OTHER = (*ONE, "generate.ask={model: other}")
OF_MODELS = ("model", "revision", "ask_model", "ask_revision", "ask_attempt", "seconds")
Row = dict[str, Any]
asked: list[tuple[str, str]] = []  # model and purpose of the calls


class Engine(ScriptedEngine):
    """An engine that notes its calls, and fails a share of those of one purpose."""

    def __init__(self, context: GenerateContext) -> None:
        super().__init__(context.model, context.engine)
        self.model = context.model.model

    async def generate(self, request: Request) -> Reply:
        """Reply."""
        asked.append((self.model, request.purpose))
        return await super().generate(request)


@dataclass
class World:
    """An output folder that is planned, in which pairs are generated without Ray."""

    out: Folder

    def job(self, settings: Collection[str]) -> Job:
        return job.open_job(self.out, pipeline.load("small", ["source.uri=photos", *settings]))

    def run(
        self,
        settings: Collection[str],
        retry: Collection[str] = (),
        *,
        update: bool = False,
        commits: int = 1000,
    ) -> list[str]:
        """Run both passes, at most so many commits, and return the stages of the commits."""
        opened, folder = self.job(settings), RunFolder(self.out)
        context = context_of(opened, frozenset(retry))
        asked.clear()
        done: list[str] = []
        with Lease.take(self.out) as lease:
            for each in [context.first_pass(), context] if context.asker else [context]:
                with contextlib.closing(self.receipts(folder, each, update)) as receipts:
                    for receipt in receipts:
                        if len(done) == commits:
                            return done  # its files are there and no commit names them
                        folder.commit(each.spec, receipt, lease)
                        done.append(each.spec.name)
        return done

    def receipts(self, folder: RunFolder, context: GenerateContext, update: bool) -> Generator[Receipt, None, None]:
        tasks = todo(folder, context, update, folder.log(context.spec).next_epoch)
        expected, is_bound = count_pending(context, tasks)
        worker, made = GenerateWorker(context, Engine(context)), 0
        with contextlib.closing(worker), asyncio.Runner() as runner:
            for task in tasks:
                receipt = runner.run(worker.do(task))
                assert receipt
                made += sum(file.rows for file in receipt.tables[context.spec.watched].files)
                yield receipt
        assert made == expected or (is_bound and made < expected)

    def rows(self, table: str) -> dict[str, Row]:
        """Return the current rows of a table by their key, which no two partitions share."""
        spec = ASK if table == "questions" else GENERATE
        key, found = spec.table(table).key, rows_of(self.out, spec, table)
        assert len({row[key] for row in found}) == len(found)
        return {row[key]: row for row in found}

    def content(self, table: str = "pairs") -> dict[str, Row]:
        """Return the rows of a table without the columns about models and time."""
        return {
            key: {name: value for name, value in row.items() if name not in OF_MODELS}
            for key, row in self.rows(table).items()
        }

    def texts(self) -> dict[str, tuple[Any, ...]]:
        """Return what the models wrote for each assignment."""
        columns = ("outcome", "reason", "question", "options", "key", "answer", "raw_question", "output_tokens")
        return {key: tuple(row[name] for name in columns) for key, row in self.rows("pairs").items()}

    def funnel(self, stage: str) -> StageFunnel:
        return next(funnel for funnel in funnels(RunFolder(self.out)) if funnel.stage == stage)

    def failed(self, table: str, reason: str = "call_failed") -> set[str]:
        """Return the assignments that failed for a reason."""
        return {key for key, row in self.rows(table).items() if row["reason"] == reason}

    def adds_up(self) -> None:
        """Assert that nothing is pending, and that the counts of both stages are those of their rows."""
        for spec in (ASK, GENERATE):
            funnel, table = self.funnel(spec.name), spec.table(spec.watched)
            assert funnel.pending == 0
            assert table.count
            counts = table.count(self.rows(table.name).values())
            assert counts == Counter({spec.passes: funnel.passed, **funnel.dropped})


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a workspace whose `out` is planned; tests work on copies of it."""
    folder = write_definition_files(tmp_path_factory.mktemp("planned"))
    family = "prompts/families/small.yaml"
    write(
        folder / family, DEFINITION_FILES[family].replace("  fine:\n", FOLLOWING + "  fine:\n").replace(", each: 1", "")
    )
    make_images(folder / "photos", 40)
    with contextlib.chdir(folder):
        synth("run", "photos", "--out", "out", "--pipeline", "small", "--until", "plan", "--set", "plan.per_image=5")
    return folder


@pytest.fixture
def world(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a copy of the planned folder."""
    monkeypatch.chdir(planned)
    return copy_of(planned, tmp_path / "out")


def copy_of(planned: Path, to: Path) -> World:
    return World(Folder(str(shutil.copytree(planned / "out", to))))


def test_two_passes_of_one_script_make_the_rows_of_one_pass(world: World, planned: Path, tmp_path: Path) -> None:
    one = copy_of(planned, tmp_path / "one")
    assert one.run(ONE) == ["generate", "generate"] and not (tmp_path / "one" / "3-asked").exists()
    assert "ask" not in [funnel.stage for funnel in funnels(RunFolder(one.out))]
    assert world.run(TWICE) == ["ask", "ask", "generate", "generate"]
    world.adds_up()
    assert world.content() == one.content()
    for name in ("likelihood", "answer"):
        assert world.rows(f"scores/{name}") == one.rows(f"scores/{name}")
    rows = world.rows("pairs").values()
    assert {row["outcome"] for row in rows} == {"pair", "failed"} and any(row["follows"] for row in rows)
    assert {(row["model"], row["ask_model"]) for row in rows} == {("none", None)}, "the same model is named once"
    assert not world.run(TWICE) and not world.run(TWICE, update=True)


def test_each_pass_calls_its_own_model_and_rows_name_both(world: World, planned: Path, tmp_path: Path) -> None:
    one = copy_of(planned, tmp_path / "one")
    one.run(ONE)
    world.run(OTHER)
    world.adds_up()
    assert world.texts() == one.texts(), "the script is the same"
    assert {model for model, purpose in asked if purpose in ("answer", "judge")} == {"none"}
    following = [row for row in world.rows("pairs").values() if row["type"] == "coarse/more"]
    written = [row for row in world.rows("pairs").values() if row["type"] != "coarse/more"]
    calls = Counter(model for model, purpose in asked if purpose == "ask")
    assert calls["other"] and 0 < calls["none"] <= len(following), "who answers writes what follows"
    assert {(row["model"], row["ask_model"], row["ask_revision"], row["ask_attempt"]) for row in written} == {
        ("none", "other", "scripted", 0)
    }
    assert {(row["model"], row["ask_model"], row["ask_attempt"]) for row in following} == {("none", None, None)}
    questions = world.rows("questions").values()
    assert {row["model"] for row in questions} == {"other"}
    assert Counter(row["outcome"] for row in questions)["follow_up"] == len(following)
    recipes = {row["recipe"] for row in written} & {row["recipe"] for row in one.rows("pairs").values()}
    assert not recipes, "a pair of two models is another pair"


@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_a_run_killed_in_either_pass_ends_with_the_same_rows(
    world: World, planned: Path, tmp_path: Path, commits: int
) -> None:
    whole = copy_of(planned, tmp_path / "whole")
    order = whole.run(OTHER)
    assert world.run(OTHER, commits=commits) == order[:commits]
    assert world.run(OTHER) == order[commits:], "what is committed is not done again"
    world.adds_up()
    assert world.content("questions") == whole.content("questions") and world.content() == whole.content()


def test_another_model_that_answers_keeps_the_questions_and_another_that_asks_does_not(world: World) -> None:
    world.run(OTHER)
    questions = world.rows("questions")
    newer = (*OTHER, "generate.model=newer")
    assert not world.run(newer), "it is for an update"
    assert world.run(newer, update=True) == ["generate", "generate"] and world.rows("questions") == questions
    assert {model for model, _ in asked} == {"newer"}
    assert {row["model"] for row in world.rows("pairs").values()} == {"newer"}
    colder = (*newer, "generate.sampling.answer_temperature=0.5")
    assert world.run(colder, update=True) == ["generate", "generate"], "and so does what shapes answers alone"
    third = (*colder, "generate.ask={model: third}")
    assert world.run(third, update=True) == ["ask", "ask", "generate", "generate"]
    written = [row for row in world.rows("pairs").values() if row["type"] != "coarse/more"]
    assert {(row["model"], row["ask_model"]) for row in written} == {("newer", "third")}
    warmer = (*third, "generate.sampling.ask_temperature=0.1")
    assert world.run(warmer, update=True) == ["ask", "ask", "generate", "generate"]
    world.adds_up()
    assert world.run((*ONE, "generate.model=newer"), update=True) == ["generate", "generate"], "back to one"
    assert {row["ask_model"] for row in world.rows("pairs").values()} == {None}


def test_the_answer_section_names_the_model_that_answers_and_scores(world: World) -> None:
    world.run((*ONE, "generate.answer={model: wise}"))
    assert {model for model, purpose in asked if purpose == "judge"} == {"wise"}
    written = [row for row in world.rows("pairs").values() if row["type"] != "coarse/more"]
    assert {(row["model"], row["ask_model"]) for row in written} == {("wise", "none")}


def test_a_failure_is_retried_in_the_pass_that_it_came_from(world: World) -> None:
    failing = ("generate.ask={model: other, engine: {kind: scripted, options: {fail: 0.3}}}",)
    mended = ("generate.ask={model: other}",)
    world.run(failing)
    failed = world.failed("questions")
    assert failed and failed == world.failed("pairs")
    details = {row["assignment_id"]: row["detail"] for row in world.rows("pairs").values()}
    assert {details[key] for key in failed} == {"scripted failure"}
    assert find_dropped(RunFolder(world.out), "call_failed").count == len(failed), "each is listed once"
    assert not world.run(mended), "a plain run tries nothing again"
    before = world.texts()
    world.run(mended, {"call_failed"})
    assert not world.failed("questions") and not world.failed("pairs")
    attempts = {key: row["ask_attempt"] for key, row in world.rows("pairs").items()}
    assert {key for key, attempt in attempts.items() if attempt} == failed
    changed = {key for key, text in world.texts().items() if text != before[key]}
    assert changed == failed, "and nothing else"
    assert "no row failed for call_failed" in str(nothing_to_retry(RunFolder(world.out), {"call_failed"}))
    world.adds_up()


def test_questions_that_are_written_again_are_answered_though_the_retry_was_killed_in_between(world: World) -> None:
    world.run(("generate.ask={model: other, engine: {kind: scripted, options: {fail: 0.3}}}",))
    mended, failed = ("generate.ask={model: other}",), world.failed("questions")
    assert world.run(mended, {"call_failed"}, commits=2) == ["ask", "ask"] and world.failed("pairs") == failed
    assert world.run(mended) == ["generate", "generate"] and not world.failed("pairs")
    assert len([purpose for _, purpose in asked if purpose == "answer"]) == len(failed), "and no other"
    world.adds_up()


def test_a_failed_answer_is_retried_with_the_question_that_is_there(world: World) -> None:
    asking = "generate.ask={model: other, engine: {kind: scripted}}"
    world.run((asking, "generate.engine.options={fail: 0.3}"))
    failed, questions = world.failed("pairs"), world.rows("questions")
    assert failed and not world.failed("questions")
    world.run((asking,), {"call_failed"})
    assert not world.failed("pairs") and world.rows("questions") == questions
    assert {model for model, _ in asked} == {"none"}
    world.adds_up()


def test_an_image_that_cannot_be_read_costs_its_own_rows_in_both_passes(world: World, planned: Path) -> None:
    photo = Path("photos/0003.png")
    gone = image_id(photo.read_bytes())
    photo.rename("elsewhere.png")
    try:
        world.run(("generate.ask={model: other}",))
    finally:
        Path("elsewhere.png").rename(photo)
    for table in ("questions", "pairs"):
        reasons = {row["reason"] for row in world.rows(table).values() if row["image_id"] == gone}
        assert reasons - {"nothing_to_follow", None} == {"image_unreadable"}
        assert "image_unreadable" not in {
            row["reason"] for row in world.rows(table).values() if row["image_id"] != gone
        }
    world.run(("generate.ask={model: other}",), {"image_unreadable"})
    assert not world.failed("questions", "image_unreadable") and not world.failed("pairs", "image_unreadable")
    world.adds_up()


def test_a_purge_takes_questions_and_a_damaged_file_of_questions_costs_its_rows(world: World) -> None:
    settings = ("generate.ask={model: other}",)
    world.run(settings)
    folder, gone = RunFolder(world.out), image_id(Path("photos/0003.png").read_bytes())
    with contextlib.suppress(KeyError), folder.lease() as lease:
        folder.write_record({"unfinished": {}, "started_in": ".", "pipeline": {}, "shape": {}})
        _rewrite_tables(folder, ["0003.png"], lease, str)
    assert gone not in {row["image_id"] for table in ("questions", "pairs") for row in world.rows(table).values()}
    world.adds_up()
    assert not world.run(settings), "the purge itself makes nothing stale"
    before = world.texts()
    folder = RunFolder(world.out)
    partition = next(iter(folder.log(ASK).partitions))
    files = [file.name for part in folder.log(ASK).parts(partition, "questions") for file in part.files]
    for name in files:
        Path(world.out.path, "3-asked/questions", name).write_bytes(b"damaged")
    with folder.lease() as lease:
        assert repair(folder, [f"3-asked/{partition}"], lease) == 1
    assert world.run(settings) == ["ask", "generate"]
    world.adds_up()
    assert world.texts() == before


def test_a_model_that_has_nothing_to_do_is_refused(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(planned)
    both = ["generate.ask={model: a}", "generate.answer={model: b}"]
    assert pipeline.load("small", both).generate.is_split
    without = pipeline.load("small").model_dump(mode="json")
    del without["generate"]["model"]
    parts = {"ask": {"model": "a"}, "answer": {"model": "b"}}
    alone = pipeline.Pipeline.model_validate({**without, "generate": {**without["generate"], **parts}}).generate
    assert (alone.asker.model, alone.answerer.model) == ("a", "b"), "nothing is left for a third model"
    with pytest.raises(Exception, match="model"):
        pipeline.Pipeline.model_validate({**without, "generate": {**without["generate"], "ask": {"model": "a"}}})
    with pytest.raises(Exception, match="which does nothing here"):
        pipeline.load("small", [*both, "generate.model=c"])
    with pytest.raises(Exception, match="EUR and USD, which cannot be added"):
        pipeline.load("small", ["generate.ask={model: a, price: {currency: EUR}}"])
    with pytest.raises(Exception, match=r"generate\.ask\.engine"):
        World(Folder(str(planned / "new"))).job(["generate.ask={model: a, engine: {kind: endpoint}}"])


def test_parts_without_an_engine_share_the_one_of_generate(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(planned)
    generate = pipeline.load("small", ["generate.ask={model: a}", "generate.engine.in_flight=7"]).generate
    assert generate.asker.engine == generate.answerer.engine == generate.engine
    assert (generate.asker.model, generate.answerer.model) == ("a", "none")
    assert not pipeline.load("small", ["generate.ask={model: none}"]).generate.is_split, "one model, one pass"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure in this process, which closes what ends with an actor."""
    workers: list[GenerateWorker] = []

    def made(context: GenerateContext, engine: Any) -> GenerateWorker:
        workers.append(GenerateWorker(context, engine))
        return workers[-1]

    monkeypatch.setattr(profiling, "GenerateWorker", made)
    monkeypatch.setattr(profiles, "leave_ray", lambda: None)
    monkeypatch.setattr(profiles, "run_in_actor", lambda measure, task, engine, home, doing: asyncio.run(measure(task)))
    yield
    for worker in workers:
        worker.close()


PRICED = (
    "generate.ask={model: other, price: {output_million: 5}, engine: {kind: scripted, replicas: 2}}",
    "generate.price={prompt_million: 2}",
)


@pytest.mark.usefixtures("here")
def test_a_plan_prices_both_parts_and_says_their_order(world: World) -> None:
    opened, folder = world.job(PRICED), RunFolder(world.out)
    unmeasured = text(forecast(folder, opened, EstimateRequest())).splitlines()
    place = unmeasured.index("first other asks, 2 engines (scripted)")
    assert unmeasured[place + 1] == "then none answers and scores, 1 engine (scripted)"
    measured = forecast(folder, opened, EstimateRequest(profile=12))
    lines = [line.partition(":")[0] for line in text(measured).splitlines()]
    assert [line for line in lines if line in ("asking", "answering")] == ["asking", "answering"]
    total = as_json(measured)["total"]
    asking, answering = total["of_asking"], total["prompt_tokens"] - total["of_asking"]["prompt_tokens"]
    assert asking["prompt_tokens"] > 0 and asking["output_tokens"] > 0
    # The script reads 100 tokens a call, of which 80 are cached: an answer and a judgement a question.
    assert 0.8 * 200 * total["questions"] < answering < 1.1 * 300 * total["questions"]
    assert total["money"] == pytest.approx((asking["output_tokens"] * 5 + 0.2 * answering * 2) / 1e6, abs=2e-4)
    half = (total["prompt_tokens"] + total["output_tokens"]) // 2
    part = as_json(forecast(folder, opened, EstimateRequest(budget=f"{half}tokens")))["total"]
    assert 0.8 * half < part["prompt_tokens"] + part["output_tokens"] <= half + 4


@pytest.mark.usefixtures("here")
def test_questions_that_are_written_cost_nothing_more(world: World) -> None:
    world.run(PRICED)
    assert as_json(forecast(RunFolder(world.out), world.job(PRICED), EstimateRequest()))["total"]["to_ask"] == 0
    newer = world.job((*PRICED, "generate.model=newer"))
    total = as_json(forecast(RunFolder(world.out), newer, EstimateRequest(profile=6)))["total"]
    assert total["to_ask"] == total["questions"] and total["of_asking"]["prompt_tokens"] == 0
    assert total["prompt_tokens"] > 0
