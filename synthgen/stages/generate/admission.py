"""Who may start a conversation: as many as the KV cache has room for, with no more decoded images than the host does.

Comes in: decoded images. Goes out: places, given back when a conversation ends. The bytes are counted as Pillow holds
them; a single image larger than the whole budget goes alone, since its size is limited already (`images.model_pixels`).
"""

import asyncio

from PIL.Image import Image

from synthgen.ingest.images.shared_memory import BYTES_PER_PIXEL


def image_bytes(image: Image) -> int:
    """What a decoded image takes."""
    return image.width * image.height * BYTES_PER_PIXEL


class HostBudget:
    """Bytes of decoded images in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Waits until there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit)
            self._used += size

    async def give(self, size: int) -> None:
        """Gives room back."""
        async with self._changed:
            self._used -= size
            self._changed.notify_all()
