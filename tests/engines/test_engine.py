"""The real engine: vLLM with the nano VLM, in an actor and behind an endpoint.

An engine takes most of a minute to start, so everything that one can show is asked of one engine.
"""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from PIL import Image

from synthgen.config import pipeline as pipelines
from synthgen.engines import Reply, Request, open_engine
from synthgen.engines.kinds import resolve_model
from synthgen.workers import leave_ray, run_in_actor
from tests.fixtures.workspace import ROOT

MODEL = ROOT / "demo" / "models" / "nano-vlm"
IMAGES = sorted((ROOT / "demo" / "images").glob("*.png"))
pytest.importorskip("vllm")
# What runs in the actor is sent whole: a test file is no module that a worker could import.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not MODEL.is_dir(), reason="no nano model is here"),
]


def demo() -> pipelines.Pipeline:
    return pipelines.load(str(ROOT / "pipelines" / "demo.yaml"), [f"generate.model={MODEL}"])


SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["a chart", "a scene"]}, "sure": {"type": "boolean"}},
    "required": ["kind", "sure"],
    "additionalProperties": False,
}


async def interview(task: Any) -> dict[str, Reply]:
    """Send one engine every kind of request; runs in an actor."""
    name, settings, pictures = task
    engine = await open_engine(name, settings)
    first, second = pictures

    def ask(text: str, image: Image.Image | None = first, key: str = "first", **more: Any) -> Any:
        return engine.generate(
            Request("answer", text, more.pop("max_tokens", 12), image=image, image_key=key if image else None, **more)
        )

    text = "What kind of picture is this? Answer shortly."
    replies = {"first": await ask(text), "again": await ask(text), "other": await ask(text, second, "second")}
    replies["given"] = await ask(text, given=replies["first"].text)
    replies["blind"] = await ask(text, None, given=replies["first"].text)
    replies["labels"] = await ask("Is it true? Is there a cat? yes", labels=("no", "yes"))
    warm = [ask(text, temperature=1.0, seed=7), ask(text, temperature=1.0, seed=7)]
    replies["warm"], replies["warm_again"] = await asyncio.gather(*warm)
    replies["schema"] = await ask(text, max_tokens=60, schema=SCHEMA)
    replies["long"] = await ask("word " * 5000)
    # vLLM's caches of images, here and in its own process, can drift apart: now this one has an image that it lost.
    await engine.wrapped._llm.engine_core.reset_mm_cache_async()  # type: ignore[attr-defined]
    replies["drifted"] = await ask(text)
    await engine.close()
    return replies


@pytest.fixture(scope="module")
def replies() -> Iterator[dict[str, Reply]]:
    pipeline = demo()
    pictures = [Image.open(path).convert("RGB") for path in IMAGES[:2]]
    try:
        yield run_in_actor(
            interview, (resolve_model(pipeline.generate), pipeline.generate.engine, pictures), pipeline.generate.engine
        )
    finally:
        leave_ray()


def test_a_second_call_on_an_image_reuses_its_prefix_and_says_the_same(replies: dict[str, Reply]) -> None:
    assert replies["first"].text and replies["first"].failure is None
    assert replies["again"].text == replies["first"].text
    first, again = replies["first"], replies["again"]
    assert first.cached_tokens is not None and again.cached_tokens is not None and again.prompt_tokens is not None
    assert first.cached_tokens < again.cached_tokens and again.cached_tokens > 0.5 * again.prompt_tokens


def test_a_given_reply_is_as_likely_as_the_engine_found_it_when_it_said_so_itself(replies: dict[str, Reply]) -> None:
    own, given = replies["first"].logprobs, replies["given"].logprobs
    assert len(own) == len(given) > 1  # with the token that ends it
    assert all(math.isclose(said, scored, abs_tol=0.02) for said, scored in zip(own, given, strict=True))


def test_the_image_changes_how_likely_the_reply_is(replies: dict[str, Reply]) -> None:
    assert len(replies["blind"].logprobs) == len(replies["given"].logprobs)
    assert sum(replies["blind"].logprobs) < sum(replies["given"].logprobs)


def test_labels_come_with_probabilities(replies: dict[str, Reply]) -> None:
    assert set(replies["labels"].labels) == {"no", "yes"}
    assert 0.5 < sum(replies["labels"].labels.values()) <= 1.0 + 1e-6


def test_a_prompt_that_does_not_fit_is_a_failed_call_and_not_a_dead_engine(replies: dict[str, Reply]) -> None:
    assert replies["long"].failure == "call_failed"
    assert "token" in (replies["long"].detail or "")


def test_an_image_that_the_engine_has_forgotten_is_sent_again(replies: dict[str, Reply]) -> None:
    assert replies["drifted"].failure is None and replies["drifted"].text == replies["first"].text


def test_a_reply_of_a_schema_is_json_of_it(replies: dict[str, Reply]) -> None:
    reply = json.loads(replies["schema"].text)
    assert list(reply) == ["kind", "sure"]
    assert reply["kind"] in ("a chart", "a scene") and isinstance(reply["sure"], bool)


def test_a_seeded_draw_is_repeated(replies: dict[str, Reply]) -> None:
    assert replies["warm"].text == replies["warm_again"].text
