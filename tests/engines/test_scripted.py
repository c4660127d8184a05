"""The scripted engine: replies that the parsers read, and each way to fail."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from synthgen.config.engine import EngineConfig
from synthgen.config.replies import Question, parse_questions, question_schema
from synthgen.engines import EngineDied, ModelName, Reply, Request, open_engine
from synthgen.engines.scripted import ScriptedEngine
from synthgen.errors import Failure, ModelUnavailable

ASK = Request(
    "ask", "Ask 3 questions", 99, image=Image.new("RGB", (4, 4)), image_key="abc", schema=question_schema(False, 3)
)


def replies(options: dict[str, Any], *requests: Request, **more: Any) -> list[Reply]:
    async def talk() -> list[Reply]:
        engine = await open_engine(
            ModelName("none", "scripted"), EngineConfig(kind="scripted", options=options, **more)
        )
        return [await engine.generate(request) for request in requests]

    return asyncio.run(talk())


def test_the_scripted_engine_says_what_the_parsers_read() -> None:
    (reply,) = replies({}, ASK)
    questions = parse_questions(reply.text, "json", None, False)
    assert isinstance(questions, list) and len({question.text for question in questions}) == 3
    (reply,) = replies({}, replace(ASK, schema=question_schema(True, 2)))
    questions = parse_questions(reply.text, "json", None, True)
    assert isinstance(questions, list) and all(len(question.options) == 4 for question in questions)
    plain = replace(ASK, schema=None)
    (reply,) = replies({}, plain)
    questions = parse_questions(reply.text, "lines", "none", False)
    assert isinstance(questions, list) and isinstance(questions[0], Question)
    assert parse_questions(replies({"decline": 1}, ASK)[0].text, "json", None, False) == Failure("declined")
    assert parse_questions(replies({"decline": 1}, plain)[0].text, "lines", "none", False) == Failure("declined")
    junk = parse_questions(replies({"junk": 1}, ASK)[0].text, "json", None, False)
    assert isinstance(junk, Failure) and junk.reason == "unparsable"


def test_the_scripted_engine_says_the_same_each_time() -> None:
    other = replace(ASK, image_key="other")
    assert replies({}, ASK, ASK, other) == replies({}, ASK, ASK, other)
    assert replies({}, ASK)[0] != replies({}, other)[0]


def test_the_scripted_engine_fails_hangs_and_dies_on_demand() -> None:
    assert replies({"fail": 1}, ASK)[0].failure == "call_failed"
    assert replies({"hang": 1}, ASK, call_seconds=0.01)[0].failure == "call_timeout"
    with pytest.raises(EngineDied):
        replies({"die_on": "ab"}, ASK)
    with pytest.raises(EngineDied):  # and stays dead
        asyncio.run(_after_death())
    assert replies({"die_on": "zz"}, ASK)[0].failure is None


async def _after_death() -> None:
    engine = ScriptedEngine(ModelName("none", "scripted"), EngineConfig(kind="scripted", options={"die_on": "ab"}))
    with pytest.raises(EngineDied):
        await engine.generate(ASK)
    await engine.generate(replace(ASK, image_key="zz"))


@pytest.mark.parametrize("options", [{"fial": 1}, {"fail": "often"}, {"die_on": 5}])
def test_options_that_the_scripted_engine_does_not_know_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable, match=r"^engine kind scripted: options\.[a-z_]+: .*; known: seconds, junk, "):
        replies(options, ASK)


def test_a_share_is_drawn_over_many_calls() -> None:
    drawn = replies({"fail": 0.3, "junk": 0.2}, *[replace(ASK, image_key=str(number)) for number in range(400)])
    assert 80 < sum(reply.failure is not None for reply in drawn) < 160
    assert 45 < sum(reply.text == "{ junk }" for reply in drawn) < 115
