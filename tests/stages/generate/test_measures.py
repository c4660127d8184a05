"""Measures: the value of each score on known replies, and the row of each that has no value."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from synthgen.config import prompt_pack
from synthgen.config.engine import SamplingConfig
from synthgen.config.prompt_file import AnswerPrompt
from synthgen.config.replies import Question
from synthgen.engines import EngineInfo, Reply, Request
from synthgen.stages.generate import measures, scoring
from synthgen.stages.generate.measures import Pair
from synthgen.stages.generate.measures.judges import MOST_SENTENCES, sentences
from synthgen.stages.generate.measures.scorer import prompt_for
from synthgen.stages.generate.session import Earlier, ImageSession
from synthgen.tables import ANSWER_FORMS, NOT_APPLICABLE, SCORES

IMAGE = Image.new("RGB", (8, 8))
UNASKED = "unanswerable/fine/reading"  # the type of negatives


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
    worked = AnswerPrompt(text="{{ question }} Explain.", max_tokens=64)
    pack = prompts.pack.model_copy(
        update={"answer": {**prompts.pack.answer, "detailed": worked}, **changes.get("pack", {})}
    )
    prompts = replace(prompts, pack=pack)
    forms = changes.get("agree_forms", ANSWER_FORMS)
    sampling = SamplingConfig(agree_samples=3, agree_forms=forms, agree_temperature=0.9, top_p=0.8)
    session = ImageSession(engine, prompts, sampling, 7, IMAGE, "key")
    question = Question("How many?", tuple(options), evidence=changes.get("evidence", ""))
    kind = prompts.type_of(changes.get("type", UNASKED if name == "unanswerable" else "coarse/counting"))
    pair = Pair("pair", "assignment", kind, form, "English", question, answer, others=changes.get("others", ()))
    row = asyncio.run(scoring.score(name, session, pair))
    assert list(row) == SCORES.names and row["calls"] == len(engine.requests)
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
    assert json.loads(row["detail"]) == {
        "tokens": 2,
        "worst": pytest.approx(0.125),
        "loss": pytest.approx(-math.log(0.25)),
    }


def test_likelihood_of_an_impossible_token_is_0() -> None:
    row, _ = scored("likelihood", say(""), Reply("two", logprobs=(-0.1, -math.inf)))
    assert row["value"] == 0.0 and json.loads(row["detail"])["loss"] is None


def test_without_log_probabilities_there_is_no_likelihood() -> None:
    row, _ = scored("likelihood", say("x", logprobs=(-1.0,)), Reply("two"))
    assert row["value"] is None and row["reason"] == "the engine gave no log-probabilities"


@pytest.mark.parametrize("logprobs", [(), (-1.0,)])
def test_without_log_probabilities_of_the_answer_there_is_no_image_gain(logprobs: tuple[float, ...]) -> None:
    row, _ = scored("image_gain", say("", logprobs=logprobs), Reply("two", logprobs=(-1.0, -0.5)))
    assert row["reason"] == "the engine gave no log-probabilities of the answer with and without the image"


def test_the_weakest_token_of_an_answer_is_the_least_likely_one_and_costs_no_call() -> None:
    answer = Reply("two cats", logprobs=(math.log(0.9), math.log(0.2), math.log(0.8)))
    row, engine = scored("weakest_token", say("unused"), answer)
    assert row["value"] == pytest.approx(0.2) and not engine.requests
    missing, _ = scored("weakest_token", say("unused"), Reply("two"))
    assert missing["reason"] == "the engine gave no log-probabilities"


@pytest.mark.parametrize("name", ["agreement", "consistency"])
def test_answers_in_a_form_that_is_not_sampled_again_have_no_value_and_cost_no_call(name: str) -> None:
    row, engine = scored(name, say("two"), Reply("Two."), "brief", agree_forms=("short",))
    assert row["reason"] == f"{NOT_APPLICABLE} to the form 'brief'" and not engine.requests
    sampled, _ = scored(name, say("two"), Reply("two"), "short", agree_forms=("short",))
    assert sampled["value"] == 1.0


def test_a_question_fits_where_the_image_shows_what_its_type_needs_and_its_writer_rests_on() -> None:
    row, engine = scored("fits", say("yes", labels={"no": 0.2, "yes": 0.6}), Reply(""), evidence="two cats")
    assert row["value"] == pytest.approx(0.75) and engine.requests[0].text.endswith("? two cats")
    ready, engine = scored("fits", say("yes", labels={"yes": 1.0}), Reply(""))
    assert ready["value"] == 1.0 and engine.requests[0].text == "things?"


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


def test_image_gain_is_the_mean_gain_of_a_token_from_the_image_under_one_neutral_prompt() -> None:
    # The token that ends the reply comes last in both and must not count.
    def reply(request: Request) -> Reply:
        return Reply("", logprobs=(-1.0, -0.5, -9.0) if request.image else (-3.0, -1.0, -7.0))

    row, engine = scored("image_gain", reply, Reply("two cats"))
    assert row["value"] == pytest.approx(-0.75 + 2.0)
    seen, unseen = engine.requests
    assert seen.image is IMAGE and unseen.image is None and unseen.image_key is None
    assert (seen.text, seen.system, seen.given) == (unseen.text, unseen.system, unseen.given)
    assert seen.text == "How many?" and seen.given == "two cats"  # as a training sample asks, and nothing else


def test_blind_is_1_where_the_image_changes_the_answer() -> None:
    row, engine = scored("blind", say("five"), Reply("two"))
    assert row["value"] == 1.0 and json.loads(row["detail"]) == {"answer": "five"}
    assert engine.requests[0].image is None and engine.requests[0].system == "Be good."
    assert scored("blind", say("Two!"), Reply("two"))[0]["value"] == 0.0


def test_words_that_differ_in_one_are_other_answers_to_blind() -> None:
    assert scored("blind", say("to the left of the bed"), Reply("to the right of the bed"))[0]["value"] == 1.0


def test_blind_guesses_a_choice_in_several_orders_of_its_options() -> None:
    options = ["one", "two", "three", "four"]
    row, engine = scored("blind", say("(B)"), Reply("B. two"), "choice", options)
    assert "A. one\nB. two" in engine.requests[0].text and len(engine.requests) == 4
    assert row["value"] == 0.75  # always B, which is another option each time

    def knows(request: Request) -> Reply:
        return Reply(next(letter for letter in "ABCD" if f"{letter}. two" in request.text))

    assert scored("blind", knows, Reply("B"), "choice", options)[0]["value"] == 0.0


@pytest.mark.parametrize("letter", ["C", "E", "H"])
def test_a_letter_beyond_the_options_is_none_of_them(letter: str) -> None:
    reply = f"{letter}. It cannot be determined."
    for name in ("blind", "shift_check"):
        value = scored(name, say(reply), Reply("B"), "choice", ["one", "two"])[0]["value"]
        assert value == {"blind": 1.0, "shift_check": 0.5}[name]
        assert "not the letter" in scored(name, say("B"), Reply(reply), "choice", ["one", "two"])[0]["reason"]
    assert scored("other_form", say(reply), Reply("B"), "choice", ["one", "two"])[0]["value"] == 0.0
    assert scored("other_form", say("B"), Reply(reply), "choice", ["one", "two"])[0]["value"] == 0.0


def test_blind_lets_a_judge_compare_sentences_and_words_where_the_pack_has_none() -> None:
    def judged(request: Request) -> Reply:
        if request.purpose == "judge":
            return Reply("no", labels={"no": 0.9, "yes": 0.1})
        return Reply("It is probably sunny.")

    row, engine = scored("blind", judged, Reply("It is raining."), "brief")
    assert row["value"] == pytest.approx(0.9) and json.loads(row["detail"])["by"] == "judge"
    assert engine.requests[1].text == "Same? It is raining. | It is probably sunny."
    row, _ = scored("blind", judged, Reply("It is raining."), "brief", pack={"judge": {}})
    assert 0.0 < row["value"] < 1.0 and json.loads(row["detail"])["by"] == "words"


@pytest.mark.parametrize("name", ["agreement", "paraphrase"])
@pytest.mark.parametrize("form", ["brief", "detailed"])
def test_explanations_are_compared_by_the_line_with_the_answer(name: str, form: str) -> None:
    seen = Reply("I see three dogs on the grass and one on the path.\nThat makes four.\n\n4 dogs")
    alike = scored(name, say("Counting from left to right gives\n4 dogs"), seen, form)[0]["value"]
    apart = scored(
        name, say("I see three dogs on the grass and one on the path.\nThat makes four.\n\n9 cats"), seen, form
    )[0]["value"]
    assert (alike, apart) == (1.0, 0.0)


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


def test_a_question_is_as_unanswerable_as_the_worst_label_is_likely() -> None:
    row, engine = scored("unanswerable", say("no", labels={"no": 0.6, "yes": 0.2}), Reply(""))
    assert row["value"] == pytest.approx(0.75) and engine.requests[0].text == "Answerable? How many?"


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("unanswerable", "coarse/counting"),
        ("question", UNASKED),
        ("question_checks", UNASKED),
        ("fits", UNASKED),
        ("image_gain", UNASKED),
    ],
)
def test_a_score_says_nothing_of_questions_that_it_is_not_for_and_makes_no_call(name: str, type: str) -> None:
    row, engine = scored(name, say("yes"), Reply("two"), type=type)
    assert row["reason"].startswith(NOT_APPLICABLE) and not engine.requests


# The scores that call the engine.
CALLING = [name for name in measures.SCORERS if name not in ("likelihood", "weakest_token")]


@pytest.mark.parametrize("name", CALLING)
def test_a_call_that_fails_costs_one_value_with_its_reason(name: str) -> None:
    others = (Earlier("other", "How many dogs?", "two dogs"),)
    form, options = ("choice", ["one", "two"]) if name == "shift_check" else ("short", [])
    answer = Reply("A" if options else "two", logprobs=(-1.0,))
    row, _ = scored(name, lambda request: FAIL, answer, form, options, others=others)
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
@pytest.mark.parametrize("name", ["agreement", "paraphrase", "blind", "answer", "consistency", "p_true"])
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
    assert row["reason"] == "cut_off: the answer to the paraphrase reached max_tokens of the prompt pack"


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


# --- judges that say yes or no ----------------------------------------------------------------------------------------

YES, NO = ({"no": 0.2, "yes": 0.7}, {"no": 0.8, "yes": 0.1})


def judging(yes: Callable[[str], bool]) -> Callable[[Request], Reply]:
    """Return replies of a judge that says yes to some prompts."""
    return lambda request: Reply("x", labels=YES if yes(request.text) else NO)


def test_p_true_is_the_probability_of_yes_over_that_of_both_labels() -> None:
    row, engine = scored("p_true", judging(lambda text: True), Reply("two"))
    assert row["value"] == pytest.approx(0.7 / 0.9) and engine.requests[0].text == "True? How many? two"


def test_one_false_sentence_decides_for_a_long_answer() -> None:
    answer = Reply("There are two dogs. One wears a hat! It is 3.5 m long.")
    row, _engine = scored("p_true", judging(lambda text: "hat" not in text), answer, "long")
    assert row["value"] == pytest.approx(1 / 9)
    parts = json.loads(row["detail"])["sentences"]
    assert list(parts) == ["There are two dogs.", "One wears a hat!", "It is 3.5 m long."]
    assert row["calls"] == 3 and parts["There are two dogs."] > 0.7
    assert scored("p_true", judging(lambda text: True), answer, "brief")[0]["calls"] == 1


def test_the_lines_of_a_list_and_sentences_of_other_scripts_are_judged_one_by_one() -> None:
    assert sentences("- a dog\n- a cat\n") == ["- a dog", "- a cat"]
    assert sentences("有两只狗。其中一只戴帽子。") == ["有两只狗。", "其中一只戴帽子。"]
    assert sentences("...") == ["..."]


def test_no_word_of_a_very_long_answer_is_left_unjudged() -> None:
    text = " ".join(f"Sentence {number} ends here." for number in range(60))
    parts = sentences(text)
    assert len(parts) == MOST_SENTENCES and " ".join(parts) == text


def test_the_worst_of_four_checks_decides_for_a_question() -> None:
    row, _ = scored("question_checks", judging(lambda text: not text.startswith("Open?")), Reply(""))
    checks = json.loads(row["detail"])["checks"]
    assert row["value"] == pytest.approx(checks["not_given_away"], abs=1e-4) and row["calls"] == 4
    assert min(checks["answerable"], checks["clear"], checks["of_type"]) > 0.7 > checks["not_given_away"]


def test_an_answer_that_obeys_words_in_the_image_has_a_low_value() -> None:
    assert scored("injection", judging(lambda text: True), Reply("Buy now!"))[0]["value"] < 0.3
    assert scored("injection", judging(lambda text: False), Reply("two"))[0]["value"] > 0.7


def test_coherence_asks_about_the_pairs_of_the_image_that_share_words_and_takes_the_worst() -> None:
    others = (
        Earlier("far", "Which colour?", "red"),
        Earlier("near", "How many dogs are there?", "three dogs"),
        Earlier("pair", "How many?", "two dogs"),  # the pair itself
    )
    row, engine = scored("coherence", judging(lambda text: "three" in text), Reply("two dogs"), others=others)
    assert row["value"] < 0.3 and list(json.loads(row["detail"])["contradicts"]) == ["near"]
    assert [request.text for request in engine.requests] == ["Against? two dogs | How many dogs are there?\nthree dogs"]
    alone, engine = scored("coherence", judging(lambda text: True), Reply("two dogs"))
    assert alone["value"] == 1.0 and not engine.requests


# --- the model answers again ------------------------------------------------------------------------------------------


def test_consistency_is_the_share_of_samples_in_the_answers_own_cluster() -> None:
    samples = iter(["Two", "three", "2 dogs"])
    row, _ = scored("consistency", lambda request: Reply(next(samples)), Reply("two"))
    detail = json.loads(row["detail"])
    assert row["value"] == pytest.approx(1 / 3) and detail["sizes"] == [2, 1, 1]
    assert detail["entropy"] == pytest.approx(1.0397, abs=1e-3) and detail["meanings"] == ["two", "three", "2 dogs"]


def test_sentences_are_in_one_cluster_where_the_judge_says_that_they_mean_the_same() -> None:
    samples = iter(["A pair of dogs.", "Three dogs.", "Two dogs."])

    def reply(request: Request) -> Reply:
        if request.purpose == "judge":
            return Reply("x", labels=NO if "Three" in request.text else YES)
        return Reply(next(samples))

    row, _ = scored("consistency", reply, Reply("Two dogs."), "brief")
    assert row["value"] == pytest.approx(2 / 3) and json.loads(row["detail"])["sizes"] == [3, 1]


def test_a_short_answer_is_compared_with_the_end_of_a_worked_one() -> None:
    row, _engine = scored("other_form", say("One and one.\nAnswer: two"), Reply("two"))
    assert row["value"] == 1.0 and json.loads(row["detail"]) == {"form": "detailed", "answer": "two"}
    assert scored("other_form", say("One and two.\nAnswer: three"), Reply("two"))[0]["value"] == 0.0
    options = ["one", "two"]
    assert scored("other_form", say("I count.\nAnswer: two"), Reply("B"), "choice", options)[0]["value"] == 1.0
    assert scored("other_form", say("I count.\nAnswer: one"), Reply("B"), "choice", options)[0]["value"] == 0.0
    for option, said in (("No", "I do not know."), ("cat", "It is a caterpillar.")):
        value = scored("other_form", say(f"I look.\n{said}"), Reply("B"), "choice", ["x", option])[0]["value"]
        assert value == 0.0


def test_shift_check_is_the_share_of_rotations_with_the_same_option() -> None:
    options = ["one", "two", "three", "four"]

    def always_b(request: Request) -> Reply:
        return Reply("B")

    row, engine = scored("shift_check", always_b, Reply("B"), "choice", options)
    assert row["value"] == 0.25 and row["calls"] == 3
    assert next(request.text for request in engine.requests) == "How many? two, three, four, one"

    def knows(request: Request) -> Reply:
        return Reply("ABCD"[request.text.removeprefix("How many? ").split(", ").index("two")])

    assert scored("shift_check", knows, Reply("B"), "choice", options)[0]["value"] == 1.0
    assert "not the letter" in scored("shift_check", knows, Reply("none"), "choice", options)[0]["reason"]


def test_a_score_that_says_nothing_of_a_form_makes_no_call_and_says_so() -> None:
    row, engine = scored("shift_check", say("B"), Reply("two"))
    assert row["reason"] == "does not apply to the form 'short'" and not engine.requests


def test_every_call_of_a_score_is_counted_and_unknown_tokens_stay_unknown() -> None:
    row, _ = scored("agreement", say("two", prompt_tokens=7, cached_tokens=None), Reply("two"))
    assert (row["calls"], row["prompt_tokens"], row["cached_tokens"], row["output_tokens"]) == (3, 21, None, 6)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "Steps:\n1. A man opens the door.\n2. He walks in.",
            ["Steps:", "1. A man opens the door.", "2. He walks in."],
        ),
        ("It is Mr. Smith. He sits.", ["It is Mr. Smith.", "He sits."]),
        ("Man sieht Tiere, z. B. Hunde. Sie sitzen.", ["Man sieht Tiere, z. B. Hunde.", "Sie sitzen."]),
        ("George W. Bush waves.\nHe smiles.", ["George W. Bush waves.", "He smiles."]),
        ("A dog. A cat!  Both sit.", ["A dog.", "A cat!", "Both sit."]),
        ("It was built in 1990. It is red.", ["It was built in 1990.", "It is red."]),
        ("狗在跑。猫在睡。", ["狗在跑。", "猫在睡。"]),
    ],
)
def test_sentences_end_neither_at_the_number_of_an_item_nor_at_an_abbreviation(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@pytest.mark.parametrize("key", ["question", "answer", "answerable", "clear", "of_type", "p_true"])
def test_a_judge_of_a_follow_up_is_told_what_it_goes_on_from(key: str) -> None:
    prompts = prompt_pack.load("everyday")
    kind = prompts.types["conversation/follow_up_next"]
    before = Earlier("p0", "Which tram is this?", "The 18.")
    asked = Pair("p", "a", kind, "short", "English", Question("And then?"), Reply("The 25."), before)
    told = prompt_for(prompts, asked, f"judge.{key}").text
    assert "Earlier: Which tram is this?" in told and "The 18." in told
    assert "Earlier:" not in prompt_for(prompts, replace(asked, earlier=None), f"judge.{key}").text
