"""The one loop that fetches, verifies and decodes the images of listed objects.

`load_images` gives pixels, `fetch_images` the files as they are. Both yield each object once, in the order in which
they finish, with a `Failure` in place of an image that cannot be used. Images that are not objects of a source go to
`DecoderPool.decode_many` directly.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.sources import ObjectRef, read_objects
from synthgen.tables import image_id


@dataclass(frozen=True)
class FetchedImage:
    """The file of a listed object, or the reason why there is none."""

    object_id: str
    image_id: str | None  # SHA-256 of the bytes; None if they could not be fetched or were refused
    file: bytes | Failure


@dataclass(frozen=True)
class LoadedImage:
    """The decoded image of a listed object, or the reason why there is none."""

    object_id: str
    image_id: str | None  # as in FetchedImage; set even if decoding failed
    image: Decoded | Failure


def fetch_images(
    refs: Sequence[ObjectRef],
    source: SourceConfig,
    limits: ImagesConfig,
    *,
    expected_ids: Mapping[str, str] | None = None,
    denied_ids: Collection[str] = (),
) -> Iterator[FetchedImage]:
    """Fetch and verify objects without decoding them.

    Args:
        refs: The objects, each once.
        source: The source, for the hosts and columns that may be read.
        limits: The limits, of which `max_bytes` applies.
        expected_ids: Object id -> the image id that its bytes must have, whatever their version is by now; None accepts
            any bytes of the listed version.
        denied_ids: Image ids that are refused because they were purged.
    """
    if expected_ids is not None:
        refs = [replace(ref, is_verified=True) for ref in refs]
    for ref, content in read_objects(refs, source, limits):
        if isinstance(content, Failure):
            yield FetchedImage(ref.object_id, None, content)
            continue
        content_id = image_id(content)
        if content_id in denied_ids:
            yield FetchedImage(ref.object_id, None, Failure("purged", "an image of the same bytes was purged"))
        elif expected_ids is not None and expected_ids[ref.object_id] != content_id:
            yield FetchedImage(ref.object_id, None, Failure("changed", "the bytes differ from those that were tagged"))
        else:
            yield FetchedImage(ref.object_id, content_id, content)


def load_images(
    refs: Sequence[ObjectRef],
    source: SourceConfig,
    pool: DecoderPool[str],
    *,
    expected_ids: Mapping[str, str] | None = None,
    denied_ids: Collection[str] = (),
) -> Iterator[LoadedImage]:
    """Fetch, verify and decode objects; the arguments are those of `fetch_images`, the limits those of the pool."""
    image_ids: dict[str, str | None] = {}

    def files() -> Iterator[tuple[str, bytes | Failure]]:
        for fetched in fetch_images(refs, source, pool.limits, expected_ids=expected_ids, denied_ids=denied_ids):
            image_ids[fetched.object_id] = fetched.image_id
            yield fetched.object_id, fetched.file

    for object_id, image in pool.decode_many(files()):
        yield LoadedImage(object_id, image_ids[object_id], image)
