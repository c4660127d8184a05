"""An engine without a model: replies are a function of the request, and every way an engine fails can be asked for.

Comes in: Requests, and `engine.options` that say how to misbehave. Goes out: Replies that the drawn and the JSON prompt
packs can parse. It makes fault tests possible behind the same door as real models, and lets a million-image run show
what the pipeline itself costs. It knows nothing of images and is no help in judging data.
"""

import asyncio
import json
import os
import re
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from synthgen.config.library import Section
from synthgen.config.pipeline import EngineConfig
from synthgen.engines import EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.errors import UserMistake
from synthgen.tables import draw

WORDS = ("red", "blue", "green", "three", "four", "left", "right", "above", "yes", "no", "cat", "tree", "boat", "sun")


class Script(Section):
    """What `engine.options` may say; the shares are of calls, drawn by the request's own text."""

    seconds: float = 0.0  # that every call takes
    junk: float = 0.0  # replies that no parser reads
    decline: float = 0.0  # asks that are declined
    fail: float = 0.0  # calls that fail
    hang: float = 0.0  # calls that never end
    refuse: float = 0.0  # replies that a filter holds back
    twice: float = 0.0  # replies that come twice, one behind the other
    late: float = 0.0  # calls that take late_seconds
    late_seconds: float = 5.0
    die_on: str = ""  # part of an image key on which the engine dies, each time
    stall_on: str = ""  # part of an image key from which on the engine answers nothing
    exit_on: str = ""  # part of an image key on which the whole process exits, each time


class ScriptedEngine:
    """Replies by rule."""

    def __init__(self, name: ModelName, settings: EngineConfig) -> None:
        try:
            self._script = Script.model_validate(dict(settings.options))
        except ValidationError as error:
            fault = error.errors()[0]
            wrong, known = ".".join(map(str, fault["loc"])), ", ".join(Script.model_fields)
            raise UserMistake(
                f"engine.options of the scripted engine: {wrong}: {fault['msg']}; known: {known}"
            ) from error
        self._call_seconds = settings.call_seconds
        self._dead = self._stalled = False
        self.facts = EngineInfo(name.model, name.revision, frozenset({"labels", "given", "schema"}), None, "scripted 1")

    async def generate(self, request: Request) -> Reply:
        """The scripted reply, after the scripted trouble."""
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
            return Reply("", "error", "call_timeout", f"no reply within {self._call_seconds:.0f} s")
        if share < script.hang + script.fail:
            return Reply("", "error", "call_failed", "scripted failure")
        reply = self._reply(request, share - script.hang - script.fail)
        if _drawn("refuse", request) < script.refuse:
            return replace(reply, text="", finish="content_filter")
        return replace(reply, text=f"{reply.text}\n{reply.text}") if _drawn("twice", request) < script.twice else reply

    async def close(self) -> None:
        """Holds nothing."""

    def _reply(self, request: Request, share: float) -> Reply:
        if request.given is not None:
            count = len(request.given.split())
            return Reply(
                "", logprobs=(-2.0,) * (count + 1), prompt_tokens=40, cached_tokens=0, seconds=self._script.seconds
            )
        if share < self._script.junk:
            return Reply("{ junk }", logprobs=(-3.0,), prompt_tokens=100, output_tokens=3, seconds=self._script.seconds)
        declined = request.purpose == "ask" and share < self._script.junk + self._script.decline
        text = self._text(request, declined)
        words = len(text.split())
        labels = {label: (0.9 if label == request.labels[-1] else 0.02) for label in request.labels}
        return Reply(
            text,
            "stop",
            None,
            None,
            (-0.1,) * words,
            labels,
            prompt_tokens=100,
            cached_tokens=80,
            output_tokens=words,
            seconds=self._script.seconds,
        )

    def _text(self, request: Request, declined: bool) -> str:
        if request.labels:
            return request.labels[-1]
        if request.purpose == "ask":
            return _questions(request, declined)
        if request.purpose == "tag":
            names = request.schema["properties"]["chosen"]["items"]["enum"] if request.schema else WORDS
            return json.dumps({"chosen": [names[int(draw(1, request.image_key or "", request.text) * len(names))]]})
        if request.purpose == "paraphrase":
            return f"In other words: {request.text[-60:]}"
        return WORDS[int(draw(1, request.image_key or "", request.text) * len(WORDS))]


def _drawn(trouble: str, request: Request) -> float:
    """A number that a call always has for one kind of trouble."""
    return draw(4, trouble, request.image_key or "", request.purpose, request.text)


def _questions(request: Request, declined: bool) -> str:
    """As many different questions as the request asks for, as JSON where a schema is given."""
    if request.schema is None:
        asked = re.search(r"\d+", request.text)
        count = int(asked.group()) if asked else 1
        lines = [_question(request, i) for i in range(count)]
        return "none" if declined else "\n".join(lines)
    listing = request.schema["properties"]["questions"]
    choice = listing["items"]["type"] == "object"
    texts: list[Any] = [_question(request, i) for i in range(0 if declined else listing["maxItems"])]
    items = [{"question": text, "options": list(WORDS[:4])} for text in texts] if choice else texts
    return json.dumps({"questions": items})


def _question(request: Request, number: int) -> str:
    word = WORDS[int(draw(2, request.image_key or "", request.text, str(number)) * len(WORDS))]
    name = int(draw(3, request.image_key or "", request.text, str(number)) * 1e6)
    return f"What is {word} about number {name} here?"
