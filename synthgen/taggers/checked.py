"""The check of what a tagger returns for one image: a package's or a user's tagger may return anything."""

import math
from collections.abc import Container, Mapping
from numbers import Real
from typing import Any

import numpy as np

from synthgen.errors import Failure, one_line
from synthgen.tables import QUARANTINE_REASONS
from synthgen.taggers.protocol import DETAIL_LENGTH, Tagged, tagging_failure

LARGEST = float(np.finfo(np.float16).max)  # component of an embedding, which is stored in half precision


def checked_result(result: object, tagger: str, paths: Container[str]) -> Tagged | Failure:
    """Return a tagger's result for one image as tables can hold it, or the failure of the image.

    Args:
        result: As the tagger returned it.
        tagger: Its name.
        paths: Of the taxonomy.
    """
    if isinstance(result, Failure):
        detail = one_line(str(result.detail), DETAIL_LENGTH)
        known = result.reason in QUARANTINE_REASONS
        return Failure(result.reason, detail) if known else tagging_failure(f"{result.reason}: {detail}")
    if not isinstance(result, Tagged):
        return tagging_failure(f"tagger '{tagger}' returned {type(result).__name__} for an image, not Tagged")
    if fault := _embedding_fault(result.embedding) or _tags_fault(result.tags, paths):
        return tagging_failure(f"tagger '{tagger}': {fault}")
    tags = [{"path": tag["path"], "score": float(tag["score"]), "tagger": tagger} for tag in result.tags]
    return Tagged(tags, result.embedding, tuple(one_line(str(phrase)) for phrase in result.left_out))


def _tags_fault(tags: object, known: Container[str]) -> str | None:
    if not isinstance(tags, list):
        return f"its tags are {type(tags).__name__}, not a list"
    return next((fault for tag in tags if (fault := _tag_fault(tag, known))), None)


def _tag_fault(tag: Any, known: Container[str]) -> str | None:
    if not isinstance(tag, Mapping) or not isinstance(tag.get("path"), str) or not _is_score(tag.get("score")):
        return f"no path with a score from 0 to 1: {one_line(repr(tag), 100)}"
    return None if tag["path"] in known else f"the taxonomy has no tag {one_line(repr(tag['path']), 100)}"


def _is_score(value: Any) -> bool:
    return isinstance(value, Real) and 0 <= float(value) <= 1  # which NaN is not


def _embedding_fault(embedding: Any) -> str | None:
    if embedding is None:
        return None
    if not isinstance(embedding, np.ndarray) or embedding.ndim != 1 or embedding.dtype.kind not in "fiu":
        shape = f"of shape {embedding.shape}" if isinstance(embedding, np.ndarray) else type(embedding).__name__
        return f"its embedding is no array of numbers in one dimension, but {shape}"
    largest = float(np.abs(embedding.astype(np.float64)).max(initial=0.0))
    return None if math.isfinite(largest) and largest <= LARGEST else f"its embedding holds {largest}"
