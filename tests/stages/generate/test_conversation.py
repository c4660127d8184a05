"""The conversation about one image: its calls and their order, and exactly one row for every assignment."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen import tables
from synthgen.config import prompt_pack
from synthgen.config.engine import EngineConfig, SamplingConfig
from synthgen.config.selection import Threshold
from synthgen.engines import EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.engines.endpoint import EndpointEngine
from synthgen.errors import Failure
from synthgen.stages.generate import measures
from synthgen.stages.generate.conversation import (
    Assignment,
    ConversationContext,
    Outcome,
    PreparedImage,
    converse,
    failed_rows,
    score_again,
)
from synthgen.tables import FAILURE_REASONS, PAIRS, SCORES, assignment_id, pair_id
from tests.fixtures.workspace import ROOT

IMAGE = Image.new("RGB", (8, 8))
SUBJECT = PreparedImage(IMAGE, "pixels", ("animal/cat",))
SCENE, COUNTING, READING = "coarse/scene", "coarse/counting", "fine/reading"
KINDS = [(SCENE, "short"), (SCENE, "brief"), (COUNTING, "short"), (COUNTING, "choice"), (READING, "short")]
GENERATE = ROOT / "synthgen" / "stages" / "generate"
pytestmark = pytest.mark.usefixtures("workspace")

Answering = Callable[[Request], Reply | Exception]


class Engine:
    """An engine that replies by a function of the request; records each request and how many calls were open then."""

    facts = EngineInfo("m", "r", frozenset({"labels", "given", "schema"}), None, "hand-made")

    def __init__(self, reply: Answering) -> None:
        self._reply = reply
        self.requests: list[Request] = []
        self.open_calls: list[int] = []
        self._open = 0

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        self.open_calls.append(self._open)
        self._open += 1
        try:
            await asyncio.sleep(0)
            reply = self._reply(request)
            if isinstance(reply, Exception):
                raise reply
            return reply
        finally:
            self._open -= 1

    async def close(self) -> None:
        """Do nothing."""

    def of(self, *purposes: str) -> list[Request]:
        return [request for request in self.requests if request.purpose in purposes]


def good(request: Request) -> Reply:
    """Reply as a good model does: as many different questions as asked for, and an answer to each."""
    if request.purpose == "ask":
        return Reply(questions(request), prompt_tokens=101, cached_tokens=11, output_tokens=10, seconds=1.0)
    labels = {label: 1.0 / len(request.labels) for label in request.labels}
    return Reply(
        "two", logprobs=(-0.5,), labels=labels, prompt_tokens=20, cached_tokens=15, output_tokens=2, seconds=0.5
    )


def questions(request: Request, count: int | None = None) -> str:
    assert request.schema is not None
    listing = request.schema["properties"]["questions"]
    texts = [f"{request.text} ({number})" for number in range(listing["maxItems"] if count is None else count)]
    items = (
        [{"question": text, "options": ["a", "b", "c", "d"]} for text in texts]
        if listing["items"]["type"] == "object"
        else texts
    )
    return json.dumps({"questions": items})


def assignments(
    kinds: Sequence[tuple[str, str]], language: str = "English", recipe: str = "recipe", attempt: int = 0
) -> list[Assignment]:
    """Return an assignment for each kind; equal ones get consecutive ordinals."""
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for kind, form in kinds:
        number = seen[kind, form]
        seen[kind, form] += 1
        made.append(
            Assignment(
                assignment_id("image", kind, form, language, number),
                "image",
                "object",
                kind,
                form,
                language,
                number,
                recipe,
                attempt,
            )
        )
    return made


def run(
    engine: Engine,
    wanted: Sequence[Assignment],
    scores: tuple[str, ...] = (),
    gate: Mapping[str, Threshold] | None = None,
    **sampling: Any,
) -> Outcome:
    context = ConversationContext(prompt_pack.load("small"), SamplingConfig(**sampling), scores, 7, gate or {})
    outcome = asyncio.run(converse(SUBJECT, wanted, engine, context))
    tables.table(({**row, "model": "m", "revision": "r"} for row in outcome.pairs), PAIRS)
    for table in outcome.scores.values():
        tables.table(table, SCORES)
    return outcome


def reasons(outcome: Outcome) -> dict[str, str | None]:
    return {f"{row['type']} {row['form']} {row['ordinal']}": row["reason"] for row in outcome.pairs}


# --- calls -----------------------------------------------------------------------------------------------------------


def test_every_call_has_the_image_except_those_that_must_not_see_it() -> None:
    engine = Engine(lambda request: Reply("two", logprobs=(-1.0,)) if request.purpose != "ask" else good(request))
    run(engine, assignments(KINDS), tuple(measures.SCORERS))
    blind = [request for request in engine.requests if request.image is None]
    assert {request.purpose for request in blind} == {"given", "answer"}
    assert sum(request.purpose == "given" for request in blind) == len(KINDS)
    assert all(request.given or request.text.endswith("Blind.") for request in blind)
    seeing = [request for request in engine.requests if request.image is not None]
    assert all(request.image is IMAGE and request.image_key == "pixels" for request in seeing)
    assert {request.system for request in engine.requests} == {"Be good."}


def test_the_first_asking_call_is_alone_and_the_others_run_together() -> None:
    engine = Engine(good)
    run(engine, assignments(KINDS))
    assert [request.purpose for request in engine.requests[:4]] == ["ask"] * 4
    assert engine.open_calls[:4] == [0, 0, 1, 2]


def test_no_answer_is_requested_before_all_questions_are_known() -> None:
    engine = Engine(good)
    run(engine, assignments(KINDS))
    purposes = [request.purpose for request in engine.requests]
    assert purposes == ["ask"] * purposes.count("ask") + ["answer"] * len(KINDS)


def test_questions_of_one_type_and_language_are_asked_for_in_one_call() -> None:
    engine = Engine(good)
    wanted = [*assignments([*KINDS, (SCENE, "short")]), *assignments([(SCENE, "short")], "French")]
    assert all(row["outcome"] == "pair" for row in run(engine, wanted).pairs)
    assert sorted(request.text for request in engine.of("ask")) == [
        "Ask 1 about counting in English.",
        "Ask 1 about reading in English.",
        "Ask 1 about scene in French.",
        "Ask 1 choice about counting in English.",
        "Ask 3 about scene in English.",
    ]


def test_a_prompt_for_one_question_is_sent_once_per_assignment(workspace: Path) -> None:
    pack = workspace / "prompts/small.yaml"
    pack.write_text(pack.read_text().replace("Ask {{ n }} choice about", "Ask a choice about"))
    numbers = iter(range(9))
    engine = Engine(
        lambda request: (
            Reply(questions(request).replace("(0)", f"({next(numbers)})"))
            if request.purpose == "ask"
            else good(request)
        )
    )
    context = ConversationContext(prompt_pack.load("small"), SamplingConfig(), (), 7)
    outcome = asyncio.run(converse(SUBJECT, assignments([(COUNTING, "choice")] * 3), engine, context))
    assert [row["outcome"] for row in outcome.pairs] == ["pair"] * 3
    assert len(engine.of("ask")) == 3 and len({request.seed for request in engine.of("ask")}) == 3


def test_sampling_settings_reach_their_calls() -> None:
    engine = Engine(good)
    run(
        engine,
        assignments(KINDS),
        ("agreement", "answer"),
        ask_temperature=0.3,
        answer_temperature=0.1,
        agree_temperature=0.9,
        top_p=0.8,
    )
    warmth = {
        purpose: {request.temperature for request in engine.of(purpose)}
        for purpose in ("ask", "answer", "sample", "judge")
    }
    assert warmth == {"ask": {0.3}, "answer": {0.1}, "sample": {0.9}, "judge": {0.0}}
    assert {request.top_p for request in engine.of("ask", "answer", "sample")} == {0.8}
    assert {request.max_tokens for request in engine.of("answer")} == {20, 50, 4}


def test_seeds_are_a_function_of_the_ids_and_the_attempt() -> None:
    def seeds(wanted: Sequence[Assignment]) -> list[int]:
        engine = Engine(good)
        run(engine, wanted)
        return sorted(request.seed for request in engine.requests if request.seed is not None)

    first = seeds(assignments(KINDS))
    assert first == seeds(assignments(KINDS)) == seeds(list(reversed(assignments(KINDS))))
    assert not set(first) & set(seeds(assignments(KINDS, attempt=1)))
    assert not set(first) & set(seeds(assignments(KINDS, recipe="other")))
    assert all(0 <= seed < 2**31 for seed in first)


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_a_good_conversation_gives_a_pair_for_every_assignment() -> None:
    outcome = run(Engine(good), assignments(KINDS), ("likelihood", "answer"))
    assert len(outcome.pairs) == len(KINDS) and all(row["outcome"] == "pair" for row in outcome.pairs)
    for row in outcome.pairs:
        assert row["pair_id"] == pair_id(row["assignment_id"], "recipe", 0)
        assert row["answer"] == row["raw_answer"] == "two" and row["question"] in row["raw_question"]
        assert row["options"] == (["a", "b", "c", "d"] if row["form"] == "choice" else None)
    for name in ("likelihood", "answer"):
        assert {row["pair_id"] for row in outcome.scores[name]} == {row["pair_id"] for row in outcome.pairs}


def ask_with(text: str, **more: Any) -> Answering:
    return lambda request: Reply(text, **more) if request.purpose == "ask" else good(request)


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        (ask_with('{"questions": []}'), "declined", None),
        (ask_with("{ junk"), "unparsable", "not JSON"),
        (ask_with('{"questions": ["Wh', finish="length"), "cut_off", "max_tokens"),
        (ask_with("", finish="content_filter"), "refused", None),
        (ask_with('<think>\nA desk.\n</think>\n{"questions": ["Q?"]}'), "unparsable", "engine.template"),
        (ask_with("", failure="call_failed", detail="HTTP 500"), "call_failed", "HTTP 500"),
        (ask_with("", failure="call_timeout", detail="no reply"), "call_timeout", "no reply"),
    ],
)
def test_an_asking_call_without_a_question_is_recorded_with_its_reason_and_raw_reply(
    reply: Answering, reason: str, detail: str | None
) -> None:
    engine = Engine(reply)
    (row,) = run(engine, assignments([(READING, "short")]), ("likelihood",)).pairs
    assert (row["outcome"], row["reason"], row["pair_id"], row["answer"]) == ("failed", reason, None, None)
    assert row["raw_question"] == reply(engine.requests[0]).text  # type: ignore[union-attr]
    assert detail is None or detail in row["detail"]
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        (Reply(""), "empty_answer", None),
        (Reply(" \n"), "empty_answer", None),
        (Reply("It is a long", "length"), "cut_off", "max_tokens"),
        (Reply("I can't help", "content_filter"), "refused", None),
        (Reply("There are two, one on the left.</think>\n\ntwo"), "unparsable", "engine.template"),
        (Reply("<think>\nLet me count", "length"), "unparsable", "engine.template"),
        (Reply("", "error", "call_failed", "HTTP 500"), "call_failed", "HTTP 500"),
        (Reply("half", "error", "call_timeout", "no reply"), "call_timeout", "no reply"),
    ],
)
def test_an_unusable_answer_is_recorded_with_its_question(reply: Reply, reason: str, detail: str | None) -> None:
    outcome = run(
        Engine(lambda request: good(request) if request.purpose == "ask" else reply),
        assignments([(READING, "short")]),
        ("likelihood",),
    )
    (row,) = outcome.pairs
    assert (row["outcome"], row["reason"], row["pair_id"], row["answer"]) == ("failed", reason, None, None)
    assert row["question"] and row["raw_answer"] == reply.text
    assert detail is None or detail in row["detail"]
    assert outcome.scores == {"likelihood": []}


def test_assignments_beyond_the_returned_questions_fail() -> None:
    engine = Engine(lambda request: Reply(questions(request, 1)) if request.purpose == "ask" else good(request))
    outcome = run(engine, assignments([(SCENE, "short"), (SCENE, "brief"), (SCENE, "short")]))
    assert reasons(outcome) == {
        "coarse/scene brief 0": None,
        "coarse/scene short 0": "too_few_questions",
        "coarse/scene short 1": "too_few_questions",
    }


def test_questions_beyond_the_assignments_are_ignored() -> None:
    engine = Engine(lambda request: Reply(questions(request, 9)) if request.purpose == "ask" else good(request))
    assert [row["outcome"] for row in run(engine, assignments([(READING, "short")])).pairs] == ["pair"]


def test_the_first_of_equal_questions_in_a_fixed_order_counts() -> None:
    def reply(request: Request) -> Reply:
        texts = ["What is it?", "what is IT"] if "scene" in request.text else ["What is it ?"]
        return Reply(json.dumps({"questions": texts})) if request.purpose == "ask" else good(request)

    wanted = assignments([(READING, "short"), (SCENE, "short"), (SCENE, "brief")])
    for order in (wanted, wanted[::-1]):
        outcome = run(Engine(reply), order)
        assert reasons(outcome) == {
            "coarse/scene brief 0": None,
            "coarse/scene short 0": "repeated_question",
            "fine/reading short 0": "repeated_question",
        }
        first = next(row for row in outcome.pairs if row["outcome"] == "pair")
        assert all(
            row["detail"] == f"asked by assignment {first['assignment_id']}" for row in outcome.pairs if row["reason"]
        )


def test_the_tokens_of_an_asking_call_are_shared_without_loss() -> None:
    engine = Engine(good)
    outcome = run(engine, assignments([(SCENE, "short"), (SCENE, "brief"), (SCENE, "short")]))
    for name, of_ask, of_answer in (("prompt_tokens", 101, 20), ("cached_tokens", 11, 15), ("output_tokens", 10, 2)):
        parts = [row[name] - of_answer for row in outcome.pairs]
        assert sum(parts) == of_ask and max(parts) - min(parts) <= 1
    assert sum(row["seconds"] for row in outcome.pairs) == pytest.approx(1.0 + 3 * 0.5)


@pytest.mark.parametrize("purpose", ["ask", "answer", "sample", "judge"])
def test_the_death_of_the_engine_is_not_a_row(purpose: str) -> None:
    engine = Engine(lambda request: EngineDied("gone") if request.purpose == purpose else good(request))
    with pytest.raises(EngineDied):
        run(engine, assignments(KINDS), ("agreement", "answer"))


def test_no_assignment_makes_no_call() -> None:
    engine = Engine(good)
    outcome = run(engine, [], ("likelihood",))
    assert outcome.pairs == [] and outcome.scores == {"likelihood": []} and not engine.requests


# --- any model -------------------------------------------------------------------------------------------------------

CHOICE = '{"questions": [{"question": "Q?", "options": ["a", "b", "c", "d"]}]}'
SEVERAL = '{"questions": ["Q?", "q", "R?", "S?", "T?"]}'
BROKEN = ('{"questions": [5]}', '{"questions": ["\\ud800"]}', "[" * 2000, "{ junk", "", "none")
ASKED = st.sampled_from(['{"questions": []}', '{"questions": ["Q?"]}', SEVERAL, CHOICE, *BROKEN]) | st.text(max_size=20)
REPLIES = st.builds(
    Reply,
    ASKED,
    st.sampled_from(["stop", "stop", "stop", "length", "content_filter"]),
    st.sampled_from([None, None, None, None, "call_failed", "call_timeout"]),
    st.sampled_from([None, "why"]),
    st.sampled_from([(), (-0.5,), (-1.0, -2.0)]),
    st.sampled_from([{}, {"1": 0.5}, {"1": 0.0, "3": 0.25}]),
    *[st.integers(0, 100)] * 3,
)


@given(st.lists(REPLIES, min_size=1, max_size=12), st.lists(st.sampled_from(KINDS), max_size=7))
def test_any_reply_gives_one_row_per_assignment_and_scores_for_pairs_alone(
    replies: list[Reply], kinds: list[tuple[str, str]]
) -> None:
    engine = Engine(lambda request: replies[len(engine.requests) % len(replies)])
    wanted = assignments(kinds)
    outcome = run(engine, wanted, tuple(measures.SCORERS), agree_samples=2)
    assert Counter(row["assignment_id"] for row in outcome.pairs) == Counter(
        assignment.assignment_id for assignment in wanted
    )
    pairs = {row["pair_id"] for row in outcome.pairs if row["outcome"] == "pair"}
    for row in outcome.pairs:
        assert (
            (row["outcome"] == "pair")
            == (row["reason"] is None)
            == (row["pair_id"] is not None)
            == (row["answer"] is not None)
        )
        assert row["reason"] is None or row["reason"] in FAILURE_REASONS
        assert row["outcome"] == "failed" or (row["question"].strip() and row["answer"].strip())
    assert set(outcome.scores) == set(measures.SCORERS)
    for table in outcome.scores.values():
        assert Counter(row["pair_id"] for row in table) == Counter(pairs)
        assert all((row["value"] is None) == (row["reason"] is not None) for row in table)


# --- rows without a conversation --------------------------------------------------------------------------------------


def test_an_image_that_never_reached_the_engine_fails_each_of_its_assignments() -> None:
    rows = failed_rows(assignments(KINDS), Failure("image_changed", "other bytes"))
    assert {(row["outcome"], row["reason"], row["detail"], row["pair_id"]) for row in rows} == {
        ("failed", "image_changed", "other bytes", None)
    }
    assert len({row["assignment_id"] for row in rows}) == len(KINDS)
    assert isinstance(tables.table(rows, PAIRS), pa.Table)


def test_a_score_added_later_is_measured_without_asking_or_answering_again() -> None:
    first = run(Engine(good), assignments(KINDS), ("answer",))
    engine = Engine(lambda request: Reply("", logprobs=(-0.5,)) if request.given else good(request))
    context = ConversationContext(prompt_pack.load("small"), SamplingConfig(), ("answer", "likelihood"), 7)
    outcome = asyncio.run(score_again(SUBJECT, [(row, ["likelihood"]) for row in first.pairs], engine, context))
    assert outcome.pairs == [] and set(outcome.scores) == {"likelihood"}
    assert {row["pair_id"] for row in outcome.scores["likelihood"]} == {row["pair_id"] for row in first.pairs}
    assert all(row["value"] is not None for row in outcome.scores["likelihood"])
    assert {request.purpose for request in engine.requests} == {"given"} and all(
        request.image is IMAGE for request in engine.requests
    )


@pytest.mark.parametrize("name", [name for name, scorer in measures.SCORERS.items() if scorer.from_logprobs])
def test_a_score_added_later_that_the_engine_cannot_give_has_a_reason(name: str) -> None:
    first = run(Engine(good), assignments(KINDS))
    url = "http://127.0.0.1:1/v1"  # nothing is sent there
    engine = EndpointEngine([], ModelName("m", "unverified"), EngineConfig(kind="endpoint", urls=(url,)), "openai")
    context = ConversationContext(prompt_pack.load("small"), SamplingConfig(), (name,), 7)
    outcome = asyncio.run(score_again(SUBJECT, [(row, [name]) for row in first.pairs], engine, context))
    why = "the engine cannot score a given text; pairs have this score only if it is made with them"
    assert {(row["value"], row["reason"]) for row in outcome.scores[name]} == {(None, why)}


def test_a_score_added_later_whose_call_fails_has_a_reason() -> None:
    first = run(Engine(good), assignments(KINDS))
    engine = Engine(lambda request: Reply("", "error", "call_failed", "HTTP 500"))
    outcome = asyncio.run(
        score_again(
            SUBJECT,
            [(row, ["likelihood"]) for row in first.pairs],
            engine,
            ConversationContext(prompt_pack.load("small"), SamplingConfig(), (), 7),
        )
    )
    assert {(row["value"], row["reason"]) for row in outcome.scores["likelihood"]} == {(None, "call_failed: HTTP 500")}


# --- the gate --------------------------------------------------------------------------------------------------------


def gated(
    is_good: Callable[[str], bool], gate: Mapping[str, Threshold], scores: tuple[str, ...]
) -> tuple[Outcome, Engine]:
    """Run a conversation whose judge says yes to some prompts."""

    def reply(request: Request) -> Reply:
        if request.purpose != "judge":
            return good(request)
        labels = {"no": 0.1, "yes": 0.9} if is_good(request.text) else {"no": 0.9, "yes": 0.1}
        return Reply("x", labels=labels, prompt_tokens=10, output_tokens=1)

    engine = Engine(reply)
    return run(engine, assignments(KINDS), scores, gate), engine


CHECKS = {"question_checks": Threshold(min=0.3)}


def test_a_question_that_fails_the_gate_is_not_answered_and_its_row_has_value_limit_and_cost() -> None:
    outcome, engine = gated(lambda text: "(0)" not in text, CHECKS, ("question_checks", "likelihood"))
    held = [row for row in outcome.pairs if row["reason"] == "gated"]
    assert held and {row["detail"] for row in held} == {"question_checks 0.1 is below 0.3"}
    assert all(row["answer"] is None and row["pair_id"] is None and "(0)" in row["question"] for row in held)
    assert all(row["prompt_tokens"] >= 40 for row in held)  # of four judgements
    answered = [request for request in engine.requests if request.purpose == "answer"]
    assert len(answered) == len(outcome.pairs) - len(held)
    made = {row["pair_id"] for row in outcome.pairs if row["outcome"] == "pair"}
    assert {row["pair_id"] for row in outcome.scores["question_checks"]} == made


def test_the_score_of_a_gate_is_measured_once() -> None:
    outcome, engine = gated(lambda text: True, CHECKS, ("question_checks",))
    assert all(row["outcome"] == "pair" for row in outcome.pairs)
    assert sum(request.purpose == "judge" for request in engine.requests) == 4 * len(outcome.pairs)


def test_a_gate_holds_for_its_forms_and_lets_pass_what_cannot_be_measured() -> None:
    short = {"question_checks": Threshold(min=0.3, forms=("short",))}
    outcome, _ = gated(lambda text: False, short, ("question_checks",))
    assert {row["form"] for row in outcome.pairs if row["reason"] == "gated"} == {"short"}
    engine = Engine(
        lambda request: Reply("", "error", "call_failed", "HTTP 500") if request.purpose == "judge" else good(request)
    )
    outcome = run(engine, assignments(KINDS), ("question_checks",), CHECKS)
    assert all(row["outcome"] == "pair" for row in outcome.pairs)
    assert all(row["reason"].startswith("call_failed") for row in outcome.scores["question_checks"])


def test_the_reasons_of_failures_are_on_the_closed_list() -> None:
    files = [GENERATE / name for name in ("answering.py", "asking.py", "conversation.py", "session.py")]
    files += (ROOT / "synthgen/config/replies").glob("*.py")
    source = "".join(file.read_text() for file in files)
    named = {reason for reason in FAILURE_REASONS if f'"{reason}"' in source}
    assert {
        "declined",
        "too_few_questions",
        "unparsable",
        "repeated_question",
        "cut_off",
        "empty_answer",
        "gated",
        "refused",
    } <= named


@pytest.mark.parametrize(
    ("reply", "form", "answer"),
    [
        ("<answer>A car.</answer>", "short", "A car."),
        ("A car.<|im_end|>", "short", "A car."),
        ("<answer>B</answer>", "choice", "B"),
        ("The code has <think> and </think> tags.", "short", "The code has <think> and </think> tags."),
    ],
)
def test_an_answer_is_told_apart_from_its_markup_and_recorded_whole(reply: str, form: str, answer: str) -> None:
    engine = Engine(lambda request: good(request) if request.purpose == "ask" else Reply(reply))
    (row,) = run(engine, assignments([(COUNTING if form == "choice" else READING, form)])).pairs
    assert (row["outcome"], row["answer"], row["raw_answer"]) == ("pair", answer, reply)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [("B. a red", "B"), ("Let me compare. Option A shows a dog", None), ("C: the red car is wrong because", None)],
)
def test_a_choice_that_was_cut_off_counts_if_its_letter_is_sure(reply: str, answer: str | None) -> None:
    engine = Engine(lambda request: good(request) if request.purpose == "ask" else Reply(reply, "length"))
    (row,) = run(engine, assignments([(COUNTING, "choice")])).pairs
    assert (row["answer"], row["reason"]) == (answer, None if answer else "cut_off")
