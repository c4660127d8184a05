"""Decoded images in flight stay within the host's budget, and what is predicted adds up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.config import pipeline
from synthgen.engines import endpoint
from synthgen.engines.kinds import ENGINE_KINDS
from synthgen.stages import memory
from synthgen.stages.generate.admission import HostBudget, image_bytes


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_no_more_bytes_are_in_flight_than_the_budget_but_for_one_image_alone(sizes: list[int], limit: int) -> None:
    flying: list[int] = []

    async def one(budget: HostBudget, size: int) -> None:
        await budget.take(size)
        flying.append(size)
        assert sum(flying) <= limit or len(flying) == 1
        await asyncio.sleep(0)
        flying.remove(size)
        await budget.give(size)

    async def scene() -> None:
        budget = HostBudget(limit)
        await asyncio.wait_for(asyncio.gather(*(one(budget, size) for size in sizes)), 10)

    asyncio.run(scene())
    assert not flying


def test_an_image_counts_as_pillow_holds_it() -> None:
    assert image_bytes(Image.new("RGB", (30, 20))) == 2400


@pytest.mark.parametrize(
    "setting", ["images.max_pixels=200000000", "images.max_bytes=900000000", "images.model_pixels=50000000"]
)
def test_larger_limits_predict_more_memory(setting: str) -> None:
    usual, more = pipeline.load("everyday"), pipeline.load("everyday", [setting])
    for predicted in (memory.tag_bytes, memory.generate_bytes):
        assert predicted(more) > predicted(usual)


def test_what_an_endpoint_keeps_and_what_urls_may_bring_are_predicted_too() -> None:
    usual = pipeline.load("everyday")
    served = pipeline.load("everyday", ["generate.engine={kind: endpoint, urls: ['http://127.0.0.1:1/v1']}"])
    fetched = pipeline.load("everyday", ["source.uri=urls:links.txt", "source.hosts=[example.org]"])
    assert memory.generate_bytes(served) > memory.generate_bytes(usual) and memory.tag_bytes(
        fetched
    ) > memory.tag_bytes(usual)
    assert ENGINE_KINDS["endpoint"].images_in_memory > endpoint.CACHED_IMAGES


def test_the_note_is_one_line() -> None:
    assert memory.note("tag", 2, 3 * 10**9) == "tag: 2 workers, each with at most 3.0 GB of host memory for its images"
