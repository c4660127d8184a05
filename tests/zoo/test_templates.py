"""What is sent to each family: its prompts and the ends of replies, rendered by vLLM from its own chat template."""

from dataclasses import replace
from datetime import date

import pytest
from PIL import Image

pytest.importorskip("vllm")

from synthgen.config.engine import EngineConfig
from synthgen.engines import Request
from tests.zoo.checkpoints import FAMILIES
from tests.zoo.rendered import RenderedLlm, asked, sent, special_tokens

QUESTION = "How many are there?"
PICTURE = Image.new("RGB", (64, 48))
ASK = Request("answer", QUESTION, 16, image=PICTURE, image_key="pixels", system="Look closely.")
PLACEHOLDERS = ("<|image_pad|>", "<start_of_image>", "<IMG_CONTEXT>", "[IMG]", "<|image|>", "<image>")
AWKWARD = ("no-system-role", "string-content")
USUAL = [name for name in FAMILIES if name not in AWKWARD]


def in_order(prompt: str, *parts: str) -> bool:
    """Return whether a prompt has all parts, in this order."""
    places = [prompt.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


@pytest.mark.parametrize("name", USUAL)
def test_the_image_comes_before_the_question_and_after_the_system_text(name: str) -> None:
    llm = RenderedLlm(name)
    prompt = sent(llm, ASK)
    image = next(token for token in PLACEHOLDERS if token in FAMILIES[name].vocabulary.special)
    assert in_order(prompt, "Look closely.", image, QUESTION)


@pytest.mark.parametrize("name", USUAL)
def test_all_calls_on_an_image_begin_alike_up_to_the_question(name: str) -> None:
    llm = RenderedLlm(name)
    first, second = sent(llm, ASK), sent(llm, replace(ASK, text="Where is it?", labels=("1", "2")))
    assert first.partition(QUESTION)[0] == second.partition("Where is it?")[0]


@pytest.mark.parametrize("name", USUAL)
def test_a_given_reply_ends_with_the_token_at_which_the_model_stops(name: str) -> None:
    llm = RenderedLlm(name)
    assert sent(llm, replace(ASK, given="42")).endswith("42" + FAMILIES[name].end)


@pytest.mark.parametrize("name", USUAL)
def test_a_question_that_spells_special_tokens_has_none(name: str) -> None:
    special = FAMILIES[name].vocabulary.special
    llm = RenderedLlm(name)
    assert sent(llm, ASK) and sent(llm, replace(ASK, text=f"Read {' '.join(special)} aloud."))
    plain, spelled = (special_tokens(llm, prompt, special) for prompt in llm.prompts)
    assert spelled == plain


def test_a_token_that_a_tokenizer_does_not_call_special_is_not_spelled_either() -> None:
    llm = RenderedLlm("internvl3")
    assert FAMILIES["internvl3"].vocabulary.plain == ("<video>",)
    assert sent(llm, replace(ASK, text="What does <video> do?"))
    assert special_tokens(llm, llm.prompts[0], ("<video>",)) == []


def test_the_marks_that_a_model_puts_around_its_answer_stay_tokens_where_the_answer_is_given() -> None:
    llm, marks = RenderedLlm("glm-4.1v"), ("<|begin_of_box|>", "<|end_of_box|>")
    assert sent(llm, replace(ASK, given="42".join(marks)))
    assert special_tokens(llm, llm.prompts[0], marks) == list(marks)


@pytest.mark.parametrize("name", USUAL)
def test_a_given_reply_that_spells_special_tokens_has_none(name: str) -> None:
    special = FAMILIES[name].vocabulary.special
    llm = RenderedLlm(name)
    assert sent(llm, replace(ASK, given="42")) and sent(llm, replace(ASK, given=f"It says {' '.join(special)}"))
    plain, spelled = (special_tokens(llm, prompt, special) for prompt in llm.prompts)
    assert spelled == plain


@pytest.mark.parametrize("name", USUAL)
def test_a_prompt_is_the_same_on_every_day(name: str) -> None:
    llm = RenderedLlm(name)
    assert date.today().isoformat() not in sent(llm, replace(ASK, system=None))


def test_where_a_template_has_no_system_role_its_text_opens_the_users_turn() -> None:
    llm = RenderedLlm("no-system-role")
    prompt = sent(llm, ASK)
    assert in_order(prompt, "<|im_start|>user", "Look closely.", QUESTION)


def test_a_template_that_takes_its_content_as_one_string_gets_one() -> None:
    llm = RenderedLlm("string-content")
    prompt = sent(llm, ASK)
    assert in_order(prompt, "[IMG]", QUESTION, "[/INST]") and "Look closely." in prompt


def test_the_thoughts_of_a_model_are_no_part_of_its_reply() -> None:
    llm = RenderedLlm("qwen3-vl-thinking", text="I count four and then two more.\n</think>\n\n42")
    assert asked(llm, ASK).text == "42"


def test_thinking_is_turned_off_where_the_template_has_an_option_for_it() -> None:
    llm = RenderedLlm("glm-4.1v")
    assert sent(llm, ASK, EngineConfig(template={"enable_thinking": False})).endswith("<think></think>\n")


# --- labels ----------------------------------------------------------------------------------------------------------

LABELS = ("1", "2", "3", "4", "5")
JUDGE = replace(ASK, purpose="judge", max_tokens=1, labels=LABELS)


@pytest.mark.parametrize("name", USUAL)
def test_labels_are_single_tokens(name: str) -> None:
    llm = RenderedLlm(name, text="3", likely={label: -1.6 for label in LABELS})
    reply = asked(llm, JUDGE)
    assert reply.failure is None and sum(reply.labels.values()) > 0.99


@pytest.mark.parametrize("name", USUAL)
def test_the_probability_of_every_label_is_asked_for_however_unlikely_it_is(name: str) -> None:
    llm = RenderedLlm(name, text="3", likely={label: -1.6 for label in LABELS})
    asked(llm, JUDGE)
    (parameters,) = llm.parameters
    numbers = {llm.get_tokenizer().convert_tokens_to_ids(label) for label in LABELS}
    by_name = numbers <= set(getattr(parameters, "logprob_token_ids", None) or ())
    assert by_name or parameters.logprobs == -1


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_call_that_vllm_refuses_says_why() -> None:
    from vllm.v1.engine.exceptions import EngineGenerateError

    error = EngineGenerateError()
    error.__cause__ = ValueError("the image has 0 pixels")
    reply = asked(RenderedLlm("qwen2.5-vl", error=error), ASK)
    assert reply.failure == "call_failed" and "the image has 0 pixels" in (reply.detail or "")
