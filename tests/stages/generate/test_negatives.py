"""Negatives: written for another image, answered only where a judge finds them unanswerable, accounted like any row."""

import asyncio
import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from synthgen.config import prompt_pack
from synthgen.config.engine import SamplingConfig
from synthgen.config.prompt_file import UnanswerablePrompt
from synthgen.config.replies import Question
from synthgen.config.selection import Threshold
from synthgen.engines import Reply, Request
from synthgen.stages.generate.asking import AskedQuestion, Assignment
from synthgen.stages.generate.conversation import (
    ConversationContext,
    Outcome,
    PreparedImage,
    ask_ahead,
    ask_for_others,
    converse,
)
from synthgen.tables import ASK, GENERATE, PLAN, image_id
from tests.fixtures.runs import Rows, adds_up, assignments, funnel_of, kill_once, opened, pairs, rows, start, synth
from tests.fixtures.workspace import make_images, write_definition_files
from tests.stages.generate.test_conversation import Engine

SUBJECT = PreparedImage(Image.new("RGB", (8, 8)), "own")
PARTNER = PreparedImage(Image.new("RGB", (9, 9)), "partner")
READING, UNASKED = "fine/reading", "unanswerable/fine/reading"
WRITTEN = Question("What does the bill say?")
SETTINGS = (
    "plan.negatives=0.3",
    "generate.engine.options={worst: 0.7, seconds: 0.02}",
    "generate.engine.in_flight=4",
)
pytestmark = pytest.mark.usefixtures("workers_here", "workspace")


def of_type(kind: str, ordinal: int = 0) -> Assignment:
    partner = "partner" if kind == UNASKED else None
    ids = f"{kind} {ordinal}", "image", "object"
    return Assignment(*ids, kind, "short", "English", ordinal, "recipe", 0, partner=partner)


def judge(no: float, answer: str = "There is no bill.") -> Engine:
    """Return an engine that judges so and answers so."""

    def reply(request: Request) -> Reply:
        if request.purpose == "ask":
            return Reply(json.dumps({"questions": [f"What now? ({request.image_key})"]}), prompt_tokens=100)
        labels = {"no": no, "yes": 1 - no} if request.purpose == "judge" else {}
        return Reply(answer, labels=labels, logprobs=(-0.5,), prompt_tokens=10, output_tokens=3)

    return Engine(reply)


def run(engine: Engine, *kinds: str, pack: UnanswerablePrompt | None = None, question: Question = WRITTEN) -> Outcome:
    """Hold a conversation about assignments of these types, of which negatives have their question already."""
    prompts = prompt_pack.load("small")
    prompts = replace(prompts, pack=prompts.pack.model_copy(update={"unanswerable": pack})) if pack else prompts
    gate = {"unanswerable": Threshold(min=0.7)}
    context = ConversationContext(prompts, SamplingConfig(), ("answer", "unanswerable", "likelihood"), 7, gate)
    wanted = [of_type(kind, number) for number, kind in enumerate(kinds)]
    given = {each.assignment_id: AskedQuestion(each, Reply("raw"), question) for each in wanted if each.partner}
    return asyncio.run(converse(SUBJECT, wanted, engine, context, given))


def test_a_question_that_a_judge_finds_unanswerable_is_answered_by_the_prompt_for_it() -> None:
    engine = judge(no=0.9)
    [row] = run(engine, UNASKED).pairs
    assert (row["outcome"], row["answer"], row["partner"]) == ("pair", "There is no bill.", "partner")
    [answering] = engine.of("answer")
    assert answering.text == "What does the bill say? Say in English that this is not shown." and answering.image


def test_its_probability_is_a_column_beside_the_other_scores() -> None:
    outcome = run(judge(no=0.9), UNASKED, READING)
    values = {row["assignment_id"]: row["value"] for row in outcome.scores["unanswerable"]}
    assert values == {f"{UNASKED} 0": pytest.approx(0.9), f"{READING} 1": None}
    assert len(outcome.scores["answer"]) == len(outcome.scores["likelihood"]) == 2


def test_a_question_that_can_be_answered_is_not_answered_and_says_so() -> None:
    engine = judge(no=0.6)
    [row] = run(engine, UNASKED).pairs
    assert (row["reason"], row["detail"]) == ("answerable", "unanswerable 0.6 is below 0.7")
    assert row["question"] == WRITTEN.text and not engine.of("answer")


def test_a_question_that_cannot_be_judged_is_not_answered() -> None:
    engine = Engine(lambda request: Reply("", "error", "call_timeout", "slow"))
    [row] = run(engine, UNASKED).pairs
    assert (row["reason"], row["detail"]) == ("call_timeout", "unanswerable: call_timeout: slow")
    assert [request.purpose for request in engine.requests] == ["judge"]


def test_whole_replies_of_the_pack_take_the_place_of_a_call_in_their_language() -> None:
    replies = UnanswerablePrompt(replies={"English": ("Not shown.",), "French": ("Absent.",)})
    engine = judge(no=0.9)
    outcome = run(engine, UNASKED, pack=replies)
    assert outcome.pairs[0]["answer"] == "Not shown." and not engine.of("answer")
    [likelihood] = outcome.scores["likelihood"]
    assert likelihood["reason"] == "does not apply to a reply of the prompt pack"


def test_a_negative_that_repeats_a_question_of_its_image_fails_and_not_the_other() -> None:
    outcome = run(judge(no=0.9), UNASKED, READING, question=Question("What now? (own)"))
    assert {row["type"]: row["reason"] for row in outcome.pairs} == {UNASKED: "repeated_question", READING: None}


def test_its_question_is_asked_as_one_of_the_partner_by_a_call_of_its_own() -> None:
    engine, context = judge(no=0.9), ConversationContext(prompt_pack.load("small"), SamplingConfig(), (), 7)
    wanted = [of_type(UNASKED, 0), of_type(UNASKED, 1)]
    asked = asyncio.run(ask_for_others(PARTNER, wanted, engine, context))
    assert [request.text for request in engine.requests] == ["Ask 1 about reading in English."] * 2
    assert {request.image_key for request in engine.requests} == {"partner"}
    assert all(each.question for each in asked) and len({request.seed for request in engine.requests}) == 2


def test_where_another_model_answers_the_first_pass_keeps_the_question_and_its_partner() -> None:
    context = ConversationContext(prompt_pack.load("small"), SamplingConfig(), (), 7)
    given = {f"{UNASKED} 0": AskedQuestion(of_type(UNASKED), Reply("raw"), WRITTEN)}
    engine = judge(no=0.9)
    outcome = asyncio.run(ask_ahead(SUBJECT, [of_type(UNASKED)], engine, context, given))
    assert not engine.requests
    assert (outcome.pairs[0]["question"], outcome.pairs[0]["partner"]) == (WRITTEN.text, "partner")


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a run in `whole`."""
    folder = write_definition_files(tmp_path_factory.mktemp("negatives"))
    make_images(folder / "photos", 40)
    with contextlib.chdir(folder):
        make("whole")
    return folder


def words(*more: str) -> list[str]:
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]


def make(out: str, *more: str) -> None:
    synth("run", "photos", "--out", out, "--pipeline", "small", *words(*more))


def negatives(found: Rows) -> Rows:
    return {key: row for key, row in found.items() if row["partner"]}


@pytest.fixture
def here(made: Path) -> Iterator[Path]:
    """Return the workspace as the working folder."""
    with contextlib.chdir(made):
        yield made


def test_every_negative_has_an_outcome_and_its_judgement_decides_which(here: Path) -> None:
    adds_up(here / "whole")
    found = negatives(rows(here / "whole", GENERATE, "pairs"))
    reasons = Counter(row["reason"] for row in found.values())
    assert reasons[None] > 2 and reasons["answerable"] > 2 and len(reasons) == 2
    values = {
        row["assignment_id"]: row["value"] for row in rows(here / "whole", GENERATE, "scores/unanswerable").values()
    }
    assert all(values[key] > 0.5 for key, row in found.items() if row["outcome"] == "pair")
    planned = negatives(rows(here / "whole", PLAN, "assignments"))
    assert {key: row["partner"] for key, row in found.items()} == {key: row["partner"] for key, row in planned.items()}


def test_a_killed_run_goes_on_to_the_same_negatives(here: Path) -> None:
    process = start("run", "photos", "--out", "killed", "--pipeline", "small", *words())
    kill_once(process, lambda: list((here / "killed" / "3-generated").rglob("*.parquet")))
    make("killed")
    adds_up(here / "killed")
    assert assignments(here / "killed") == assignments(here / "whole")
    assert pairs(here / "killed") == pairs(here / "whole")


def test_two_models_write_and_answer_them_in_two_passes(here: Path) -> None:
    make("two", "generate.ask={model: other}")
    assert funnel_of(here / "two", "generate").is_settled
    questions = negatives(rows(here / "two", ASK, "questions"))
    answered = negatives(rows(here / "two", GENERATE, "pairs"))
    assert questions.keys() == answered.keys() == negatives(rows(here / "whole", GENERATE, "pairs")).keys()
    assert all(row["ask_model"] == "other" for row in answered.values())
    written = {key: row["question"] for key, row in questions.items()}
    assert written == {key: row["question"] for key, row in answered.items()}


def test_a_purge_takes_out_the_questions_that_were_written_for_the_image(here: Path) -> None:
    shutil.copytree("whole", "purged")
    before = rows(here / "whole", GENERATE, "pairs")
    partner, count = Counter(row["partner"] for row in negatives(before).values()).most_common(1)[0]
    photo = next(path for path in Path("photos").iterdir() if image_id(path.read_bytes()) == partner)
    gone = [row for row in before.values() if partner in (row["image_id"], row["partner"])]
    shown = synth("purge", "purged", photo.name, "--dry-run").stdout
    made = sum(row["outcome"] == "pair" for row in gone)
    assert f"{len(gone)} questions, {made} pairs" in shown
    synth("purge", "purged", photo.name, "--yes")
    after = rows(here / "purged", GENERATE, "pairs")
    assert not any(partner in (row["image_id"], row["partner"]) for row in after.values()) and count
    adds_up(here / "purged")


def test_a_partner_that_is_gone_costs_its_negatives_alone(here: Path) -> None:
    shutil.copytree("photos", "fewer")
    synth("run", "fewer", "--out", "gone", "--pipeline", "small", *words(), "--until", "plan")
    planned = negatives(rows(here / "gone", PLAN, "assignments"))
    partner = Counter(row["partner"] for row in planned.values()).most_common(1)[0][0]
    photo = next(path for path in Path("fewer").iterdir() if image_id(path.read_bytes()) == partner)
    photo.write_bytes(b"other bytes")
    synth("run", "--out", "gone", "--from", "generate")
    found = rows(here / "gone", GENERATE, "pairs")
    failed = {key for key, row in found.items() if row["reason"] == "image_changed"}
    assert failed == {key for key, row in found.items() if partner in (row["partner"], row["image_id"])}
    assert funnel_of(here / "gone", "generate").is_settled and opened(here / "gone")


def test_negatives_that_nothing_verifies_are_refused_in_one_line(here: Path) -> None:
    gated = ("--set", "plan.negatives=0.1", "--set", "generate.gate={unanswerable: {min: 0.5}}")
    done = synth("check", "--pipeline", "small", *gated, check=False)
    assert done.returncode == 2 and "is set by generate.unanswerable: 0.7" in done.stderr
