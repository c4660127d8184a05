"""Small pictures for the gallery, read again from the source, verified, and decoded in child processes.

A picture that cannot be had is a reason in its place: a report never fails for it.
"""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from synthgen.commands.report.examples import ImagePlace
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.load import load_images
from synthgen.ingest.sources import ref_of
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
    found: dict[str, Picture | str] = {}
    left = size.together
    processes = 1 if len(places) < IMAGES_A_DECODER else 2
    with DecoderPool[str](limits_of(limits, size), processes=processes) as pool:
        for image, loaded in read_pictures(folder, source, pool, places):
            if isinstance(loaded, str):
                found[image] = loaded
                continue
            data = encode(loaded.image, size)
            if len(data) > left:
                found[image] = "left out to keep this page small"
                continue
            left -= len(data)
            url = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
            found[image] = Picture(url, loaded.width, loaded.height)
    return found


def limits_of(limits: ImagesConfig, size: PictureSize) -> ImagesConfig:
    """Return the limits of a pool whose images are no larger than pictures of a size need."""
    return limits.model_copy(update={"model_pixels": min(limits.model_pixels, 4 * size.side * size.side)})


def read_pictures(
    folder: RunFolder, source: SourceConfig, pool: DecoderPool[str], places: Mapping[str, ImagePlace]
) -> Iterator[tuple[str, Decoded | str]]:
    """Yield the id of each image with the image, verified and decoded, or with the reason why there is none."""
    refs = [ref_of(vars(place)) for place in places.values()]
    expected = {place.object_id: image for image, place in places.items()}
    denied = read_denylist(folder.out).image_ids
    for loaded in load_images(refs, source, pool, expected_ids=expected, denied_ids=denied):
        image = loaded.image
        yield expected[loaded.object_id], image.reason if isinstance(image, Failure) else image


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
