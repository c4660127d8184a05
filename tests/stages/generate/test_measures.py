"""Measures: the value of each score on known replies, and the row of each that has no value."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image

from synthgen.config import prompt_pack
from synthgen.config.pipeline import SamplingConfig
from synthgen.config.replies import Question
from synthgen.engines import EngineInfo, Reply, Request
from synthgen.stages.generate import measures, scoring
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.session import ImageSession

IMAGE = Image.new("RGB", (8, 8))


class Engine:
    """An engine that replies by a function of the request and records the requests."""

    facts = EngineInfo("m", "r", frozenset({"labels", "given", "schema"}), None, "hand-made")

    def __init__(self, reply: Callable[[Request], Reply]) -> None:
        self._reply = reply
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        return self._reply(request)

    async def close(self) -> None:
        """Do nothing."""


def scored(
    name: str,
    replies: Callable[[Request], Reply],
    answer: Reply,
    form: str = "short",
    options: Sequence[str] = (),
    **changes: Any,
) -> tuple[dict[str, Any], Engine]:
    """Measure a score of a pair; return its row, and the engine that was called."""
    engine, prompts = Engine(replies), prompt_pack.load("small")
    if "pack" in changes:
        prompts = prompt_pack.Prompts(
            "small", prompts.pack.model_copy(update=changes["pack"]), prompts.tree, prompts.types
        )
    session = ImageSession(
        engine, prompts, SamplingConfig(agree_samples=3, agree_temperature=0.9, top_p=0.8), 7, IMAGE, "key"
    )
    question = Question("How many?", tuple(options))
    pair = Pair("pair", "assignment", prompts.types["coarse/counting"], form, "English", question, answer)
    row = asyncio.run(scoring.score(name, session, pair))
    assert set(row) <= {"pair_id", "assignment_id", "value", "reason", "detail", "output_tokens", "seconds"}
    assert (row["pair_id"], row["assignment_id"]) == ("pair", "assignment")
    assert (row["value"] is None) == (row["reason"] is not None)
    return row, engine


def say(text: str, **more: Any) -> Callable[[Request], Reply]:
    return lambda request: Reply(text, output_tokens=2, **more)


FAIL = Reply("", "error", "call_failed", "out of order")
pytestmark = pytest.mark.usefixtures("workspace")


def test_likelihood_is_the_geometric_mean_of_the_tokens_and_costs_no_call() -> None:
    row, engine = scored("likelihood", say("unused"), Reply("two", logprobs=(math.log(0.5), math.log(0.125))))
    assert row["value"] == pytest.approx(0.25) and not engine.requests
    assert json.loads(row["detail"]) == {"tokens": 2, "worst": pytest.approx(0.125)}


def test_likelihood_of_an_impossible_token_is_0() -> None:
    assert scored("likelihood", say(""), Reply("two", logprobs=(-0.1, -math.inf)))[0]["value"] == 0.0


@pytest.mark.parametrize("name", ["likelihood", "image_gain"])
def test_without_log_probabilities_there_is_no_value(name: str) -> None:
    row, _ = scored(name, say("x", logprobs=(-1.0,)), Reply("two"))
    assert row["value"] is None and row["reason"] == "the engine gave no log-probabilities"


@pytest.mark.parametrize("logprobs", [(), (-1.0,)])
def test_without_log_probabilities_of_the_blind_answer_there_is_no_image_gain(logprobs: tuple[float, ...]) -> None:
    row, _ = scored("image_gain", say("", logprobs=logprobs), Reply("two", logprobs=(-1.0, -0.5)))
    assert row["reason"] == "the engine gave no log-probabilities of the answer without the image"


def test_agreement_is_the_mean_similarity_of_further_samples() -> None:
    samples = iter(["two", "Two.", "three"])
    row, engine = scored("agreement", lambda request: Reply(next(samples), output_tokens=5), Reply("two"))
    assert row["value"] == pytest.approx(2 / 3) and row["output_tokens"] == 15
    assert json.loads(row["detail"])["samples"] == ["two", "Two.", "three"]
    assert [(request.purpose, request.temperature, request.top_p, request.image) for request in engine.requests] == [
        ("sample", 0.9, 0.8, IMAGE)
    ] * 3
    assert len({request.seed for request in engine.requests}) == 3


def test_agreement_draws_the_same_seeds_each_time() -> None:
    seeds = [[request.seed for request in scored("agreement", say("two"), Reply("two"))[1].requests] for _ in range(2)]
    assert seeds[0] == seeds[1]


def test_paraphrase_answers_the_paraphrased_question_with_the_same_options() -> None:
    def reply(request: Request) -> Reply:
        return Reply("What number is there?" if request.purpose == "paraphrase" else "B", output_tokens=3)

    row, engine = scored("paraphrase", reply, Reply("B."), "choice", ["one", "two", "three", "four"])
    assert row["value"] == 1.0 and row["output_tokens"] == 6
    assert engine.requests[1].text == "What number is there? one, two, three, four"
    assert json.loads(row["detail"]) == {"question": "What number is there?", "answer": "B"}


def test_image_gain_is_the_mean_gain_of_a_token_from_the_image() -> None:
    # The token that ends the reply comes last in both and must not count.
    row, engine = scored(
        "image_gain", say("", logprobs=(-3.0, -1.0, -7.0)), Reply("two cats", logprobs=(-1.0, -0.5, -9.0))
    )
    assert row["value"] == pytest.approx(-0.75 + 2.0)
    assert engine.requests[0].given == "two cats" and engine.requests[0].image is None


def test_blind_is_1_where_the_image_changes_the_answer() -> None:
    row, engine = scored("blind", say("five"), Reply("two"))
    assert row["value"] == 1.0 and json.loads(row["detail"]) == {"answer": "five"}
    assert engine.requests[0].image is None and engine.requests[0].system == "Be good."
    assert scored("blind", say("Two!"), Reply("two"))[0]["value"] == 0.0


def test_blind_shows_the_options_and_compares_letters() -> None:
    options = ["one", "two", "three", "four"]
    row, engine = scored("blind", say("(B)"), Reply("B. two"), "choice", options)
    assert row["value"] == 0.0 and "B. two" in engine.requests[0].text
    assert scored("blind", say("A"), Reply("B"), "choice", options)[0]["value"] == 1.0


@pytest.mark.parametrize("name", ["blind", "agreement", "paraphrase"])
@pytest.mark.parametrize("form", ["brief", "detailed"])
def test_explanations_are_compared_by_the_line_with_the_answer(name: str, form: str) -> None:
    seen = Reply("I see three dogs on the grass and one on the path.\nThat makes four.\n\n4 dogs")
    alike = scored(name, say("Counting from left to right gives\n4 dogs"), seen, "brief")[0]["value"]
    apart = scored(
        name, say("I see three dogs on the grass and one on the path.\nThat makes four.\n\n9 cats"), seen, "brief"
    )[0]["value"]
    assert (alike, apart) == ((0.0, 1.0) if name == "blind" else (1.0, 0.0))


def test_a_grade_is_the_expected_label_over_the_probability_mass_of_the_labels() -> None:
    row, engine = scored("answer", say("3", labels={"1": 0.1, "2": 0.1, "3": 0.6, "4": 9.0}), Reply("two"))
    assert row["value"] == pytest.approx((0.1 + 0.2 + 1.8) / 0.8)
    assert json.loads(row["detail"])["mass"] == pytest.approx(0.8)
    assert engine.requests[0].labels == ("1", "2", "3") and engine.requests[0].text == "Rate How many? two"


@pytest.mark.parametrize(("mass", "is_graded"), [(0.49, False), (0.51, True)])
def test_labels_that_have_little_of_the_probability_give_no_value(mass: float, is_graded: bool) -> None:
    row, _ = scored("answer", say("well", labels={"1": 0.0, "2": mass, "3": 0.0}), Reply("two"))
    assert (row["value"] is not None) is is_graded
    assert json.loads(row["detail"])["mass"] == pytest.approx(mass)
    assert is_graded or row["reason"] == "its labels have 0.49 of the probability; the judge replied 'well'"


def test_a_judge_that_replies_with_no_label_gives_no_value() -> None:
    reason = "its labels have 0 of the probability; the judge replied 'well'"
    row, _ = scored("question", say("well", labels={"1": 0.0, "2": 0.0, "3": 0.0}), Reply("two"))
    assert row["reason"] == reason
    assert scored("question", say("well"), Reply("two"))[0]["reason"] == reason


def test_a_judge_sees_the_options() -> None:
    _, engine = scored("question", say("3", labels={"3": 1.0}), Reply("B"), "choice", ["one", "two", "three", "four"])
    assert engine.requests[0].text == "Rate How many?\nA. one\nB. two\nC. three\nD. four"


# The scores that call the engine.
CALLING = [name for name, scorer in measures.SCORERS.items() if scorer.prompts or scorer.needs or scorer.sampling]


@pytest.mark.parametrize("name", CALLING)
def test_a_call_that_fails_costs_one_value_with_its_reason(name: str) -> None:
    row, _ = scored(name, lambda request: FAIL, Reply("two", logprobs=(-1.0,)))
    assert row["value"] is None and row["reason"] == "call_failed: out of order"


def test_a_paraphrase_whose_answer_fails_costs_one_value() -> None:
    row, _ = scored(
        "paraphrase", lambda request: Reply("Q?") if request.purpose == "paraphrase" else FAIL, Reply("two")
    )
    assert row["reason"] == "call_failed: out of order"
    assert "empty" in scored("paraphrase", say(""), Reply("two"))[0]["reason"]


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
    row, engine = scored(name, say("two", finish=finish), Reply("two"))
    assert row["value"] is None and row["reason"].startswith(reason)
    assert name != "paraphrase" or len(engine.requests) == 1  # half a question is not answered


@pytest.mark.parametrize("text", ["The dog is to the left.</think>\n\ntwo", "<think>\nThe dog"])
@pytest.mark.parametrize("name", ["agreement", "paraphrase", "blind", "answer"])
def test_a_reply_with_the_models_thinking_costs_one_value_with_advice(name: str, text: str) -> None:
    row, _ = scored(name, say(text, finish="length", labels={"3": 1e-9}), Reply("two"))
    assert row["value"] is None and row["reason"].startswith("unparsable: ")
    assert "set engine.template to {enable_thinking: false}" in row["reason"]


def test_a_sample_that_is_cut_off_is_compared_as_it_stands() -> None:
    row, _ = scored("agreement", lambda request: Reply("two", "length"), Reply("two"))
    assert row["value"] == 1.0
    assert scored("agreement", lambda request: Reply("t", "length"), Reply("two"))[0]["value"] < 1.0


def test_a_paraphrase_whose_answer_is_cut_off_costs_one_value() -> None:
    row, _ = scored(
        "paraphrase",
        lambda request: Reply("Q?") if request.purpose == "paraphrase" else Reply("tw", "length"),
        Reply("two"),
    )
    assert row["reason"] == "cut_off: the answer to the paraphrase reached max_tokens"


def test_a_judgement_of_one_token_may_be_cut_off() -> None:
    assert scored("answer", say("3", labels={"3": 1.0}, finish="length"), Reply("two"))[0]["value"] == 3.0
    refused = scored("answer", say("3", labels={"3": 1.0}, finish="content_filter"), Reply("two"))[0]
    assert refused["value"] is None and refused["reason"] == "refused: a content filter withheld the judgement"


@pytest.mark.parametrize(
    ("name", "lacks"), [("paraphrase", "paraphrase"), ("blind", "blind"), ("question", "judge"), ("answer", "judge")]
)
def test_a_pack_without_the_prompt_gives_no_value(name: str, lacks: str) -> None:
    row, engine = scored(name, say("x"), Reply("two"), pack={lacks: {} if lacks == "judge" else None})
    assert "prompt pack 'small' has no" in row["reason"] and not engine.requests
