"""Scores: the value of each on known replies, the row of each that fails, and the similarity of answers."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.config import pipeline, prompt_pack
from synthgen.config.pipeline import SamplingConfig
from synthgen.config.replies import Question
from synthgen.engines import EngineInfo, Reply, Request
from synthgen.job import resolve
from synthgen.stages.generate import scoring
from synthgen.stages.generate.scoring import ImageSession, Pair, decisive, normal, similarity
from tests.fixtures.workspace import ROOT

IMAGE = Image.new("RGB", (8, 8))


class Engine:
    """An engine that replies by a function of the request and keeps the requests."""

    facts = EngineInfo("m", "r", frozenset({"labels", "given", "schema"}), None, "hand-made")

    def __init__(self, reply: Callable[[Request], Reply]) -> None:
        self._reply = reply
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Reply:
        """Reply."""
        self.requests.append(request)
        return self._reply(request)

    async def close(self) -> None:
        """Do nothing."""


def measure(
    name: str,
    replies: Callable[[Request], Reply],
    answer: Reply,
    form: str = "short",
    options: Sequence[str] = (),
    pack: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Engine]:
    """Score a pair with this answer, and return the row and the engine that was asked."""
    engine, prompts = Engine(replies), prompt_pack.load("small")
    if pack:
        changed = prompts.pack.model_copy(update=dict(pack))
        prompts = prompt_pack.Prompts("small", changed, prompts.tree, prompts.types)
    sampling = SamplingConfig(agree_samples=3, agree_temperature=0.9, top_p=0.8)
    session = ImageSession(engine, prompts, sampling, 7, IMAGE, "key")
    question = Question("How many?", tuple(options))
    pair = Pair("pair", "assignment", prompts.types["coarse/counting"], form, "English", question, answer)
    row = asyncio.run(scoring.score(name, session, pair))
    assert set(row) <= {"pair_id", "assignment_id", "value", "reason", "detail", "output_tokens", "seconds"}
    assert (row["pair_id"], row["assignment_id"]) == ("pair", "assignment")
    assert (row["value"] is None) == (row["reason"] is not None)
    return row, engine


def say(text: str, **more: Any) -> Callable[[Request], Reply]:
    """Return a function that replies with this text to everything."""
    return lambda request: Reply(text, output_tokens=2, **more)


FAIL = Reply("", "error", "call_failed", "out of order")
pytestmark = pytest.mark.usefixtures("workspace")


# --- scores -----------------------------------------------------------------------------------------------------------


def test_likelihood_is_the_geometric_mean_of_the_tokens_and_costs_no_call() -> None:
    row, engine = measure("likelihood", say("unused"), Reply("two", logprobs=(math.log(0.5), math.log(0.125))))
    assert row["value"] == pytest.approx(0.25) and not engine.requests
    assert json.loads(row["detail"]) == {"tokens": 2, "worst": pytest.approx(0.125)}


def test_likelihood_of_an_impossible_token_is_zero() -> None:
    assert measure("likelihood", say(""), Reply("two", logprobs=(-0.1, -math.inf)))[0]["value"] == 0.0


@pytest.mark.parametrize("name", ["likelihood", "image_gain"])
def test_without_log_probabilities_there_is_no_value(name: str) -> None:
    row, _ = measure(name, say("x", logprobs=(-1.0,)), Reply("two"))
    assert row["value"] is None and row["reason"] == "the engine gave no log-probabilities"


@pytest.mark.parametrize("logprobs", [(), (-1.0,)])
def test_without_log_probabilities_of_the_blind_answer_there_is_no_image_gain(logprobs: tuple[float, ...]) -> None:
    row, _ = measure("image_gain", say("", logprobs=logprobs), Reply("two", logprobs=(-1.0, -0.5)))
    assert row["reason"] == "the engine gave no log-probabilities of the answer without the image"


def test_agreement_is_the_mean_similarity_to_new_samples() -> None:
    samples = iter(["two", "Two.", "three"])
    row, engine = measure("agreement", lambda request: Reply(next(samples), output_tokens=5), Reply("two"))
    assert row["value"] == pytest.approx(2 / 3) and row["output_tokens"] == 15
    assert json.loads(row["detail"])["samples"] == ["two", "Two.", "three"]
    calls = [(call.purpose, call.temperature, call.top_p, call.image) for call in engine.requests]
    assert calls == [("sample", 0.9, 0.8, IMAGE)] * 3
    assert len({call.seed for call in engine.requests}) == 3


def test_agreement_draws_the_same_seeds_each_time() -> None:
    engines = [measure("agreement", say("two"), Reply("two"))[1] for _ in range(2)]
    first, second = ([call.seed for call in engine.requests] for engine in engines)
    assert len(first) == 3 and first == second


def test_paraphrase_asks_the_same_in_other_words_with_the_same_options() -> None:
    def reply(request: Request) -> Reply:
        return Reply("What number is there?" if request.purpose == "paraphrase" else "B", output_tokens=3)

    row, engine = measure("paraphrase", reply, Reply("B."), "choice", ["one", "two", "three", "four"])
    assert row["value"] == 1.0 and row["output_tokens"] == 6
    assert engine.requests[1].text == "What number is there? one, two, three, four"
    assert json.loads(row["detail"]) == {"question": "What number is there?", "answer": "B"}


def test_image_gain_is_how_much_likelier_a_token_is_with_the_image() -> None:
    # The token that ends the reply comes last in both and must not count.
    blind, seeing = say("", logprobs=(-3.0, -1.0, -7.0)), Reply("two cats", logprobs=(-1.0, -0.5, -9.0))
    row, engine = measure("image_gain", blind, seeing)
    assert row["value"] == pytest.approx(-0.75 + 2.0)
    assert engine.requests[0].given == "two cats" and engine.requests[0].image is None


def test_blind_is_one_where_the_image_changes_the_answer() -> None:
    row, engine = measure("blind", say("five"), Reply("two"))
    assert row["value"] == 1.0 and json.loads(row["detail"]) == {"answer": "five"}
    assert engine.requests[0].image is None and engine.requests[0].system == "Be good."
    assert measure("blind", say("Two!"), Reply("two"))[0]["value"] == 0.0


def test_blind_shows_the_options_and_compares_letters() -> None:
    options = ["one", "two", "three", "four"]
    row, engine = measure("blind", say("(B)"), Reply("B. two"), "choice", options)
    assert row["value"] == 0.0 and "B. two" in engine.requests[0].text
    assert measure("blind", say("A"), Reply("B"), "choice", options)[0]["value"] == 1.0


@pytest.mark.parametrize("name", ["blind", "agreement", "paraphrase"])
@pytest.mark.parametrize("form", ["brief", "detailed"])
def test_explanations_are_compared_by_the_line_that_answers(name: str, form: str) -> None:
    explanation = "I see three dogs on the grass and one on the path.\nThat makes four.\n\n"
    answer = Reply(f"{explanation}4 dogs")
    prompts = prompt_pack.load("small").pack.answer
    pack = {"answer": {**prompts, "detailed": prompts["brief"]}}
    alike, _ = measure(name, say("Counting from left to right gives\n4 dogs"), answer, form, pack=pack)
    apart, _ = measure(name, say(f"{explanation}9 cats"), answer, form, pack=pack)
    assert (alike["value"], apart["value"]) == ((0.0, 1.0) if name == "blind" else (1.0, 0.0))


def test_a_judgement_is_the_expected_label_by_the_probabilities_of_the_labels() -> None:
    row, engine = measure("answer", say("3", labels={"1": 0.1, "2": 0.1, "3": 0.6, "4": 9.0}), Reply("two"))
    assert row["value"] == pytest.approx((0.1 + 0.2 + 1.8) / 0.8)
    assert json.loads(row["detail"])["mass"] == pytest.approx(0.8)
    assert engine.requests[0].labels == ("1", "2", "3") and engine.requests[0].text == "Rate How many? two"


def test_a_judge_that_replies_with_no_label_gives_no_value() -> None:
    row, _ = measure("question", say("well", labels={"1": 0.0, "2": 0.0, "3": 0.0}), Reply("two"))
    assert row["reason"] == "the judge said 'well', none of its labels"
    assert measure("question", say("well"), Reply("two"))[0]["reason"] == "the judge said 'well', none of its labels"


def test_a_judge_sees_the_options() -> None:
    _, engine = measure("question", say("3", labels={"3": 1.0}), Reply("B"), "choice", ["one", "two", "three", "four"])
    assert engine.requests[0].text == "Rate How many?\nA. one\nB. two\nC. three\nD. four"


@pytest.mark.parametrize("name", sorted(set(scoring.SCORERS) - {"likelihood"}))
def test_a_call_that_fails_costs_one_value_with_a_reason(name: str) -> None:
    row, _ = measure(name, lambda request: FAIL, Reply("two", logprobs=(-1.0,)))
    assert row["value"] is None and row["reason"] == "call_failed: out of order"


def paraphrase_then(answer: Reply) -> Callable[[Request], Reply]:
    """Return a function that replies with a paraphrase, and to its question with this answer."""
    return lambda request: Reply("Q?") if request.purpose == "paraphrase" else answer


def test_a_paraphrase_whose_answer_fails_costs_one_value() -> None:
    row, _ = measure("paraphrase", paraphrase_then(FAIL), Reply("two"))
    assert row["reason"] == "call_failed: out of order"
    assert "empty" in measure("paraphrase", say(""), Reply("two"))[0]["reason"]


@pytest.mark.parametrize(
    ("name", "finish", "reason"),
    [
        ("paraphrase", "length", "cut_off: "),
        ("blind", "length", "cut_off: "),
        ("agreement", "content_filter", "refused: "),
        ("paraphrase", "content_filter", "refused: "),
        ("blind", "content_filter", "refused: "),
    ],
)
def test_a_reply_that_is_cut_off_or_refused_costs_one_value_and_is_not_used(
    name: str, finish: str, reason: str
) -> None:
    row, engine = measure(name, say("two", finish=finish), Reply("two"))
    assert row["value"] is None and row["reason"].startswith(reason)
    assert name != "paraphrase" or len(engine.requests) == 1  # half a question is not answered


@pytest.mark.parametrize("text", ["The dog is to the left.</think>\n\ntwo", "<think>\nThe dog"])
@pytest.mark.parametrize("name", ["agreement", "paraphrase", "blind", "answer"])
def test_a_reply_with_thoughts_costs_one_value_and_names_the_setting_that_may_stop_them(name: str, text: str) -> None:
    row, _ = measure(name, say(text, finish="length", labels={"3": 1e-9}), Reply("two"))
    assert row["value"] is None and row["reason"].startswith("unparsable: ")
    assert "generate.engine.template can say {enable_thinking: false}" in row["reason"]


def test_a_sample_that_is_cut_off_agrees_as_far_as_it_goes() -> None:
    row, _ = measure("agreement", lambda request: Reply("two", "length"), Reply("two"))
    assert row["value"] == 1.0
    assert measure("agreement", lambda request: Reply("t", "length"), Reply("two"))[0]["value"] < 1.0


def test_a_paraphrase_whose_answer_is_cut_off_costs_one_value() -> None:
    row, _ = measure("paraphrase", paraphrase_then(Reply("tw", "length")), Reply("two"))
    assert row["reason"] == "cut_off: the answer to the paraphrase reached max_tokens"


def test_a_judgement_is_of_one_token_and_so_always_cut_off() -> None:
    assert measure("answer", say("3", labels={"3": 1.0}, finish="length"), Reply("two"))[0]["value"] == 3.0
    refused = measure("answer", say("3", labels={"3": 1.0}, finish="content_filter"), Reply("two"))[0]
    assert refused["value"] is None and refused["reason"] == "refused: a filter held back the judgement"


@pytest.mark.parametrize(
    ("name", "lacks"), [("paraphrase", "paraphrase"), ("blind", "blind"), ("question", "judge"), ("answer", "judge")]
)
def test_a_pack_without_the_prompt_gives_no_value(name: str, lacks: str) -> None:
    row, engine = measure(name, say("x"), Reply("two"), pack={lacks: {} if lacks == "judge" else None})
    assert "prompt pack 'small' has no" in row["reason"] and not engine.requests


def test_every_score_that_needs_an_ability_is_a_score() -> None:
    assert set(scoring.NEEDS) <= set(scoring.SCORERS) and set(scoring.OF_LOGPROBS) <= set(scoring.SCORERS)


@pytest.mark.parametrize("name", scoring.SCORERS)
def test_a_score_is_shaped_by_its_own_prompt_and_by_no_other(name: str) -> None:
    pack, sampling = prompt_pack.load("small").pack, SamplingConfig()
    before = scoring.shaping(name, pack, sampling)
    other = pack.model_copy(update={"about": "other", "ask": pack.ask.model_copy(update={"text": "other"})})
    assert scoring.shaping(name, other, SamplingConfig(ask_temperature=0.1)) == before
    own: dict[str, Any] = {
        "paraphrase": {"paraphrase": prompt_pack.PlainPrompt(text="other")},
        "blind": {"blind": prompt_pack.PlainPrompt(text="other")},
        "question": {"judge": {"question": prompt_pack.JudgePrompt(text="other", labels=("1", "2"))}},
        "answer": {"judge": {"answer": prompt_pack.JudgePrompt(text="other", labels=("1", "2"))}},
    }
    if name in own:
        assert scoring.shaping(name, pack.model_copy(update=own[name]), sampling) != before
    if name == "agreement":
        assert scoring.shaping(name, pack, SamplingConfig(agree_samples=9)) != before


# --- similarity -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["short", "brief", "detailed", "choice"]))
def test_similarity_is_symmetric_bounded_and_one_for_equal_texts(first: str, second: str, form: str) -> None:
    assert similarity(first, second, form) == similarity(second, first, form)
    assert 0.0 <= similarity(first, second, form) <= 1.0
    assert similarity(first, first, form) == 1.0


@given(st.text(max_size=40))
def test_a_normal_text_is_its_own_normal_text(text: str) -> None:
    assert normal(normal(text)) == normal(text)
    assert normal(f"  {text}\n") == normal(text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The cat.", "cat"),
        ("a red-haired man", "A red haired man!"),
        ("3.", "3"),
        ("1,234,567 people", "1234567 people"),
        ("\u22123 °C", "-3 C"),
        ("３匹", "3 匹"),
        ("Straße", "STRASSE"),
        ("“Café”", "cafe\u0301"),
        ("A", "a."),
    ],
)
def test_case_articles_punctuation_and_spelling_of_characters_do_not_count(first: str, second: str) -> None:
    assert similarity(first, second) == 1.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("-3", "3"),
        ("+3", "-3"),
        ("3.5", "35"),
        ("3.5", "3"),
        ("50%", "50"),
        ("10", "100"),
        ("1,23", "123"),
        ("A", "B"),
        ("A", ""),
        ("yes", "no"),
        ("कि", "की"),
        ("", "cat"),
    ],
)
def test_numbers_signs_and_letters_count(first: str, second: str) -> None:
    assert similarity(first, second) == 0.0


def test_answers_that_share_words_are_similar_in_part() -> None:
    assert similarity("red car", "blue car") == pytest.approx(0.5)
    assert similarity("a red car", "car") == pytest.approx(2 / 3)
    assert similarity("red red car", "red") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("first", "second", "least", "most"),
    [
        ("左边有一只黑猫", "左边有一只白猫", 0.8, 0.9),
        ("黒い猫", "黒い犬", 0.6, 0.7),
        ("แมวสีดำ", "แมวสีขาว", 0.5, 0.9),
        ("고양이 두 마리", "고양이 세 마리", 0.6, 0.7),
        ("猫", "犬", 0.0, 0.0),
    ],
)
def test_scripts_without_blanks_are_compared_by_their_characters(
    first: str, second: str, least: float, most: float
) -> None:
    assert least <= similarity(first, second) <= most
    assert similarity(first, f"{first}。") == 1.0


@pytest.mark.parametrize(
    ("reply", "form", "part"),
    [
        ("B", "choice", "B"),
        ("(b) blue", "choice", "(b) blue"),
        ("B) blue", "choice", "B"),
        ("**C.** A cat", "choice", "C"),
        ("B、红色", "choice", "B"),
        ("A、B", "choice", "A、B"),
        ("A cat", "choice", "A cat"),
        ("Because.\n\nTwo\n", "brief", "Two"),
        ("Because.\n**Two**", "detailed", "**Two**"),
        ("Because.\nTwo", "short", "Because.\nTwo"),
        ("One line", "detailed", "One line"),
        ("Things:\n- a cat\n- a dog", "detailed", "Things:\n- a cat\n- a dog"),
        ("1. first\n2. second", "detailed", "1. first\n2. second"),
        ("| a | b |\n| 1 | 2 |", "brief", "| a | b |\n| 1 | 2 |"),
        ("", "brief", ""),
    ],
)
def test_the_decisive_part_of_a_reply(reply: str, form: str, part: str) -> None:
    assert decisive(reply, form) == part


def test_the_shipped_packs_can_make_every_score_of_the_shipped_pipelines() -> None:
    paths = sorted((ROOT / "pipelines").glob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        document = pipeline.read(path.stem)
        assert resolve._unserved(document, prompt_pack.load(str(document.at(("generate", "prompts"))))) == []
