"""Engines and sets of images: all images of a set reach a model in order, or the call says why not."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName, Request
from synthgen.engines.checked import CheckedEngine
from synthgen.engines.endpoint import EndpointEngine
from synthgen.engines.protocol import EngineInfo, Reply
from synthgen.engines.vllm_prompts import Prompts

PICTURES = tuple(Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
SET = Request("answer", "Which?", 4, PICTURES[0], "key", more=PICTURES[1:])


class OneAtATime:
    """An engine that takes one image a call."""

    facts = EngineInfo("m", "r", frozenset({"labels"}), None, "1")

    async def generate(self, request: Request) -> Reply:
        """Answer anything."""
        return Reply("red")

    async def close(self) -> None:
        """Do nothing."""


def test_an_engine_that_takes_one_image_a_call_is_not_given_a_set() -> None:
    engine = CheckedEngine(OneAtATime(), "mine")
    reply = asyncio.run(engine.generate(SET))
    assert reply.failure == "call_failed" and "engine mine takes one image a call" in (reply.detail or "")
    assert asyncio.run(engine.generate(Request("answer", "What?", 4, PICTURES[0]))).text == "red"


def test_every_image_of_a_set_has_a_key_of_its_own() -> None:
    assert SET.image_keys == ("key", "key-1") and SET.images == PICTURES
    assert Request("answer", "What?", 4).image_keys is None and not Request("answer", "What?", 4).images


def test_an_endpoint_is_sent_all_images_in_order_before_the_text() -> None:
    engine = EndpointEngine([], ModelName("m", "r"), EngineConfig(kind="endpoint"), "1")
    *images, text = engine._messages(SET)[-1]["content"]
    assert [part["type"] for part in (*images, text)] == ["image_url", "image_url", "text"]
    assert images[0]["image_url"]["url"] != images[1]["image_url"]["url"]


class Templates(Prompts):
    """A chat template that writes a mark for each image; without `of_parts`, one that takes its content as a text."""

    def __init__(self, *, of_parts: bool) -> None:
        super().__init__(SimpleNamespace(get_tokenizer=lambda: None), "m", {})
        self._of_parts = of_parts

    async def _rendered_turn(self, system: str | None, content: Any) -> str:
        if isinstance(content, str):
            return content
        marks = [part.get("text", "<img>") for part in content]
        return "".join(marks if self._of_parts else marks[-1:])

    def _image_token(self) -> str:
        return "<img>"


@pytest.mark.parametrize(("of_parts", "mark"), [(True, "<img>"), (False, "<img>\n")])
def test_the_frame_of_a_prompt_has_a_place_for_each_image(of_parts: bool, mark: str) -> None:
    prompts = Templates(of_parts=of_parts)
    for images in range(3):
        assert asyncio.run(prompts._frame(None, images)).before == mark * images
