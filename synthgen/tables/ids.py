"""Ids of rows. Each is a hash of content alone, never of a path, a partition or an order."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

BUCKET_DIGITS = 2  # of the hash of a uri, in hex
SET_SCHEME = "set"  # begins the uri of a set of images, before a colon
ARCHIVES = (".tar", ".pdf")  # the suffixes of files whose parts are objects, known by a name after a #
BUCKETS = 16**BUCKET_DIGITS  # that objects are sorted into by it


def make_id(*parts: str) -> str:
    """Return 128 bits of SHA-256 over length-prefixed parts in hex, so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


def object_id(uri: str, version: str, row: int | None) -> str:
    """Return the id of an object as listed. Another version of the same uri is another object."""
    return make_id("object", uri, version, "" if row is None else str(row))


def bucket_of(uri: str) -> int:
    """Return the bucket of an object, a hash of its uri: a number below BUCKETS. Members of one archive share one."""
    return int(make_id("bucket", archive_of(uri))[:BUCKET_DIGITS], 16)


def archive_of(uri: str) -> str:
    """Return the uri of the file that an object is part of (`shard.tar#7.jpg`, `a.pdf#page=2`); any other as it is."""
    archive, mark, _ = uri.rpartition("#")
    return archive if mark and archive.lower().endswith(ARCHIVES) else uri


def is_set(uri: str) -> bool:
    """Return whether an object is a set of images."""
    return uri.startswith(f"{SET_SCHEME}:")


class GivenRow(NamedTuple):
    """What a row of an instruction set brings beside its image.

    Attributes:
        key: By which it is known, whatever version its image has by now.
        conversation: JSON; None if the row is refused.
        refused: Why it is not used, `reason: detail`; None if it is.
    """

    key: str
    conversation: str | None = None
    refused: str | None = None


def object_row(
    uri: str, version: str, row: int | None, given: GivenRow | None = None, **columns: Any
) -> dict[str, Any]:
    """Return the OBJECTS row of an object as listed.

    Args:
        uri: Of the object, `version` and `row` with it.
        version: As its source has it.
        row: Of a file with rows.
        given: Of a row of an instruction set.
        columns: The others, as `bytes`; one that is left out is null.
    """
    known = make_id("given", uri, given.key) if given else object_id(uri, version, row)
    brought = {"given": given.conversation, "refused": given.refused} if given else {}
    named = {"uri": uri, "version": version, "row": row, **columns}
    return {**named, "object_id": known, "bucket": bucket_of(uri), **brought}


def image_id(data: bytes) -> str:
    """Return the id of an image, the SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def assignment_id(image: str, instruction_type: str, form: str, language: str, ordinal: int) -> str:
    """Return the id of a planned question."""
    return make_id("assignment", image, instruction_type, form, language, str(ordinal))


def negative_id(image: str, instruction_type: str, form: str, language: str, partner: str) -> str:
    """Return the id of a planned question that is written for another image, the partner, and put to this one."""
    return make_id("negative", image, instruction_type, form, language, partner)


def pair_id(assignment: str, recipe: str, attempt: int) -> str:
    """Return the id of a question and its answer; `recipe` hashes everything that shaped their text."""
    return make_id("pair", assignment, recipe, str(attempt))


def sample_id(image: str, pairs: Sequence[str]) -> str:
    """Return the id of a training sample, a hash of its image and its turns in order."""
    return make_id("sample", image, *pairs)


def draw(seed: int, *parts: str) -> float:
    """Return a uniform number in (0, 1) that depends on the run seed and the parts alone (53 bits, never 0 or 1)."""
    bits = int(make_id("draw", str(seed), *parts)[:16], 16) >> 11
    return (bits + 0.5) / (1 << 53)


def tags_table(tagger: str) -> str:
    """Return the table of a tagger in `1-tagged`.

    The path of a tagger file is hashed: its `..` would leave the stage.
    """
    if "/" not in tagger and not tagger.endswith(".yaml"):
        return f"tags/{tagger}"
    return f"tags/{PurePath(tagger).stem}-{hashlib.sha256(os.fsencode(tagger)).hexdigest()[:8]}"
