"""Replies and errors of engines that others write: what does not fit costs one call and never more."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.engines import EngineDied, EngineInfo, Reply, Request
from synthgen.engines.checked import CheckedEngine, checked_reply
from synthgen.engines.protocol import MOST_TOKENS, add_tokens
from synthgen.errors import ModelUnavailable
from synthgen.tables import FAILURE_REASONS, PAIRS, RETRIED_REASONS
from tests.fixtures.mutations import JSON_VALUES, SCALARS

REQUEST = Request("answer", "q", 8)


class Engine:
    """An engine that returns, or raises, whatever it was given."""

    facts: Any = EngineInfo("m", "r", frozenset(), None, "1")

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def generate(self, request: Request) -> Any:
        if isinstance(self._reply, BaseException):
            raise self._reply
        return self._reply

    async def close(self) -> None:
        """Do nothing."""


def reply_of(reply: Any) -> Reply:
    return asyncio.run(CheckedEngine(Engine(reply), "mine").generate(REQUEST))


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    JSON_VALUES, st.just(Reply), st.sampled_from([np.float32(-0.5), np.int64(3), np.float64("nan"), np.array([1, 2])])
)
NUMBERS = st.one_of(SCALARS, st.just(np.float32(-1)), st.just(np.int64(7)))


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": ANYTHING, "finish": ANYTHING, "failure": ANYTHING, "detail": ANYTHING,
            "logprobs": ANYTHING | st.lists(NUMBERS, max_size=3), "labels": ANYTHING, "prompt_tokens": NUMBERS,
            "cached_tokens": NUMBERS, "output_tokens": NUMBERS, "seconds": NUMBERS,
        },
    )
)  # fmt: skip
def test_whatever_a_reply_holds_what_passes_can_be_stored(fields: dict[str, Any]) -> None:
    reply = reply_of(Reply(**{"text": "two", **fields}))
    columns = ("prompt_tokens", "cached_tokens", "output_tokens", "seconds")
    row = {name: getattr(reply, name) for name in columns} | {"answer": reply.text, "detail": reply.detail}
    pa.Table.from_pylist([row], schema=pa.schema([PAIRS.field(name) for name in row]))
    assert reply.failure is None or reply.failure in FAILURE_REASONS
    assert math.isfinite(reply.seconds) and not any(math.isnan(value) or value > 0 for value in reply.logprobs)
    assert all(isinstance(label, str) and 0 <= value <= 1.001 for label, value in reply.labels.items())


@pytest.mark.parametrize("reply", [None, "two", 7, {"text": "two"}, Reply])
def test_what_is_no_reply_costs_the_call_and_names_its_type(reply: Any) -> None:
    failed = reply_of(reply)
    assert failed.failure == "code_failed" and "in place of a Reply" in (failed.detail or "")


@pytest.mark.parametrize("error", [ZeroDivisionError("x / 0"), KeyError("\ud83d"), SystemExit(3), StopAsyncIteration()])
def test_an_exception_costs_the_call_with_its_class_and_place_and_can_be_tried_again(error: BaseException) -> None:
    failed = reply_of(error)
    assert failed.failure == "code_failed" and failed.failure in RETRIED_REASONS
    assert (failed.detail or "").startswith(type(error).__name__) and " (test_checked.py:" in (failed.detail or "")


@pytest.mark.parametrize(
    "error", [EngineDied("gone"), MemoryError(), ModelUnavailable("no model"), KeyboardInterrupt()]
)
def test_what_no_call_is_to_blame_for_goes_on(error: BaseException) -> None:
    with pytest.raises(type(error)):
        reply_of(error)


def test_a_good_reply_stays_as_it_is() -> None:
    reply = Reply("two", "length", None, "note", (-0.5, -math.inf), {"1": 0.5}, 40, 32, 3, 0.5)
    assert checked_reply(reply) == reply == reply_of(reply)


@pytest.mark.parametrize("facts", [None, "m", {"model": "m"}])
def test_an_engine_without_facts_is_one_line(facts: Any) -> None:
    engine = Engine(None)
    engine.facts = facts
    with pytest.raises(ModelUnavailable, match="engine mine: has no `facts`"):
        CheckedEngine(engine, "mine")


@pytest.mark.parametrize("tokens", [0, -5, math.nan, "many", True])
def test_a_capacity_that_is_none_is_one_line(tokens: Any) -> None:
    engine = Engine(None)
    engine.facts = replace(Engine.facts, kv_tokens=tokens)
    with pytest.raises(ModelUnavailable, match=r"its facts give kv_tokens as .*, which must be a number from 1 on"):
        CheckedEngine(engine, "mine")


def test_a_sum_with_an_unknown_number_is_unknown_and_so_is_one_that_no_table_holds() -> None:
    assert (add_tokens(), add_tokens(2, 3), add_tokens(2, None)) == (0, 5, None)
    assert add_tokens(MOST_TOKENS, 1) is None and add_tokens(MOST_TOKENS) == MOST_TOKENS
