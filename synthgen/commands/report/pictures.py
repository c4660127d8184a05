"""Small pictures for the gallery, read again from the source, verified, and decoded in child processes.

A picture that cannot be had is a reason in its place: a report never fails for it.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from synthgen.commands.report.examples import ImagePlace
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.load import load_images
from synthgen.ingest.sources import ObjectRef
from synthgen.store import RunFolder
from synthgen.store.denylist import read_denylist

QUALITIES = (72, 50, 30)  # the next one where a picture is too large
IMAGES_A_DECODER = 32  # a second one is not worth its start for fewer


@dataclass(frozen=True)
class Picture:
    """A picture as a data URL with its size in pixels."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class PictureSize:
    """How large pictures may be: pixels of the longer side, bytes of one, bytes of all together."""

    side: int
    bytes: int
    together: int


SMALL = PictureSize(320, 24_000, 3_600_000)  # all of them are a third more as text


def load_pictures(
    folder: RunFolder,
    source: SourceConfig,
    limits: ImagesConfig,
    places: Mapping[str, ImagePlace],
    size: PictureSize = SMALL,
) -> dict[str, Picture | str]:
    """Return a picture of each image by its id, or why there is none.

    Args:
        folder: The run, for what was purged from it.
        source: Where the images are.
        limits: Of the images.
        places: Image id → its place.
        size: Of the pictures.
    """
    if not places:
        return {}
    refs = [ObjectRef(place.object_id, place.uri, place.version, place.row) for place in places.values()]
    expected = {place.object_id: image for image, place in places.items()}
    small = limits.model_copy(update={"model_pixels": min(limits.model_pixels, 4 * size.side * size.side)})
    found: dict[str, Picture | str] = {}
    left = size.together
    denied = read_denylist(folder.out).image_ids
    with DecoderPool[str](small, processes=1 if len(refs) < IMAGES_A_DECODER else 2) as pool:
        for loaded in load_images(refs, source, pool, expected_ids=expected, denied_ids=denied):
            image = expected[loaded.object_id]
            if isinstance(loaded.image, Failure):
                found[image] = loaded.image.reason
                continue
            data = encode(loaded.image.image, size)
            if len(data) > left:
                found[image] = "left out to keep this page small"
                continue
            left -= len(data)
            url = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
            found[image] = Picture(url, loaded.image.width, loaded.image.height)
    return found


def encode(image: Image.Image, size: PictureSize) -> bytes:
    """Return an image as a small WebP."""
    small = image.convert("RGB")
    small.thumbnail((size.side, size.side))
    for quality in QUALITIES:
        sink = io.BytesIO()
        small.save(sink, "WEBP", quality=quality, method=4)
        if sink.tell() <= size.bytes:
            break
    return sink.getvalue()
