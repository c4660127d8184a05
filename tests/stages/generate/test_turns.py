"""What a type and a pack can ask beyond plain questions: requests, worked-out answers, follow-ups, voices, keys."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from synthgen.config import prompt_pack
from synthgen.config.constraints import Constraint
from synthgen.config.engine import SamplingConfig
from synthgen.config.prompt_file import PackFile
from synthgen.config.prompt_pack import Prompts
from synthgen.engines import Reply, Request
from synthgen.stages.generate.asking import Assignment
from synthgen.stages.generate.conversation import ConversationContext, Outcome, converse
from tests.stages.generate.test_conversation import COUNTING, READING, SCENE, SUBJECT, Engine, assignments, good

pytestmark = pytest.mark.usefixtures("workspace")
WORKED = "Two here.\nThree there.\nAnswer: 5"


def prompts(traits: dict[str, dict[str, Any]], **pack: Any) -> Prompts:
    """Return the small pack with other traits of its types and other keys of its file."""
    small = prompt_pack.load("small")
    types = {path: replace(kind, **traits.get(path, {})) for path, kind in small.types.items()}
    values = small.pack.model_dump(mode="json")
    for key, value in pack.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and isinstance(values[key], dict) else value
    return Prompts("small", PackFile.model_validate(values), small.tree, types)


def run(
    pack: Prompts, engine: Engine, wanted: list[Assignment], scores: tuple[str, ...] = (), **subject: Any
) -> Outcome:
    context = ConversationContext(pack, SamplingConfig(), scores, 7)
    return asyncio.run(converse(replace(SUBJECT, **subject), wanted, engine, context))


def ask_text(text: str) -> dict[str, Any]:
    return {"ask": {"text": text}}


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_is_asked_as_it_is_without_a_call_that_writes_it() -> None:
    texts = ("Describe it all.", "What is there?", "Tell me what you see.")
    engine = Engine(good)
    pack = prompts({SCENE: {"requests": {"English": texts}}})
    rows = run(pack, engine, assignments([(SCENE, "brief")] * 3)).pairs
    assert not engine.of("ask") and len(engine.of("answer")) == 3
    assert {row["question"] for row in rows} == set(texts)
    assert all(row["outcome"] == "pair" and row["raw_question"] is None for row in rows)
    assert all(row["prompt_tokens"] == 20 for row in rows)  # of the answer alone


def test_in_a_language_without_requests_the_model_writes_them() -> None:
    engine = Engine(good)
    pack = prompts({SCENE: {"requests": {"English": ("Describe it.",)}}})
    run(pack, engine, assignments([(SCENE, "brief")], "French"))
    assert len(engine.of("ask")) == 1


def test_a_thing_is_named_in_the_request() -> None:
    pack = prompts({SCENE: {"requests": {"English": ("Is there {thing}?",)}, "truth": "no", "thing": "absent"}})
    [assignment] = assignments([(SCENE, "short")])
    [row] = run(pack, Engine(good), [replace(assignment, thing="a red panda")]).pairs
    assert (row["question"], row["truth"]) == ("Is there a red panda?", "no")


def test_what_a_request_asks_of_the_form_of_its_answer_is_kept_with_the_pair() -> None:
    requests, three = {"English": ("Say it in three bullets.",)}, Constraint(bullets=(3, 3))
    pack = prompts({SCENE: {"requests": requests, "constraints": {"Say it in three bullets.": three}}})
    [row] = run(pack, Engine(good), assignments([(SCENE, "brief")])).pairs
    assert Constraint.model_validate_json(row["constraint"]) == three
    [row] = run(prompts({}), Engine(good), assignments([(SCENE, "brief")])).pairs
    assert row["constraint"] is None


# --- asking prompts --------------------------------------------------------------------------------------------------


def test_a_call_is_told_what_is_asked_already() -> None:
    engine = Engine(good)
    pack = prompts({}, **ask_text("Ask {{ n }} about {{ type.name }}. Not: {{ asked | join('; ') }}"))
    before = {"question": "How old is it?", "outcome": "pair"}
    run(pack, engine, assignments([(SCENE, "short"), (COUNTING, "short"), (READING, "short")]), earlier=(before,))
    first, second, third = (request.text for request in engine.of("ask"))
    assert first.endswith("Not: How old is it?")
    assert second == f"Ask 1 about scene. Not: How old is it?; {first} (0)"
    assert third == f"Ask 1 about reading. Not: How old is it?; {first} (0); {second} (0)"
    assert engine.open_calls[:3] == [0, 0, 0]


def test_voice_level_and_examples_are_drawn_for_each_call_and_always_alike() -> None:
    voices, levels = [f"voice {number}" for number in range(5)], ["easy", "hard"]
    pack = prompts(
        {SCENE: {"examples": tuple(f"example {number}?" for number in range(10))}},
        voices=voices,
        levels=levels,
        **ask_text("{{ voice }}, {{ level }}: {{ examples | join(' ') }} {{ language }}"),
    )
    texts = []
    for _ in range(2):
        engine = Engine(good)
        run(pack, engine, [each for name in map(str, range(40)) for each in assignments([(SCENE, "short")], name)])
        texts.append([request.text for request in engine.of("ask")])
    assert texts[0] == texts[1] and len(texts[0]) == 40
    drawn = [text.partition(":")[0].split(", ") for text in texts[0]]
    assert {voice for voice, _ in drawn} == set(voices) and {level for _, level in drawn} == set(levels)
    assert all(text.count("example") == 2 for text in texts[0])
    assert len({text.partition(": ")[2].rpartition(" ")[0] for text in texts[0]}) > 20


def test_where_the_prompt_knows_the_form_a_call_asks_for_one_form_alone() -> None:
    planned = assignments([(SCENE, "short"), (SCENE, "brief")])
    calls = {}
    for text in ("Ask {{ n }}", "Ask {{ n }} {{ form }}"):
        engine = Engine(good)
        run(prompts({}, **ask_text(text)), engine, planned)
        calls[text] = sorted(request.text for request in engine.of("ask"))
    assert calls == {"Ask {{ n }}": ["Ask 2"], "Ask {{ n }} {{ form }}": ["Ask 1 brief", "Ask 1 short"]}


def test_the_right_option_of_the_writer_is_on_record_under_its_shuffled_letter() -> None:
    reply = (
        '{"fits": true, "evidence": "a red bus", "questions": '
        '[{"question": "Which colour is the bus?", "right": "red", "wrong": ["blue", "green", "white"]}]}'
    )
    pack = prompts({}, ask_choice={"parse": "judged"})
    letters = set()
    for language in map(str, range(30)):
        engine = Engine(lambda request: Reply(reply) if request.purpose == "ask" else good(request))
        [row] = run(pack, engine, assignments([(COUNTING, "choice")], language)).pairs
        assert sorted(row["options"]) == ["blue", "green", "red", "white"]
        assert row["options"]["ABCD".index(row["key"])] == "red" and row["evidence"] == "a red bus"
        letters.add(row["key"])
        assert engine.of("answer")[0].choices == ("A", "B", "C", "D")
    assert letters == set("ABCD")


def test_an_image_that_does_not_suit_the_type_is_declined_with_the_evidence() -> None:
    engine = Engine(lambda _: Reply('{"fits": false, "evidence": "no text at all", "questions": []}'))
    [row] = run(prompts({}, ask={"parse": "judged"}), engine, assignments([(READING, "short")])).pairs
    assert (row["reason"], row["detail"]) == ("declined", "no text at all")


# --- worked-out answers ----------------------------------------------------------------------------------------------

REASONING = {"text": "{{ question }} Work it out {{ form }}.", "max_tokens": 99}


def worked(reply: str) -> Engine:
    def answer(request: Request) -> Reply:
        if request.given is not None:
            return Reply("", logprobs=(-1.0, -1.0))
        return Reply(reply, logprobs=(-0.1,) * 9) if "Work it out" in request.text else good(request)

    return Engine(answer)


@pytest.mark.parametrize("form", ["short", "brief"])
def test_the_answer_of_a_type_with_reasons_is_the_end_of_its_working(form: str) -> None:
    engine, pack = worked(WORKED), prompts({COUNTING: {"reasons": True}}, reasoning=REASONING)
    [row] = run(pack, engine, assignments([(COUNTING, form)])).pairs
    assert (row["answer"], row["reasoning"], row["raw_answer"]) == ("5", WORKED, "5")
    assert engine.of("answer")[0].max_tokens == 99


def test_the_letter_at_the_end_of_the_working_is_the_answer_of_a_choice() -> None:
    engine, pack = worked("It is the second.\nAnswer: B"), prompts({COUNTING: {"reasons": True}}, reasoning=REASONING)
    [row] = run(pack, engine, assignments([(COUNTING, "choice")])).pairs
    assert row["answer"] == "B" and not engine.of("answer")[0].choices


def test_working_without_a_conclusion_is_no_answer() -> None:
    engine, pack = worked("It goes on and on."), prompts({COUNTING: {"reasons": True}}, reasoning=REASONING)
    [row] = run(pack, engine, assignments([(COUNTING, "short")])).pairs
    assert (row["reason"], row["answer"]) == ("unparsable", None) and "Answer: " in row["detail"]


def test_working_that_ends_with_no_letter_is_no_choice() -> None:
    engine, pack = (
        worked("One leads to another.\nAnswer: right"),
        prompts({COUNTING: {"reasons": True}}, reasoning=REASONING),
    )
    [row] = run(pack, engine, assignments([(COUNTING, "choice")])).pairs
    assert (row["reason"], row["detail"]) == ("unparsable", "the worked-out reply ends with no letter of an option")


def test_a_detailed_answer_is_not_cut_to_its_end() -> None:
    engine, pack = worked(WORKED), prompts({COUNTING: {"reasons": True, "forms": ("detailed",)}}, reasoning=REASONING)
    pack.pack.answer["detailed"] = pack.pack.answer["brief"]
    [row] = run(pack, engine, assignments([(COUNTING, "detailed")])).pairs
    assert row["answer"] == "two" and row["reasoning"] is None


def test_the_likelihood_of_a_worked_out_answer_is_that_of_the_answer_alone() -> None:
    engine, pack = worked(WORKED), prompts({COUNTING: {"reasons": True}}, reasoning=REASONING)
    outcome = run(pack, engine, assignments([(COUNTING, "short")]), ("likelihood",))
    assert [request.given for request in engine.of("given")] == ["5"]
    assert outcome.scores["likelihood"][0]["value"] == pytest.approx(0.3679, abs=1e-4)


# --- follow-ups ------------------------------------------------------------------------------------------------------

FOLLOWING: dict[str, Any] = {
    "ask": {
        "text": "Ask {{ type.name }}{% if previous %} after {{ previous.question }} = {{ previous.answer }}{% endif %}"
    },
    "answer": {
        "short": {"text": "{% if previous %}({{ previous.answer }}) {% endif %}{{ question }}", "max_tokens": 9},
        "brief": {"text": "{{ question }}", "max_tokens": 9},
        "choice": {"text": "{{ question }} {{ options }}", "max_tokens": 9},
    },
}


def test_a_follow_up_goes_on_from_a_pair_of_the_image() -> None:
    engine, pack = Engine(good), prompts({READING: {"follows": True}}, **FOLLOWING)
    rows = {row["type"]: row for row in run(pack, engine, assignments([(SCENE, "short"), (READING, "short")])).pairs}
    before, after = rows[SCENE], rows[READING]
    assert (before["follows"], after["follows"]) == (None, before["pair_id"])
    assert engine.of("ask")[-1].text == f"Ask reading after {before['question']} = two"
    assert engine.of("answer")[-1].text == f"(two) {after['question']}"


def test_no_follow_up_goes_on_from_a_pair_whose_type_ends_the_talk() -> None:
    pack = prompts({READING: {"follows": True}, SCENE: {"ends": True}}, **FOLLOWING)
    rows = {
        row["type"]: row for row in run(pack, Engine(good), assignments([(SCENE, "short"), (READING, "short")])).pairs
    }
    assert (rows[SCENE]["outcome"], rows[READING]["reason"]) == ("pair", "nothing_to_follow")


def test_a_follow_up_can_go_on_from_a_pair_that_was_made_before() -> None:
    pack = prompts({READING: {"follows": True}}, **FOLLOWING)
    [before] = run(pack, Engine(good), assignments([(SCENE, "short")])).pairs
    [after] = run(pack, Engine(good), assignments([(READING, "short")]), earlier=(before,)).pairs
    assert after["outcome"] == "pair" and after["follows"] == before["pair_id"]


def test_a_follow_up_to_multiple_choice_sees_the_words_of_the_option() -> None:
    def reply(request: Request) -> Reply:
        return Reply("(B)") if request.purpose == "answer" and "[" in request.text else good(request)

    engine, pack = Engine(reply), prompts({READING: {"follows": True}}, **FOLLOWING)
    run(pack, engine, assignments([(COUNTING, "choice"), (READING, "short")]))
    assert engine.of("ask")[-1].text.endswith("= b")


def test_without_a_pair_to_go_on_from_a_follow_up_fails_by_name_and_asks_nothing() -> None:
    engine = Engine(lambda request: Reply("", finish="content_filter") if "scene" in request.text else good(request))
    pack = prompts({READING: {"follows": True}}, **FOLLOWING)
    rows = {row["type"]: row for row in run(pack, engine, assignments([(SCENE, "short"), (READING, "short")])).pairs}
    assert rows[READING]["reason"] == "nothing_to_follow" and len(engine.of("ask")) == 1


# --- system texts ----------------------------------------------------------------------------------------------------


def test_system_texts_differ_by_what_a_call_is_for() -> None:
    system = {"ask": "A", "answer": "B", "judge": "C", "blind": None}
    engine, pack = Engine(good), prompts({}, system=system)
    run(pack, engine, assignments([(SCENE, "short")]), ("answer", "blind", "agreement"))
    texts = {(request.purpose, request.image is not None): request.system for request in engine.requests}
    assert texts == {
        ("ask", True): "A",
        ("answer", True): "B",
        ("sample", True): "B",
        ("judge", True): "C",
        ("answer", False): None,
    }


# --- what was read again ---------------------------------------------------------------------------------------------


def test_a_choice_is_packed_as_its_letter_and_what_was_written_stays_on_record() -> None:
    def reply(request: Request) -> Reply:
        return Reply("C. a red double-decker", finish="length") if request.purpose == "answer" else good(request)

    [row] = run(prompts({}), Engine(reply), assignments([(COUNTING, "choice")])).pairs
    assert (row["outcome"], row["answer"], row["raw_answer"]) == ("pair", "C", "C. a red double-decker")


def test_a_request_about_a_thing_that_no_plan_names_fails_by_name() -> None:
    pack = prompts({SCENE: {"requests": {"English": ("Is there {thing}?",)}, "truth": "no", "thing": "absent"}})
    [row] = run(pack, Engine(good), assignments([(SCENE, "short")])).pairs
    assert (row["reason"], row["question"]) == ("code_failed", None) and "no tag" in row["detail"]


def test_a_follow_up_that_asks_what_was_asked_before_fails() -> None:
    engine = Engine(lambda request: Reply('{"questions": ["Where?"]}') if request.purpose == "ask" else good(request))
    pack = prompts({READING: {"follows": True}}, **FOLLOWING)
    rows = {row["type"]: row for row in run(pack, engine, assignments([(SCENE, "short"), (READING, "short")])).pairs}
    assert (rows[SCENE]["outcome"], rows[READING]["reason"]) == ("pair", "repeated_question")
