"""Tags for the images of a seed, found by the pipeline's own tagger.

Comes in: rows with an image each, as bytes or as a path below the seed's folder. Goes out: each row with its tags, or the
reason why it has none. Images are strangers' files: they are decoded in child processes that may die, and a path that leads
out of the folder is not followed.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from synthgen.commands.learn.records import BadRow, Row
from synthgen.config.pipeline import ImagesConfig
from synthgen.errors import Failure
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.sources.location import open_regular
from synthgen.store.remote import Lasting
from synthgen.taggers import Failed, Tagger, prepared, tags_of_each

BATCH = 32  # images that the tagger sees at once


def tagged(
    rows: Iterable[Row], tagger: Tagger, limits: ImagesConfig, folder: str
) -> Iterator[tuple[Row, list[str]] | BadRow]:
    """Yield each row once, in whatever order its image is done."""
    waiting: dict[int, Row] = {}

    def files() -> Iterator[tuple[int, bytes | Failure]]:
        for number, row in enumerate(rows):
            waiting[number] = row
            yield number, image_bytes(row, limits, folder)

    batch: list[tuple[Row, Any]] = []
    with DecoderPool[int](limits) as decoder:
        for number, image in decoder.decode_many(files()):
            row = waiting.pop(number)
            if isinstance(image, Failure):
                yield BadRow(row.where, image.reason, image.detail)
            elif isinstance(item := prepared(tagger.prepare, image.image, None), Failed):
                yield _failed(row, item.why)
            else:
                batch.append((row, item))
            if len(batch) == BATCH:
                yield from _tags(tagger, batch)
                batch = []
    yield from _tags(tagger, batch)


def image_bytes(row: Row, limits: ImagesConfig, folder: str) -> bytes | Failure:
    """Return the bytes of a row's image, or why there are none."""
    if not row.images:
        return Failure("no_image", "the row has no image")
    if len(row.images) > 1:
        return Failure("several_images", f"{len(row.images)} images: its questions may be about how they differ")
    image = row.images[0]
    if isinstance(image, bytes):
        return image
    path = _inside(image, folder)
    if path is None:
        return Failure("path_outside", f"{image[:200]!r} is not a path below the seed's images")
    try:
        with open_regular(str(path)) as file:
            if (size := os.fstat(file.fileno()).st_size) > limits.max_bytes:
                return Failure("too_many_bytes", f"{size:,} bytes; the limit is {limits.max_bytes:,}")
            return file.read()
    except (OSError, ValueError, Lasting) as error:  # ValueError: a zero byte in the name
        return Failure("unreadable", f"{image[:200]!r}: {error}")


def _inside(image: str, folder: str) -> Path | None:
    """The file that a row's path names below the folder. Links inside it are the user's own and are followed."""
    path = PurePosixPath(image.removeprefix("file://"))
    if not folder or ".." in path.parts or "://" in str(image.removeprefix("file://")):
        return None
    if path.is_absolute() and not path.is_relative_to(folder):
        return None
    return Path(folder) / path


def _tags(tagger: Tagger, batch: list[tuple[Row, Any]]) -> Iterator[tuple[Row, list[str]] | BadRow]:
    for (row, _), found in zip(batch, tags_of_each(tagger, [item for _, item in batch]), strict=True):
        yield _failed(row, found.failure) if found.failure else (row, [tag["path"] for tag in found.tags])


def _failed(row: Row, why: str) -> BadRow:
    return BadRow(row.where, "tagger_failed", why[:200])
