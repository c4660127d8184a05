"""The tags of each row: given by the seed, else found by the pipeline's taggers on the row's image.

Images come from strangers: they are decoded in child processes that may die, and a path that leads out of the folder
is not followed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from synthgen.commands.learn.records import BadRow, Row
from synthgen.commands.learn.request import LearnPlan
from synthgen.commands.learn.seed import spell_out
from synthgen.config.source import ImagesConfig
from synthgen.config.vocabulary import Lexicon
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.sources.location import open_regular
from synthgen.store.remote import PermanentError
from synthgen.taggers import Tagger, Taggers, prepare_image, resolve_model, tag_images

BATCH = 32  # images per call of the tagger


def with_tags(plan: LearnPlan, rows: Iterable[Row | BadRow], unknown: Counter[str]) -> Iterator[Row | BadRow]:
    """Yield each row with the paths of its tags, or rejected; in any order where a tagger finds them.

    Args:
        plan: Says where the tags come from.
        rows: Rows, of which those that are rejected already pass through.
        unknown: Counts the words that mean no tag.
    """
    if plan.fields.tags:
        sources = [source for tagger in plan.taggers if (source := tagger.file.source_tags())]
        synonyms = {word: path for source in sources for word, path in source.names.items()}
        yield from look_up_tags(rows, Lexicon(plan.taggers[0].taxonomy.tree.nodes, synonyms), unknown)
        return
    images = plan.request.images
    folder = plan.seed.folder if images is None else spell_out(images)
    if images is not None and not Path(folder).is_dir():
        raise UserMistake(f"--images {images}: no such folder")
    with closing(Taggers([resolve_model(tagger) for tagger in plan.taggers])) as taggers:
        yield from find_tags(rows, taggers, plan.request.pipeline.images, folder)


def look_up_tags(rows: Iterable[Row | BadRow], lexicon: Lexicon, unknown: Counter[str]) -> Iterator[Row | BadRow]:
    """Yield each row with the tags that its field names; an empty field is an answer, a missing one is not."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        if row.tags is None:
            yield row.reject("no_tags", "the row has nothing in the field of tags")
            continue
        tags, strange = lexicon.look_up(row.tags)
        unknown.update(strange)
        if row.tags and not tags:
            yield row.reject("unknown_tags", f"none of its tags is in the taxonomy: {', '.join(strange)[:200]}")
        else:
            yield replace(row, tags=tuple(tags))


def find_tags(
    rows: Iterable[Row | BadRow], tagger: Tagger, limits: ImagesConfig, folder: str
) -> Iterator[Row | BadRow]:
    """Yield each row with the tags that a tagger finds on its image, in the order in which images are decoded.

    Args:
        rows: Rows, each with the bytes or the path of its image.
        tagger: The tagger; it stays open.
        limits: The limits of an image.
        folder: The local folder that paths start from; "" if there is none.
    """
    waiting: dict[int, Row] = {}
    rejected: list[BadRow] = []

    def readable() -> Iterator[tuple[int, bytes]]:
        for number, row in enumerate(rows):
            data = row if isinstance(row, BadRow) else image_bytes(row, limits, folder)
            if isinstance(row, Row) and isinstance(data, bytes):
                waiting[number] = row
                yield number, data
            elif isinstance(data, BadRow):
                rejected.append(data)

    batch: list[tuple[Row, Any]] = []
    with DecoderPool[int](limits) as decoder:
        for number, decoded in decoder.decode_many(readable()):
            row = waiting.pop(number)
            if isinstance(decoded, Failure):
                rejected.append(row.reject(decoded.reason, decoded.detail))
            elif isinstance(item := prepare_image(tagger.prepare, decoded.image, None), Failure):
                rejected.append(row.reject(item.reason, item.detail[:200]))
            else:
                batch.append((row, item))
            if len(batch) == BATCH:
                yield from _tag_batch(tagger, batch)
                batch = []
            while rejected:
                yield rejected.pop()
    yield from _tag_batch(tagger, batch)
    yield from rejected


def image_bytes(row: Row, limits: ImagesConfig, folder: str) -> bytes | BadRow:
    """Return the bytes of a row's image, or the row rejected."""
    if not row.images:
        return row.reject("no_image", "the row has no image")
    if len(row.images) > 1:
        return row.reject("several_images", f"{len(row.images)} images: its questions may be about how they differ")
    image = row.images[0]
    if isinstance(image, bytes):
        return image
    path = _path_inside(image, folder)
    if path is None:
        return row.reject("path_outside", f"{image[:200]!r} is not a path below the seed's images")
    try:
        with open_regular(str(path)) as file:
            if (size := os.fstat(file.fileno()).st_size) > limits.max_bytes:
                return row.reject("too_many_bytes", f"{size:,} bytes; the limit is {limits.max_bytes:,}")
            return file.read()
    except (OSError, ValueError, PermanentError) as error:  # ValueError: a zero byte in the name
        return row.reject("unreadable", f"{image[:200]!r}: {error}")


def _path_inside(image: str, folder: str) -> Path | None:
    """Return the file that a row names below the folder; links inside it are the user's own and are followed."""
    name = image.removeprefix("file://")
    path = PurePosixPath(name)
    if not folder or ".." in path.parts or "://" in name:
        return None
    if path.is_absolute() and not path.is_relative_to(folder):
        return None
    return Path(folder) / path


def _tag_batch(tagger: Tagger, batch: list[tuple[Row, Any]]) -> Iterator[Row | BadRow]:
    results = tag_images(tagger, [item for _, item in batch])
    for (row, _), result in zip(batch, results, strict=True):
        if isinstance(result, Failure):
            yield row.reject(result.reason, result.detail[:200])
        else:
            yield replace(row, tags=tuple(tag["path"] for tag in result.tags))
