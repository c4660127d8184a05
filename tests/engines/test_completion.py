"""An endpoint's JSON in which anything may stand anywhere becomes a reply that tables can hold, or one reason."""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.engines import Reply, Request
from synthgen.engines.completion import model_ids, read_completion
from synthgen.engines.protocol import MOST_TOKENS
from tests.fixtures.mutations import mutated

PLAIN = Request("answer", "How many?", 16)
JUDGE = Request("judge", "Rate", 1, labels=("1", "2"))
TOP = [{"token": "1", "logprob": -0.1, "bytes": [49]}, {"token": " 2", "logprob": -2.5, "bytes": None}]
COMPLETION: dict[str, Any] = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "two", "refusal": None, "tool_calls": []},
            "logprobs": {"content": [{"token": "two", "logprob": -0.5, "bytes": None, "top_logprobs": TOP}]},
        }
    ],
    "usage": {
        "prompt_tokens": 40,
        "completion_tokens": 3,
        "total_tokens": 43,
        "prompt_tokens_details": {"cached_tokens": 32},
    },
}


def read(answer: Any, request: Request = PLAIN) -> Reply:
    return read_completion(json.dumps(answer).encode(), request, 0.5)


def with_choice(**more: Any) -> dict[str, Any]:
    """Return the completion with some fields of its choice replaced."""
    return {**COMPLETION, "choices": [{**COMPLETION["choices"][0], **more}]}


@settings(max_examples=150)
@given(mutated(COMPLETION, most=3), st.sampled_from([PLAIN, JUDGE]))
def test_whatever_stands_in_an_answer_it_is_a_reply_that_tables_can_hold_or_one_reason(
    answer: Any, request: Request
) -> None:
    try:
        reply = read(answer, request)
    except ValueError as error:
        assert str(error) and not isinstance(error, UnicodeError)
        return
    reply.text.encode()
    (reply.detail or "").encode()
    assert reply.finish in ("stop", "length", "content_filter")
    assert all(math.exp(value) <= 1.0 for value in reply.logprobs)
    assert all(0.0 <= value <= 1.001 for value in reply.labels.values())
    for count in (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens):
        assert count is None or (type(count) is int and 0 <= count <= MOST_TOKENS)


@settings(max_examples=60)
@given(mutated({"object": "list", "data": [{"id": "m", "object": "model"}, {"id": "n"}]}, most=3))
def test_whatever_stands_in_a_list_of_models_it_gives_names_or_is_none(listing: Any) -> None:
    try:
        assert all(isinstance(name, str) for name in model_ids(json.dumps(listing).encode()))
    except ValueError as error:
        assert str(error)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_json_are_quoted_in_the_reason(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a chat completion: "):
        read_completion(b"<" + data, PLAIN, 0.0)


def test_nesting_without_end_is_no_completion() -> None:
    with pytest.raises(ValueError, match="not a chat completion"):
        read_completion(b"[" * 200_000, PLAIN, 0.0)


@pytest.mark.parametrize("count", [None, -1, 2.5, "40", True, math.nan, math.inf, 10**30, [40], {}])
def test_a_number_of_tokens_that_is_none_is_unknown_and_never_0(count: Any) -> None:
    reply = read({**COMPLETION, "usage": {"prompt_tokens": count, "completion_tokens": 3}})
    assert (reply.text, reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == ("two", None, None, 3)


def test_without_usage_all_tokens_are_unknown() -> None:
    reply = read({key: value for key, value in COMPLETION.items() if key != "usage"})
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (None, None, None)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0.5, "-0.5", False, [-0.5]])
def test_a_log_probability_that_is_none_leaves_the_reply_without_any_and_says_so(value: Any) -> None:
    tokens = [{"token": "t", "logprob": -0.5}, {"token": "wo", "logprob": value}]
    reply = read(with_choice(logprobs={"content": tokens}))
    assert (reply.text, reply.logprobs) == ("two", ()) and "log-probability" in (reply.detail or "")


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "1", "logprob": -0.1}]},
        {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": None}]},
        {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": [{"token": "1", "logprob": None}]}]},
        {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": [TOP[0], {"token": None, "logprob": -1}]}]},
    ],
)
def test_without_top_log_probabilities_labels_are_unknown_and_the_reply_says_so(logprobs: Any) -> None:
    reply = read(with_choice(logprobs=logprobs), JUDGE)
    assert reply.labels == {} and "top_logprobs, from which labels are read" in (reply.detail or "")


def test_a_token_that_cannot_come_has_the_probability_0() -> None:
    top = [TOP[0], {"token": "2", "logprob": -math.inf}]
    reply = read(with_choice(logprobs={"content": [{"token": "1", "logprob": -0.1, "top_logprobs": top}]}), JUDGE)
    assert reply.labels == {"1": pytest.approx(math.exp(-0.1)), "2": 0.0}


def test_an_answer_that_is_only_reasoning_says_so() -> None:
    reply = read(with_choice(message={"content": None, "reasoning_content": "Let me see"}))
    assert (reply.text, reply.detail) == ("", "the answer has no text, only 10 characters of reasoning")


@pytest.mark.parametrize(
    "message",
    [
        {"content": "two", "reasoning_content": "Let me see"},
        {"content": "two", "reasoning": "Let me see"},
        {"content": [{"type": "thinking", "thinking": "Let me see"}, {"type": "text", "text": "two"}]},
    ],
)
def test_an_answer_with_reasoning_has_no_log_probabilities_and_no_labels(message: dict[str, Any]) -> None:
    assert read(COMPLETION).logprobs == (-0.5,)
    reply = read(with_choice(message=message))
    assert (reply.text, reply.logprobs) == ("two", ())
    assert not read(with_choice(message=message), JUDGE).labels


def test_a_part_that_refuses_is_a_refusal_and_costs_no_further_call() -> None:
    reply = read(with_choice(message={"content": [{"type": "refusal", "refusal": "I can't help."}]}))
    assert (reply.text, reply.finish) == ("", "content_filter")


def test_reasoning_among_the_parts_of_an_answer_is_no_text_of_it() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "two"}]
    assert read(with_choice(message={"content": parts})).text == "two"


@pytest.mark.parametrize(("tokens", "finish"), [(16, "length"), (15, "stop"), (None, "stop")])
def test_where_no_reason_for_the_end_is_given_the_number_of_tokens_tells(tokens: int | None, finish: str) -> None:
    answer = copy.deepcopy(COMPLETION)
    answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"] = None, tokens
    assert read(answer).finish == finish


@pytest.mark.parametrize("reason", ["tool_calls", "repetition_truncation", 7, True, ["stop"], "\ud83d"])
def test_an_unknown_reason_for_the_end_costs_the_call_as_the_answer_may_be_unfinished(reason: Any) -> None:
    with pytest.raises(ValueError, match=r"^finish_reason .* is unknown, so the answer may be unfinished$"):
        read(with_choice(finish_reason=reason))
