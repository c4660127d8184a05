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
from synthgen.ingest.images.sets import is_set_file, members_of
from synthgen.ingest.sources import ObjectRef, read_objects
from synthgen.tables import image_id, is_set


@dataclass(frozen=True)
class FetchedImage:
    """The file of a listed object, or the reason why there is none."""

    object_id: str
    image_id: str | None  # SHA-256 of the bytes; None if they could not be fetched or were refused
    file: bytes | Failure
    members: tuple[str, ...] = ()  # of a set, the image ids of its members in order


@dataclass(frozen=True)
class LoadedImage:
    """The decoded image of a listed object, or the reason why there is none."""

    object_id: str
    image_id: str | None  # as in FetchedImage; set even if decoding failed
    image: Decoded | Failure
    members: tuple[str, ...] = ()  # as in FetchedImage


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
        if not isinstance(content, Failure) and is_set_file(content) != is_set(ref.uri):
            content = Failure("not_an_image", "a file that says that it is a set of images")
        if isinstance(content, Failure):
            yield FetchedImage(ref.object_id, None, content)
            continue
        content_id, members = image_id(content), _member_ids(content)
        if content_id in denied_ids:
            yield FetchedImage(ref.object_id, None, Failure("purged", "an image of the same bytes was purged"))
        elif gone := [number for number, member in enumerate(members, 1) if member in denied_ids]:
            detail = f"image {gone[0]} of the {len(members)} of its set was purged"
            yield FetchedImage(ref.object_id, None, Failure("purged", detail))
        elif expected_ids is not None and expected_ids[ref.object_id] != content_id:
            yield FetchedImage(ref.object_id, None, Failure("changed", "the bytes differ from those that were tagged"))
        else:
            yield FetchedImage(ref.object_id, content_id, content, members)


def _member_ids(content: bytes) -> tuple[str, ...]:
    """Return the image ids that the members of a set have as images of their own; of an image, none."""
    return tuple(image_id(member) for member in members_of(content)) if is_set_file(content) else ()


def load_images(
    refs: Sequence[ObjectRef],
    source: SourceConfig,
    pool: DecoderPool[str],
    *,
    expected_ids: Mapping[str, str] | None = None,
    denied_ids: Collection[str] = (),
) -> Iterator[LoadedImage]:
    """Fetch, verify and decode objects; the arguments are those of `fetch_images`, the limits those of the pool."""
    image_ids: dict[str, tuple[str | None, tuple[str, ...]]] = {}

    def files() -> Iterator[tuple[str, bytes | Failure]]:
        for fetched in fetch_images(refs, source, pool.limits, expected_ids=expected_ids, denied_ids=denied_ids):
            image_ids[fetched.object_id] = fetched.image_id, fetched.members
            yield fetched.object_id, fetched.file

    for object_id, image in pool.decode_many(files()):
        known, members = image_ids.pop(object_id)
        yield LoadedImage(object_id, known, image, members)
