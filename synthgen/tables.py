"""What travels between the stages: the Arrow schema of every table, and the ids of its rows.

Comes in: plain values. Goes out: ids that depend on content alone, and tables checked against their schema. Each stage
reads and writes these schemas and knows no other stage; docs/format.md is the same in prose. Outcomes and reasons are
closed lists, so that `synth status` can count them and their sums add up.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa

EMBEDDING = pa.list_(pa.float16())
TAGS = pa.list_(pa.struct([("path", pa.string()), ("score", pa.float32()), ("tagger", pa.string())]))
STRINGS = pa.list_(pa.string())

OBJECTS = pa.schema(
    [
        ("object_id", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),  # etag or version id; else size and modification time
        ("row", pa.int64()),  # of a Parquet file; null for a file that is one image
        ("bytes", pa.int64()),  # null where the listing does not say
        ("bucket", pa.int16()),  # of the uri's hash: growth is found bucket by bucket
        ("source_meta", pa.string()),  # JSON: licence, caption, whatever came along
    ]
)
IMAGES = pa.schema(
    [
        ("object_id", pa.string()),
        ("outcome", pa.string()),  # TAG_OUTCOMES
        ("reason", pa.string()),  # QUARANTINE_REASONS, null when tagged
        ("detail", pa.string()),  # of a quarantine; of tags that came along and were left out, by tagger
        ("image_id", pa.string()),  # null when the bytes could not be read
        ("format", pa.string()),
        ("width", pa.int32()),  # pixels, after EXIF rotation
        ("height", pa.int32()),
        ("phash", pa.uint64()),
        ("embedding", EMBEDDING),
    ]
)
OBJECT_TAGS = pa.schema([("object_id", pa.string()), ("tags", TAGS)])
PLANNED_IMAGES = pa.schema(
    [
        ("object_id", pa.string()),
        ("image_id", pa.string()),
        ("outcome", pa.string()),  # PLAN_OUTCOMES
        ("same_as", pa.string()),  # object_id of the object that stands for this one
        ("uri", pa.string()),
        ("version", pa.string()),
        ("row", pa.int64()),
        ("uris", STRINGS),  # of every object with these bytes
        ("tags", TAGS),
        ("source_meta", pa.string()),
    ]
)
ASSIGNMENTS = pa.schema(
    [
        ("assignment_id", pa.string()),
        ("image_id", pa.string()),
        ("object_id", pa.string()),
        ("type", pa.string()),
        ("form", pa.string()),
        ("language", pa.string()),
        ("ordinal", pa.int16()),
        ("because", STRINGS),  # the tags that caused it
        ("retired", pa.bool_()),  # an edit took it back
    ]
)
PAIRS = pa.schema(
    [
        ("assignment_id", pa.string()),
        ("pair_id", pa.string()),  # null when failed
        ("image_id", pa.string()),
        ("object_id", pa.string()),
        ("type", pa.string()),
        ("form", pa.string()),
        ("language", pa.string()),
        ("ordinal", pa.int16()),
        ("outcome", pa.string()),  # GENERATE_OUTCOMES
        ("reason", pa.string()),  # FAILURE_REASONS, null for a pair
        ("detail", pa.string()),
        ("recipe", pa.string()),
        ("attempt", pa.int16()),
        ("question", pa.string()),
        ("options", STRINGS),
        ("answer", pa.string()),
        ("raw_question", pa.string()),  # the asking call's whole reply, parsed or not
        ("raw_answer", pa.string()),
        ("prompt_tokens", pa.int32()),  # of the ask (shared out) and the answer
        ("cached_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seconds", pa.float32()),
        ("model", pa.string()),
        ("revision", pa.string()),
    ]
)
SCORES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("assignment_id", pa.string()),
        ("value", pa.float32()),  # null when the scorer failed
        (
            "reason",
            pa.string(),
        ),  # why there is no value; begins with one of FAILURE_REASONS where a call or the image failed
        ("detail", pa.string()),  # JSON: what the value was made of
        ("output_tokens", pa.int32()),
    ]
)
DECISIONS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("assignment_id", pa.string()),
        ("image_id", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # "kept", or the rule, threshold or duplicate that dropped it
    ]
)
SHARD_INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("sample_id", pa.string()),
        ("bytes", pa.int64()),  # of the image file and the texts
        ("types", STRINGS),  # of the turns
        ("forms", STRINGS),
        ("languages", STRINGS),
    ]
)
UNPACKED = pa.schema(
    [
        ("image_id", pa.string()),
        ("sample_id", pa.string()),
        ("turns", pa.int32()),
        ("reason", pa.string()),  # QUARANTINE_REASONS; `changed`: the bytes fetched again differ from image_id
        ("detail", pa.string()),
    ]
)

TAG_OUTCOMES = ("tagged", "quarantined")
QUARANTINE_REASONS = (
    "unreadable",  # the source could not give the bytes
    "part_unreadable",  # a Parquet file can be opened, and the part of it with this row cannot be read
    "no_bytes",  # the row of the Parquet file has no image in it
    "url_refused",  # the user does not allow its host, or its address is not a public one
    "changed",  # the bytes are no longer the listed version
    "too_many_bytes",
    "not_an_image",
    "format_not_allowed",
    "too_many_pixels",
    "too_small",
    "too_elongated",
    "too_many_frames",
    "truncated",
    "corrupt",
    "decode_timeout",
    "decoder_died",
    "tagger_failed",
    "purged",
)
LEFT_OUT = (  # why tags that should have come along with a tagged image were not taken
    "no_sidecar",
    "unreadable_sidecar",
    "no_tags",  # it can be read, and there are none where the tagger looks
    "no_such_tag",  # some of them; the taxonomy does not know them
    "bad_score",  # some of them
)
PLAN_OUTCOMES = ("planned", "same_bytes", "near_duplicate", "unserved", "over_quota", "changed")
GENERATE_OUTCOMES = ("pair", "failed")
FAILURE_REASONS = (
    "declined",  # the model says that the image cannot support this type
    "too_few_questions",  # it asked fewer than it was asked for
    "unparsable",  # the reply could not be read; it is kept whole
    "repeated_question",  # asked already about this image
    "cut_off",  # the reply reached max_tokens
    "empty_answer",
    "refused",
    "image_changed",  # the bytes fetched again differ from image_id
    "image_unreadable",
    "call_failed",  # the engine answered with an error, after its retries
    "call_timeout",
    "poison",  # the engine died on this row alone
)
UNSCORED = tuple(
    f"unscored.{reason}" for reason in FAILURE_REASONS
)  # counts of scores that these kept pairs from having
RETRIED_REASONS = (  # that may be otherwise at another try; the others say something of the row itself
    "unreadable",
    "part_unreadable",
    "decode_timeout",
    "decoder_died",
    "tagger_failed",
    "image_unreadable",
    "call_failed",
    "call_timeout",
    "poison",
)
ANSWER_FORMS = ("short", "brief", "detailed", "choice")


def make_id(*parts: str) -> str:
    """The id of a row: 128 bits of SHA-256 over length-prefixed parts, so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


def object_id(uri: str, version: str, row: int | None) -> str:
    """The id of an object as listed: another version of the same uri is another object."""
    return make_id("object", uri, version, "" if row is None else str(row))


def bucket_of(uri: str) -> int:
    """The bucket of an object, by its uri alone."""
    return int(make_id("bucket", uri)[:2], 16)


def object_row(uri: str, version: str, row: int | None, bytes: int | None, source_meta: str | None) -> dict[str, Any]:
    """The OBJECTS row of an object as listed."""
    named = {"uri": uri, "version": version, "row": row, "bytes": bytes, "source_meta": source_meta}
    return {**named, "object_id": object_id(uri, version, row), "bucket": bucket_of(uri)}


def image_id(data: bytes) -> str:
    """The id of an image: the SHA-256 of its bytes, wherever they are found."""
    return hashlib.sha256(data).hexdigest()


def assignment_id(image: str, instruction_type: str, form: str, language: str, ordinal: int) -> str:
    """The id of a question to be asked."""
    return make_id("assignment", image, instruction_type, form, language, str(ordinal))


def pair_id(assignment: str, recipe: str, attempt: int) -> str:
    """The id of an asked and answered question; the recipe hashes everything that shaped its text."""
    return make_id("pair", assignment, recipe, str(attempt))


def sample_id(image: str, pairs: Sequence[str]) -> str:
    """The id of a training sample: its image and its turns in order."""
    return make_id("sample", image, *pairs)


def draw(seed: int, *parts: str) -> float:
    """A uniform number in (0, 1) that is a function of the run seed and the parts alone (53 bits, never 0 or 1)."""
    bits = int(make_id("draw", str(seed), *parts)[:16], 16) >> 11
    return (bits + 0.5) / (1 << 53)


def tags_table(tagger: str) -> str:
    """The table of a tagger in `1-tagged`. One that is named by its path has a name made of it: `..` would lead out of the stage."""
    if "/" not in tagger and not tagger.endswith(".yaml"):
        return f"tags/{tagger}"
    return f"tags/{PurePath(tagger).stem}-{hashlib.sha256(os.fsencode(tagger)).hexdigest()[:8]}"


_LEFT_OUT = re.compile(rf"(?:^|: |; )({'|'.join(LEFT_OUT)})(?=[:;]|$)".replace("_", " "))


def outcome_counts(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """What rows with an outcome and a reason add to the counts of their commits: `outcome`, or `outcome.reason` where there is one."""
    return Counter(row["outcome"] if row["reason"] is None else f"{row['outcome']}.{row['reason']}" for row in rows)


def plan_counts(retired: Iterable[bool]) -> Counter[str]:
    """What rows of `2-planned/assignments` add to the counts of their commits, by whether each was taken back."""
    return Counter("retired" if one else "assigned" for one in retired)


def tag_counts(images: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """What rows of `1-tagged/images` add to the counts of their commits.

    Each has an outcome. Beside them, which are no outcomes: `left_out`, and for each reason that `detail` names `left_out.reason`.
    """
    listed = list(images)
    counts = outcome_counts(listed)
    for row in listed:
        if row["outcome"] == "tagged" and row["detail"]:
            counts["left_out"] += 1
            counts.update({f"left_out.{words.replace(' ', '_')}" for words in _LEFT_OUT.findall(row["detail"])})
    return counts


def score_failure(reason: str | None) -> str | None:
    """Which of FAILURE_REASONS kept a score from being measured, by the reason of its row; None if none did."""
    kind = (reason or "").partition(":")[0]
    return kind if kind in FAILURE_REASONS else None


def score_counts(scores: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """What rows of `3-generated/scores` add to the counts of their commits: UNSCORED, which are no outcomes."""
    return Counter(f"unscored.{failure}" for row in scores if (failure := score_failure(row["reason"])))


def table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of exactly this schema; a key that the schema lacks is an error, not a loss."""
    listed = list(rows)
    known = set(schema.names)
    for row in listed:
        if extra := set(row) - known:
            raise ValueError(f"row has keys that the table lacks: {sorted(extra)}")
    return pa.Table.from_pylist([dict(row) for row in listed], schema=schema)
