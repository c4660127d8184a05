"""Thoughts before a reply: taken apart with their log-probabilities, but never out of a reply that a grammar holds."""

import pytest

from synthgen.engines import Reply, Request
from synthgen.engines.thoughts import without_thoughts

SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [("<think>\nTwo.\n</think>\n\n2", "Two.", "2"), ("Two.</think>2", "Two.", "2"), ("</think> 2", "", "2")],
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
