"""Arrow schemas of every table. docs/format.md describes the same columns in prose."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

EMBEDDING = pa.list_(pa.float16())
TAGS = pa.list_(pa.struct([("path", pa.string()), ("score", pa.float32()), ("tagger", pa.string())]))
STRINGS = pa.list_(pa.string())
RIGHTS = pa.struct(
    [(name, pa.string()) for name in ("license", "author", "copyright", "source_url", "reserved", "unread")]
)

OBJECTS = pa.schema(
    [
        ("object_id", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),  # etag or version id; else size and modification time
        ("row", pa.int64()),  # of a Parquet file; null for a file that is one image
        ("bytes", pa.int64()),  # null where the listing does not say
        ("bucket", pa.int16()),  # of the uri's hash: growth is found bucket by bucket
        ("source_meta", pa.string()),  # JSON: licence, caption, whatever came along
        ("source", pa.string()),  # the name of its place among several; null for a source without names
        ("given", pa.string()),  # of a row of an instruction set: its conversation, JSON; null for an image alone
        ("refused", pa.string()),  # why a row of an instruction set is not used, `reason: detail`; null for all others
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
        ("thumbnail", pa.binary(256)),  # 16 x 16 grey levels, row by row; null in folders of an older synth
        ("flat_share", pa.float32()),  # of the pixels: those of the commonest grey
        ("embedding", EMBEDDING),
        ("rights", RIGHTS),  # stated by the file or its metadata; null where none are, and in older folders
        ("members", STRINGS),  # of a set: the image ids of its images in order; null for an image, and in older folders
    ]
)
OBJECT_TAGS = pa.schema([("object_id", pa.string()), ("tags", TAGS)])
PLANNED_IMAGES = pa.schema(
    [
        ("object_id", pa.string()),
        ("image_id", pa.string()),
        ("outcome", pa.string()),  # PLAN_OUTCOMES
        ("reason", pa.string()),  # of `other_run`: the name of that run; null in older folders
        ("same_as", pa.string()),  # object_id of the object that stands for this one, of `other_run` in that run
        ("uri", pa.string()),
        ("version", pa.string()),
        ("row", pa.int64()),
        ("uris", STRINGS),  # of every object with these bytes
        ("tags", TAGS),
        ("source_meta", pa.string()),
        ("source", pa.string()),  # as in OBJECTS
        ("rights", RIGHTS),  # as in IMAGES
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
        ("thing", pa.string()),  # the tag that it asks about, where its type has `thing`; null in older folders
        ("partner", pa.string()),  # of a negative: image_id of the image that its question is written for
        ("retired", pa.bool_()),  # an edit took it back
    ]
)
QUESTIONS = pa.schema(
    [
        ("assignment_id", pa.string()),
        ("image_id", pa.string()),
        ("object_id", pa.string()),
        ("type", pa.string()),
        ("form", pa.string()),
        ("language", pa.string()),
        ("ordinal", pa.int16()),
        ("partner", pa.string()),  # as in ASSIGNMENTS
        ("outcome", pa.string()),  # QUESTION_OUTCOMES
        ("reason", pa.string()),  # FAILURE_REASONS, null unless failed
        ("detail", pa.string()),
        ("recipe", pa.string()),  # of the question alone
        ("attempt", pa.int16()),
        ("question", pa.string()),
        ("options", STRINGS),
        ("key", pa.string()),
        ("evidence", pa.string()),
        ("raw_question", pa.string()),
        ("prompt_tokens", pa.int32()),  # of the asking call, shared out
        ("cached_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seconds", pa.float32()),
        ("model", pa.string()),
        ("revision", pa.string()),
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
        ("partner", pa.string()),  # as in ASSIGNMENTS
        ("outcome", pa.string()),  # GENERATE_OUTCOMES
        ("reason", pa.string()),  # FAILURE_REASONS, null for a pair
        ("detail", pa.string()),
        ("recipe", pa.string()),
        ("attempt", pa.int16()),
        ("question", pa.string()),
        ("options", STRINGS),
        ("key", pa.string()),  # the letter of the option that its writer calls right; null where none is named
        ("truth", pa.string()),  # "yes" or "no": the answer that its type plans; null for most types
        ("constraint", pa.string()),  # JSON: what its request asks of the form of the answer; null for most requests
        ("evidence", pa.string()),  # what in the image the question rests on, where the writer is asked for it
        ("follows", pa.string()),  # pair_id of the pair that the question goes on from
        ("answer", pa.string()),
        ("reasoning", pa.string()),  # what the model wrote before the answer to work it out
        ("raw_question", pa.string()),  # the asking call's whole reply, parsed or not; null without such a call
        ("raw_answer", pa.string()),
        ("prompt_tokens", pa.int32()),  # of the ask (shared out) and the answer
        ("cached_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seconds", pa.float32()),
        ("model", pa.string()),  # that answered
        ("revision", pa.string()),
        ("ask_model", pa.string()),  # that wrote the question; null where it is the same
        ("ask_revision", pa.string()),
        ("ask_attempt", pa.int16()),  # `attempt` of the question's row; null where one model does both
        ("reasked_for", pa.string()),  # the reason of `select` for which it was asked again; null for most pairs
        ("reasked", pa.string()),  # pair_id of the pair that this answer took the place of; null if none did
        ("reasked_answer", pa.string()),  # the answer of that pair
    ]
)
SCORES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("assignment_id", pa.string()),
        ("value", pa.float32()),  # null when the scorer failed
        # Why there is no value; begins with one of FAILURE_REASONS where a call, the image or the score's code failed.
        ("reason", pa.string()),
        ("detail", pa.string()),  # JSON: what the value was made of
        ("calls", pa.int32()),  # of the engine, made for it
        ("prompt_tokens", pa.int32()),  # of these calls; null where the engine did not count them
        ("cached_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
    ]
)
DECISIONS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("assignment_id", pa.string()),
        ("image_id", pa.string()),
        ("follows", pa.string()),  # pair_id of the pair that its question goes on from
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # "kept", or the rule, threshold or duplicate that dropped it
        ("since", pa.int32()),  # epoch of the first selection that decided on it; null in older folders
    ]
)
CLUSTERS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("cluster", pa.string()),  # pair_id of the one that the others are near to
        ("run", pa.string()),  # name of the earlier run that it is of; null if it is of this one
        ("similarity", pa.float32()),  # to it
        ("survivor", pa.bool_()),  # this comparison keeps the pair
    ]
)
CONTAMINATED = pa.schema(
    [
        ("pair_id", pa.string()),
        ("by", pa.string()),  # CONTAMINATED_BY
        ("set", pa.string()),  # name of the benchmark set
        ("item", pa.string()),  # the row or file there
        ("value", pa.float32()),  # differing bits, cosine; null for words
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
        ("license", pa.string()),  # of the image; null where none is stated, and in older folders
        ("source", pa.string()),
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


def columns_of(schema: pa.Schema, *names: str) -> pa.Schema:
    """Return the part of a schema with these columns."""
    return pa.schema([schema.field(name) for name in names])


def table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as an Arrow table of exactly this schema.

    Raises ValueError if a row has a key that the schema lacks.
    """
    listed = [dict(row) for row in rows]
    known = set(schema.names)
    for row in listed:
        if extra := set(row) - known:
            raise ValueError(f"row has keys that the table lacks: {sorted(extra)}")
    return pa.Table.from_pylist(listed, schema=schema)
