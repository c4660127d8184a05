"""Decoded images in flight stay within the budget of the host."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.stages.generate.admission import HostBudget, image_bytes


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_no_more_bytes_are_in_flight_than_the_budget_but_for_one_image_alone(sizes: list[int], limit: int) -> None:
    in_flight: list[int] = []
    flown: list[int] = []

    async def fly(budget: HostBudget, size: int) -> None:
        await budget.take(size)
        in_flight.append(size)
        assert sum(in_flight) <= limit or len(in_flight) == 1
        await asyncio.sleep(0)
        in_flight.remove(size)
        flown.append(size)
        await budget.give(size)

    async def fly_all() -> None:
        budget = HostBudget(limit)
        await asyncio.wait_for(asyncio.gather(*(fly(budget, size) for size in sizes)), 10)

    asyncio.run(fly_all())
    assert not in_flight and sorted(flown) == sorted(sizes)


def test_an_image_counts_the_bytes_that_pillow_holds() -> None:
    assert image_bytes(Image.new("RGB", (30, 20))) == 2400
