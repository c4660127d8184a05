"""An engine without a model: a reply is a function of its request, and `engine.options` produce every kind of failure.

It lets tests of faults use the same interface as real models, and shows what the pipeline itself costs on a million
images. Its replies parse with the shipped prompt packs, ignore the image and mean nothing.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.config.library import Section
from synthgen.engines.protocol import ALL_CAPABILITIES, EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.errors import Failure
from synthgen.tables import draw

WORDS = ("red", "blue", "green", "three", "four", "left", "right", "above", "yes", "no", "cat", "tree", "boat", "sun")


class Script(Section):
    """The `engine.options` of a scripted engine.

    Attributes:
        seconds: Duration of every call.
        junk: Share of replies that no parser reads. Shares are between 0 and 1, drawn by the text of the request.
        decline: Share of asks that are declined.
        fail: Share of calls that fail.
        hang: Share of calls that never end.
        refuse: Share of replies that a filter holds back.
        twice: Share of replies whose text comes twice.
        worst: Share of judgements that give the worst label, in place of the best.
        late: Share of calls that take `late_seconds` more.
        die_on: Part of an image key on which the engine dies, each time.
        stall_on: Part of an image key after which the engine answers nothing.
        exit_on: Part of an image key on which the whole process exits, each time.
    """

    seconds: float = 0.0
    junk: float = 0.0
    decline: float = 0.0
    fail: float = 0.0
    hang: float = 0.0
    refuse: float = 0.0
    twice: float = 0.0
    worst: float = 0.0
    late: float = 0.0
    late_seconds: float = 5.0
    die_on: str = ""
    stall_on: str = ""
    exit_on: str = ""


class ScriptedEngine:
    """An engine that replies by rule."""

    def __init__(self, name: ModelName, settings: EngineConfig) -> None:
        self._script = Script.model_validate(dict(settings.options))
        self._call_seconds = settings.call_seconds
        self._dead = self._stalled = False
        self.facts = EngineInfo(name.model, name.revision, ALL_CAPABILITIES, None, "scripted 1")

    async def generate(self, request: Request) -> Reply:
        """Return the scripted reply, after the scripted trouble."""
        script, key = self._script, request.image_key or ""
        if script.exit_on and script.exit_on in key:
            os._exit(1)
        if self._dead or (script.die_on and script.die_on in key):
            self._dead = True
            raise EngineDied(f"scripted death on {key}")
        if self._stalled or (script.stall_on and script.stall_on in key):
            self._stalled = True
            await asyncio.Event().wait()
        await asyncio.sleep(script.seconds + (script.late_seconds if _drawn("late", request) < script.late else 0.0))
        share = draw(0, key, request.purpose, request.text)
        if share < script.hang:
            await asyncio.sleep(self._call_seconds)
            return Reply.failed(Failure("call_timeout", f"no reply within {self._call_seconds:.0f} s"))
        if share < script.hang + script.fail:
            return Reply.failed(Failure("call_failed", "scripted failure"))
        reply = self._reply(request, share - script.hang - script.fail)
        if _drawn("refuse", request) < script.refuse:
            return replace(reply, text="", finish="content_filter")
        return replace(reply, text=f"{reply.text}\n{reply.text}") if _drawn("twice", request) < script.twice else reply

    async def close(self) -> None:
        """Do nothing: the engine holds nothing."""

    def _reply(self, request: Request, share: float) -> Reply:
        if request.given is not None:
            count = len(request.given.split())
            return Reply("", logprobs=(-0.1,) * (count + 1), prompt_tokens=40, seconds=self._script.seconds)
        if share < self._script.junk:
            return Reply("{ junk }", logprobs=(-3.0,), prompt_tokens=100, output_tokens=3, seconds=self._script.seconds)
        declined = request.purpose == "ask" and share < self._script.junk + self._script.decline
        text = self._text(request, declined)
        words = len(text.split())
        labels = {label: (0.9 if label == text else 0.02) for label in request.labels}
        return Reply(
            text,
            logprobs=(-0.1,) * words,
            labels=labels,
            prompt_tokens=100,
            cached_tokens=80,
            output_tokens=words,
            seconds=self._script.seconds,
        )

    def _text(self, request: Request, declined: bool) -> str:
        if request.labels:
            return request.labels[0 if _drawn("worst", request) < self._script.worst else -1]
        if request.purpose == "ask":
            return _questions(request, declined)
        if request.purpose == "tag":
            names = request.schema["properties"]["chosen"]["items"]["enum"] if request.schema else WORDS
            return json.dumps({"chosen": [names[int(draw(1, request.image_key or "", request.text) * len(names))]]})
        if request.schema and request.schema.get("type") == "array":
            return _places(request)
        if request.choices:
            return request.choices[int(draw(1, request.image_key or "", request.text) * len(request.choices))]
        if request.purpose == "paraphrase":
            return f"In other words: {request.text[-60:]}"
        word = WORDS[int(draw(1, request.image_key or "", request.text) * len(WORDS))]
        return f"One thing leads to another.\nAnswer: {word}" if "'Answer: " in request.text else word


def _places(request: Request) -> str:
    """Return one place in the shape that a schema asks for."""
    assert request.schema is not None
    numbers = [250, 250, 750, 750] if "box" in request.schema["items"]["properties"] else [500, 500]
    name = "box" if len(numbers) > 2 else "point"
    return json.dumps([{name: numbers, "label": WORDS[0]}])


def _drawn(trouble: str, request: Request) -> float:
    """Return the number in 0..1 that a request always draws for one kind of trouble."""
    return draw(4, trouble, request.image_key or "", request.purpose, request.text)


def _questions(request: Request, declined: bool) -> str:
    """Return as many different questions as the request asks for, as JSON where it has a schema."""
    if request.schema is None:
        number = re.search(r"\d+", request.text)
        count = int(number.group()) if number else 1
        lines = [_question(request, i) for i in range(count)]
        return "none" if declined else "\n".join(lines)
    properties = request.schema["properties"]
    listing = properties["questions"]
    texts: list[Any] = [_question(request, i) for i in range(0 if declined else listing["maxItems"])]
    items = (
        [_with_options(text, listing["items"]["properties"]) for text in texts]
        if "properties" in listing["items"]
        else texts
    )
    judged = {"fits": not declined, "evidence": "what the script says"} if "fits" in properties else {}
    return json.dumps({**judged, "questions": items})


def _with_options(text: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return a multiple-choice question in the shape that a schema asks for."""
    if "right" in keys:
        return {"question": text, "right": WORDS[0], "wrong": list(WORDS[1:4])}
    return {"question": text, "options": list(WORDS[:4])}


def _question(request: Request, number: int) -> str:
    word = WORDS[int(draw(2, request.image_key or "", request.text, str(number)) * len(WORDS))]
    name = int(draw(3, request.image_key or "", request.text, str(number)) * 1e6)
    return f"What is {word} about number {name} here?"
