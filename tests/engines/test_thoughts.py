"""Thoughts before a reply: taken apart with their log-probabilities, but never out of a reply that a grammar holds."""

import pytest

from synthgen.config.replies.thoughts import without_markup
from synthgen.engines import Reply, Request
from synthgen.engines.thoughts import is_thinking, without_thoughts

SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nTwo.\n</think>\n\n2", "Two.", "2"),
        ("Two.</think>2", "Two.", "2"),
        ("</think> 2", "", "2"),
        ("</think>", "", ""),
        ("I count two\n</think>", "I count two", ""),
        ("I count two\n</think>\n\n2", "I count two", "2"),
        ("<thinking>Two.</thinking>2", "Two.", "2"),
        ("◁think▷Two.◁/think▷2", "Two.", "2"),
        ("[THINK]Two.[/THINK]2", "Two.", "2"),
        ("<think>Two.</think>The page shows </think>.", "Two.", "The page shows </think>."),
    ],
)
def test_thoughts_are_apart_and_the_answer_has_no_log_probabilities_of_theirs(
    text: str, reasoning: str, answer: str
) -> None:
    reply = without_thoughts(Reply(text, logprobs=(-1.0, -2.0)), Request("answer", "?", 9))
    assert (reply.text, reply.reasoning, reply.logprobs) == (answer, reasoning, ())


def test_a_reply_without_thoughts_or_with_unfinished_ones_stays() -> None:
    for text in ("2", "<think>\nTwo"):
        reply = Reply(text, logprobs=(-1.0,))
        assert without_thoughts(reply, Request("answer", "?", 9)) is reply


@pytest.mark.parametrize("held", [{"schema": SCHEMA}, {"choices": ("A", "</think>")}])
def test_a_reply_that_is_held_to_a_grammar_is_text_alone(held: dict[str, object]) -> None:
    reply = Reply('{"questions": ["What does </think> mean?"]}', logprobs=(-1.0,))
    assert without_thoughts(reply, Request("ask", "?", 9, **held)) is reply  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "The code wraps text in <think> and </think> tags, shown in blue.",
        "The page shows </think>.",
        "It says </thinking> and `</think>` in red.",
        "The tag ends. </think>",
        "2",
    ],
)
def test_a_reply_that_speaks_of_the_marks_of_thoughts_stays_and_can_be_used(text: str) -> None:
    reply = Reply(text, logprobs=(-1.0,))
    assert without_thoughts(reply, Request("answer", "?", 9)) is reply and not is_thinking(text)


@pytest.mark.parametrize("text", ["<think>\nTwo", "<thinking>Two", "◁think▷Two", "Two.</think>\n2"])
def test_thoughts_that_are_left_in_a_reply_are_found(text: str) -> None:
    assert is_thinking(text)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>A car.</answer>", "<answer>\nA car.\n</answer>\n", "<|begin_of_box|>A car.<|end_of_box|>",
        "A car.<|im_end|>", "A car.</s>", "A car. <|eot_id|><|end_of_text|>\n", "A car.<end_of_turn>",
        "<answer>A car.</answer><|im_end|>", "<answer><|begin_of_box|>A car.<|end_of_box|></answer>",
    ],
)  # fmt: skip
def test_the_markup_around_an_answer_is_taken_off(text: str) -> None:
    assert without_markup(text) == "A car."


@pytest.mark.parametrize(
    "text",
    ["A car.", "<s>old</s>", "It says <answer>A</answer> and more.", "<|im_end|> ends it.", " A car. ", "<b>A</b>"],
)
def test_markup_inside_an_answer_stays(text: str) -> None:
    assert without_markup(text) == text
