"""The limit on the decoded images that conversations hold in host memory.

Bytes are counted as Pillow holds them. An image larger than the whole limit is admitted alone, because its size is
limited already (`images.model_pixels`).
"""

import asyncio

from PIL.Image import Image

from synthgen.ingest.images.shared_memory import BYTES_PER_PIXEL


def image_bytes(image: Image) -> int:
    """Return the bytes that Pillow holds for a decoded image."""
    return image.width * image.height * BYTES_PER_PIXEL


class HostBudget:
    """The bytes of decoded images in flight, which wait for each other beyond a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and take it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit)
            self._used += size

    async def give(self, size: int) -> None:
        """Give `size` bytes back."""
        async with self._changed:
            self._used -= size
            self._changed.notify_all()
